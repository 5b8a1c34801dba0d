# SPDX-License-Identifier: Apache-2.0
"""The gradient of max-pooling without XLA's select-and-scatter, which is slow on CPU."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

_MAX_PLACES = 64  # of a window, up to 8x8, that are written out


def is_covered(params: dict[str, Any]) -> bool:
  """Returns whether `select_and_scatter_add` of these parameters is that of a small maximum."""
  return params["select_prim"] is lax.ge_p and math.prod(params["window_dimensions"]) <= _MAX_PLACES


def scatter_to_maxima(source: Array, operand: Array, *, params: dict[str, Any]) -> Array:
  """Adds each entry of `source` to the first maximum of its window, one place after the other.

  Args:
    source: gradients of the maxima.
    operand: what was pooled.
    params: those of the equation `select_and_scatter_add`.

  Returns:
    Array of the shape of `operand`.
  """
  strides, pads = params["window_strides"], params["padding"]
  lowest, zero = jnp.array(-jnp.inf, operand.dtype), jnp.zeros((), source.dtype)
  padded = lax.pad(operand, lowest, [(low, high, 0) for low, high in pads])

  def seen_from(place: tuple[int, ...]) -> Array:
    axes = zip(place, source.shape, strides, strict=True)
    return lax.slice(padded, place, [p + (num - 1) * s + 1 for p, num, s in axes], strides)

  def spread(values: Array, place: tuple[int, ...]) -> Array:
    axes = zip(place, values.shape, strides, operand.shape, pads, strict=True)
    edges = [(p - low, size + low - p - (n - 1) * s - 1, s - 1) for p, n, s, size, (low, _) in axes]
    return lax.pad(values, zero, edges)

  places = list(np.ndindex(*params["window_dimensions"]))
  largest = seen_from(places[0])
  for place in places[1:]:
    largest = jnp.maximum(largest, seen_from(place))
  taken, total = jnp.zeros(source.shape, bool), jnp.zeros(operand.shape, source.dtype)
  for place in places:
    wins = (seen_from(place) == largest) & ~taken
    taken |= wins
    total += spread(jnp.where(wins, source, zero), place)
  return total
