# SPDX-License-Identifier: Apache-2.0
"""Games of pictures and sequences: players are patches, superpixels, feature groups or tokens.

Masks are made from coalitions on the device, inside the compiled program, and never leave it.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mixboost_jax import checks
from mixboost_jax.array_types import Image, LogitsFn
from mixboost_jax.interactions.game import Coalitions, Game, Values
from mixboost_jax.interactions.rewards import REWARDS
from mixboost_jax.registry import lookup

Fill = float | Float[Array, "..."] | Float[np.ndarray, "..."] | Literal["mean", "black", "blur"]

ALWAYS_PRESENT = -1
"""Player number of features that no coalition removes."""


def grid_labels(height: int, width: int, *, grid: int) -> Int[np.ndarray, "H W"]:
  """Returns the player of each pixel: cell (i * grid // H, j * grid // W), row by row.

  Raises:
    ValueError: if the grid is finer than the pixels.
  """
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

  Args:
    image: values in [0, 1].
    fill: pixel value in [0, 1]: a number, `[C]` (the mean of the data set is the choice of the
      public code, 0 after normalisation), `[H, W, C]` (a learned baseline, say); "mean" is the mean
      of this picture per channel, "black" is 0, "blur" the blurred picture.
    blur_sigma: standard deviation of "blur" in pixels.
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
    present = jnp.where(players == ALWAYS_PRESENT, True, coalitions[:, players])
    inputs = jnp.where(present, features[None], fill[None])
    network = self.logits_fn or logits_fn
    assert network is not None
    return REWARDS[self.reward](network(inputs), label)


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

  Args:
    logits_fn: `inputs[N, ...] -> logits[N, K]`. A plain function is part of the compiled program;
      a `jax.tree_util.Partial(apply, params)` hands its parameters over as arguments, so networks
      of one shape share a program (a network in training, say).
    features: input of any shape.
    label: class whose reward is taken: the true one, or an attack's target.
    players: player number per entry, or -1 where a feature is always present; same number of
      dimensions as `features`, sizes 1 are repeated.
    num_players: number of players.
    reward: "modified" is log p / (1 - p), "normal" is log p, "logit" is z_y.
    fill: value of an absent feature, same shape as `features`.
  """
  lookup(REWARDS, reward, field="image_game: reward")
  is_pytree = isinstance(logits_fn, jax.tree_util.Partial)
  value_fn = _MaskedReward(reward, None if is_pytree else logits_fn)
  players = jnp.asarray(players)
  if players.ndim != features.ndim:
    raise ValueError(
      f"feature_game: players {players.shape} and features {features.shape} differ in dimensions."
    )
  network = logits_fn if is_pytree else None
  return Game(num_players, value_fn, (features, fill, players, jnp.asarray(label), network))


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

  Args:
    logits_fn: see `feature_game`.
    image: values in [0, 1].
    label: class whose reward is taken.
    grid: cells per side, players row by row (the same cells as `masks.apply`). Or give `players`.
    players: player number per pixel (superpixels, groups), -1 where a pixel is always present.
    reward: see `feature_game`.
    fill: see `fill_image`.
    blur_sigma: standard deviation of the fill "blur" in pixels.

  Raises:
    ValueError: unless exactly one of `grid` and `players` is given.
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

  Args:
    logits_fn: `tokens[N, L] -> logits[N, K]`.
    tokens: token numbers.
    label: class whose reward is taken.
    fill_token: number of the mask (or padding) token.
    players: player number per position, -1 where a token is always present (start, end, padding);
      one player per token if None.
    reward: see `feature_game`.
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
