# SPDX-License-Identifier: Apache-2.0
"""Measured curves as plain rows and numbers, each with an interval over pictures; the proxy M.

Symbols (Deng et al. 2022, arXiv:2111.06236; Liu et al., MixBoost): J^(m) -> "relative",
M(a, b, c) -> "proxy", Delta F^(m) -> "change".
"""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float

from mixboost_jax import checks, metrics
from mixboost_jax.array_types import PRNGKey
from mixboost_jax.interactions._multi_order import Estimate
from mixboost_jax.interactions._strength import Strength

NUM_RESAMPLES = 2000
LOW, HIGH = 0.2, 0.8
"""Orders up to 0.2 n are low, from 0.8 n on high: the bounds of M in the paper."""


@checks.inputs()
def curve_rows(result: Strength, *, confidence: float = 0.95) -> list[dict[str, Any]]:
  """Returns one row per order: J^(m) with its interval, and the other `Strength.curves`.

  The interval is Student t over pictures: it holds the sampling of pictures, pairs and contexts.
  "stderr" is that of these pictures alone.
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


# Two measurements compared order by order, as plain rows: under attack, and for outliers.
#
# Symbols (Ren et al. 2021, arXiv:2111.03536; Cheng et al. 2021, arXiv:2106.10938): Delta J^(m) ->
# "utility", Delta I_avg^(m) -> "average", Delta P^(m) -> "positive".

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

  `utilities` are the `attacking_utility` of each picture. Intervals are Student t over pictures;
  None with one picture.
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


# The robustness proxy M(a, b, c) of MixBoost, its search, and how surely it correlates.
#
# Symbols (Liu et al., MixBoost, eq. 5): J^(m) -> `strength`, n -> `num_players`, a, b, c -> bounds
# of low and middle orders as fractions of n.

Index = Literal["order", "ratio", "interpolate"]


@checks.inputs()
def proxy(
  strength: Float[np.ndarray, "*b M"] | Float[jax.Array, "*b M"],
  orders: Sequence[int],
  *,
  num_players: int,
  a: float = 0.2,
  b: float = 0.2,
  c: float = 0.8,
  index: Index = "order",
) -> Float[np.ndarray, "*b"]:
  """Returns M(a, b, c) = sqrt(1 / (max J - min J) * sum of middle J / sum of low J) per model.

  Paper: Liu et al. (MixBoost), eq. 5: low orders are 0 .. floor(a n), middle ones floor(b n) ..
  floor(c n). The sums run over the sampled orders; max and min over all of them. Infinity if all J
  are equal.
  Deviation: J is normalised to mean 1 first, because M changes with its scale; so `strength` may be
  J^(m) or E|I^(m)| in any scale. Its leading axes are models.

  By default (`index="order"`) m is compared with floor(a n), literally: for n = 256 the order of
  ratio 0.2, m = 50 < 51, is low but not middle. "ratio" compares m / (n - 2) with a, b, c (rounded
  to the nearest sampled ratio), so it is both. "interpolate" sums a linear interpolation over every
  integer order.
  """
  if not 0 <= a <= b <= c <= 1:
    raise ValueError(f"proxy: expected 0 <= a <= b <= c <= 1, got a={a}, b={b}, c={c}.")
  values = np.asarray(strength, np.float64)
  if values.shape[-1] != len(orders):
    raise ValueError(f"proxy: {values.shape[-1]} strengths for {len(orders)} orders.")
  values = values / values.mean(-1, keepdims=True)
  low, middle = _index_weights(np.asarray(orders), num_players, (a, b, c), index)
  if not low.any() or not middle.any():
    raise ValueError(
      f"proxy: no sampled order is {'low' if middle.any() else 'middle'} for a={a}, b={b}, c={c} "
      f"({index}); sampled orders are {list(orders)} of {num_players} players."
    )
  spread = values.max(-1) - values.min(-1)
  ratio = (values @ middle) / (values @ low)
  with np.errstate(divide="ignore"):
    return np.asarray(np.sqrt(ratio / spread))


def _index_weights(
  orders: np.ndarray, num_players: int, bounds: tuple[float, float, float], index: Index
) -> tuple[np.ndarray, np.ndarray]:
  """Returns how much each sampled order counts in the low and in the middle sum."""
  a, b, c = bounds
  slack = 1e-9  # floor(0.8 * 250) must be 200 in floating point as well
  first, start, stop = (int(np.floor(bound * num_players + slack)) for bound in (a, b, c))
  if index == "order":
    return (orders <= first) * 1.0, ((orders >= start) & (orders <= stop)) * 1.0
  if index == "ratio":
    ratios = orders / (num_players - 2)
    grain = 1.0 / (num_players - 2)  # orders are truncated, so a ratio may fall short by this much
    return (ratios <= a + slack) * 1.0, ((ratios >= b - grain) & (ratios <= c + slack)) * 1.0
  every = np.arange(orders[0], orders[-1] + 1)
  share = np.stack([np.interp(every, orders, unit) for unit in np.eye(len(orders))])
  return share @ (every <= first), share @ ((every >= start) & (every <= stop))


@dataclasses.dataclass(frozen=True)
class ProxySearch:
  """Result of `search`: the best bounds and what they reach.

  Attributes:
    correlation: mean over metrics of Pearson's r at the best bounds.
    per_metric: r of each metric there.
    p_value: share of random assignments of models to metrics whose own best |mean r| is as large:
      the search itself is repeated, so it is corrected for the search.
    scores: mean r of every (a, b, c) tried.
  """

  a: float
  b: float
  c: float
  correlation: float
  per_metric: dict[str, float]
  p_value: float
  scores: dict[tuple[float, float, float], float]

  def to_json(self) -> dict[str, Any]:
    """Returns plain dictionaries and lists."""
    plain = dataclasses.asdict(self)
    plain["scores"] = [[*bounds, score] for bounds, score in self.scores.items()]
    return plain


def pearson(
  x: Float[np.ndarray, "A models"], y: Float[np.ndarray, "B models"]
) -> Float[np.ndarray, "A B"]:
  """Returns Pearson's r of every row of `x` with every row of `y`; 0 where a row is constant."""

  def unit(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(-1, keepdims=True)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)

  return unit(x) @ unit(y).T


