# SPDX-License-Identifier: Apache-2.0
"""Where a new network takes its first weights from: one stream of numbers, cut into pieces.

Drawing every parameter with a call of its own compiles one program per shape, which takes longer
than compiling a train step. Here one small program draws pieces of a fixed length; the parameters
are cut out of them in the order of construction. The result depends on the key and the network
only, not on devices.
"""

import math
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax.array_types import PRNGKey

_PIECE = 2**18


@runtime_checkable
class Weights(Protocol):
  """What the layers ask for their first weights."""

  def normal(self, shape: tuple[int, ...], *, std: float) -> jax.Array:
    """Returns values from N(0, std^2)."""
    ...

  def uniform(self, shape: tuple[int, ...], *, bound: float) -> jax.Array:
    """Returns values from U(-bound, bound)."""
    ...


class RandomWeights:
  """First weights of a network that will be trained.

  Args:
    key: root of both streams. A concrete key: networks are created outside of `jax.jit`.
  """

  def __init__(self, key: PRNGKey):
    self._normal = _Stream(_pieces(key, normal=True))
    self._uniform = _Stream(_pieces(key, normal=False))

  def normal(self, shape: tuple[int, ...], *, std: float) -> jax.Array:
    """Returns values from N(0, std^2)."""
    return _to_device(self._normal.take(math.prod(shape)).reshape(shape) * np.float32(std))

  def uniform(self, shape: tuple[int, ...], *, bound: float) -> jax.Array:
    """Returns values from U(-bound, bound)."""
    return _to_device(self._uniform.take(math.prod(shape)).reshape(shape) * np.float32(bound))


class ZeroWeights:
  """First weights of a network that will be filled from a file."""

  def normal(self, shape: tuple[int, ...], *, std: float) -> jax.Array:
    """Returns zeros."""
    del std
    return constant(shape, 0.0)

  def uniform(self, shape: tuple[int, ...], *, bound: float) -> jax.Array:
    """Returns zeros."""
    del bound
    return constant(shape, 0.0)


def constant(shape: tuple[int, ...], value: float) -> jax.Array:
  """Returns a filled float32 array without compiling a program for its shape."""
  return _to_device(np.full(shape, value, np.float32))


def _to_device(values: np.ndarray) -> jax.Array:
  return jax.device_put(values)


class _Stream:
  """Numbers taken one after the other from an endless supply of pieces."""

  def __init__(self, pieces: Iterator[np.ndarray]):
    self._pieces = pieces
    self._rest = np.zeros(0, np.float32)

  def take(self, count: int) -> np.ndarray:
    parts, missing = [self._rest[:count]], count - len(self._rest)
    self._rest = self._rest[count:]
    while missing > 0:
      piece = next(self._pieces)
      parts.append(piece[:missing])
      self._rest = piece[missing:]
      missing -= len(piece)
    return np.concatenate(parts)


def _pieces(key: PRNGKey, *, normal: bool) -> Iterator[np.ndarray]:
  index = 0 if normal else 1
  while True:
    normals, uniforms = _draw(key, index)
    yield np.asarray(normals if normal else uniforms)
    index += 2


@jax.jit
def _draw(key, index):
  """Returns the same draws as N(0, 1) and as U(-1, 1): one program to compile for both."""
  shape, piece_key = (_PIECE,), jax.random.fold_in(key, index)
  least = np.nextafter(np.float32(-1), np.float32(0))  # -1 itself would be an infinite normal
  uniforms = jax.random.uniform(piece_key, shape, jnp.float32, minval=least, maxval=1.0)
  return np.float32(np.sqrt(2)) * jax.lax.erf_inv(uniforms), uniforms
