# SPDX-License-Identifier: Apache-2.0
"""What is known of the curve J^(m) of a network over several pictures, with errors.

Symbols (Deng et al. 2022, arXiv:2111.06236): E_x E_ij |I^(m)(i, j | x)| -> `Strength.strength`,
J^(m) -> `Strength.relative`, D^(m) -> `Strength.disentanglement`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax import checks
from mixboost_jax.array_types import PRNGKey
from mixboost_jax.interactions._game import Game, check_games
from mixboost_jax.interactions._multi_order import (
  FEATURES,
  Debias,
  Estimate,
  end_evaluations,
  end_features,
  pair_features,
)
from mixboost_jax.interactions._pairs import PairPopulation
from mixboost_jax.interactions._sampling import (
  Features,
  Regression,
  neyman,
  proportional,
  systematic_pairs,
  whole_batches,
)

_COUNTS = ("num_players", "evaluations", "num_pairs", "num_contexts")
BIAS_TOLERANCE = 0.025
"""Share of the strength that its estimated bias may have before it is told."""


@dataclasses.dataclass(frozen=True)
class Strength:
  """Averages over pictures and pairs, and how sure they are.

  Attributes:
    orders: the orders m.
    num_players: n.
    per_game: mean of each feature for each game (picture).
    covariance: covariance of the mean over games of all features.
    evaluations: coalitions evaluated, pilot run included.
    num_pairs: pairs drawn, pilot run left out.
    num_contexts: contexts per pair and order.
  """

  orders: tuple[int, ...]
  num_players: int
  per_game: Float[np.ndarray, "X F M"]
  covariance: Float[np.ndarray, "F M F M"]
  evaluations: int
  num_pairs: int
  num_contexts: int

  @property
  def estimate(self) -> Estimate:
    """J^(m) of every order, as `relative` and `relative_stderr`."""
    return Estimate(self.relative, self.relative_stderr, self.evaluations)

  def feature(self, name: str) -> Float[np.ndarray, " M"]:
    """Mean over games of one of `FEATURES`."""
    return self.per_game[:, FEATURES.index(name)].mean(0)

  def stderr(self, name: str) -> Float[np.ndarray, " M"]:
    """Standard error of `feature`."""
    index = FEATURES.index(name)
    return np.sqrt(np.diag(self.covariance[index, :, index]))

  @property
  def strength(self) -> Float[np.ndarray, " M"]:
    """E_x E_ij |I^(m)|."""
    return self.feature("absolute")

  @property
  def relative(self) -> Float[np.ndarray, " M"]:
    """J^(m): `strength` over its mean over the sampled orders."""
    return self.strength / self.strength.mean()

  @property
  def relative_stderr(self) -> Float[np.ndarray, " M"]:
    """Standard error of J^(m) by linearisation: errors of the orders are correlated."""
    count, mean = len(self.orders), self.strength.mean()
    slope = (np.eye(count) - self.relative[:, None] / count) / mean
    return np.sqrt(np.diag(slope @ self.covariance[0, :, 0] @ slope.T))

  @property
  def relative_stderr_over_games(self) -> Float[np.ndarray, " M"]:
    """Standard error of J^(m) if the pictures are themselves a sample: from their spread.

    It contains the sampling error of pairs and contexts. NaN with a single picture.
    """
    count, mean = len(self.per_game), self.strength.mean()
    curves = self.per_game[:, FEATURES.index("absolute")]
    residual = (curves - self.relative[None] * curves.mean(1, keepdims=True)) / mean
    if count < 2:
      return np.full(len(self.orders), np.nan)
    return np.sqrt((residual**2).sum(0) / (count * (count - 1)))

  @property
  def average(self) -> Float[np.ndarray, " M"]:
    """I_avg^(m) = E_x E_ij I^(m)."""
    return self.feature("mean")

  @property
  def positive_ratio(self) -> Float[np.ndarray, " M"]:
    """P^(m) = E max(I, 0) / E|I| = (1 + E I / E|I|) / 2."""
    return (1 + self.average / self.strength) / 2

  @property
  def disentanglement(self) -> Float[np.ndarray, " M"]:
    """D^(m), mean over pairs of |sum Delta v| / sum |Delta v| over all contexts.

    Few contexts raise the plain ratio; it is corrected as |I| is, and `bias` warns of both.
    """
    return self.feature("consistency")

  @property
  def bias(self) -> Float[np.ndarray, " M"]:
    """Estimate of the bias of `strength` that is left; see `MultiOrder.absolute_bias`."""
    return self.feature("bias")

  @property
  def is_biased(self) -> Bool[np.ndarray, " M"]:
    """Where that bias is not small, nor explained by chance: contexts dominate the pairs there.

    More rounds do not help, more contexts do.
    """
    matters = np.abs(self.bias) > BIAS_TOLERANCE * np.abs(self.strength)
    return matters & (np.abs(self.bias) > 2 * self.stderr("bias"))

  @property
  def curves(self) -> dict[str, np.ndarray]:
    """All that is known of every order, by name."""
    return {
      "strength": self.strength,
      "strength_stderr": self.stderr("absolute"),
      "relative": self.relative,
      "relative_stderr": self.relative_stderr,
      "average": self.average,
      "average_stderr": self.stderr("mean"),
      "positive_ratio": self.positive_ratio,
      "disentanglement": self.disentanglement,
      "bias": self.bias,
      "is_biased": self.is_biased,
    }

  def to_json(self, *, full: bool = False) -> dict[str, Any]:
    """Returns plain numbers and lists; if `full`, also all that `from_json` needs."""
    table = {**self.curves, "strength_per_game": self.per_game[:, 0]}
    if full:
      table |= {"per_game": self.per_game, "covariance": self.covariance}
    own = {name: getattr(self, name) for name in _COUNTS}
    arrays = {name: values.tolist() for name, values in table.items()}
    return {**arrays, **own, "orders": list(self.orders), "num_games": len(self.per_game)}

  @classmethod
  def from_json(cls, plain: Mapping[str, Any]) -> "Strength":
    """Returns the object of `to_json(full=True)`."""
    arrays = {name: np.asarray(plain[name], np.float64) for name in ("per_game", "covariance")}
    counts = {name: plain[name] for name in _COUNTS}
    return cls(orders=tuple(plain["orders"]), **arrays, **counts)


# Estimates J^(m) over several pictures for a fraction of the evaluations of the public protocol.
#
# The public protocol (Deng et al. 2022, arXiv:2111.06236; `benchmarks/paper_protocol.py`) spends
# 100 contexts on each of 200 pairs of a picture. Here
#
# - a pair gets a few contexts, and the bias of |I| is removed (`MultiOrder.absolute`); where too
#   much of it is left, contexts are doubled;
# - pairs are spread evenly over the picture and over strata of like pairs;
# - a pilot run says how many pairs each picture and stratum deserves;
# - orders 0 and n - 2 are exact for a pair at 2 evaluations, so they get many more pairs, and their
#   known means correct those of the other orders (`_sampling.adjusted_mean`).
#
# Both average over the same population of pairs.

END_FACTOR = 16
"""Pairs of orders 0 and n - 2 for each pair of the others: about the square root of their costs."""


@dataclasses.dataclass(frozen=True)
class _Draw:
  """Features of the pairs of one run, for every game and stratum."""

  pairs: list[list[Features]]  # all orders, few pairs
  ends: list[list[Features]]  # orders 0 and n - 2, many pairs


@dataclasses.dataclass(frozen=True)
class _Setting:
  """What all runs of one call have in common."""

  games: Sequence[Game]
  population: PairPopulation
  orders: tuple[int, ...]
  num_contexts: int
  block: int
  debias: Debias
  batch: int
  chunk_size: int

  @property
  def num_players(self) -> int:
    return self.games[0].num_players

  @property
  def ends(self) -> tuple[int, ...]:
    """Sampled orders with a single context."""
    return tuple(order for order in self.orders if order in (0, self.num_players - 2))

  def pair_features(self, key: PRNGKey, game: Game, pairs: Int[Array, "P 2"]) -> Array:
    names = ("orders", "num_contexts", "block", "debias", "chunk_size")
    return pair_features(key, game, pairs, **{name: getattr(self, name) for name in names})

  def end_features(self, key: PRNGKey, game: Game, pairs: Int[Array, "P 2"]) -> Array:
    del key  # nothing is random
    return end_features(game, pairs, ends=self.ends, chunk_size=self.chunk_size)

  def evaluations(self, counts: Int[np.ndarray, "X H"]) -> int:
    """Coalitions evaluated by one `draw`."""
    inner = 4 * self.batch * self.num_contexts * (len(self.orders) - len(self.ends))
    per_end = sum(end_evaluations(self.batch * k, self.num_players) for k in (1, END_FACTOR))
    return int(counts.sum()) // self.batch * (inner + len(self.ends) * per_end)

  def regression(self, draw: _Draw) -> Regression:
    """What the ends tell of the other orders, from one run."""
    columns = [self.orders.index(order) for order in self.ends]
    return Regression.fit(draw.pairs, self.population.stratum_weights, columns)

  def cells(
    self,
    key: PRNGKey,
    counts: Int[np.ndarray, "X H"],
    features: Callable[[PRNGKey, Game, Int[Array, "P 2"]], Array],
    *,
    batch: int,
  ) -> list[list[Features]]:
    """Features of systematically drawn pairs, for every game and stratum."""
    num_games, num_strata = counts.shape
    starts = np.asarray(jax.random.uniform(jax.random.fold_in(key, num_games), counts.shape))
    result = []
    for x, game in enumerate(self.games):
      rows = [
        systematic_pairs(self.population, h, count=int(counts[x, h]), start=float(starts[x, h]))
        for h in range(num_strata)
      ]
      pairs = self.population.pairs[np.concatenate(rows)].reshape(-1, batch, 2)
      game_key = jax.random.fold_in(key, x)
      parts = [
        features(jax.random.fold_in(game_key, number), game, jnp.asarray(part))
        for number, part in enumerate(pairs)
      ]
      table = np.concatenate([np.asarray(part, np.float64) for part in parts], axis=-1)
      result.append(np.split(table, np.cumsum(counts[x])[:-1], axis=-1))
    return result

  def draw(self, key: PRNGKey, counts: Int[np.ndarray, "X H"]) -> _Draw:
    """Draws `counts` pairs for all orders and more for the ends."""
    pair_key, end_key = jax.random.split(key)
    pairs = self.cells(pair_key, counts, self.pair_features, batch=self.batch)
    if not self.ends:
      return _Draw(pairs, [[cell[:, :0] for cell in row] for row in pairs])
    more = END_FACTOR * counts
    ends = self.cells(end_key, more, self.end_features, batch=END_FACTOR * self.batch)
    return _Draw(pairs, ends)


@checks.inputs()
def estimate_strength(
  key: PRNGKey,
  games: Sequence[Game],
  population: PairPopulation,
  *,
  orders: Sequence[int],
  num_pairs: int,
  num_contexts: int = 8,
  block: int = 1,
  debias: Debias = "jackknife",
  pilot_pairs: int = 3,
  batch: int = 16,
  target_stderr: float | None = None,
  max_rounds: int = 64,
  max_contexts: int = 64,
  chunk_size: int = 256,
) -> Strength:
  """Estimates E_x E_ij |I^(m)| and J^(m) with few contexts, many pairs, and no bias of |I|.

  Paper: Deng et al. 2022, arXiv:2111.06236, eq. 3, for the quantity; the estimator is ours.

  ```python
  games = [interactions.image_game(logits_fn, x, y, grid=4) for x, y in zip(images[:2], labels[:2])]
  pairs, orders = interactions.neighbour_population(4), (0, 3, 7, 10, 14)
  found = interactions.estimate_strength(key, games, pairs, orders=orders, num_pairs=16)
  curve, error = found.relative, found.relative_stderr  # J^(m)
  ```

  Args:
    key: consumed.
    games: one per picture, of one network and one shape.
    population: pairs to average over.
    orders: increasing.
    num_pairs: mean number of pairs per picture and round, on top of the pilot run.
    num_contexts: contexts per pair and order, a multiple of `4 * block` for the jackknife. Cost is
      proportional to it and the noise of a pair is not what limits the curve, so few is better;
      below 8 the remaining bias of |I| shows.
    block: see `multi_order`.
    debias: see `MultiOrder.absolute`.
    pilot_pairs: pairs per picture and stratum that choose the allocation; 0 allocates in proportion
      to probability. The pilot enters the result with a weight fixed in advance, so that the
      estimate stays unbiased.
    batch: pairs per compiled call.
    target_stderr: repeat rounds until no J^(m) has a larger standard error; one round if None.
    max_rounds: most rounds.
    max_contexts: where the pilot run shows that too much bias of |I| is left
      (`Strength.is_biased`), contexts are doubled, up to this many. `Strength.num_contexts` says
      how many it became, and `is_biased` whether it was enough.
    chunk_size: evaluations per call of the network.
  """
  orders = tuple(int(order) for order in orders)
  check_games(games, int(population.pairs.max()))
  setting = _Setting(games, population, orders, num_contexts, block, debias, batch, chunk_size)
  pilot_key, run_key = jax.random.split(key)
  ideal = proportional(population, num_games=len(games), num_pairs=num_pairs)
  draws, sizes, spent = [], [], 0
  if pilot_pairs:
    sizes.append(whole_batches(np.full(ideal.shape, float(pilot_pairs)), batch=batch))
    pilot, setting, spent = _pilot(pilot_key, setting, sizes[0], max_contexts=max_contexts)
    draws.append(pilot)
    spread = setting.regression(pilot).curve_spread(pilot.pairs)
    ideal = neyman(population, spread, num_pairs=num_pairs)
  counts = whole_batches(ideal, batch=batch)
  while True:
    sizes.append(counts)
    draws.append(setting.draw(jax.random.fold_in(run_key, len(draws)), counts))
    result = _combine(setting, draws, sizes, pilot=bool(pilot_pairs))
    settled = target_stderr is None or result.relative_stderr.max() <= target_stderr
    if settled or len(draws) >= max_rounds + bool(pilot_pairs):
      return dataclasses.replace(result, evaluations=result.evaluations + spent)


def _pilot(
  key: PRNGKey, setting: _Setting, counts: Int[np.ndarray, "X H"], *, max_contexts: int
) -> tuple[_Draw, _Setting, int]:
  """Draws a pilot run, again with twice the contexts while it shows that |I| stays biased.

  The runs whose results count are not asked: to keep them only where they look unbiased would bias
  them. Returns the last pilot run, its setting, and the evaluations of those before.
  """
  spent = 0
  while True:
    pilot = setting.draw(jax.random.fold_in(key, spent) if spent else key, counts)
    is_biased = _combine(setting, [pilot], [counts], pilot=False).is_biased.any()
    if not is_biased or 2 * setting.num_contexts > max_contexts:
      return pilot, setting, spent
    spent += setting.evaluations(counts)
    setting = dataclasses.replace(setting, num_contexts=2 * setting.num_contexts)


def _combine(
  setting: _Setting, draws: list[_Draw], sizes: list[Int[np.ndarray, "X H"]], *, pilot: bool
) -> Strength:
  """Adds up the runs with weights fixed in advance: sizes, the unallocated pilot at half."""
  shares = np.array([float(size.sum()) for size in sizes])
  if pilot:
    shares[0] /= 2
  shares /= shares.sum()
  regression = setting.regression(draws[-1])
  found = [regression.adjusted_mean(draw.pairs, draw.ends) for draw in draws]
  means, covariance = zip(*found, strict=True)
  return Strength(
    orders=setting.orders,
    num_players=setting.num_players,
    per_game=np.einsum("r,rxkm->xkm", shares, np.stack(means)),
    covariance=np.einsum("r,rkmln->kmln", shares**2, np.stack(covariance)),
    evaluations=sum(setting.evaluations(size) for size in sizes),
    num_pairs=sum(int(size.sum()) for size in sizes),
    num_contexts=setting.num_contexts,
  )
