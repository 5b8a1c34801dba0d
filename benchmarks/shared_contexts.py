# SPDX-License-Identifier: Apache-2.0
"""I^(m)(i, j) of all pairs inside small sets of players that share their evaluations.

One context serves all k (k - 1) / 2 pairs of a set K with 1 + k + k (k - 1) / 2 evaluations, where
independent pairs need 4 each: 11 instead of 24 for k = 4.

How it stays unbiased: the context S of a pair must hold a hypergeometric number h of the other
k - 2 players of K. Draw h once per context, give K random labels 0 .. k - 1, and let every pair's S
hold the first h labels that are not its own, plus the same m - h players from outside K. Each pair
alone then sees a uniformly random S of size m, and the coalitions of all pairs coincide so often
that only 1 + k + k (k - 1) / 2 of them differ, whatever h is.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax import checks
from mixboost_jax.array_types import PRNGKey
from mixboost_jax.interactions._game import Game, map_chunks
from mixboost_jax.interactions._multi_order import (
  MultiOrder,
  check_players,
  player_ranks,
  rotated_context,
  with_exact_ends,
)


def set_evaluations(size: int) -> int:
  """Returns 1 + k + k (k - 1) / 2, the evaluations of one context of a set of `size` players."""
  return 1 + size + size * (size - 1) // 2


@functools.cache
def design(
  size: int,
) -> tuple[Bool[np.ndarray, "h E k"], Int[np.ndarray, "h pairs 4"], Int[np.ndarray, "k k"]]:
  """Lists which labels each evaluation holds, and the four evaluations of each pair of labels.

  Args:
    size: players k of a set.

  Returns:
    `members[h, e, label]`, `corners[h, pair, (ij, i, j, none)]` and the number of a pair of labels.
  """
  pairs = list(itertools.combinations(range(size), 2))
  number = np.zeros((size, size), int)
  for index, (i, j) in enumerate(pairs):
    number[i, j] = number[j, i] = index
  num_rows = set_evaluations(size)
  members = np.zeros((size - 1, num_rows, size), bool)
  corners = np.zeros((size - 1, len(pairs), 4), int)
  for h in range(size - 1):
    rows: dict[frozenset[int], int] = {}
    for index, (i, j) in enumerate(pairs):
      base = frozenset([label for label in range(size) if label not in (i, j)][:h])
      for corner, flips in enumerate(((i, j), (i,), (j,), ())):
        corners[h, index, corner] = rows.setdefault(base | set(flips), len(rows))
    assert len(rows) <= num_rows
    for row, number_of in rows.items():
      members[h, number_of, list(row)] = True
  return members, corners, number


def _inside_probabilities(
  orders: Sequence[int], num_players: int, size: int
) -> Float[np.ndarray, "M h"]:
  """Returns P(h of the other k - 2 players of K are in a uniform context of m players)."""
  n, k = num_players, size
  table = [
    [
      math.comb(k - 2, h) * math.comb(n - k, order - h) / math.comb(n - 2, order)
      if order >= h
      else 0.0
      for h in range(k - 1)
    ]
    for order in orders
  ]
  return np.array(table)


@functools.partial(jax.jit, static_argnames=("num_contexts", "block", "chunk_size"))
def _differences(
  key: PRNGKey,
  game: Game,
  orders: Int[Array, " M"],
  inside: Float[Array, "M h"],
  sets: Int[Array, "Q k"],
  *,
  num_contexts: int,
  block: int,
  chunk_size: int,
) -> Float[Array, "M P T"]:
  n, num_orders = game.num_players, orders.shape[0]
  num_sets, size = sets.shape
  num_pairs, num_rows = size * (size - 1) // 2, set_evaluations(size)
  members, corners, number = (jnp.asarray(table) for table in design(size))
  first, second = (jnp.asarray(side) for side in np.triu_indices(size, 1))
  cumulative = jnp.cumsum(inside, axis=1)

  def draw(row: Int[Array, ""]) -> tuple[Bool[Array, "E n"], Int[Array, " P"], Int[Array, ""]]:
    rest, which = row // num_orders, row % num_orders
    q, t = rest // num_contexts, rest % num_contexts
    block_key = jax.random.fold_in(key, q * (num_contexts // block) + t // block)
    noise = jax.random.uniform(block_key, (n + 2,))
    ranks, turn = player_ranks(noise[:n], sets[q]), (t % block + noise[n]) / block
    # Even steps from a random start: each context alone is uniform, together they are balanced.
    level = (noise[n + 1] + (t % block) / block) % 1.0
    h = jnp.minimum(jnp.sum(cumulative[which] <= level), size - 2)
    labels = jnp.argsort(jax.random.uniform(jax.random.fold_in(block_key, t), (size,)))
    outside = rotated_context(ranks, orders[which] - h, turn, num_eligible=n - size)
    held = members[h][:, labels]
    coalitions = jnp.broadcast_to(outside, (num_rows, n)).at[:, sets[q]].set(held)
    return coalitions, number[labels[first], labels[second]], h

  def differences(rows: Int[Array, " C"]) -> Float[Array, "C P"]:
    coalitions, pair_numbers, h = jax.vmap(draw)(rows)
    values = game.values(coalitions.reshape(-1, n)).reshape(-1, num_rows)
    corner = jnp.take_along_axis(corners[h], pair_numbers[:, :, None], axis=1)
    four = jnp.take_along_axis(values, corner.reshape(values.shape[0], -1), axis=1)
    four = four.reshape(-1, num_pairs, 4)
    return four[..., 0] - four[..., 1] - four[..., 2] + four[..., 3]

  flat = map_chunks(
    differences, num_sets * num_contexts * num_orders, chunk_size=max(1, chunk_size // num_rows)
  )
  table = flat.reshape(num_sets, num_contexts, num_orders, num_pairs)
  return table.transpose(2, 0, 3, 1).reshape(num_orders, num_sets * num_pairs, num_contexts)


@checks.inputs()
def multi_order_sets(
  key: PRNGKey,
  game: Game,
  *,
  orders: Sequence[int],
  sets: Int[Array, "Q k"] | Int[np.ndarray, "Q k"],
  num_contexts: int,
  block: int = 1,
  chunk_size: int = 256,
) -> MultiOrder:
  """Estimates I^(m)(i, j) of all pairs of each set, sharing contexts inside a set.

  Args:
    key: consumed.
    game: the game.
    orders: increasing, within 0 .. n - 2.
    sets: k >= 2 distinct players per row.
    num_contexts: contexts T per set and order.
    block: contexts per balanced block, as in `multi_order`.
    chunk_size: evaluations per call of the game, at least those of one set's context.

  Returns:
    `MultiOrder` with the pairs of the sets in the order of the sets.

  Raises:
    ValueError: if an order is out of range or `block` does not divide `num_contexts`.
  """
  sets = jnp.asarray(sets)
  num_sets, size = sets.shape
  if not 2 <= size <= game.num_players:
    raise ValueError(f"multi_order_sets: a set needs 2 to {game.num_players} players, got {size}.")

  options = {"num_contexts": num_contexts, "block": block, "chunk_size": chunk_size}

  def run(some: Int[Array, " M"]) -> Float[Array, "M P T"]:
    inner = [order for order in orders if 0 < order < game.num_players - 2]
    inside = jnp.asarray(_inside_probabilities(inner, game.num_players, size))
    return _differences(key, game, some, inside, sets, **options)

  check_players("multi_order_sets: sets", sets, game.num_players)
  first, second = np.triu_indices(size, 1)
  pairs = jnp.stack([sets[:, first], sets[:, second]], -1).reshape(-1, 2)
  per_order = num_sets * set_evaluations(size) * num_contexts
  return with_exact_ends(run, game, pairs, orders, per_order=per_order, **options)
