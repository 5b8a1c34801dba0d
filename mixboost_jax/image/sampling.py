# SPDX-License-Identifier: Apache-2.0
"""Reading a picture at any places: bilinear and cubic, with a rule for the places outside."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mixboost_jax.array_types import Image
from mixboost_jax.image.linear import border_index, cubic_weights

Places = Float[Array, "P Q"]
Sampled = Float[Array, "P Q C"]


def positions(height: int, width: int) -> tuple[Places, Places]:
  """Returns the row and the column of every pixel."""
  lines = (jnp.arange(side, dtype=jnp.float32) for side in (height, width))
  rows, columns = jnp.meshgrid(*lines, indexing="ij")
  return rows, columns


def _read(image: Image, row: Array, column: Array, border: str) -> Sampled:
  height, width, channels = image.shape
  rule = "edge" if border == "zero" else border
  index = border_index(row, height, border=rule) * width + border_index(column, width, border=rule)
  value = image.reshape(-1, channels).at[index].get(mode="promise_in_bounds")
  if border != "zero":
    return value
  inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
  return jnp.where(inside[..., None], value, 0.0)


def bilinear(image: Image, rows: Places, columns: Places, *, border: str) -> Sampled:
  """Interpolates four neighbours; 0 is the centre of the first pixel, `border` of `BORDERS`."""
  top, left = jnp.floor(rows), jnp.floor(columns)
  down, right = (rows - top)[..., None], (columns - left)[..., None]
  i, j = top.astype(jnp.int32), left.astype(jnp.int32)
  upper = _read(image, i, j, border) * (1 - right) + _read(image, i, j + 1, border) * right
  lower = _read(image, i + 1, j, border) * (1 - right) + _read(image, i + 1, j + 1, border) * right
  return upper * (1 - down) + lower * down


def cubic(coefficients: Image, rows: Places, columns: Places) -> Sampled:
  """Evaluates a cubic B-spline at places; 0 at places outside the outermost pixel centres."""
  height, width, _ = coefficients.shape
  top, left = jnp.floor(rows), jnp.floor(columns)
  down, across = cubic_weights(rows - top), cubic_weights(columns - left)
  i, j = top.astype(jnp.int32), left.astype(jnp.int32)
  total = jnp.zeros((*rows.shape, coefficients.shape[2]))
  for a in range(4):
    for b in range(4):
      value = _read(coefficients, i + a - 1, j + b - 1, "reflect_101")
      total += (down[a] * across[b])[..., None] * value
  return jnp.where(_within(rows, height) & _within(columns, width), total, 0.0)


def _within(places: Places, size: int) -> Bool[Array, "P Q 1"]:
  return ((places >= -1e-4) & (places <= size - 1 + 1e-4))[..., None]
