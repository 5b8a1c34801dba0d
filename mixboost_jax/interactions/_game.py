# SPDX-License-Identifier: Apache-2.0
"""A cooperative game: players that are present or absent, and the reward of each coalition.

Symbols (Deng et al. 2022, arXiv:2111.06236, Sec. 2): n -> `num_players`, S -> a row of
`coalitions`, v(S) -> `value_fn`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax import checks, loops
from mixboost_jax.array_types import Image, Logits, LogitsFn
from mixboost_jax.registry import lookup

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
    args: pytrees of arrays handed to `value_fn`, so that they may change without a new compilation.
    sharding: where the rows of a batch of coalitions live, to spread one game over devices. None
      leaves that to the compiler.
  """

  num_players: int
  value_fn: Callable[..., Array]
  args: tuple[Any, ...] = ()
  sharding: jax.sharding.Sharding | None = None

  def values(self, coalitions: Coalitions) -> Values:
    """Returns the reward of each coalition in one call of `value_fn`."""
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

  ```python
  both = interactions.table_game(jnp.array([0.0, 0.0, 0.0, 1.0]))  # worth 1 together
  assert interactions.exact.shapley(both).tolist() == [0.5, 0.5]
  ```
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
  """Turns binary codes into coalitions: player i is present where bit i is set.

  ```python
  coalitions = interactions.coalitions_of(jnp.array([0b101]), 3)
  assert coalitions.tolist() == [[True, False, True]]
  ```
  """
  return (codes[:, None] >> jnp.arange(num_players)[None, :]) % 2 == 1


def map_chunks(fn: Callable[[Int[Array, " C"]], Any], num_rows: int, *, chunk_size: int) -> Any:
  """Evaluates `fn(row numbers)` chunk by chunk in a rolled, forward-only loop.

  `fn` maps `chunk_size` row numbers to arrays with that leading axis. Memory is bounded by one
  chunk; what a row gives must depend on its number only, so the result does not depend on
  `chunk_size`. Padding rows repeat the last row and are dropped.
  """
  if num_rows < 1 or chunk_size < 1:
    raise ValueError(f"map_chunks: expected rows and chunks, got {num_rows} and {chunk_size}.")
  chunk_size = min(chunk_size, num_rows)
  num_chunks = -(-num_rows // chunk_size)
  if num_chunks == 1:
    return fn(jnp.arange(num_rows))
  rows = jnp.minimum(jnp.arange(num_chunks * chunk_size), num_rows - 1)
  chunks = rows.reshape(num_chunks, chunk_size)
  _, stacked = loops.scan(lambda carry, chunk: (carry, fn(chunk)), None, chunks)
  return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_rows], stacked)


def values_of_singles(game: Game, *, chunk_size: int) -> Float[Array, "2 n_plus_one"]:
  """Returns v of each player alone and of nobody, and v of the complements of these coalitions."""
  n = game.num_players

  def values(rows: Int[Array, " C"]) -> Values:
    return game.values((jnp.arange(n)[None] == (rows % (n + 1))[:, None]) ^ (rows > n)[:, None])

  found = jax.jit(lambda: map_chunks(values, 2 * (n + 1), chunk_size=chunk_size))()
  return found.reshape(2, n + 1)


def check_games(games: Sequence[Game], largest_player: int) -> None:
  """Raises ValueError unless there are games, all of one size that holds the player."""
  sizes = sorted({game.num_players for game in games})
  if len(sizes) != 1 or largest_player >= sizes[0]:
    raise ValueError(
      f"strength: needs games of one size that holds all pairs; sizes {sizes}, largest player "
      f"{largest_player}."
    )


# Games of pictures and sequences: players are patches, superpixels, feature groups or tokens.
#
# Masks are made from coalitions on the device, inside the compiled program, and never leave it.

Fill = float | Float[Array, "..."] | Float[np.ndarray, "..."] | Literal["mean", "black", "blur"]

ALWAYS_PRESENT = -1
"""Player number of features that no coalition removes."""


def grid_labels(height: int, width: int, *, grid: int) -> Int[np.ndarray, "H W"]:
  """Returns the player of each pixel: cell (i * grid // H, j * grid // W), row by row."""
  if not 1 <= grid <= min(height, width):
    raise ValueError(
      f"image_game: grid must be in [1, {min(height, width)}] for {height}x{width}, got {grid}."
    )
  rows, columns = np.arange(height) * grid // height, np.arange(width) * grid // width
  return rows[:, None] * grid + columns[None, :]


