# SPDX-License-Identifier: Apache-2.0
"""Reading a picture at any places: bilinear and cubic, with a rule for the places outside."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax.array_types import Image

Places = Float[Array, "P Q"]
Sampled = Float[Array, "P Q C"]


def _fold(index: Int[Array, "*n"], size: int, border: str) -> Int[Array, "*n"]:
  if border == "reflect":
    folded = jnp.mod(index, 2 * size)
    return jnp.where(folded < size, folded, 2 * size - 1 - folded)
  if border == "reflect_101" and size > 1:
    folded = jnp.mod(index, 2 * size - 2)
    return jnp.where(folded < size, folded, 2 * size - 2 - folded)
  return jnp.clip(index, 0, size - 1)


def _read(image: Image, row: Array, column: Array, border: str) -> Sampled:
  height, width, channels = image.shape
  index = _fold(row, height, border) * width + _fold(column, width, border)
  value = image.reshape(-1, channels).at[index].get(mode="promise_in_bounds")
  if border != "zero":
    return value
  inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
  return jnp.where(inside[..., None], value, 0.0)


def bilinear(image: Image, rows: Places, columns: Places, *, border: str) -> Sampled:
  """Interpolates four neighbours; `border` ("edge", "reflect", "reflect_101", "zero") as in axes.

  Args:
    image: the picture.
    rows: heights in pixels, 0 is the centre of the first row.
    columns: the same along the width.
    border: what neighbours outside the picture are.
  """
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
  down, across = _spline(rows - top), _spline(columns - left)
  i, j = top.astype(jnp.int32), left.astype(jnp.int32)
  total = jnp.zeros((*rows.shape, coefficients.shape[2]))
  for a in range(4):
    for b in range(4):
      value = _read(coefficients, i + a - 1, j + b - 1, "reflect_101")
      total += (down[a] * across[b])[..., None] * value
  return jnp.where(_within(rows, height) & _within(columns, width), total, 0.0)


def _within(places: Places, size: int) -> Bool[Array, "P Q 1"]:
  return ((places >= -1e-4) & (places <= size - 1 + 1e-4))[..., None]


def _spline(share: Places) -> tuple[jax.Array, ...]:
  rest = 1 - share
  middle = 2 / 3 - share**2 * (2 - share) / 2
  after = 2 / 3 - rest**2 * (2 - rest) / 2
  return rest**3 / 6, middle, after, share**3 / 6
