# SPDX-License-Identifier: Apache-2.0
"""Orders 0 and n - 2: one context only, so I^(m) is exact and evaluations are shared.

For order 0 the coalitions are the empty one, {i} and {i, j}; for order n - 2 their complements.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax.interactions.game import Game, map_chunks


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
    players = jnp.arange(n)
    is_single = (row > 0) & (row <= num_singles)
    is_pair = row > num_singles
    flips = (is_single & (players == single)) | (
      is_pair & ((players == pair[0]) | (players == pair[1]))
    )
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
  chunk_size: int,
) -> Float[Array, "M P T"]:
  """Samples the inner orders by `run` and evaluates the ends, repeated T times.

  Args:
    run: `inner orders -> differences`.
    game: the game.
    pairs: the pairs, in the order of `run`.
    orders: increasing.
    num_contexts: contexts T.
    chunk_size: evaluations per call.
  """
  last = game.num_players - 2
  inner = [order for order in orders if 0 < order < last]
  parts = [run(jnp.asarray(inner))] if inner else []
  for order in (0, last) if last else (0,):
    if order in orders:
      exact = end_differences(game, pairs, jnp.asarray(order > 0), chunk_size=chunk_size)
      repeated = jnp.broadcast_to(exact[None, :, None], (1, pairs.shape[0], num_contexts))
      parts.insert(0 if order == 0 else len(parts), repeated)
  return jnp.concatenate(parts)


def total_evaluations(
  orders: Sequence[int], *, num_players: int, num_pairs: int, per_order: int
) -> int:
  """Adds up the evaluations: `per_order` for an inner order, `end_evaluations` for an end."""
  num_ends = sum(order in (0, num_players - 2) for order in orders)
  return (len(orders) - num_ends) * per_order + num_ends * end_evaluations(num_pairs, num_players)