def blurred(image: Image, *, sigma: float) -> Image:
  """Gaussian blur; weights are renormalised at the border, so a flat picture stays as it is."""

  def kernel(size: int) -> Float[Array, "size size"]:
    distance = jnp.arange(size)[:, None] - jnp.arange(size)[None, :]
    weights = jnp.exp(-(distance**2) / (2.0 * sigma**2))
    return weights / weights.sum(1, keepdims=True)

  height, width, _ = image.shape
  return jnp.einsum("ih,hwc,jw->ijc", kernel(height), image, kernel(width))


@checks.inputs()
def fill_image(image: Image, fill: Fill, *, blur_sigma: float = 4.0) -> Image:
  """Returns the picture of the empty coalition.

  `fill` is a pixel value in [0, 1]: a number, `[C]` (the mean of the data set is the choice of the
  public code, 0 after normalisation), `[H, W, C]` (a learned baseline, say); "mean" is the mean of
  this picture per channel, "black" is 0, "blur" the picture blurred by `blur_sigma` pixels.

  ```python
  empty = interactions.fill_image(images[0], "mean")
  ```
  """
  if isinstance(fill, str):
    named = {
      "mean": lambda: image.mean((0, 1)),
      "black": lambda: jnp.zeros(()),
      "blur": lambda: blurred(image, sigma=blur_sigma),
    }
    value = lookup(named, fill, field="image_game: fill")()
  else:
    value = jnp.asarray(fill, image.dtype)
  if value.ndim not in (0, 1, 3):
    raise ValueError(
      f"image_game: fill must be a number, [C], [H, W, C] or a name, got shape {value.shape}."
    )
  shape = {0: (1, 1, 1), 1: (1, 1, -1), 3: value.shape}[value.ndim]
  return jnp.broadcast_to(value.reshape(shape), image.shape)


@dataclasses.dataclass(frozen=True)
class _MaskedReward:
  """Masks features, asks the network, takes the reward; hashable, so pictures share a program."""

  reward: str
  logits_fn: LogitsFn | None

  def __call__(
    self,
    coalitions: Coalitions,
    features: Array,
    fill: Array,
    players: Array,
    label: Array,
    logits_fn: LogitsFn | None,
  ) -> Values:
    network = self.logits_fn or logits_fn
    assert network is not None
    present = jnp.where(players == ALWAYS_PRESENT, True, coalitions[:, players])
    with checks.tracing("game: logits_fn"):
      logits = network(jnp.where(present, features[None], fill[None]))
    is_class = (label >= 0) & (label < logits.shape[-1])
    return jnp.where(is_class, REWARDS[self.reward](logits, label), jnp.nan)


@checks.inputs()
def feature_game(
  logits_fn: LogitsFn,
  features: Array,
  label: int | Int[Array, ""],
  players: Int[np.ndarray, "..."] | Int[Array, "..."],
  *,
  num_players: int,
  reward: str = "modified",
  fill: Array,
) -> Game:
  """Makes a game of any array: entry x of `features` belongs to player `players[x]`.

  ```python
  linear = lambda rows: rows @ jnp.eye(3)  # features[N, 3] -> logits[N, 3]
  players, fill = np.arange(3), jnp.zeros(3)
  game = interactions.feature_game(linear, jnp.ones(3), 2, players, num_players=3, fill=fill)
  ```

  Args:
    logits_fn: `inputs[N, ...] -> logits[N, K]`. A plain function is part of the compiled program;
      a `jax.tree_util.Partial(apply, params)` hands its parameters over as arguments, so networks
      of one shape share a program (a network in training, say).
    features: input of any shape.
    label: class whose reward is taken: the true one, or an attack's target. Rewards are NaN if it
      is none of the network's classes.
    players: player number per entry, or -1 where a feature is always present; same number of
      dimensions as `features`, sizes 1 are repeated.
    num_players: number of players.
    reward: "modified" is log p / (1 - p), "normal" is log p, "logit" is z_y, "margin" is the
      largest other logit minus z_y.
    fill: value of an absent feature, same shape as `features`.
  """
  lookup(REWARDS, reward, field="image_game: reward")
  is_pytree = isinstance(logits_fn, jax.tree_util.Partial)
  static, network = (None, logits_fn) if is_pytree else (logits_fn, None)
  players = jnp.asarray(players)
  if players.ndim != features.ndim:
    raise ValueError(
      f"feature_game: players {players.shape} and features {features.shape} differ in dimensions."
    )
  arguments = (features, fill, players, jnp.asarray(label), network)
  return Game(num_players, _MaskedReward(reward, static), arguments)


