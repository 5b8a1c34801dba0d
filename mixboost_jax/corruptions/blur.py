# SPDX-License-Identifier: Apache-2.0
"""Blurs of -C that are one linear map: defocus, Gaussian, zoom and motion."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mixboost_jax.array_types import Image, PRNGKey, Scalar
from mixboost_jax.image import axes
from mixboost_jax.image.correlate import correlate


@functools.cache
def disk_kernel(radius: float, alias_sigma: float) -> np.ndarray:
  """Returns a normalised disk softened by a 3x3 (radius <= 8) or 5x5 Gaussian."""
  reach = 8 if radius <= 8 else int(radius)
  taps = 3 if radius <= 8 else 5
  line = np.arange(-reach, reach + 1)
  disk = (line[:, None] ** 2 + line[None, :] ** 2 <= radius**2).astype(float)
  offsets = np.arange(taps) - taps // 2
  soft = np.exp(-(offsets**2) / (2 * alias_sigma**2))
  positions = np.arange(len(line))[:, None] + offsets[None, :]
  blur = axes.taps_matrix(len(line), positions, (soft / soft.sum())[None, :], border="reflect_101")
  return blur @ (disk / disk.sum()) @ blur.T


def defocus_blur(image: Image, *, radius: float, alias_sigma: float) -> Image:
  """Correlates with a soft disk."""
  return correlate(image, kernel=disk_kernel(radius, alias_sigma))


def gaussian_blur(image: Image, *, sigma: float) -> Image:
  """Blurs by a Gaussian cut at four sigma."""
  return axes.gaussian_blur(image, sigma=sigma)


def zoom_blur(image: Image, *, num_zooms: int, step: float) -> Image:
  """Averages the picture and its enlargements by 1, 1 + step, ... (the picture counts twice)."""
  height, width, channels = image.shape
  exact = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
  if height * width <= _DENSE_PIXELS:
    whole = jnp.asarray(_zoom_blur_matrix(height, width, num_zooms, step), jnp.float32)
    return exact("pq,qc->pc", whole, image.reshape(-1, channels)).reshape(image.shape)
  rows, columns = (
    jnp.asarray(_zooms(side, num_zooms, step), jnp.float32) for side in (height, width)
  )
  total = exact("zikc,zlk->ilc", exact("zij,jkc->zikc", rows, image), columns)
  return (image + total) / (num_zooms + 1)


_DENSE_PIXELS = 1024
"""Up to this size one matrix product per batch is several times faster than two per zoom."""


def _zooms(side: int, num_zooms: int, step: float) -> np.ndarray:
  exact_step = (1 + step) - 1  # as numpy.arange counts: 1.25 comes out a little larger
  return np.stack([axes.zoom_matrix(side, 1 + exact_step * i, 1) for i in range(num_zooms)])


@functools.cache
def _zoom_blur_matrix(height: int, width: int, num_zooms: int, step: float) -> np.ndarray:
  """Returns the map from all pixels of a channel to all pixels of the blurred channel."""
  rows, columns = (_zooms(side, num_zooms, step) for side in (height, width))
  total = np.eye(height * width) + sum(np.kron(r, c) for r, c in zip(rows, columns, strict=True))
  return total / (num_zooms + 1)


def motion_streak(image: Image, angle: Scalar, *, radius: int, sigma: float) -> Image:
  """Averages shifts of a picture along a half-line with one-sided Gaussian weights.

  Paper: the motion blur of ImageMagick, which -C calls: 2 radius + 1 taps i = 0.. of weight
  exp(-i^2 / (2 sigma^2)), offset by -ceil(i sin a - 1/2) rows and -ceil(i cos a - 1/2) columns;
  taps from the first whose offset leaves the picture are dropped without rescaling.

  Args:
    image: edges are repeated outside.
    angle: degrees.
    radius: pixels.
    sigma: pixels.
  """
  steps, turn = jnp.arange(2 * radius + 1), jnp.deg2rad(angle)
  down = jnp.ceil(steps * jnp.sin(turn) - 0.5).astype(jnp.int32)
  right = jnp.ceil(steps * jnp.cos(turn) - 0.5).astype(jnp.int32)
  return shifted_mean(image, down, right, sigma=sigma)


def streak_offsets(angles: np.ndarray, *, radius: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the rows and columns by which the taps of `motion_streak` are shifted, [A, taps] each.

  For angles in degrees that are known ahead, in the double precision of ImageMagick: at 30 and 60
  degrees every second offset is a tie, which rounding errors decide.
  """
  taps = 2 * radius + 1
  across, along = taps * np.sin(np.deg2rad(angles)), taps * np.cos(np.deg2rad(angles))
  steps, length = np.arange(taps)[None, :], np.hypot(across, along)[:, None]
  down, right = (np.ceil(steps * one[:, None] / length - 0.5) for one in (across, along))
  return down.astype(np.int32), right.astype(np.int32)


def shifted_mean(
  image: Image, down: Int[Array, " taps"], right: Int[Array, " taps"], *, sigma: float
) -> Image:
  """Adds up copies of a picture, each read so many rows and columns on, as `motion_streak` does."""
  height, width, _ = image.shape
  taps = len(down)
  weights = np.exp(-(np.arange(taps) ** 2) / (2 * sigma**2))
  inside = (jnp.abs(down) < height) & (jnp.abs(right) < width)
  share = jnp.where(inside, jnp.asarray(weights / weights.sum(), jnp.float32), 0.0)
  padded = jnp.pad(image, ((taps, taps), (taps, taps), (0, 0)), mode="edge")

  def add(total: jax.Array, tap: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
    y, x, weight = tap
    shifted = jax.lax.dynamic_slice(padded, (taps + y, taps + x, 0), image.shape)
    return total + weight * shifted, None

  return jax.lax.scan(add, jnp.zeros_like(image), (down, right, share))[0]


def motion_blur(key: PRNGKey, image: Image, *, radius: int, sigma: float) -> Image:
  """Streaks the picture at an angle of U(-45, 45) degrees."""
  angle = jax.random.uniform(key, (), minval=-45.0, maxval=45.0)
  return motion_streak(image, angle, radius=radius, sigma=sigma)


def round_levels(image: Float[Array, "*n"]) -> Float[Array, "*n"]:
  """Rounds to the nearest 8-bit level."""
  return jnp.floor(image * 255 + 0.5) / 255
