# SPDX-License-Identifier: Apache-2.0
"""Every index of a small game, exactly, from its 2**n rewards (n <= 20).

The rewards are evaluated on the device; the sums run in float64 on the host, because alternating
sums over 2**n terms lose float32. Coalition S is entry `sum_{i in S} 2**i` of every table.

Symbols (Zhang et al. 2021, arXiv:2009.11729; Deng et al. 2022, arXiv:2111.06236): v(S) -> `values`,
I(S) -> `harsanyi`, phi^(m)(i) -> `order_shapley`, I^(m)(i, j) -> `multi_order`.
"""

import functools
import math
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float

from mixboost_jax.interactions._game import Game, coalitions_of, map_chunks

MAX_PLAYERS = 20
"""Largest game that is enumerated: about a million coalitions."""

Table = Float[np.ndarray, " coalitions"]


@functools.partial(jax.jit, static_argnames="chunk_size")
def _all_values(game: Game, *, chunk_size: int) -> jax.Array:
  n = game.num_players
  return map_chunks(
    lambda codes: game.values(coalitions_of(codes, n)), 1 << n, chunk_size=chunk_size
  )


def values(game: Game, *, chunk_size: int = 1024) -> Table:
  """Returns v(S) of all 2**n coalitions; at most `MAX_PLAYERS` players."""
  if not 1 <= game.num_players <= MAX_PLAYERS:
    raise ValueError(
      f"exact: {game.num_players} players; enumeration needs 1 to {MAX_PLAYERS}. "
      "Use interactions.multi_order or interactions.shapley for larger games."
    )
  return np.asarray(_all_values(game, chunk_size=chunk_size), np.float64)


def moebius(table: Table) -> Table:
  """Returns I(S) = sum_{L within S} (-1)^(|S|-|L|) v(L), by n in-place passes."""
  out = np.array(table, np.float64)
  for player in range(out.size.bit_length() - 1):
    view = out.reshape(-1, 2, 1 << player)
    view[:, 1] -= view[:, 0]
  return out


def harsanyi(game: Game) -> Table:
  """Returns the Harsanyi dividends I(S) of all coalitions: the AND patterns of the game.

  Paper: Ren et al. 2021, arXiv:2105.10719, Sec. 3; v(N) = v(empty) + sum_{S not empty} I(S).
  """
  return moebius(values(game))


def members(num_players: int) -> np.ndarray:
  """Returns bool[2**n, n]: who belongs to which coalition."""
  return (np.arange(1 << num_players)[:, None] >> np.arange(num_players)) % 2 == 1


def _sums_by_size(table: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Sums v(S) over |S| = s: all, those with i, those with i and j."""
  n = table.size.bit_length() - 1
  presence = members(n)
  sizes = presence.sum(1)
  total, with_one, with_two = (np.zeros((n + 1,) + (n,) * k) for k in range(3))
  for size in range(n + 1):
    rows = np.flatnonzero(sizes == size)
    total[size] = table[rows].sum()
    for part in np.array_split(rows, 1 + rows.size // 65536):
      inside = presence[part].astype(np.float64)
      weighted = inside * table[part, None]
      with_one[size] += weighted.sum(0)
      with_two[size] += inside.T @ weighted
  return total, with_one, with_two


def order_shapley(game: Game) -> Float[np.ndarray, "m n"]:
  """Returns phi^(m)(i), the mean of v(S + i) - v(S) over |S| = m, as `[m, i]`, m = 0 .. n-1."""
  n = game.num_players
  total, with_one, _ = _sums_by_size(values(game))
  without = total[:, None] - with_one
  count = np.array([math.comb(n - 1, m) for m in range(n)], np.float64)[:, None]
  return (with_one[1:] - without[:-1]) / count


def shapley(game: Game) -> Float[np.ndarray, " n"]:
  """Returns the Shapley values: the mean of phi^(m)(i) over all orders."""
  return order_shapley(game).mean(0)


def multi_order(game: Game) -> Float[np.ndarray, "m n n"]:
  """Returns I^(m)(i, j) as `[m, i, j]`, m = 0 .. n-2; the diagonal is zero.

  Paper: Deng et al. 2022, arXiv:2111.06236, eq. 1: the mean of
  v(S+ij) - v(S+i) - v(S+j) + v(S) over contexts of m other players.
  """
  n = game.num_players
  if n < 2:
    raise ValueError("exact.multi_order: a pair needs at least 2 players.")
  total, with_one, both = _sums_by_size(values(game))
  first = with_one[:, :, None] - both  # i present, j absent
  second = with_one[:, None, :] - both
  neither = total[:, None, None] - both - first - second
  count = np.array([math.comb(n - 2, m) for m in range(n - 1)], np.float64)[:, None, None]
  out = (both[2:] - first[1:-1] - second[1:-1] + neither[:-2]) / count
  out[:, np.arange(n), np.arange(n)] = 0
  return out


def shapley_interaction(game: Game) -> Float[np.ndarray, "n n"]:
  """Returns the Shapley interaction index I(i, j): the mean of I^(m)(i, j) over all orders.

  Paper: Grabisch and Roubens 1999, Int. J. of Game Theory 28(4).
  """
  return multi_order(game).mean(0)


def group_interaction(game: Game, group: Sequence[int]) -> float:
  """Returns the Shapley interaction index I(S) of a group S of any size.

  I(S) = sum over patterns T that contain S of I(T) / (|T| - |S| + 1): the Shapley value for one
  player, `shapley_interaction` for two.

  Paper: Grabisch and Roubens 1999, Int. J. of Game Theory 28(4).
  """
  if not group or len(set(group)) != len(group):
    raise ValueError(f"exact.group_interaction: expected distinct players, got {list(group)}.")
  presence = members(game.num_players)
  holds = presence[:, list(group)].all(1)
  extra = presence[holds].sum(1) - len(group)
  return float((harsanyi(game)[holds] / (extra + 1)).sum())


def efficiency_weights(num_players: int) -> Float[np.ndarray, " m"]:
  """Returns w^(m) = (n-1-m) / (n (n-1)), m = 0 .. n-2.

  Paper: Liu et al. (MixBoost), eq. 2: v(N) = v(empty) + sum_i mu_i + the sum of w^(m) I^(m)(i, j)
  over ordered pairs and orders, with mu_i = v(i) - v(empty).
  """
  n = num_players
  return (n - 1 - np.arange(n - 1)) / (n * (n - 1))
