# SPDX-License-Identifier: Apache-2.0
"""Boxes of pixels: which ones belong to one, filling them, a frame around them, cutting one out."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from mixboost_jax import checks, target
from mixboost_jax.array_types import Image

_MOST_PLACES = 64  # of a window along a side, that a TPU chooses among
Index = int | Int[Array, ""]
Fill = float | int | Float[Array, " C"] | tuple[float, ...]


@checks.inputs(values="never")
def box_mask(
  top: Index, left: Index, bottom: Index, right: Index, *, height: int, width: int
) -> Bool[Array, "{height} {width}"]:
  """Returns True inside rows [top, bottom) and columns [left, right), clipped at the border.

  ```python
  inside = image.box_mask(2, 3, 6, 8, height=16, width=16)
  assert inside.sum() == (6 - 2) * (8 - 3)
  ```
  """
  rows = jnp.arange(height)[:, None]
  columns = jnp.arange(width)[None, :]
  inside_rows = (rows >= top) & (rows < bottom)
  inside_columns = (columns >= left) & (columns < right)
  return jnp.broadcast_to(inside_rows, (height, width)) & inside_columns


@checks.inputs(values="never")
def fill_where(image: Image, inside: Bool[Array, "H W"], *, fill: Fill) -> Image:
  """Writes `fill` (one number, or one per channel) where `inside` is True.

  ```python
  inside = image.box_mask(2, 3, 6, 8, height=16, width=16)
  picture = image.fill_where(images[0], inside, fill=0.5)
  ```
  """
  value = jnp.broadcast_to(jnp.asarray(fill, image.dtype), image.shape)
  return jnp.where(inside[:, :, None], value, image)


@checks.inputs(values="never")
def pad(
  image: Shaped[Array, "H W C"], *, padding: int, fill: float | int | Float[Array, " C"] = 0.0
) -> Shaped[Array, "H+2*{padding} W+2*{padding} C"]:
  """Adds a border of `padding` pixels of value `fill` (one number, or one per channel).

  ```python
  assert image.pad(images[0], padding=2).shape == (20, 20, 3)
  ```
  """
  if padding < 0:
    raise ValueError(f"pad: padding must be >= 0 pixels, got {padding}.")
  height, width, channels = image.shape
  frame = jnp.broadcast_to(
    jnp.asarray(fill, image.dtype), (height + 2 * padding, width + 2 * padding, channels)
  )
  return frame.at[padding : padding + height, padding : padding + width].set(image)


@checks.inputs(values="never")
def crop(
  image: Shaped[Array, "H W C"], top: Index, left: Index, *, height: int, width: int
) -> Shaped[Array, "{height} {width} C"]:
  """Cuts out the `height` x `width` window whose corner is (`top`, `left`).

  A window that would leave the picture is moved inside.

  ```python
  window = image.crop(images[0], 2, 3, height=8, width=6)
  assert (window == images[0, 2:10, 3:9]).all()
  ```

  Raises:
    ValueError: if the window is larger than the picture.
  """
  if not (0 < height <= image.shape[0] and 0 < width <= image.shape[1]):
    raise ValueError(
      f"crop: a {height}x{width} window does not fit a picture of "
      f"{image.shape[0]}x{image.shape[1]}; pad it first."
    )
  down, right = image.shape[0] - height, image.shape[1] - width
  if not target.is_tpu() or max(down, right) > _MOST_PLACES:
    sizes = (height, width, image.shape[2])
    return jax.lax.dynamic_slice(image, (top, left, 0), sizes, allow_negative_indices=False)
  # On a TPU slices of a batch are cut in a loop over its pictures: choose among all of them.
  lines = _chosen(top, [image[i : i + height] for i in range(down + 1)])
  return _chosen(left, [lines[:, j : j + width] for j in range(right + 1)])


def _chosen(number: Index, choices: Sequence[Array]) -> Array:
  """Returns `choices[number]`, the first or the last one if there is none."""
  found = choices[0]
  for i, choice in enumerate(choices[1:], start=1):
    found = jnp.where(number >= i, choice, found)
  return found
