# SPDX-License-Identifier: Apache-2.0
"""Affine warps of one picture of levels, sampled as Pillow does, in fixed-point arithmetic.

A matrix (a, b, c, d, e, f) says where the output pixel (X, Y) reads: at
(a (X + .5) + b (Y + .5) + c, d (X + .5) + e (Y + .5) + f) of the input; outside is `fill`.
Integers make the samples of a pixel the same whatever the batch, the backend and the fusion.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8

from mixboost_jax import target
from mixboost_jax.image.levels import rounded, take

Levels = UInt8[Array, "H W C"]
Matrix = Int[Array, "6"]
NEAREST_BITS = 16
BILINEAR_BITS = 20
"""Bits after the point; bilinear coordinates reach +-2048 pixels."""


def rotation(degrees: float, *, height: int, width: int) -> np.ndarray:
  """Returns the matrix that rotates counter-clockwise about the centre, in double precision."""
  angle = -math.radians(degrees % 360.0)
  cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
  x, y = width / 2, height / 2
  return np.array([cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y])


def traced_rotation(degrees: Array, *, height: int, width: int) -> Array:
  """Returns the same for an angle known only at run time, in single precision.

  Samples that fall within 1e-4 pixels of a boundary may differ from those of `rotation`.
  """
  turn = jnp.mod(jnp.asarray(degrees, jnp.float32), 360.0)
  quarter = jnp.round(turn / 90)
  rest = jnp.deg2rad(turn - 90 * quarter)  # within 45 degrees: multiples of 90 are exact
  cos, sin = jnp.cos(rest), jnp.sin(rest)
  which = quarter.astype(jnp.int32) % 4
  turns = jnp.stack([cos, -sin, -cos, sin]), jnp.stack([sin, cos, -sin, -cos])
  cos, sin = (turn[which] for turn in turns)
  x, y = width / 2, height / 2
  return jnp.stack([cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y])


def fixed_point(matrix: Any, *, bits: int) -> Any:
  """Rounds matrices [..., 6] to integers whose offsets are those of the pixel (0, 0).

  In double precision for constants (NumPy), in single precision for JAX.
  """
  xp = np if isinstance(matrix, np.ndarray) else jnp
  a, b, c, d, e, f = (matrix[..., i] for i in range(6))
  rows = (a, b, c + (a + b) / 2, d, e, f + (d + e) / 2)
  return xp.floor(xp.stack(rows, -1) * 2.0**bits + 0.5).astype(xp.int32)


def _coordinates(matrix: Matrix, height: int, width: int) -> tuple[Array, Array]:
  x = jnp.arange(width, dtype=jnp.int32)[None, :]
  y = jnp.arange(height, dtype=jnp.int32)[:, None]
  return matrix[0] * x + matrix[1] * y + matrix[2], matrix[3] * x + matrix[4] * y + matrix[5]


def nearest(levels: Levels, matrix: Matrix, *, fill: UInt8[Array, " C"]) -> Levels:
  """Warps by a matrix with NEAREST_BITS bits, taking the pixel that contains the sample."""
  height, width, channels = levels.shape
  xs, ys = _coordinates(matrix, height, width)
  column, row = xs >> NEAREST_BITS, ys >> NEAREST_BITS
  inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
  index = jnp.where(inside, row * width + column, height * width)
  source = jnp.concatenate([levels.reshape(-1, channels), fill[None, :]])
  return take(source, index.reshape(-1)).reshape(levels.shape)


def bilinear(levels: Levels, matrix: Matrix, *, fill: UInt8[Array, " C"]) -> Levels:
  """Warps by a matrix with BILINEAR_BITS bits, interpolating four pixels, cut to whole levels."""
  height, width, _ = levels.shape
  one = 1 << BILINEAR_BITS
  xs, ys = _coordinates(matrix, height, width)
  inside = (xs >= 0) & (xs < width * one) & (ys >= 0) & (ys < height * one)
  xs, ys = xs - one // 2, ys - one // 2
  left, top = xs >> BILINEAR_BITS, ys >> BILINEAR_BITS
  dx = ((xs & (one - 1)).astype(jnp.float32) / one)[:, :, None]
  dy = ((ys & (one - 1)).astype(jnp.float32) / one)[:, :, None]

  def between(first: Array, second: Array, share: Array) -> Array:
    return first + rounded((second - first) * share)

  a, b, c, d = (one.astype(jnp.float32) for one in _neighbours(levels, top, left))
  sampled = between(between(a, b, dx), between(c, d, dx), dy).astype(jnp.uint8)
  return jnp.where(inside[:, :, None], sampled, fill)


def _neighbours(levels: Levels, top: Array, left: Array) -> list[Levels]:
  """Reads the pixels (top, left), its right one, the lower one, and that one's right one.

  Outside is the nearest pixel of the border.
  """
  height, width, channels = levels.shape
  if target.is_tpu():  # one product instead of four: the pixels side by side, from (-1, -1) on
    frame = jnp.pad(levels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    lines, rows = (frame[:-1], frame[1:]), (height + 1) * (width + 1)
    four = jnp.concatenate([x for line in lines for x in (line[:, :-1], line[:, 1:])], axis=-1)
    row, column = jnp.clip(top, -1, height - 1) + 1, jnp.clip(left, -1, width - 1) + 1
    found = take(four.reshape(rows, -1), row * (width + 1) + column)
    return jnp.split(found, 4, axis=-1)
  source = levels.reshape(-1, channels)

  def at(row: Array, column: Array) -> Levels:
    return take(source, jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1))

  return [at(top + i, left + j) for i in (0, 1) for j in (0, 1)]


SAMPLERS = {"nearest": (nearest, NEAREST_BITS), "bilinear": (bilinear, BILINEAR_BITS)}
"""A function of levels and a matrix, and the bits of the matrix."""


def warp(levels: Levels, matrix: Any, *, interpolation: str, fill: UInt8[Array, " C"]) -> Levels:
  """Warps by a float matrix; `interpolation` is "nearest" or "bilinear"."""
  if interpolation not in SAMPLERS:
    raise ValueError(f"interpolation: expected nearest or bilinear, got {interpolation!r}.")
  height, width, _ = levels.shape
  if interpolation == "bilinear" and max(height, width) > 1024:
    raise ValueError(
      f"bilinear warps work up to 1024x1024 pixels, got {height}x{width}; resize first."
    )
  sample, bits = SAMPLERS[interpolation]
  return sample(levels, jnp.asarray(fixed_point(matrix, bits=bits)), fill=fill)
