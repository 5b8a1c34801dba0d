# SPDX-License-Identifier: Apache-2.0
"""Resizing a window of a picture whose place and size are known at run time only."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixboost_jax import checks
from mixboost_jax.array_types import Image

Length = Float[Array, ""] | float | int


def triangle_weights(
  start: Length, length: Length, *, num_inputs: int, num_outputs: int
) -> Float[Array, "{num_outputs} {num_inputs}"]:
  """Returns the matrix that resamples inputs [start, start + length) to `num_outputs` values.

  Bilinear; when shrinking, the triangle is as wide as the step, which prevents aliasing. Inputs
  outside the window have weight 0, as if it had been cut out first.
  """
  step = length / num_outputs
  centre = start + (jnp.arange(num_outputs) + 0.5) * step
  position = jnp.arange(num_inputs) + 0.5
  support = jnp.maximum(step, 1.0)
  weights = jnp.maximum(0.0, 1 - jnp.abs(position[None, :] - centre[:, None]) / support)
  inside = (position > start) & (position < start + length)
  weights = jnp.where(inside[None, :], weights, 0.0)
  return weights / weights.sum(axis=1, keepdims=True)


@checks.inputs(values="never")
def resize_window(
  image: Image, top: Length, left: Length, height: Length, width: Length, *, size: tuple[int, int]
) -> Float[Array, "P Q C"]:
  """Cuts out a window of whole pixels and resizes it to `size` (rows, columns)."""
  rows = triangle_weights(top, height, num_inputs=image.shape[0], num_outputs=size[0])
  columns = triangle_weights(left, width, num_inputs=image.shape[1], num_outputs=size[1])
  exact = jax.lax.Precision.HIGHEST
  part = jnp.einsum("ij,jkc->ikc", rows, image, precision=exact)
  return jnp.einsum("lk,ikc->ilc", columns, part, precision=exact)
