# SPDX-License-Identifier: Apache-2.0
"""C-bar corruptions that move pixels: pinches, ripples, turning, colour fringes and caustics.

Paper: Mintun et al. 2021, arXiv:2102.11273; `severity` is its real-valued strength, 0..10.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixboost_jax.array_types import Image, PRNGKey
from mixboost_jax.corruptions.bar_noise import positions
from mixboost_jax.corruptions.blur import round_levels
from mixboost_jax.image.axes import along_axes, gaussian_blur, spline_matrix, zoom_matrix
from mixboost_jax.image.sampling import bilinear, cubic


def pinch_and_twirl(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Pinches and turns a disk in each of 3x3 cells (5x5 from 224 pixels on).

  Cells are done one after the other, columns of cells outside, and a disk may read the rim of a
  neighbour that is done; rows and columns that the cells do not fill stay.
  """
  height, width, _ = image.shape
  number = 5 if min(height, width) >= 224 else 3
  size = min(height, width) // number
  if size == 0:
    return image
  signs = jax.random.rademacher(key, (number, number), dtype=jnp.float32)
  for i, j in itertools.product(range(number), repeat=2):
    top, left = j * size, i * size
    angle = signs[i, j] * severity * np.pi / 20
    rows, columns = _pinched(size, angle, amount=0.04 * severity + 0.1)
    cell = bilinear(image, rows + top, columns + left, border="zero")
    image = image.at[top : top + size, left : left + size].set(cell)
  return image


def _pinched(size: int, angle: Array, *, amount: float) -> tuple[Array, Array]:
  """Returns where the pixels of one cell read, relative to its corner."""
  radius = size / 2
  y, x = np.meshgrid(np.arange(size) - radius, np.arange(size) - radius, indexing="ij")
  distance = np.hypot(y, x)
  moves = (distance <= radius) & (np.round(distance, 3) != 0)
  share = np.where(moves, distance, radius) / radius
  stretch = np.sin(np.pi / 2 * share) ** -amount
  dy, dx = jnp.asarray(y * stretch, jnp.float32), jnp.asarray(x * stretch, jnp.float32)
  turn = angle * jnp.asarray((1 - share) ** 2, jnp.float32)
  rows = radius + dy * jnp.cos(turn) - dx * jnp.sin(turn)
  columns = radius + dy * jnp.sin(turn) + dx * jnp.cos(turn)
  own = np.arange(size, dtype=np.float32)
  return (
    jnp.where(moves, rows, np.broadcast_to(own[:, None], (size, size))),
    jnp.where(moves, columns, np.broadcast_to(own[None, :], (size, size))),
  )


def ripple(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Moves each axis by a wave of .0025 severity side pixels; black outside."""
  height, width, _ = image.shape
  key_length, key_phase = jax.random.split(key)
  lengths = max(height, width) * jax.random.uniform(key_length, (2,), minval=0.1, maxval=0.3)
  phases = jax.random.uniform(key_phase, (2,), maxval=2 * np.pi)
  amplitude = 0.0025 * severity * max(height, width)
  moved = [
    place + amplitude * jnp.sin(2 * np.pi * place / lengths[axis] + phases[axis])
    for axis, place in enumerate(positions(height, width))
  ]
  return bilinear(image, moved[0], moved[1], border="zero")


def circular_motion_blur(image: Image, *, severity: float) -> Image:
  """Averages 21 rotations up to +-1.5 severity degrees, by cubic splines; black outside."""
  height, width, _ = image.shape
  spline = along_axes(image, rows=spline_matrix(height), columns=spline_matrix(width))
  places = np.linspace(-1, 1, 21)
  weights = np.exp(-2 * places**2)
  middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
  y, x = (p - m for p, m in zip(positions(height, width), (middle_y, middle_x), strict=True))

  def add(total: Array, turn: Float[Array, "3"]) -> tuple[Array, None]:
    cos, sin, weight = turn[0], turn[1], turn[2]
    rows, columns = cos * y + sin * x + middle_y, cos * x - sin * y + middle_x
    return total + weight * cubic(spline, rows, columns), None

  angles = np.deg2rad(1.5 * severity * places)
  turns = np.stack([np.cos(angles), np.sin(angles), weights / weights.sum()], 1)
  return jax.lax.scan(add, jnp.zeros_like(image), jnp.asarray(turns, jnp.float32))[0]


def transverse_chromatic_abberation(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Enlarges the three channels by 1, 1 + .025 severity and 1 + .05 severity, in random order.

  By cubic B-splines without their prefilter, so that even factor 1 smooths.
  """
  height, width, channels = image.shape
  factors = [1 + 0.025 * severity * i for i in range(3)]
  zoomed = [
    along_axes(image, rows=zoom_matrix(height, z, 3), columns=zoom_matrix(width, z, 3))
    for z in factors
  ]
  order = jax.random.permutation(key, 3)
  stacked = round_levels(jnp.stack(zoomed))
  return jnp.stack([stacked[order[c]][..., c] for c in range(channels)], -1)


def caustics(
  time: Array, size: Array, *, height: int, width: int
) -> Float[Array, "{height} {width}"]:
  """Returns the pattern of light at the bottom of water, in [0, 1].

  Args:
    time: phase of the waves, .5 .. 2.
    size: pixels per period.
    height: of the picture.
    width: of the picture.
  """
  y, x = (jnp.mod(place / size, 1.0) * 6.28318530718 - 250 for place in positions(height, width))
  i, j, total = y, x, jnp.ones((height, width))
  for n in range(5):
    t = time * (1 - 3.5 / (n + 1))
    i, j = (
      y + jnp.cos(t - i) + jnp.sin(t + j),
      x + jnp.sin(t - j) + jnp.cos(t + i),
    )
    down = y * 0.005 / jnp.where(jnp.sin(i + t) == 0, 1e-12, jnp.sin(i + t))
    right = x * 0.005 / jnp.where(jnp.cos(j + t) == 0, 1e-12, jnp.cos(j + t))
    total += 1 / jnp.sqrt(down**2 + right**2)
  return jnp.clip(jnp.abs(1.17 - (total / 5) ** 1.4) ** 8, 0, 1)


def caustic_refraction(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Looks at the picture through moving water: refracted and lit by its caustics."""
  height, width, _ = image.shape
  side = max(height, width)
  draws = jax.random.uniform(key, (2,))
  time, size = 0.5 + 1.5 * draws[0], (0.75 + 0.5 * draws[1]) * side
  light = caustics(time, size, height=height, width=width)[..., None]
  light = jnp.pad(gaussian_blur(light, sigma=1.0, border="reflect")[..., 0], 1)
  down = light[2:, 1:-1] - light[:-2, 1:-1]
  right = light[1:-1, 2:] - light[1:-1, :-2]
  length = jnp.sqrt(down**2 + right**2 + 1)
  cos = 1 / length  # of the angle between the line of sight and the normal of the surface
  cos_after = jnp.sqrt(1 - (1 - cos**2) / 16)
  bend = jnp.where(cos >= 1 - 1e-3, 0.0, (cos_after - cos / 4) / length) * 0.05 * severity * side
  rows, columns = positions(height, width)
  moved_rows = rows + jnp.round(bend * down, 3)
  moved_columns = columns + jnp.round(bend * right, 3)
  out = bilinear(image, moved_rows, moved_columns, border="zero")
  return out + ((down - right) * 0.2 * severity)[..., None]
