# SPDX-License-Identifier: Apache-2.0
"""Elastic deformation, coarse pixels and JPEG of -C."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixboost_jax.array_types import Image, PRNGKey
from mixboost_jax.image.axes import gaussian_blur, resize_box
from mixboost_jax.image.jpeg import jpeg
from mixboost_jax.image.sampling import bilinear


def jpeg_compression(image: Image, *, quality: int) -> Image:
  """Codes and decodes with 4:2:0 chroma."""
  return jpeg(image, quality=quality)


def pixelate(image: Image, *, share: float) -> Image:
  """Shrinks both sides to int(share side) by box averages and enlarges again."""
  height, width, _ = image.shape
  small = [max(int(side * share), 1) for side in (height, width)]
  shrunk = resize_box(image, height=small[0], width=small[1])
  return resize_box(shrunk, height=height, width=width)


def affine_from_points(source: Float[Array, "3 2"], target: Float[Array, "3 2"]) -> Array:
  """Returns the 2x3 matrix that sends (x, y, 1) of three source points to the target points."""
  a, b, c = source[0], source[1], source[2]
  u, v = b - a, c - a
  inverse = jnp.stack([jnp.stack([v[1], -v[0]]), jnp.stack([-u[1], u[0]])])
  inverse = inverse / (u[0] * v[1] - u[1] * v[0])
  edges = jnp.stack([target[1] - target[0], target[2] - target[0]])
  linear = jnp.einsum("ki,kj->ij", edges, inverse, precision="highest")
  return jnp.concatenate([linear, (target[0] - _times(linear, a))[:, None]], axis=1)


def _times(matrix: Array, vector: Array) -> Array:
  return (matrix * vector[None, :]).sum(axis=1)


def elastic_transform(
  key: PRNGKey, image: Image, *, strength: float, sigma: float, jitter: float
) -> Image:
  """Warps by a random affine map and then by a smooth random field.

  Args:
    key: of this example.
    image: the picture.
    strength: the displacement is this many pixels times U(-1, 1), smoothed.
    sigma: of the smoothing, pixels (cut at three sigma).
    jitter: three reference points move by U(-jitter, jitter) pixels.
  """
  height, width, _ = image.shape
  draws = jax.random.uniform(key, (6 + 2 * height * width,), minval=-1.0)
  middle, arm = jnp.array([width // 2, height // 2]), max(min(height, width) // 3, 1)
  corners = jnp.array([[arm, arm], [arm, -arm], [-arm, -arm]])
  points = (middle[None, :] + corners).astype(jnp.float32)
  moved = points + jitter * draws[:6].reshape(3, 2)
  back = affine_from_points(moved, points)
  y, x = jnp.meshgrid(
    jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32), indexing="ij"
  )
  xs = back[0, 0] * x + back[0, 1] * y + back[0, 2]
  ys = back[1, 0] * x + back[1, 1] * y + back[1, 2]
  image = bilinear(image, ys, xs, border="reflect_101")
  if strength == 0:
    return image

  noise = jnp.moveaxis(draws[6:].reshape(2, height, width), 0, 2)
  field = strength * gaussian_blur(noise, sigma=sigma, truncate=3.0, border="reflect")
  return bilinear(image, y + field[..., 0], x + field[..., 1], border="reflect")
