# SPDX-License-Identifier: Apache-2.0
"""The four pixelwise noises of -C. Results are not yet clipped; `corrupt` does it once."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax.array_types import Image, PRNGKey
from mixboost_jax.image.levels import to_levels

SMALLEST = 2.0**-24
"""Stands for a draw of 0, which has no logarithm."""
_SHIFT = 21  # keeps the exponent and two more bits of a float32


def _bits(values: float) -> int:
  return int(np.float32(values).view(np.int32)) >> _SHIFT


_CELLS = _bits(0.5) - _bits(SMALLEST) + 1


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
  """
  draw = jnp.maximum(jax.random.uniform(key, image.shape), SMALLEST)
  level = to_levels(image).astype(jnp.int32)
  return poisson_counts(level, draw, photons=photons).astype(jnp.float32) / photons


def poisson_counts(level: jax.Array, draw: jax.Array, *, photons: int) -> jax.Array:
  """Returns how many entries of row `level` of `_poisson_table` are <= draw, in [SMALLEST, 1).

  By bisection, but only among the few counts that draws of the same size can mean.
  """
  table, (first, last) = _poisson_table(photons), _poisson_guide(photons)
  size, place = table.shape[1], level * first.shape[1] + _cell(draw)
  flat = jnp.asarray(table.reshape(-1))
  low, high = (
    jnp.asarray(one.reshape(-1)).at[place].get(mode="promise_in_bounds").astype(jnp.int32)
    for one in (first, last)
  )
  for _ in range(int((last - first).max()).bit_length()):
    middle = (low + high) // 2
    entry = flat.at[level * size + jnp.minimum(middle, size - 1)].get(mode="promise_in_bounds")
    beyond = (entry <= draw) & (low < high)
    low, high = jnp.where(beyond, middle + 1, low), jnp.where(beyond, high, middle)
  return low


def _cell(draw: jax.Array) -> jax.Array:
  """Returns the number of a draw's cell: quarters of octaves of its distance to 0 or 1."""
  near = jnp.minimum(draw, 1 - draw)
  place = (jax.lax.bitcast_convert_type(near, jnp.int32) >> _SHIFT) - _bits(SMALLEST)
  return jnp.where(draw < 0.5, place, 2 * _CELLS - 1 - place)


@functools.cache
def _poisson_guide(photons: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the smallest and the largest count that draws in a cell can mean: [256, cells] each."""
  edges = (np.arange(_CELLS + 1, dtype=np.int32) + _bits(SMALLEST)) << _SHIFT
  edges = edges.view(np.float32)
  low, high = edges[:-1], edges[1:]
  starts = np.concatenate([low, (1 - high)[::-1]])
  ends = np.concatenate([high, (1 - low)[::-1]])
  rows = _poisson_table(photons)
  found = [[np.searchsorted(row, at, side="right") for row in rows] for at in (starts, ends)]
  first, last = (np.stack(one).astype(np.int16) for one in found)
  return first, last


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