@checks.inputs()
def image_game(
  logits_fn: LogitsFn,
  image: Image,
  label: int | Int[Array, ""],
  *,
  grid: int | None = None,
  players: Int[np.ndarray, "H W"] | None = None,
  reward: str = "modified",
  fill: Fill = 0.5,
  blur_sigma: float = 4.0,
) -> Game:
  """Makes the game of one picture: a player is a patch of the grid, or a superpixel.

  Paper: Deng et al. 2022, arXiv:2111.06236, Sec. 2 (16 x 16 patches, reward log p / (1 - p), absent
  patches 0 after normalisation, i.e. the mean of the data set).

  ```python
  game = interactions.image_game(logits_fn, images[0], labels[0], grid=4)
  ```

  Besides the arguments of `feature_game` and `fill_image`:
    grid: cells per side, players row by row (the same cells as `masks.apply`). Or give `players`.
    players: player number per pixel (superpixels, groups), -1 where a pixel is always present.
  """
  height, width, _ = image.shape
  if (grid is None) == (players is None):
    raise ValueError("image_game: give either grid (cells per side) or players (a label map).")
  labels = players if grid is None else grid_labels(height, width, grid=grid)
  assert labels is not None
  if labels.shape != (height, width):
    raise ValueError(f"image_game: players must be {(height, width)}, got {labels.shape}.")
  num_players = int(labels.max()) + 1
  missing = sorted(set(range(num_players)) - set(np.unique(labels).tolist()))
  if missing or labels.min() < ALWAYS_PRESENT:
    raise ValueError(
      f"image_game: players must be numbered 0 .. {num_players - 1} without gaps, -1 for pixels "
      f"that stay; missing {missing}."
    )
  return feature_game(
    logits_fn,
    image,
    label,
    labels[:, :, None],
    num_players=num_players,
    reward=reward,
    fill=fill_image(image, fill, blur_sigma=blur_sigma),
  )


@checks.inputs()
def token_game(
  logits_fn: LogitsFn,
  tokens: Int[Array, " L"],
  label: int | Int[Array, ""],
  *,
  fill_token: int,
  players: Int[np.ndarray, " L"] | None = None,
  reward: str = "modified",
) -> Game:
  """Makes the game of one sequence: an absent token is replaced by `fill_token`.

  ```python
  table = jax.random.normal(key, (100, 4))  # word -> logits of a sentiment
  words = jnp.array([17, 5, 42])
  game = interactions.token_game(lambda tokens: table[tokens].sum(1), words, 0, fill_token=0)
  ```

  Besides the arguments of `feature_game`:
    fill_token: number of the mask (or padding) token.
    players: player number per position, -1 where a token is always present (start, end, padding);
      one player per token if None.
  """
  if players is None:
    players = np.arange(tokens.shape[0])
  return feature_game(
    logits_fn,
    tokens,
    label,
    players,
    num_players=int(players.max()) + 1,
    reward=reward,
    fill=jnp.full_like(tokens, fill_token),
  )


# From logits z to the reward v(S) of a coalition.


def _others(logits: Logits, label: Int[Array, ""]) -> Logits:
  return jnp.where((jnp.arange(logits.shape[-1]) == label)[None], -jnp.inf, logits)


def log_odds(logits: Logits, label: Int[Array, ""]) -> Float[Array, " N"]:
  """Returns log p / (1 - p) = z_y - logsumexp of the other logits, without cancellation.

  Paper: Deng et al. 2022, arXiv:2111.06236, Sec. 2 ("modified" in the public code, its default).
  """
  return logits[:, label] - jax.nn.logsumexp(_others(logits, label), axis=-1)


REWARDS: Mapping[str, Callable[[Logits, Int[Array, ""]], Float[Array, " N"]]] = {
  "modified": log_odds,
  "normal": lambda logits, label: jax.nn.log_softmax(logits)[:, label],
  "logit": lambda logits, label: logits[:, label],
  "margin": lambda logits, label: _others(logits, label).max(1) - logits[:, label],
}
"""Name -> reward; "modified" and "normal" are named as in the public code."""
