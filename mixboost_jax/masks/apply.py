# SPDX-License-Identifier: Apache-2.0
"""From a grid of kept cells to a masked picture."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mixboost_jax import checks
from mixboost_jax.array_types import Images


@checks.inputs()
def upsample(
  mask: Bool[Array, "*n grid grid"], *, height: int, width: int
) -> Bool[Array, "*n height width"]:
  """Repeats each cell over its pixels: pixel (i, j) reads cell (i*grid//height, j*grid//width).

  Raises:
    ValueError: if the grid is finer than the pixels.
  """
  grid = mask.shape[-1]
  if grid > min(height, width):
    raise ValueError(
      f"masks: a grid of {grid} cells per side is finer than a {height}x{width} image; "
      f"use mask.grid <= {min(height, width)}."
    )
  rows = jnp.arange(height) * grid // height
  columns = jnp.arange(width) * grid // width
  return mask[..., rows[:, None], columns[None, :]]


@checks.inputs()
def apply(
  images: Images,
  mask: Bool[Array, "*n grid grid"],
  *,
  fill: float | Float[Array, "..."] = 0.5,
) -> Images:
  """Writes `fill` into the cells that are not kept; differentiable in `images` and `fill`.

  Args:
    images: values in [0, 1].
    mask: True where a cell is kept: one `[grid, grid]` for all, or one per example.
    fill: pixel value in [0, 1]: a number, `[C]`, or `[H, W, C]`. The model's normalisation mean
      (0 after its first layer) is the default of Deng et al. and of our configs.

  Raises:
    ValueError: if the grid is finer than the pixels or `mask` has another batch size.
  """
  num, height, width, _ = images.shape
  if mask.ndim not in (2, 3) or (mask.ndim == 3 and mask.shape[0] != num):
    raise ValueError(
      f"masks.apply: expected a mask [grid, grid] or [{num}, grid, grid], got {mask.shape}."
    )
  keep = upsample(mask, height=height, width=width)
  keep = jnp.broadcast_to(keep, (num, height, width))[..., None]
  fill = jnp.asarray(fill, images.dtype)
  if fill.ndim not in (0, 1, 3):
    raise ValueError(f"masks.apply: fill must be a number, [C] or [H, W, C], got {fill.shape}.")
  shape = {0: (1, 1, 1, 1), 1: (1, 1, 1, -1), 3: (1, *fill.shape)}[fill.ndim]
  return jnp.where(keep, images, jnp.broadcast_to(fill.reshape(shape), images.shape))
