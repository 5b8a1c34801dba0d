# SPDX-License-Identifier: Apache-2.0
"""Random fields that corruptions draw: coloured by their spectrum, fractal, and Perlin noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixboost_jax.array_types import PRNGKey

Field = Float[Array, "S S"]
_LATTICE = (
  16 * 7 + 2
)  # Perlin: 7 cells along a side at the first octave, 16 times as many at the last


@functools.cache
def spectrum(side: int, kind: str) -> np.ndarray:
  """Returns the amplitude per frequency, the middle of the array being frequency 0.

  With d the distance of (column, row) to (side / 2, side / 2): "blue" d, "brown" 1 / (d^2 + 1).
  """
  line = np.arange(side) - side / 2
  squared = line[:, None] ** 2 + line[None, :] ** 2
  if kind not in ("blue", "brown"):
    raise ValueError(f"spectrum: kind must be blue or brown, got {kind!r}.")
  return np.sqrt(squared) if kind == "blue" else 1 / (squared + 1)


def coloured(key: PRNGKey, *, side: int, kind: str) -> Field:
  """Returns a field of deviation 1 whose spectrum has uniform phases.

  Paper: Mintun et al. 2021, arXiv:2102.11273. As in its code, the phases of the right half are
  those of the left half turned by 180 degrees, not negated; the real part is kept; the mean is not
  removed. Zero where the field is constant (1x1).
  """
  half = side // 2
  draws = jax.random.uniform(key, (side * half + half,), maxval=2 * np.pi)
  left = draws[: side * half].reshape(side, half)
  columns = [left, left[::-1, ::-1]]
  if side % 2:
    upper = draws[side * half :]
    columns.insert(1, jnp.concatenate([upper, jnp.zeros(1), upper[::-1]])[:, None])
  phases = jnp.concatenate(columns, axis=1)
  amplitude = jnp.asarray(spectrum(side, kind), jnp.float32)
  waves = jax.lax.complex(amplitude * jnp.cos(phases), amplitude * jnp.sin(phases))
  field = jnp.fft.ifft2(jnp.roll(waves, (half, half), axis=(0, 1))).real
  deviation = field.std()
  return field / jnp.where(deviation > 0, deviation, 1)


def diamond_square(key: PRNGKey, *, side: int, decay: float) -> Field:
  """Returns a fractal height map in [0, 1] that wraps around.

  The noise of a level is w U(-w, w): its amplitude is w^2. w starts at 100 and is divided by
  `decay` after every level.

  Args:
    key: one map.
    side: a power of two, at least 2.
    decay: > 1 is smoother.
  """
  if side < 2 or side & (side - 1):
    raise ValueError(f"diamond_square: side must be a power of two >= 2, got {side}.")
  levels = side.bit_length() - 1
  grid = jnp.zeros((1, 1))  # the points known so far, one per period
  wibble = 100.0
  noise = jax.random.uniform(key, (side * side - 1,), minval=-1.0)  # one draw compiles fastest
  for _ in range(levels):
    size = grid.shape[0]
    first = size * size - 1  # 3 (1 + 4 + 16 + ...) values went to the levels before
    draws = noise[first : first + 3 * size * size].reshape(3, size, size) * wibble**2
    pairs = grid + jnp.roll(grid, -1, 0)
    centre = (pairs + jnp.roll(pairs, -1, 1)) / 4 + draws[0]
    across = (centre + jnp.roll(centre, 1, 0) + grid + jnp.roll(grid, -1, 1)) / 4 + draws[1]
    down = (centre + jnp.roll(centre, 1, 1) + grid + jnp.roll(grid, -1, 0)) / 4 + draws[2]
    upper = jnp.stack([grid, across], -1).reshape(size, 2 * size)
    lower = jnp.stack([down, centre], -1).reshape(size, 2 * size)
    grid = jnp.stack([upper, lower], 1).reshape(2 * size, 2 * size)
    wibble /= decay
  grid = grid - grid.min()
  return grid / grid.max()


def power_of_two(side: int) -> int:
  """Returns the smallest power of two >= max(side, 2)."""
  return max(1 << (side - 1).bit_length(), 2)


def perlin_turbulence(key: PRNGKey, *, height: int, width: int) -> Float[Array, "H W"]:
  """Returns sum_f |noise(f p)| / f over f = 1, 2, 4, 8, 16, with 7 cells along the longer side.

  Deviation: gradients are independent per lattice point, not read through a table of 256.
  """
  raw = jax.random.uniform(key, (_LATTICE, _LATTICE, 2), minval=-1.0)
  length = jnp.sqrt((raw**2).sum(-1, keepdims=True))
  gradients = raw / jnp.where(length > 0, length, 1)
  cells = 7 / max(height, width)
  total = jnp.zeros((height, width))
  for frequency in (1, 2, 4, 8, 16):
    rows, columns = (np.arange(side) * cells * frequency for side in (height, width))
    total = total + jnp.abs(_perlin(gradients, rows, columns)) / frequency
  return total


def _perlin(
  gradients: Float[Array, "L L 2"], rows: np.ndarray, columns: np.ndarray
) -> Float[Array, "H W"]:
  """Evaluates Perlin noise (times 1.5) on the product of two static axes."""
  i, j = np.floor(rows).astype(int), np.floor(columns).astype(int)
  dy, dx = (rows - i).astype(np.float32)[:, None], (columns - j).astype(np.float32)[None, :]

  def corner(a: int, b: int) -> Array:
    gradient = gradients[i + a][:, j + b]
    return jnp.asarray(dy - a) * gradient[..., 0] + jnp.asarray(dx - b) * gradient[..., 1]

  ease_y, ease_x = jnp.asarray(dy * dy * (3 - 2 * dy)), jnp.asarray(dx * dx * (3 - 2 * dx))
  left = corner(0, 0) + ease_y * (corner(1, 0) - corner(0, 0))
  right = corner(0, 1) + ease_y * (corner(1, 1) - corner(0, 1))
  return 1.5 * (left + ease_x * (right - left))
