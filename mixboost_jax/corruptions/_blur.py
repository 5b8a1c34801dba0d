# SPDX-License-Identifier: Apache-2.0
"""Blurs of -C: defocus, zoom and motion are one linear map, glass moves pixels about.

The Gaussian one is a kernel of `image/linear.py`.

The original glass blur sweeps rows and columns downwards and writes `x[h, w], x[h', w'] =
x[h', w'], x[h, w]` on views of one array, so both sides read memory that the first assignment has
already changed: the effect is the copy `x[h, w] <- x[h', w']`. Each pixel then takes what its
partner holds, which is the partner's own final value if the sweep has passed it and its old value
if not. Following those pointers by doubling gives where every pixel comes from, without walking the
picture.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mixboost_jax import checks
from mixboost_jax.array_types import Image, PRNGKey, Scalar
from mixboost_jax.image import linear
from mixboost_jax.image.levels import from_levels, to_levels
from mixboost_jax.image.linear import correlate, gaussian_blur_of_width


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
  soft = (soft / soft.sum())[None, :]
  blur = linear.taps_matrix(len(line), positions, soft, border="reflect_101")
  return blur @ (disk / disk.sum()) @ blur.T


def defocus_blur(image: Image, *, radius: float, alias_sigma: float) -> Image:
  """Correlates with a soft disk."""
  return correlate(image, kernel=disk_kernel(radius, alias_sigma))


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
  return np.stack([linear.zoom_matrix(side, 1 + exact_step * i, 1) for i in range(num_zooms)])


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
  taps from the first whose offset leaves the picture are dropped without rescaling. The angle is
  in degrees; edges are repeated outside.
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


Sources = Int[Array, " P"]
"""Entry p is the pixel (row * width + column) whose value pixel p shows."""
Offsets = Int[Array, "2 H W"]


def swept(height: int, width: int, delta: int) -> np.ndarray:
  """Returns True at pixels that a sweep visits: rows and columns delta + 1 .. side - delta."""
  rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
  inside = (rows > delta) & (rows <= height - delta)
  return inside & (columns > delta) & (columns <= width - delta)


def partners(offsets: Offsets, *, delta: int) -> Sources:
  """Returns the partner of every pixel; pixels that no sweep visits are their own."""
  _, height, width = offsets.shape
  rows = jnp.arange(height)[:, None] + offsets[0]
  columns = jnp.arange(width)[None, :] + offsets[1]
  own = jnp.arange(height * width).reshape(height, width)
  return jnp.where(swept(height, width, delta), rows * width + columns, own).reshape(-1)


def copy_sources(partner: Sources, visited: np.ndarray) -> Sources:
  """Returns the sources after one sweep of copies in descending order of pixels.

  A partner with a larger number has been visited before, so its own source counts; the others
  still hold their old value. Pointers among the former only climb, so they end.
  """
  size = partner.shape[0]
  own = jnp.arange(size)
  follows = (partner > own) & jnp.asarray(visited.reshape(-1))[partner]
  hop = jnp.where(follows, partner, own)
  for _ in range(max(size - 1, 1).bit_length()):
    hop = hop[hop]
  return partner[hop]


def swap_sources(partner: Sources, visited: np.ndarray) -> Sources:
  """Returns the sources after one sweep of true swaps, one pixel after the other."""
  order = jnp.asarray(np.flatnonzero(visited)[::-1].copy(), jnp.int32)

  def swap(i: Array, sources: Sources) -> Sources:
    here = order[i]
    there = partner[here]
    a, b = sources[here], sources[there]
    return sources.at[here].set(b).at[there].set(a)

  start = jnp.arange(partner.shape[0], dtype=partner.dtype)
  if not order.shape[0]:
    return start
  return jax.lax.fori_loop(0, order.shape[0], swap, start)


@checks.inputs()
def glass_blur(
  key: PRNGKey,
  image: Image,
  *,
  sigma: float,
  delta: int,
  num_sweeps: int,
  true_swap: bool = False,
) -> Image:
  """Blurs, moves every pixel by up to `delta`, and blurs again.

  ```python
  keywords = corruptions.parameters("glass_blur", severity=3, table="cifar")
  blurred = corruptions.glass_blur(key, images[0], **keywords)
  ```

  Args:
    key: of this example.
    image: cut to 8-bit levels after the first blur.
    sigma: of both blurs, pixels.
    delta: offsets are uniform over -delta .. delta - 1.
    num_sweeps: how often the picture is swept.
    true_swap: exchange pixels, as the benchmark meant, instead of copying, as its code does.
  """
  height, width, _ = image.shape
  visited = swept(height, width, delta)
  blurred = from_levels(to_levels(gaussian_blur_of_width(image, sigma=sigma)))
  if not visited.any():
    return gaussian_blur_of_width(blurred, sigma=sigma)
  sources = jnp.arange(height * width)
  for offsets in jax.random.randint(key, (num_sweeps, 2, height, width), -delta, delta):
    partner = partners(offsets, delta=delta)
    step = swap_sources if true_swap else copy_sources
    sources = sources[step(partner, visited)]
  flat = blurred.reshape(-1, image.shape[2])
  moved = flat.at[sources].get(mode="promise_in_bounds").reshape(image.shape)
  return gaussian_blur_of_width(moved, sigma=sigma)
