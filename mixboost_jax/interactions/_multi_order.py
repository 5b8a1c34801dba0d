# SPDX-License-Identifier: Apache-2.0
"""I^(m)(i, j) of chosen pairs by sampled contexts: one compiled program for all orders.

Symbols (Deng et al. 2022, arXiv:2111.06236, Sec. 2): I^(m)(i, j) -> `MultiOrder.mean`,
Delta v(i, j, S) -> `MultiOrder.differences`, m -> an entry of `orders`, S -> a context.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax import checks, metrics
from mixboost_jax.array_types import PRNGKey
from mixboost_jax.interactions._game import Game, map_chunks

PAPER_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Orders of the public protocol as fractions of n - 2."""


@checks.inputs()
def orders_of(num_players: int, *, ratios: Sequence[float] = PAPER_RATIOS) -> tuple[int, ...]:
  """Returns `int((n - 2) * ratio)`: 0, 12, 25, 50, ..., 254 for 256 players.

  With few players some ratios fall on one order, which is listed once.

  ```python
  assert interactions.orders_of(256, ratios=(0.0, 0.5, 1.0)) == (0, 127, 254)
  ```
  """
  return tuple(sorted({int((num_players - 2) * ratio) for ratio in ratios}))


def player_ranks(noise: Float[Array, " n"], excluded: Int[Array, " k"]) -> Int[Array, " n"]:
  """Turns uniform noise into a random order of the players: ranks 0, 1, ...; the excluded last."""
  order = jnp.argsort(noise.at[excluded].set(2.0))
  return jnp.zeros(noise.shape, int).at[order].set(jnp.arange(noise.shape[0]))


def rotated_context(
  ranks: Int[Array, " n"], order: Int[Array, ""], turn: Float[Array, ""], *, num_eligible: int
) -> Bool[Array, " n"]:
  """Takes `order` consecutive players of a circular random order, starting at fraction `turn`.

  Every turn gives a uniformly random context; evenly spaced turns give contexts that hold each
  player equally often (up to rounding), which cancels much of the variance.
  """
  eligible = max(num_eligible, 1)
  start = jnp.floor(turn * eligible).astype(int)
  return ((ranks - start) % eligible < order) & (ranks < num_eligible)


def corners(context: Bool[Array, " n"], pair: Int[Array, "2"]) -> Bool[Array, "4 n"]:
  """Returns S+ij, S+i, S+j, S for a context S without i and j."""
  i, j = pair[0], pair[1]
  with_i = context.at[i].set(True)
  return jnp.stack([with_i.at[j].set(True), with_i, context.at[j].set(True), context])


def check(game: Game, orders: Sequence[int], num_contexts: int, block: int) -> None:
  """Raises ValueError unless the orders lie in 0 .. n - 2, increase, and blocks fill the budget."""
  top = game.num_players - 2
  if not orders or min(orders) < 0 or max(orders) > top or list(orders) != sorted(set(orders)):
    raise ValueError(
      f"multi_order: orders must increase within 0 .. {top} (a context holds neither i nor j of "
      f"the {game.num_players} players), got {list(orders)}."
    )
  if num_contexts < 1 or block < 1 or num_contexts % block:
    raise ValueError(
      f"multi_order: num_contexts={num_contexts} must be a positive multiple of block={block}."
    )


def check_players(place: str, sets: Array | np.ndarray, num_players: int) -> None:
  """Raises ValueError unless each row names different players 0 .. n - 1; traced ones pass."""
  if isinstance(sets, Tracer) or not sets.size:
    return
  rows = np.sort(np.asarray(sets), axis=1)
  wrong = (rows[:, 0] < 0) | (rows[:, -1] >= num_players) | (rows[:, 1:] == rows[:, :-1]).any(1)
  if wrong.any():
    raise ValueError(
      f"{place} must be different players from 0 to {num_players - 1}, got "
      f"{tuple(np.asarray(sets)[wrong][0].tolist())} in row {int(np.argmax(wrong))}."
    )


