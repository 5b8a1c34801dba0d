# SPDX-License-Identifier: Apache-2.0
"""The moves of the Square attack inside an L2 ball.

Paper: Andriushchenko et al. 2020, arXiv:1912.00049, Sec. 4.3 and Alg. 3.

Symbols: nu, eta -> bump, W -> windows, h -> side.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mixboost_jax.array_types import Image, PRNGKey
from mixboost_jax.attacks.projections import Epsilon

_TINY = 1e-12

Index = int | Int[Array, ""]


def bump(
  rows: Int[Array, "H W"],
  columns: Int[Array, "H W"],
  *,
  height: Index,
  width: Index,
  largest: int,
) -> Float[Array, "H W"]:
  """Evaluates one hill of a window, before it is normalised.

  Paper: eq. 2. Squares of growing radius around the centre are added, the r-th with weight
  `1 / (r + 1)**2`, so a cell at (Chebyshev) distance r has the tail of that sum from r on.

  Args:
    rows: row of each pixel from the top of the hill.
    columns: column of each pixel from its left edge.
    height: rows of the hill.
    width: columns of the hill.
    largest: upper bound of both sides.

  Returns:
    Values; 0 outside of the `height` x `width` rectangle.
  """
  weights = 1.0 / (np.arange(largest + 1) + 1.0) ** 2
  sums = jnp.asarray(np.concatenate([[0.0], np.cumsum(weights)]), jnp.float32)
  distance = jnp.maximum(jnp.abs(rows - height // 2), jnp.abs(columns - width // 2))
  levels = jnp.maximum(height // 2, width // 2) + 1
  value = sums[levels] - sums[jnp.clip(distance, 0, levels)]
  inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
  return jnp.where(inside, value, 0.0)


def two_hills(
  rows: Int[Array, "H W"],
  columns: Int[Array, "H W"],
  side: Index,
  *,
  transpose: bool | Array,
  largest: int,
) -> Float[Array, "H W"]:
  """Evaluates a window: one positive and one negative half, of unit L2 norm.

  Args:
    rows: row of each pixel from the top of the window.
    columns: column of each pixel from its left edge.
    side: side of the window.
    transpose: whether the halves lie side by side instead of on top of each other.
    largest: upper bound of the side.
  """
  first = jnp.where(transpose, columns, rows)
  second = jnp.where(transpose, rows, columns)
  half = side // 2
  upper = _unit(bump(first, second, height=half, width=side, largest=largest))
  lower = _unit(bump(first - half, second, height=side - half, width=side, largest=largest))
  return _unit(upper - lower)


def _unit(values: Array) -> Array:
  return values / jnp.maximum(jnp.sqrt(jnp.sum(values**2)), _TINY)


def tiles(key: PRNGKey, image: Image, epsilon: Epsilon) -> Image:
  """Starts from a grid of about 5 x 5 windows with a random sign each, scaled to the radius."""
  height, width, channels = image.shape
  side = max(min(height, width) // 5, 1)
  margin = max(min(height, width) - side * 5, 0) // 2
  counts = ((height - margin) // side, (width - margin) // side)
  key_sign, key_turn = jax.random.split(key)
  signs = jax.random.rademacher(key_sign, (*counts, channels), image.dtype)
  turns = jax.random.bernoulli(key_turn, 0.5, counts)
  cell = jnp.arange(side)
  rows, columns = jnp.meshgrid(cell, cell, indexing="ij")

  def window(turn: Array) -> Array:
    return two_hills(rows, columns, side, transpose=turn, largest=side)

  windows = jax.vmap(jax.vmap(window))(turns)  # [tiles down, tiles across, side, side]
  blocks = windows[..., None] * signs[:, :, None, None, :]
  field = blocks.transpose(0, 2, 1, 3, 4).reshape(counts[0] * side, counts[1] * side, channels)
  delta = jnp.zeros_like(image)
  delta = delta.at[margin : margin + field.shape[0], margin : margin + field.shape[1]].set(field)
  return image + epsilon * _unit(delta)


def propose(key: PRNGKey, image: Image, clean: Image, side: Index, epsilon: Epsilon) -> Image:
  """Moves the norm of a second random window into the first one, which gets a new pattern.

  Paper: Alg. 3. The result lies on the sphere of radius `epsilon`, before clipping to [0, 1].
  """
  height, width, channels = image.shape
  key_first, key_second, key_sign, key_turn = jax.random.split(key, 4)
  limits = jnp.array([height, width]) - side
  corner = jnp.floor(jax.random.uniform(key_first, (2,)) * limits).astype(jnp.int32)
  other = jnp.floor(jax.random.uniform(key_second, (2,)) * limits).astype(jnp.int32)
  rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")

  def mask(at: Array) -> Array:
    r, c = rows - at[0], columns - at[1]
    return ((r >= 0) & (r < side) & (c >= 0) & (c < side)).astype(image.dtype)[..., None]

  here, there = mask(corner), mask(other)
  delta = image - clean
  pattern = two_hills(
    rows - corner[0],
    columns - corner[1],
    side,
    transpose=jax.random.bernoulli(key_turn),
    largest=max(height, width),
  )[..., None]
  pattern = pattern * jax.random.rademacher(key_sign, (1, 1, channels), image.dtype)
  old = delta * here
  pattern = pattern + old / (_TINY + jnp.sqrt(jnp.sum(old**2, axis=(0, 1), keepdims=True)))
  unused = jnp.maximum(epsilon**2 - jnp.sum(delta**2), 0.0) / channels
  moved = jnp.sum((delta * jnp.maximum(here, there)) ** 2, axis=(0, 1), keepdims=True)
  size = jnp.sqrt(jnp.sum(pattern**2, axis=(0, 1), keepdims=True))
  delta = delta * (1 - there) * (1 - here) + pattern / (_TINY + size) * jnp.sqrt(unused + moved)
  return clean + epsilon * _unit(delta)