@checks.inputs()
def search(
  key: PRNGKey,
  strengths: Float[np.ndarray, "models M"],
  metrics: Mapping[str, Sequence[float] | Float[np.ndarray, " models"]],
  *,
  orders: Sequence[int],
  num_players: int,
  step: float = 0.1,
  index: Index = "order",
  num_permutations: int = 999,
) -> ProxySearch:
  """Finds the (a, b, c) whose M correlates most with the metrics, on average over metrics.

  Paper: Liu et al. (MixBoost), Sec. III-C (grid search of the mean correlation). Metrics are errors
  there, so r is expected to be negative; the largest |mean r| is taken.

  Args:
    key: for the permutations.
    strengths: J^(m) of each model.
    metrics: name -> one number per model.
    orders: the orders m.
    num_players: n.
    step: spacing of a, b, c in [0, 1].
    index: see `proxy`.
    num_permutations: random assignments for the p-value.
  """
  num_models = len(strengths)
  wrong = [name for name, column in metrics.items() if len(column) != num_models]
  if num_models < 3 or not metrics or wrong:
    raise ValueError(
      f"search: needs at least 3 models and one number per model in each metric; got {num_models} "
      f"models and metrics {sorted(metrics)}, wrong length: {wrong}."
    )
  ticks = [round(step * k, 10) for k in range(round(1 / step) + 1)]
  bounds, rows = [], []
  for abc in itertools.combinations_with_replacement(ticks, 3):
    low, middle = _index_weights(np.asarray(orders), num_players, abc, index)
    if low.any() and middle.any():
      a, b, c = abc
      rows.append(proxy(strengths, orders, num_players=num_players, a=a, b=b, c=c, index=index))
      bounds.append(abc)
  table = np.asarray([metrics[name] for name in metrics], np.float64)
  correlations = pearson(np.stack(rows), table)
  means = correlations.mean(1)
  best = int(np.abs(means).argmax())
  draw = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
  reached = 0
  for _ in range(num_permutations):
    shuffled = pearson(np.stack(rows), table[:, draw.permutation(num_models)]).mean(1)
    reached += bool(np.abs(shuffled).max() >= abs(means[best]) - 1e-12)
  return ProxySearch(
    *bounds[best],
    correlation=float(means[best]),
    per_metric={name: float(r) for name, r in zip(metrics, correlations[best], strict=True)},
    p_value=(1 + reached) / (1 + num_permutations),
    scores={abc: float(mean) for abc, mean in zip(bounds, means, strict=True)},
  )
