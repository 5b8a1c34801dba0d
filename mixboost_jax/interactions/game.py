# SPDX-License-Identifier: Apache-2.0
"""A cooperative game: players that are present or absent, and the reward of each coalition.

Symbols (Deng et al. 2022, arXiv:2111.06236, Sec. 2): n -> `num_players`, S -> a row of
`coalitions`, v(S) -> `value_fn`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax import checks, loops

Coalitions = Bool[Array, "S n"]
Values = Float[Array, " S"]


@dataclasses.dataclass(frozen=True)
class Game:
  """A game as every estimator of this package takes it.

  A game is a pytree: `args` are its leaves, the rest is static. Two games with equal static parts
  (two pictures under one network, say) therefore share one compiled program.

  Attributes:
    num_players: number of players n.
    value_fn: `(coalitions bool[S, n], *args) -> float[S]`; row s holds True where a player is
      present. It must be hashable (any function is).
    args: arrays (or pytrees of arrays) handed to `value_fn`; not closed over, so they may change
      without a new compilation.
    sharding: where the rows of a batch of coalitions live, to spread one game over devices. None
      leaves that to the compiler.
  """

  num_players: int
  value_fn: Callable[..., Array]
  args: tuple[Any, ...] = ()
  sharding: jax.sharding.Sharding | None = None

  def values(self, coalitions: Coalitions) -> Values:
    """Returns the reward of each coalition in one call of `value_fn`.

    Raises:
      ValueError: if `coalitions` has another number of players or `value_fn` another output shape.
    """
    if coalitions.shape[-1] != self.num_players:
      raise ValueError(
        f"Game: coalitions have {coalitions.shape[-1]} players, the game has {self.num_players}."
      )
    num_rows = coalitions.shape[0]
    if self.sharding is not None:  # whole rows per device: repeat the last one
      padding = -num_rows % self.sharding.num_devices
      coalitions = jnp.pad(coalitions, ((0, padding), (0, 0)), mode="edge")
      coalitions = jax.lax.with_sharding_constraint(coalitions, self.sharding)
    values = self.value_fn(coalitions, *self.args)
    if values.shape != coalitions.shape[:1]:
      raise ValueError(
        f"Game: value_fn must return one number per coalition, shape {coalitions.shape[:1]}; "
        f"it returned {values.shape}."
      )
    if isinstance(self.sharding, jax.sharding.NamedSharding):  # every process reads them all
      everywhere = jax.sharding.NamedSharding(self.sharding.mesh, jax.sharding.PartitionSpec())
      values = jax.lax.with_sharding_constraint(values, everywhere)
    return values[:num_rows]


jax.tree_util.register_dataclass(
  Game, data_fields=["args"], meta_fields=["num_players", "value_fn", "sharding"]
)


@checks.inputs()
def table_game(table: Float[Array, " coalitions"]) -> Game:
  """Makes a game of its 2**n rewards; coalition S is entry `sum_{i in S} 2**i`.

  Raises:
    ValueError: if the length is not a power of two.
  """
  size = table.shape[0]
  num_players = size.bit_length() - 1
  if size != 1 << num_players:
    raise ValueError(f"table_game: expected 2**n rewards, got {size}.")
  return Game(num_players, _look_up, (table,))


def _look_up(coalitions: Coalitions, table: Float[Array, " coalitions"]) -> Values:
  bits = jnp.left_shift(1, jnp.arange(coalitions.shape[1]))
  return table[jnp.sum(jnp.where(coalitions, bits[None], 0), axis=1)]


@checks.inputs()
def coalitions_of(codes: Int[Array, " S"], num_players: int) -> Coalitions:
  """Turns binary codes into coalitions: player i is present where bit i is set."""
  return (codes[:, None] >> jnp.arange(num_players)[None, :]) % 2 == 1


def map_chunks(fn: Callable[[Int[Array, " C"]], Any], num_rows: int, *, chunk_size: int) -> Any:
  """Evaluates `fn(row numbers)` chunk by chunk in a rolled, forward-only loop.

  Memory is bounded by one chunk; what a row gives must depend on its number only, so the result
  does not depend on `chunk_size`.

  Args:
    fn: maps `chunk_size` row numbers to arrays with that leading axis. Padding rows repeat the
      last row and are dropped.
    num_rows: number of rows.
    chunk_size: rows per call.

  Returns:
    What `fn` returns, for all rows.
  """
  if num_rows < 1 or chunk_size < 1:
    raise ValueError(f"map_chunks: expected rows and chunks, got {num_rows} and {chunk_size}.")
  chunk_size = min(chunk_size, num_rows)
  num_chunks = -(-num_rows // chunk_size)
  if num_chunks == 1:
    return fn(jnp.arange(num_rows))
  rows = jnp.minimum(jnp.arange(num_chunks * chunk_size), num_rows - 1)
  _, stacked = loops.scan(
    lambda carry, chunk: (carry, fn(chunk)),
    None,
    rows.reshape(num_chunks, chunk_size),
  )
  return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_rows], stacked)


def check_games(games: Sequence[Game], largest_player: int) -> None:
  """Raises ValueError unless there are games, all of one size that holds the player."""
  sizes = sorted({game.num_players for game in games})
  if len(sizes) != 1 or largest_player >= sizes[0]:
    raise ValueError(
      f"strength: needs games of one size that holds all pairs; sizes {sizes}, largest player "
      f"{largest_player}."
    )
