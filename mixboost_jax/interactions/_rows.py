# SPDX-License-Identifier: Apache-2.0
"""What was measured as plain rows and numbers, each with an interval over pictures.

One curve, or two compared order by order: Delta F of noise, what an attack takes, outliers.

Symbols (Deng et al. 2022, arXiv:2111.06236; Ren et al. 2021, arXiv:2111.03536; Cheng et al. 2021,
arXiv:2106.10938): J^(m) -> "relative", Delta J^(m) -> "utility", Delta F^(m) -> "change", Delta
I_avg^(m) -> "average", Delta P^(m) -> "positive".
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mixboost_jax import checks, metrics
from mixboost_jax.interactions._multi_order import Estimate
from mixboost_jax.interactions._proxy import proxy
from mixboost_jax.interactions._strength import Strength

Rows = list[dict[str, Any]]
NUM_RESAMPLES = 2000
LOW, HIGH = 0.2, 0.8
"""Orders up to 0.2 n are low, from 0.8 n on high: the bounds of M in the paper."""


@checks.inputs()
def curve_rows(result: Strength, *, confidence: float = 0.95) -> Rows:
  """Returns one row per order: J^(m) with its interval, and the other `Strength.curves`.

  The interval is Student t over pictures: it holds the sampling of pictures, pairs and contexts.
  "stderr" is that of these pictures alone.

  ```python
  pairs = interactions.uniform_population(5)
  strength = interactions.estimate_strength(key, [game], pairs, orders=(0, 1, 3), num_pairs=16)
  rows = interactions.curve_rows(strength)
  assert [row["step"] for row in rows] == [0, 1, 3]
  ```
  """
  low, high = _ends(
    result.relative, result.relative_stderr_over_games, len(result.per_game), confidence
  )
  columns = {"ratio": _ratios(result.orders, result.num_players), **result.curves}
  columns["stderr"] = columns.pop("relative_stderr")
  columns |= {"low": np.maximum(low, 0.0), "high": high}  # J cannot be negative; NaN stays NaN
  return _rows(result.orders, columns, float)


@checks.inputs()
def measures(
  result: Strength, *, confidence: float = 0.95, abc: tuple[float, float, float] = (0.2, 0.2, 0.8)
) -> dict[str, Estimate]:
  """Returns M(a, b, c) and the mean J of low, middle and high orders, with bootstrap intervals.

  The intervals are percentiles over resampled pictures. A measure whose orders are not sampled is
  left out.

  ```python
  pairs = interactions.uniform_population(5)
  strength = interactions.estimate_strength(key, [game], pairs, orders=(0, 1, 3), num_pairs=16)
  value = interactions.measures(strength)["interaction_proxy"].mean
  ```
  """
  ratios = _ratios(result.orders, result.num_players)
  parts = {
    "interaction_low": ratios <= LOW,
    "interaction_middle": (ratios > LOW) & (ratios < HIGH),
    "interaction_high": ratios >= HIGH,
  }
  curves = result.relative[None]
  if len(result.per_game) > 1:
    draws = metrics.resample(
      len(result.per_game), num_resamples=NUM_RESAMPLES, generator=np.random.default_rng(0)
    )
    drawn = draws.means(result.per_game[:, 0])
    curves = np.concatenate([curves, drawn / drawn.mean(1, keepdims=True)])
  table = {name: curves[:, rows].mean(1) for name, rows in parts.items() if rows.any()}
  a, b, c = abc
  with contextlib.suppress(ValueError):  # no low or no middle order was sampled
    found = proxy(curves, result.orders, num_players=result.num_players, a=a, b=b, c=c)
    table = {"interaction_proxy": found, **table}
  return {name: _estimate(column, result, confidence) for name, column in table.items()}


def _estimate(column: Float[np.ndarray, " R"], result: Strength, confidence: float) -> Estimate:
  """From the value, followed by its replicates; with a single picture there are none."""
  value, rest = float(column[0]), column[1:]
  if not len(rest):
    return Estimate(value, math.nan, result.evaluations)
  low, high = metrics.interval_of(rest, value, confidence=confidence)
  spread = float(rest.std(ddof=1))
  return Estimate(value, spread, result.evaluations, min(low, value), max(high, value))


@checks.inputs()
def utility_rows(
  utilities: Float[np.ndarray, "X M P"],
  *,
  orders: Sequence[int],
  num_players: int,
  confidence: float = 0.95,
) -> Rows:
  """Returns one row per order: Delta J^(m), averaged over pairs, with its interval over pictures.

  `utilities` are the `attacking_utility` of each picture. Intervals are Student t over pictures;
  None with one picture.

  ```python
  utilities = np.ones((6, 3, 10))  # pictures, orders, pairs
  rows = interactions.utility_rows(utilities, orders=(0, 1, 3), num_players=5)
  ```
  """
  columns = {"ratio": _ratios(orders, num_players)}
  for name, part in {"utility": utilities.mean(2), "size": np.abs(utilities).mean(2)}.items():
    columns |= _interval(name, part.mean(0), _error(part), len(part), confidence)
  return _rows(orders, columns, _plain)


@checks.inputs()
def change_rows(noisy: Sequence[Any], plain: Sequence[Any]) -> Rows:
  """Returns one row per order: Delta F^(m) = |F^(m, noise) - F^(m)| of two networks.

  Paper: Cheng et al. 2021, arXiv:2106.10938: the network trained with noise against the one trained
  without, F^(m) = J^(m); large where the encoding is flexible.

  The ends are those of the absolute value over the interval of the difference, whose half-width is
  the root of the sum of squares of both half-widths, as for independent pictures: on the same
  pictures it is rather too wide than too narrow.

  ```python
  noisy = [{"step": 0, "ratio": 0.0, "relative": 1.5, "high": 1.7}]
  plain = [{"step": 0, "ratio": 0.0, "relative": 1.0, "high": 1.1}]
  assert interactions.change_rows(noisy, plain)[0]["change"] == 0.5
  ```

  Args:
    noisy: rows of `curve_rows` of the network that was trained with noise.
    plain: of the one trained without; same orders.
  """
  orders = [[int(row["step"]) for row in rows] for rows in (noisy, plain)]
  if orders[0] != orders[1]:
    raise ValueError(f"change_rows: the orders differ: {orders[0]} and {orders[1]}.")

  def column(rows: Sequence[Any], name: str) -> np.ndarray:
    return np.array([np.nan if row[name] is None else row[name] for row in rows], np.float64)

  difference = column(noisy, "relative") - column(plain, "relative")
  # "low" is cut off at 0, so the half-width is taken from above.
  half = [column(rows, "high") - column(rows, "relative") for rows in (noisy, plain)]
  reach, size = np.hypot(*half), np.abs(difference)
  columns = {
    "ratio": column(plain, "ratio"),
    "change": size,
    "change_low": np.maximum(size - reach, 0.0),  # 0 where the interval of the difference holds 0
    "change_high": size + reach,
  }
  return _rows(orders[0], columns, _plain)


@checks.inputs()
def outlier_rows(outliers: Strength, normal: Strength, *, confidence: float = 0.95) -> Rows:
  """Returns one row per order: Delta I_avg^(m) and Delta P^(m), outliers minus normal pictures.

  Both are positive for m > 0.8 n in Cheng et al. 2021, arXiv:2106.10938: outliers are told by
  interactions of high order. Outliers are measured with their assigned labels.

  ```python
  pairs = interactions.uniform_population(5)
  strength = interactions.estimate_strength(key, [game], pairs, orders=(0, 1, 3), num_pairs=16)
  rows = interactions.outlier_rows(strength, strength)  # once measured on outliers, once on others
  assert rows[0]["average"] == 0
  ```
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
    "ratio": _ratios(normal.orders, normal.num_players),
    **_interval("average", average, average_error, smaller, confidence),
    **_interval("positive", positive, positive_error, smaller, confidence),
  }
  return _rows(normal.orders, columns, _plain)


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
  low, high = _ends(value, error, count, confidence)
  return {name: value, f"{name}_low": low, f"{name}_high": high}


def _ends(
  value: Float[np.ndarray, " M"], error: Float[np.ndarray, " M"], count: int, confidence: float
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
  """Student t over pictures; the error of a single one is NaN, and so are its ends."""
  return metrics.student_interval(value, error, count=max(2, count), confidence=confidence)


def _ratios(orders: Sequence[int], num_players: int) -> Float[np.ndarray, " M"]:
  return np.asarray(orders) / max(1, num_players - 2)


def _rows(orders: Sequence[int], columns: Mapping[str, Any], plain: Callable) -> Rows:
  return [
    {"step": order, **{name: plain(column[k]) for name, column in columns.items()}}
    for k, order in enumerate(orders)
  ]


def _plain(number: float) -> float | None:
  return float(number) if np.isfinite(number) else None
