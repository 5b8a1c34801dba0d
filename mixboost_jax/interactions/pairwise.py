# SPDX-License-Identifier: Apache-2.0
"""I^(m)(i, j) of chosen pairs by sampled contexts: one compiled program for all orders.

Symbols (Deng et al. 2022, arXiv:2111.06236, Sec. 2): I^(m)(i, j) -> `MultiOrder.mean`,
Delta v(i, j, S) -> `MultiOrder.differences`, m -> an entry of `orders`, S -> a context.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax import checks
from mixboost_jax.array_types import PRNGKey
from mixboost_jax.interactions.ends import total_evaluations, with_exact_ends
from mixboost_jax.interactions.estimate import MultiOrder
from mixboost_jax.interactions.game import Game, map_chunks

PAPER_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Orders of the public protocol as fractions of n - 2."""


@checks.inputs()
def orders_of(num_players: int, *, ratios: Sequence[float] = PAPER_RATIOS) -> tuple[int, ...]:
  """Returns `int((n - 2) * ratio)`: 0, 12, 25, 50, ..., 254 for 256 players.

  With few players some ratios fall on one order, which is listed once.
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

  Returns:
    `MultiOrder` with `mean[orders, P]`, `stderr[orders, P]`, `evaluations`.

  Raises:
    ValueError: if an order is out of range or `block` does not divide `num_contexts`.
  """
  check(game, orders, num_contexts, block)
  check_players("multi_order: pairs", pairs, game.num_players)
  pairs = jnp.asarray(pairs)

  run = functools.partial(
    _differences,
    key,
    game,
    pairs=pairs,
    num_contexts=num_contexts,
    block=block,
    chunk_size=chunk_size,
  )
  return MultiOrder(
    orders=tuple(int(order) for order in orders),
    num_players=game.num_players,
    pairs=pairs,
    differences=with_exact_ends(
      run, game, pairs, orders, num_contexts=num_contexts, chunk_size=chunk_size
    ),
    clusters=jnp.arange(pairs.shape[0]),
    block=block,
    evaluations=total_evaluations(
      orders,
      num_players=game.num_players,
      num_pairs=pairs.shape[0],
      per_order=4 * pairs.shape[0] * num_contexts,
    ),
  )
