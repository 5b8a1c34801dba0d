# SPDX-License-Identifier: Apache-2.0
"""Two measurements compared order by order, as plain rows: under attack, and for outliers.

Symbols (Ren et al. 2021, arXiv:2111.03536; Cheng et al. 2021, arXiv:2106.10938): Delta J^(m) ->
"utility", Delta I_avg^(m) -> "average", Delta P^(m) -> "positive".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mixboost_jax import checks
from mixboost_jax.interactions.quantiles import student_quantile
from mixboost_jax.interactions.strength import Strength

Rows = list[dict[str, Any]]


@checks.inputs()
def utility_rows(
  utilities: Float[np.ndarray, "X M P"],
  *,
  orders: Sequence[int],
  num_players: int,
  confidence: float = 0.95,
) -> Rows:
  """Returns one row per order: Delta J^(m), averaged over pairs, with its interval over pictures.

  Args:
    utilities: `attacking_utility` of each picture.
    orders: the orders m.
    num_players: n.
    confidence: level of the intervals (Student t over pictures; None with one picture).
  """
  mean, size = utilities.mean(2), np.abs(utilities).mean(2)
  columns = {
    "ratio": np.asarray(orders) / max(1, num_players - 2),
    **_interval("utility", mean.mean(0), _error(mean), len(mean), confidence),
    **_interval("size", size.mean(0), _error(size), len(size), confidence),
  }
  return _rows(orders, columns)


@checks.inputs()
def outlier_rows(outliers: Strength, normal: Strength, *, confidence: float = 0.95) -> Rows:
  """Returns one row per order: Delta I_avg^(m) and Delta P^(m), outliers minus normal pictures.

  Both are positive for m > 0.8 n in Cheng et al. 2021, arXiv:2106.10938: outliers are told by
  interactions of high order.

  Args:
    outliers: of the outliers, with their assigned labels.
    normal: of other pictures, the same orders.
    confidence: level of the intervals over pictures.
  """
  if outliers.orders != normal.orders:
    raise ValueError(
      f"outlier_rows: the orders differ: {list(outliers.orders)} and {list(normal.orders)}."
    )
  smaller = min(len(outliers.per_game), len(normal.per_game))
  average = outliers.average - normal.average
  positive = outliers.positive_ratio - normal.positive_ratio
  average_error = np.hypot(_error(outliers.per_game[:, 1]), _error(normal.per_game[:, 1]))
  positive_error = np.hypot(_ratio_error(outliers), _ratio_error(normal))
  columns = {
    "ratio": np.asarray(normal.orders) / max(1, normal.num_players - 2),
    **_interval("average", average, average_error, smaller, confidence),
    **_interval("positive", positive, positive_error, smaller, confidence),
  }
  return _rows(normal.orders, columns)


def _error(per_game: Float[np.ndarray, "X M"]) -> Float[np.ndarray, " M"]:
  """Standard error of the mean over pictures."""
  count = len(per_game)
  if count < 2:
    return np.full(per_game.shape[1], np.nan)
  return per_game.std(0, ddof=1) / np.sqrt(count)


def _ratio_error(result: Strength) -> Float[np.ndarray, " M"]:
  """Standard error of P^(m) = (1 + E I / E |I|) / 2 over pictures, by linearisation."""
  size, mean = result.per_game[:, 0], result.per_game[:, 1]
  return _error(mean - (result.average / result.strength)[None] * size) / (2 * result.strength)


def _interval(
  name: str,
  value: Float[np.ndarray, " M"],
  error: Float[np.ndarray, " M"],
  count: int,
  confidence: float,
) -> dict[str, Float[np.ndarray, " M"]]:
  """The value and its ends; Student t with the degrees of the smaller sample."""
  reach = error * student_quantile(0.5 + confidence / 2, degrees=max(1, count - 1))
  return {name: value, f"{name}_low": value - reach, f"{name}_high": value + reach}


def _rows(orders: Sequence[int], columns: dict[str, Any]) -> Rows:
  return [
    {"step": order, **{name: _plain(column[k]) for name, column in columns.items()}}
    for k, order in enumerate(orders)
  ]


def _plain(number: float) -> float | None:
  return float(number) if np.isfinite(number) else None
