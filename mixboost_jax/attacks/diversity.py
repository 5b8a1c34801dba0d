# SPDX-License-Identifier: Apache-2.0
"""Input diversity: with some chance, an image shrinks a little and lands anywhere on black."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixboost_jax.array_types import Image, Images, PRNGKeys, Scalar


def placement(length: int, size: Scalar, offset: Scalar) -> Float[Array, "L L"]:
  """Returns the matrix that scales a line to `size` and puts it at `offset` (linear interpolation).

  Rows outside of the line are 0; positions may be fractions of a pixel.
  """
  position = (jnp.arange(length) - offset + 0.5) * length / size - 0.5
  inside = (position > -0.5) & (position < length - 0.5)
  source = jnp.clip(position, 0.0, length - 1.0)
  distance = jnp.abs(source[:, None] - jnp.arange(length, dtype=source.dtype)[None, :])
  return jnp.maximum(0.0, 1.0 - distance) * inside[:, None]


def resize_and_pad(keys: PRNGKeys, images: Images, *, prob: float, scale: float) -> Images:
  """Resizes by a random factor and pads with zeros at a random place.

  Paper: Xie et al. 2019, arXiv:1803.06978, Sec. 3.2: resize by a factor from [1, scale], pad to
  `scale` times the side.

  Deviation: the result is brought back to the input's size (so the picture shrinks by a factor from
  [1/scale, 1]); networks of fixed input size can then be attacked.

  Args:
    keys: one per example.
    images: in [0, 1].
    prob: chance of the change, in [0, 1].
    scale: >= 1.
  """
  height, width, _ = images.shape[1:]

  def one(key: Array, image: Image) -> Image:
    key_gate, key_factor, key_offset = jax.random.split(key, 3)
    factor = jax.random.uniform(key_factor, minval=1.0 / scale, maxval=1.0)
    shift = jax.random.uniform(key_offset, (2,))
    rows = placement(height, factor * height, shift[0] * (1 - factor) * height)
    columns = placement(width, factor * width, shift[1] * (1 - factor) * width)
    moved = jnp.einsum("ih,hwc,jw->ijc", rows, image, columns)
    return jnp.where(jax.random.bernoulli(key_gate, prob), moved, image)

  return jax.vmap(one)(keys, images)
