# SPDX-License-Identifier: Apache-2.0
"""The four pixelwise noises of -C. Results are not yet clipped; `apply.py` does it once."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax.array_types import Image, PRNGKey
from mixboost_jax.image.quantize import to_levels


def gaussian_noise(key: PRNGKey, image: Image, *, sigma: float) -> Image:
  """Adds N(0, sigma^2) to every value."""
  return image + sigma * jax.random.normal(key, image.shape)


def speckle_noise(key: PRNGKey, image: Image, *, sigma: float) -> Image:
  """Adds x N(0, sigma^2) to every value x."""
  return image + sigma * image * jax.random.normal(key, image.shape)


def impulse_noise(key: PRNGKey, image: Image, *, amount: float) -> Image:
  """Replaces every value (not pixel) with probability `amount` by 0 or 1, equally likely."""
  draw = jax.random.uniform(key, image.shape)
  salted = jnp.where(draw > 1 - amount / 2, 1.0, image)
  return jnp.where(draw < amount / 2, 0.0, salted)


def shot_noise(key: PRNGKey, image: Image, *, photons: int) -> Image:
  """Replaces every value x by Poisson(x photons) / photons.

  Deviation: by inverting the distribution function of the 256 possible rates at one uniform draw
  of 2^23 values, and not by rejection; the two agree up to events rarer than 1e-7.

  Args:
    key: of this example.
    image: read as 8-bit levels.
    photons: expected count at full brightness.
  """
  table = _poisson_table(photons)
  draw = jax.random.uniform(key, image.shape)
  level = to_levels(image).astype(jnp.int32)
  count = _count_below(jnp.asarray(table), level, draw)
  return count.astype(jnp.float32) / photons


def _count_below(table: jax.Array, row: jax.Array, draw: jax.Array) -> jax.Array:
  """Returns how many entries of the non-decreasing row of a table are <= draw, by bisection."""
  size = table.shape[1]
  flat = table.reshape(-1)
  low = jnp.zeros(draw.shape, jnp.int32)
  high = jnp.full(draw.shape, size, jnp.int32)
  for _ in range(size.bit_length()):
    middle = (low + high) // 2
    entry = flat.at[row * size + jnp.minimum(middle, size - 1)].get(mode="promise_in_bounds")
    beyond = (entry <= draw) & (low < high)
    low, high = jnp.where(beyond, middle + 1, low), jnp.where(beyond, high, middle)
  return low


@functools.cache
def _poisson_table(photons: int) -> np.ndarray:
  """Returns P(count <= k) for rate level * photons / 255, [256, largest count]."""
  largest = int(photons + 8 * math.sqrt(photons) + 20)
  counts = np.arange(largest)
  log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, largest)))])
  rates = np.arange(1, 256)[:, None] * photons / 255
  mass = np.exp(counts[None, :] * np.log(rates) - rates - log_factorial[None, :])
  below = np.cumsum(np.concatenate([np.eye(1, largest), mass]), axis=1)
  return np.minimum(below, 1).astype(np.float32)
