# SPDX-License-Identifier: Apache-2.0
"""The robustness proxy M(a, b, c) of MixBoost, its search, and how surely it correlates.

Symbols (Liu et al., MixBoost, eq. 5): J^(m) -> `strength`, n -> `num_players`, a, b, c -> bounds of
low and middle orders as fractions of n.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float

from mixboost_jax import checks
from mixboost_jax.array_types import PRNGKey

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

  ```python
  orders = interactions.orders_of(256)
  curves = np.stack([np.linspace(3, 1, 13), np.linspace(1.1, 1, 13)])  # a steep and a flat J^(m)
  steep, flat = interactions.proxy(curves, orders, num_players=256)
  assert flat > steep
  ```
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

  ```python
  curves = np.random.default_rng(0).uniform(size=(5, 13))  # J^(m) of five models
  errors = {"clean": [5.0, 4.1, 4.4, 3.9, 4.0], "corrupted": [25.0, 19.0, 17.0, 15.0, 14.0]}
  found = interactions.search(key, curves, errors, orders=range(13), num_players=15, step=0.2)
  bounds, p_value = (found.a, found.b, found.c), found.p_value
  ```

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
