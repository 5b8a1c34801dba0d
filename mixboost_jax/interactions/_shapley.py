# SPDX-License-Identifier: Apache-2.0
"""Shapley values of any game by random orders of the players, with standard errors.

Paper: Castro et al. 2009, Computers and Operations Research 36(5) (permutation sampling);
Mitchell et al. 2022, JMLR 23(43) (antithetic permutations).
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mixboost_jax import checks
from mixboost_jax.array_types import PRNGKey
from mixboost_jax.interactions._game import Game, map_chunks
from mixboost_jax.interactions._multi_order import Estimate


@functools.partial(jax.jit, static_argnames=("num_orders", "antithetic", "chunk_size"))
def _gains(
  key: PRNGKey, game: Game, *, num_orders: int, antithetic: bool, chunk_size: int
) -> Float[Array, "orders n"]:
  """Returns what each player adds when it joins, for each random order."""
  n = game.num_players

  def positions(order: Int[Array, ""]) -> Int[Array, " n"]:
    draw = order // 2 if antithetic else order
    noise = jax.random.uniform(jax.random.fold_in(key, draw), (n,))
    place = jnp.zeros(n, int).at[jnp.argsort(noise)].set(jnp.arange(n))
    return jnp.where(antithetic & (order % 2 == 1), n - 1 - place, place)

  def value(rows: Int[Array, " C"]) -> Float[Array, " C"]:
    # Row 0 is the empty coalition, row n the full one; in between one per order and length.
    inner = jnp.maximum(rows - 2, 0)
    order, length = inner // max(n - 1, 1), inner % max(n - 1, 1) + 1
    coalitions = jax.vmap(positions)(order) < length[:, None]
    coalitions = jnp.where(rows[:, None] < 2, rows[:, None] == 1, coalitions)
    return game.values(coalitions)

  values = map_chunks(value, 2 + num_orders * (n - 1), chunk_size=chunk_size)
  ends = jnp.broadcast_to(values[:2], (num_orders, 2))
  walk = jnp.concatenate([ends[:, :1], values[2:].reshape(num_orders, n - 1), ends[:, 1:]], axis=1)
  places = jax.vmap(positions)(jnp.arange(num_orders))
  return jnp.take_along_axis(jnp.diff(walk, axis=1), places, axis=1)


@checks.inputs()
def shapley(
  key: PRNGKey, game: Game, *, num_orders: int, antithetic: bool = True, chunk_size: int = 256
) -> Estimate:
  """Estimates Shapley values from random orders in which the players join.

  `antithetic` walks every random order backwards too: unbiased, and never worse when gains are
  monotone in the position (`num_orders` must be even). An order costs n - 1 evaluations. The values
  add up to v(N) - v(empty) exactly (up to rounding); errors are over independent random orders (or
  antithetic pairs of orders).

  ```python
  found, values = interactions.shapley(key, game, num_orders=10), interactions.exact.values(game)
  assert np.isclose(found.mean.sum(), values[-1] - values[0], atol=1e-5)
  ```
  """
  if num_orders < 1 or (antithetic and num_orders % 2):
    raise ValueError(
      f"shapley: num_orders must be positive, and even with antithetic orders; got {num_orders}."
    )
  gains = _gains(key, game, num_orders=num_orders, antithetic=antithetic, chunk_size=chunk_size)
  groups = gains.reshape(-1, 2, game.num_players).mean(1) if antithetic else gains
  count = groups.shape[0]
  stderr = groups.std(0, ddof=1) / count**0.5 if count > 1 else jnp.full_like(groups[0], jnp.nan)
  return Estimate(groups.mean(0), stderr, 2 + num_orders * (game.num_players - 1))
