# SPDX-License-Identifier: Apache-2.0
"""The one convolution of all networks, and the pooling that goes with it."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def conv2d(
  inputs: Float[Array, "N H W C"], kernel: Float[Array, "R S C D"], *, stride: int, padding: int
) -> Float[Array, "N P Q D"]:
  """Cross-correlates `inputs` with `kernel`, as deep-learning libraries do.

  Every convolution of the package goes through this function, so that a faster lowering for one
  backend has one place to go.

  Args:
    inputs: batch, channels last.
    kernel: [height, width, input channels, output channels].
    stride: of the window, in both directions.
    padding: zeros added on each of the four sides.
  """
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    window_strides=(stride, stride),
    padding=((padding, padding), (padding, padding)),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def max_pool(
  inputs: Float[Array, "N H W C"], *, size: int, stride: int, padding: int
) -> Float[Array, "N P Q C"]:
  """Largest value of each window; the padding never wins."""
  pad = (padding, padding)
  return jax.lax.reduce_window(
    inputs,
    np.asarray(-np.inf, inputs.dtype),  # a literal: only then has this a gradient
    jax.lax.max,
    window_dimensions=(1, size, size, 1),
    window_strides=(1, stride, stride, 1),
    padding=((0, 0), pad, pad, (0, 0)),
  )


def mean_pool(inputs: Float[Array, "N H W C"]) -> Float[Array, "N C"]:
  """Mean over all positions, in float32."""
  return jnp.mean(inputs.astype(jnp.float32), axis=(1, 2))