@functools.partial(jax.jit, static_argnames=("num_contexts", "block", "chunk_size"))
def _differences(
  key: PRNGKey,
  game: Game,
  orders: Int[Array, " M"],
  pairs: Int[Array, "P 2"],
  *,
  num_contexts: int,
  block: int,
  chunk_size: int,
) -> Float[Array, "M P T"]:
  """Returns Delta v(i, j, S) of every order, pair and context; masks never leave the device."""
  n, num_pairs, num_orders = game.num_players, pairs.shape[0], orders.shape[0]

  def coalitions(row: Int[Array, ""]) -> Bool[Array, "4 n"]:
    rest, which = row // num_orders, row % num_orders
    p, t = rest // num_contexts, rest % num_contexts
    block_key = jax.random.fold_in(key, p * (num_contexts // block) + t // block)
    noise = jax.random.uniform(block_key, (n + 1,))
    ranks, turn = player_ranks(noise[:n], pairs[p]), (t % block + noise[n]) / block
    context = rotated_context(ranks, orders[which], turn, num_eligible=n - 2)
    return corners(context, pairs[p])

  def differences(rows: Int[Array, " C"]) -> Float[Array, " C"]:
    values = game.values(jax.vmap(coalitions)(rows).reshape(-1, n)).reshape(-1, 4)
    return values[:, 0] - values[:, 1] - values[:, 2] + values[:, 3]

  flat = map_chunks(
    differences, num_pairs * num_contexts * num_orders, chunk_size=max(1, chunk_size // 4)
  )
  return jnp.moveaxis(flat.reshape(num_pairs, num_contexts, num_orders), 2, 0)


# What a Monte Carlo estimate of interactions holds: means, standard errors, |I| without bias.
#
# Symbols (Deng et al. 2022, arXiv:2111.06236): Delta v -> `differences`, T -> contexts per pair,
# I^(m)(i, j) -> `mean`, |I^(m)(i, j)| -> `absolute`.

Debias = Literal["none", "half", "jackknife"]
Statistic = Callable[[Array], Array]
"""Of the differences of a pair: the last axis, its contexts, is reduced."""


@dataclasses.dataclass(frozen=True)
class Estimate:
  """What an estimator found; under `vmap` all arrays gain leading axes.

  Attributes:
    mean: the estimate: a number, or an array of them.
    stderr: its standard error, of the same shape; NaN if there is one independent draw only.
    evaluations: number of coalitions evaluated.
    low: lower end of an interval that is not `mean` plus or minus a multiple of `stderr`.
    high: its upper end.
  """

  mean: Any
  stderr: Any
  evaluations: int
  low: float | None = None
  high: float | None = None

  def to_json(self) -> dict[str, Any]:
    """Returns plain numbers or lists: mean, stderr, evaluations."""
    mean, stderr = (np.asarray(part, np.float64).tolist() for part in (self.mean, self.stderr))
    return {"mean": mean, "stderr": stderr, "evaluations": self.evaluations}


jax.tree_util.register_dataclass(
  Estimate, data_fields=["mean", "stderr"], meta_fields=["evaluations", "low", "high"]
)


@dataclasses.dataclass(frozen=True)
class MultiOrder:
  """Sampled Delta v of every order, pair and context, and the `Estimate` that they give.

  Under `vmap` all arrays gain leading axes.

  Attributes:
    orders: the orders m.
    num_players: n of the game.
    pairs: players i, j of each column.
    differences: Delta v(i, j, S); an order with one context only repeats its value.
    block: consecutive contexts that belong together (balanced); blocks are independent.
    evaluations: number of coalitions evaluated.
  """

  orders: tuple[int, ...]
  num_players: int
  pairs: Int[Array, "*b P 2"]
  differences: Float[Array, "*b M P T"]
  block: int
  evaluations: int

  @property
  def estimate(self) -> Estimate:
    """I^(m)(i, j) of every order and pair."""
    return Estimate(self.mean, self.stderr, self.evaluations)

  @property
  def num_contexts(self) -> int:
    """Contexts T per pair and order."""
    return self.differences.shape[-1]

  @property
  def block_means(self) -> Float[Array, "*b M P B"]:
    """Mean of each independent block of contexts."""
    shape = self.differences.shape
    return self.differences.reshape(*shape[:-1], -1, self.block).mean(-1)

  @property
  def mean(self) -> Float[Array, "*b M P"]:
    """Unbiased estimate of I^(m)(i, j)."""
    return self.differences.mean(-1)

  @property
  def stderr(self) -> Float[Array, "*b M P"]:
    """Standard error of `mean`, from the spread of the blocks; NaN with a single block."""
    blocks = self.block_means
    count = blocks.shape[-1]
    if count < 2:
      return jnp.full(blocks.shape[:-1], jnp.nan)
    return blocks.std(-1, ddof=1) / count**0.5

  def interval(
    self, *, confidence: float = 0.95
  ) -> tuple[Float[Array, "*b M P"], Float[Array, "*b M P"]]:
    """Student t interval of I^(m)(i, j): (low, high)."""
    blocks = self.num_contexts // self.block
    return metrics.student_interval(self.mean, self.stderr, count=blocks, confidence=confidence)

  def absolute(self, *, debias: Debias = "jackknife") -> Float[Array, "*b M P"]:
    """Estimates |I^(m)(i, j)|, to be averaged over pairs.

    The plain |mean| ("none") is biased upwards, because noise that crosses zero does not cancel. If
    noise is small against the spread of I over pairs, that bias of the average is proportional to
    the variance of the noise, so sub-samples reveal it: "half" is `2 |mean| - mean of |half-sample
    mean|`; "jackknife" removes the next term too, with quarter samples. They need an even
    (divisible by 4) number of blocks; with fewer, the weaker correction is used.
    """
    return self._debiased(_size, debias)

  def consistency(self, *, debias: Debias = "jackknife") -> Float[Array, "*b M P"]:
    """Estimates |E Delta v| / E |Delta v|, whose mean over pairs is D^(m); 0 where Delta v is 0.

    The plain ratio is biased upwards as |mean| is, and corrected in the same way.
    """
    return self._debiased(_consistency, debias)

  def absolute_bias(self, *, debias: Debias = "jackknife") -> Float[Array, "*b M P"]:
    """Estimates, to be averaged over pairs, the bias that `absolute` has left.

    It is the weaker correction minus the jackknife. Where that is not small the series behind both
    has not converged, and what the jackknife leaves is of this size or a few times larger. 0 where
    the number of blocks allows no second correction.
    """
    weaker: Debias = "none" if debias == "none" else "half"
    return self.absolute(debias=weaker) - self.absolute(debias="jackknife")

  def _debiased(self, statistic: Statistic, debias: Debias) -> Float[Array, "*b M P"]:
    """Corrects a function of the contexts of a pair by its values on parts of them."""
    shape = self.differences.shape
    blocks = self.differences.reshape(*shape[:-1], -1, self.block)
    count, plain = blocks.shape[-2], statistic(self.differences)
    if debias == "none" or count % 2:
      return plain
    half = _sub_sample(blocks, 2, statistic)
    if debias == "half" or count % 4:
      return 2 * plain - half
    return (8 * plain - 6 * half + _sub_sample(blocks, 4, statistic)) / 3


jax.tree_util.register_dataclass(
  MultiOrder,
  data_fields=["pairs", "differences"],
  meta_fields=["orders", "num_players", "block", "evaluations"],
)


@checks.inputs()
def multi_order(
  key: PRNGKey,
  game: Game,
  *,
  orders: Sequence[int],
  pairs: Int[Array, "P 2"] | Int[np.ndarray, "P 2"],
  num_contexts: int,
  block: int = 1,
  chunk_size: int = 256,
) -> MultiOrder:
  """Estimates I^(m)(i, j) of each pair and order by Monte Carlo over contexts.

  Paper: Deng et al. 2022, arXiv:2111.06236, eq. 1 and its public code (4 evaluations per context).
  Deviation: orders 0 and n - 2 have one context only, so they are evaluated once, exactly, and
  share coalitions; one random order of the players serves all orders m, which leaves each
  estimate unbiased.

  ```python
  pairs = np.array([[0, 1], [2, 4]])
  found = interactions.multi_order(key, game, orders=(0, 1, 3), pairs=pairs, num_contexts=8)
  assert found.mean.shape == (3, 2)  # I^(m)(i, j) of each order and pair
  ```

  Args:
    key: consumed.
    game: the game.
    orders: increasing, within 0 .. n - 2.
    pairs: players i != j.
    num_contexts: contexts T per pair and order.
    block: contexts per balanced block: the contexts of one block are rotations of one random
      circular order. 1 is the reference, independent contexts; `num_contexts // block` blocks are
      independent and give the standard error.
    chunk_size: evaluations per call of the game: bounds memory, does not change the result.
  """
  check_players("multi_order: pairs", pairs, game.num_players)
  pairs = jnp.asarray(pairs)
  options = {"num_contexts": num_contexts, "block": block, "chunk_size": chunk_size}
  run = functools.partial(_differences, key, game, pairs=pairs, **options)
  return with_exact_ends(
    run, game, pairs, orders, per_order=4 * pairs.shape[0] * num_contexts, **options
  )


# Orders 0 and n - 2: one context only, so I^(m) is exact and evaluations are shared.
#
# For order 0 the coalitions are the empty one, {i} and {i, j}; for order n - 2 their complements.


def end_evaluations(num_pairs: int, num_players: int) -> int:
  """Returns the evaluations of one end: the base, the single players, the pairs."""
  return 1 + min(2 * num_pairs, num_players) + num_pairs


@functools.partial(jax.jit, static_argnames="chunk_size")
def end_differences(
  game: Game, pairs: Int[Array, "P 2"], full: Bool[Array, ""], *, chunk_size: int
) -> Float[Array, " P"]:
  """Returns I^(0)(i, j), or I^(n-2)(i, j) if `full`, of each pair."""
  n, num_pairs = game.num_players, pairs.shape[0]
  if 2 * num_pairs < n:
    singles, where = pairs.reshape(-1), jnp.arange(2 * num_pairs).reshape(-1, 2)
  else:
    singles, where = jnp.arange(n), pairs
  num_singles = singles.shape[0]

  def flipped(row: Int[Array, ""]) -> Bool[Array, " n"]:
    single = singles[jnp.clip(row - 1, 0, num_singles - 1)]
    pair = pairs[jnp.clip(row - 1 - num_singles, 0, num_pairs - 1)]
    players, is_pair = jnp.arange(n), row > num_singles
    flips = (row > 0) & ~is_pair & (players == single)
    flips |= is_pair & ((players == pair[0]) | (players == pair[1]))
    return flips ^ full

  values = map_chunks(
    lambda rows: game.values(jax.vmap(flipped)(rows)),
    end_evaluations(num_pairs, n),
    chunk_size=chunk_size,
  )
  single = values[1 : 1 + num_singles][where]
  return values[0] - single[:, 0] - single[:, 1] + values[1 + num_singles :]


def with_exact_ends(
  run: Callable[[Int[Array, " M"]], Float[Array, "M P T"]],
  game: Game,
  pairs: Int[Array, "P 2"],
  orders: Sequence[int],
  *,
  num_contexts: int,
  block: int,
  chunk_size: int,
  per_order: int,
) -> MultiOrder:
  """Samples the inner orders by `run` and evaluates the ends, repeated T times.

  `run` maps inner orders to differences, with `per_order` evaluations each.
  """
  check(game, orders, num_contexts, block)
  last = game.num_players - 2
  inner = [order for order in orders if 0 < order < last]
  parts = [run(jnp.asarray(inner))] if inner else []
  for order in (0, last) if last else (0,):
    if order in orders:
      exact = end_differences(game, pairs, jnp.asarray(order > 0), chunk_size=chunk_size)
      repeated = jnp.broadcast_to(exact[None, :, None], (1, pairs.shape[0], num_contexts))
      parts.insert(0 if order == 0 else len(parts), repeated)
  num_ends = len(orders) - len(inner)
  return MultiOrder(
    orders=tuple(int(order) for order in orders),
    num_players=game.num_players,
    pairs=pairs,
    differences=jnp.concatenate(parts),
    block=block,
    evaluations=len(inner) * per_order
    + num_ends * end_evaluations(pairs.shape[0], game.num_players),
  )


NUM_SPLITS = 6
"""Ways to part the contexts in the corrections of |I|; more lower the variance a little."""


def _size(contexts: Array) -> Array:
  return jnp.abs(contexts.mean(-1))


def _consistency(contexts: Array) -> Array:
  spread = jnp.abs(contexts).mean(-1)
  return _size(contexts) / jnp.where(spread > 0, spread, 1.0)


def _sub_sample(
  blocks: Float[Array, "*b M P B C"], parts: int, statistic: Statistic
) -> Float[Array, "*b M P"]:
  """Mean of a statistic of a part, averaged over `NUM_SPLITS` fixed ways to part the blocks."""
  count, draw = blocks.shape[-2], np.random.default_rng(0)
  total = jnp.zeros(blocks.shape[:-2])
  for split in range(NUM_SPLITS):
    order = draw.permutation(count) if split else np.arange(count)
    parted = blocks[..., order, :].reshape(*blocks.shape[:-2], parts, -1)
    total += statistic(parted).mean(-1)
  return total / NUM_SPLITS


@checks.inputs()
def to_json(result: MultiOrder) -> dict[str, Any]:
  """Returns plain lists: orders, pairs, mean, stderr, evaluations.

  ```python
  pairs = np.array([[0, 1], [2, 4]])
  found = interactions.multi_order(key, game, orders=(0, 1, 3), pairs=pairs, num_contexts=8)
  assert interactions.to_json(found)["orders"] == [0, 1, 3]
  ```
  """
  return {
    "orders": list(result.orders),
    "num_players": result.num_players,
    "pairs": np.asarray(result.pairs).tolist(),
    "num_contexts": result.num_contexts,
    "block": result.block,
    **result.estimate.to_json(),
  }


# What one pair contributes to the curves over orders, in one compiled program per network.

FEATURES = ("absolute", "mean", "spread", "consistency", "bias")
"""Per pair and order: |I| without bias, I, mean |Delta v|, |mean Delta v| / mean |Delta v| without
bias, and an estimate of the bias that |I| has left."""


@functools.partial(
  jax.jit, static_argnames=("orders", "num_contexts", "block", "debias", "chunk_size")
)
def pair_features(
  key: PRNGKey, game: Game, pairs: Int[Array, "P 2"], *, debias: Debias, **options: Any
) -> Float[Array, "5 M P"]:
  """Returns the `FEATURES` of each pair; `options` are keywords of `multi_order`.

  One program serves all games of a network.
  """
  result = multi_order(key, game, pairs=pairs, **options)
  spread, consistency = jnp.abs(result.differences).mean(-1), result.consistency(debias=debias)
  size, bias = result.absolute(debias=debias), result.absolute_bias(debias=debias)
  return jnp.stack([size, result.mean, spread, consistency, bias])


@functools.partial(jax.jit, static_argnames=("ends", "chunk_size"))
def end_features(
  game: Game, pairs: Int[Array, "P 2"], *, ends: tuple[int, ...], chunk_size: int
) -> Float[Array, "5 M P"]:
  """Returns the `FEATURES` of orders 0 and n - 2, which one context gives exactly."""
  exact = jnp.stack(
    [end_differences(game, pairs, jnp.asarray(m > 0), chunk_size=chunk_size) for m in ends]
  )
  size = jnp.abs(exact)
  return jnp.stack([size, exact, size, (size > 0).astype(size.dtype), jnp.zeros_like(size)])
