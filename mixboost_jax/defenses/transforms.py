# SPDX-License-Identifier: Apache-2.0
"""The random transformations of the baseline defenses, each as draw + deterministic core.

All but the noise work on images quantised to 8 bits by truncation, as the published code does. The
gradient passes straight through the rounding, so they can be attacked end to end.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mixboost_jax import keys as keys_lib
from mixboost_jax.array_types import AnyKey, Image, Images, Scalar

Index = int | Int[Array, ""]


@jax.custom_jvp
def truncate(images: Float[Array, "..."]) -> Float[Array, "..."]:
  """Rounds down to a multiple of 1/255; its gradient is that of the identity."""
  return jnp.floor(images * 255 + 1e-3) / 255  # the slack keeps 8-bit values where they are


@truncate.defjvp
def _truncate_jvp(primals: tuple, tangents: tuple) -> tuple:
  return truncate(primals[0]), tangents[0]


def add_noise(key: AnyKey, images: Images, *, noise_std: float) -> Images:
  """Adds Gaussian noise, not clipped.

  Args:
    key: one key, or one per example.
    images: in [0, 1].
    noise_std: standard deviation in units of [0, 1] (half of the papers' number, whose pixels span
      [-1, 1]).
  """
  keys = keys_lib.per_example(key, images.shape[0])
  noise = jax.vmap(lambda k: jax.random.normal(k, images.shape[1:]))(keys)
  return images + noise_std * noise


def rotate(image: Image, degrees: float | Scalar) -> Image:
  """Turns counter-clockwise about the centre; nearest pixel, black outside."""
  height, width, _ = image.shape
  angle = jnp.deg2rad(degrees)
  rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
  y, x = rows + 0.5 - height / 2, columns + 0.5 - width / 2
  source_x = jnp.floor(jnp.cos(angle) * x - jnp.sin(angle) * y + width / 2 + 1e-4)
  source_y = jnp.floor(jnp.sin(angle) * x + jnp.cos(angle) * y + height / 2 + 1e-4)
  inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
  column = jnp.clip(source_x, 0, width - 1).astype(jnp.int32)
  row = jnp.clip(source_y, 0, height - 1).astype(jnp.int32)
  return jnp.where(inside[..., None], image[row, column], 0.0)


def random_rotation(key: AnyKey, images: Images, *, max_degrees: float) -> Images:
  """Rotates each image by an angle drawn uniformly from [-max_degrees, max_degrees].

  Paper: Tabacof & Valle 2016 and Engstrom et al. 2019, as configured by Pang et al. 2020, Table 4.
  """
  keys = keys_lib.per_example(key, images.shape[0])
  low, high = -max_degrees, max_degrees
  angles = jax.vmap(lambda k: jax.random.uniform(k, minval=low, maxval=high))(keys)
  return jax.vmap(rotate)(truncate(images), angles)


def place_crop(
  image: Image, source: Int[Array, "2"], target: Int[Array, "2"], size: Index
) -> Image:
  """Moves the square of side `size` at `source` to `target` on black."""
  height, width, _ = image.shape
  rows, columns = jnp.arange(height) - target[0], jnp.arange(width) - target[1]
  inside = ((rows >= 0) & (rows < size))[:, None] & ((columns >= 0) & (columns < size))[None, :]
  row = jnp.clip(rows + source[0], 0, height - 1)
  column = jnp.clip(columns + source[1], 0, width - 1)
  return jnp.where(inside[..., None], image[row[:, None], column[None, :]], 0.0)


def crop_and_pad(key: AnyKey, images: Images, *, min_size: int, max_size: int) -> Images:
  """Crops a random square and pads it with black at a random place.

  Paper: Xie et al. 2018, arXiv:1711.01991, adapted to small images by Pang et al. 2020, Table 4.

  Args:
    key: one key, or one per example.
    images: in [0, 1].
    min_size: smallest side of the square, in pixels.
    max_size: largest side, included.
  """
  _check_sizes(images, min_size, max_size)
  keys = keys_lib.per_example(key, images.shape[0])

  def one(key: Array, image: Array) -> Array:
    key_size, key_source, key_target = jax.random.split(key, 3)
    size = jax.random.randint(key_size, (), min_size, max_size + 1)
    limits = jnp.array(image.shape[:2]) - size + 1
    source = jax.random.randint(key_source, (2,), 0, limits)
    return place_crop(image, source, jax.random.randint(key_target, (2,), 0, limits), size)

  return jax.vmap(one)(keys, truncate(images))


def stretch_matrix(length: int, start: Index, size: Index) -> Float[Array, "L L"]:
  """Returns the matrix that enlarges pixels `start .. start + size - 1` to `length` (bilinear)."""
  position = (jnp.arange(length) + 0.5) * size / length - 0.5
  source = jnp.clip(position, 0, size - 1) + start
  distance = jnp.abs(source[:, None] - jnp.arange(length)[None, :])
  return jnp.maximum(0.0, 1.0 - distance)


def crop_and_resize(key: AnyKey, images: Images, *, min_size: int, max_size: int) -> Images:
  """Crops a random square and enlarges it to the full size (bilinear, rounded to 8 bits).

  Paper: Guo et al. 2018, arXiv:1711.00117, adapted to small images by Pang et al. 2020, Table 4.

  Args:
    key: one key, or one per example.
    images: in [0, 1].
    min_size: smallest side of the square, in pixels.
    max_size: largest side, included.
  """
  _check_sizes(images, min_size, max_size)
  keys = keys_lib.per_example(key, images.shape[0])

  def one(key: Array, image: Array) -> Array:
    key_size, key_source = jax.random.split(key)
    size = jax.random.randint(key_size, (), min_size, max_size + 1)
    limits = jnp.array(image.shape[:2]) - size + 1
    top, left = jax.random.randint(key_source, (2,), 0, limits)
    rows = stretch_matrix(image.shape[0], top, size)
    columns = stretch_matrix(image.shape[1], left, size)
    return jnp.einsum("ih,hwc,jw->ijc", rows, image, columns)

  return truncate(jax.vmap(one)(keys, truncate(images)) + 0.5 / 255)


def _check_sizes(images: Images, min_size: int, max_size: int) -> None:
  if not 1 <= min_size <= max_size <= min(images.shape[1:3]):
    raise ValueError(
      f"defenses: expected 1 <= min_size <= max_size <= {min(images.shape[1:3])} (the image), got "
      f"{min_size}, {max_size}."
    )
