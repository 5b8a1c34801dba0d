# SPDX-License-Identifier: Apache-2.0
"""Correlation of each channel with one small kernel that does not separate."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixboost_jax.array_types import Image
from mixboost_jax.image.axes import border_index

_UNROLLED_TAPS = 32  # above this a convolution is shorter to compile and faster


def correlate(image: Image, *, kernel: np.ndarray, border: str = "reflect_101") -> Image:
  """Returns sum_k kernel[k] image[. + k - middle] per channel.

  Args:
    image: the picture.
    kernel: odd sides, known while tracing.
    border: "edge", "reflect" or "reflect_101", as in `axes`.
  """
  height, width, _ = image.shape
  used = np.argwhere(kernel != 0)
  middle = np.array(kernel.shape) // 2
  reach = np.abs(used - middle).max(axis=0)
  first, last = middle - reach, middle + reach + 1
  kernel = kernel[first[0] : last[0], first[1] : last[1]]
  rows = border_index(np.arange(-reach[0], height + reach[0]), height, border=border)
  columns = border_index(np.arange(-reach[1], width + reach[1]), width, border=border)
  padded = image[rows][:, columns]
  if len(used) > _UNROLLED_TAPS:
    return _convolve(padded, kernel)
  total = jnp.zeros_like(image)
  for i, j in np.argwhere(kernel != 0):
    total += float(kernel[i, j]) * padded[i : i + height, j : j + width]
  return total


def _convolve(padded: Image, kernel: np.ndarray) -> Float[Array, "A B C"]:
  planes = jnp.moveaxis(padded, 2, 0)[..., None]
  weights = jnp.asarray(kernel, jnp.float32)[:, :, None, None]
  out = jax.lax.conv_general_dilated(
    planes,
    weights,
    (1, 1),
    "VALID",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision=jax.lax.Precision.HIGHEST,
  )
  return jnp.moveaxis(out[..., 0], 0, 2)
