# SPDX-License-Identifier: Apache-2.0
"""Exact moves of pixels: mirror, pad, crop."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from mixboost_jax import checks

Index = int | Int[Array, ""]


@checks.inputs(values="never")
def flip_left_right(image: Shaped[Array, "H W C"]) -> Shaped[Array, "H W C"]:
  """Mirrors a picture about its vertical axis."""
  return image[:, ::-1, :]


@checks.inputs(values="never")
def pad(
  image: Shaped[Array, "H W C"], *, padding: int, fill: float | int | Float[Array, " C"] = 0.0
) -> Shaped[Array, "H+2*{padding} W+2*{padding} C"]:
  """Adds a border of `padding` pixels of value `fill` (one number, or one per channel)."""
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

  A window that would leave the picture is moved inside, as `jax.lax.dynamic_slice` does.

  Raises:
    ValueError: if the window is larger than the picture.
  """
  if not (0 < height <= image.shape[0] and 0 < width <= image.shape[1]):
    raise ValueError(
      f"crop: a {height}x{width} window does not fit a picture of "
      f"{image.shape[0]}x{image.shape[1]}; pad it first."
    )
  return jax.lax.dynamic_slice(image, (top, left, 0), (height, width, image.shape[2]))
