# SPDX-License-Identifier: Apache-2.0
"""Which pixels belong to a box or to the cells of a grid, and filling them."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax import checks
from mixboost_jax.array_types import Image

Index = int | Int[Array, ""]
Fill = float | int | Float[Array, " C"] | tuple[float, ...]


@checks.inputs(values="never")
def box_mask(
  top: Index, left: Index, bottom: Index, right: Index, *, height: int, width: int
) -> Bool[Array, "{height} {width}"]:
  """Returns True inside rows [top, bottom) and columns [left, right), clipped at the border."""
  rows = jnp.arange(height)[:, None]
  columns = jnp.arange(width)[None, :]
  inside_rows = (rows >= top) & (rows < bottom)
  inside_columns = (columns >= left) & (columns < right)
  return jnp.broadcast_to(inside_rows, (height, width)) & inside_columns


@checks.inputs(values="never")
def upsample_grid(
  cells: Bool[Array, "P Q"], *, height: int, width: int
) -> Bool[Array, "{height} {width}"]:
  """Spreads a grid over a picture.

  Pixel (i, j) takes cell (floor(i P / height), floor(j Q / width)); sides that the grid does not
  divide give cells whose sizes differ by one pixel.
  """
  rows, columns = cells.shape
  if height < rows or width < columns:
    raise ValueError(
      f"upsample_grid: a grid of {rows}x{columns} cells needs at least as many pixels, "
      f"got a picture of {height}x{width}."
    )
  row_of = jnp.arange(height) * rows // height
  column_of = jnp.arange(width) * columns // width
  return cells[row_of][:, column_of]


@checks.inputs(values="never")
def fill_where(image: Image, inside: Bool[Array, "H W"], *, fill: Fill) -> Image:
  """Writes `fill` (one number, or one per channel) where `inside` is True."""
  value = jnp.broadcast_to(jnp.asarray(fill, image.dtype), image.shape)
  return jnp.where(inside[:, :, None], value, image)
