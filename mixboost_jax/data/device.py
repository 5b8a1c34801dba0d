# SPDX-License-Identifier: Apache-2.0
"""Batches: a small set lives on the device as bytes, and the compiled step picks its own examples.

Only indices change from step to step, so the host never stands in the way. `take` belongs inside
the step; `padded_batches` walks through a split in order, for evaluation.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from mixboost_jax import target
from mixboost_jax.array_types import PRNGKey
from mixboost_jax.data.dataset import Split


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=["rows"], meta_fields=["picture_shape"]
)
@dataclasses.dataclass(frozen=True)
class DevicePictures:
  """uint8[N, H, W, C] in device memory as uint8[N, H * W * C].

  XLA:TPU lets pictures be the fastest axis of an array of few channels, and a step that takes some
  of them would first turn the whole set around.
  """

  rows: Any
  picture_shape: tuple[int, ...]

  @property
  def shape(self) -> tuple[int, ...]:
    """Number, height, width, channels."""
    return (len(self.rows), *self.picture_shape)

  @property
  def dtype(self) -> Any:
    """Of the bytes."""
    return self.rows.dtype

  def __getitem__(self, indices: Any) -> Any:
    rows = self.rows[indices]
    return rows.reshape(*rows.shape[:-1], *self.picture_shape)


class DeviceSplit(NamedTuple):
  """A split in device memory: uint8[N, H, W, C] or `DevicePictures`, int32[N], int32[N]."""

  images: Any
  labels: jax.Array
  ids: jax.Array


class Batch(NamedTuple):
  """What a step works on: float32[B, H, W, C] in [0, 1], int32[B], int32[B]; host or device."""

  images: Any
  labels: Any
  ids: Any


_UNIT = np.float32(1 / 255)
"""XLA turns x / 255 into this product; the host does the same, bit for bit."""
PADDING_ID = -1
"""Id of the rows that fill up the last batch."""


def to_device(split: Split, sharding: jax.sharding.Sharding) -> DeviceSplit:
  """Copies a split to the devices of `sharding` (replicated: every device can take any example).

  ```python
  split = data.Split(np.uint8((255 * images).round()), np.int32(labels), np.int32(range(8)))
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  held = data.to_device(split, here)
  ```
  """
  number, *shape = split.images.shape
  flat: Any = jax.ShapeDtypeStruct((number, math.prod(shape)), np.uint8)
  if not target.is_on_paper():
    flat = np.asarray(split.images).reshape(flat.shape)
  rows, labels, ids = (place(values, sharding) for values in (flat, split.labels, split.ids))
  return DeviceSplit(DevicePictures(rows, tuple(shape)), labels, ids)


def place(values: Any, sharding: jax.sharding.Sharding) -> Any:
  """Copies an array that every process has to the devices of `sharding`, of any process.

  `target.on_paper` it is a shape; `values` may be one, too.

  ```python
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  weights = data.place(np.ones((3, 4), np.float32), here)
  ```
  """
  if target.is_on_paper():
    return jax.ShapeDtypeStruct(values.shape, values.dtype, sharding=sharding)
  if sharding.is_fully_addressable or not getattr(values, "is_fully_addressable", True):
    return jax.device_put(values, sharding)  # one process, or an array that spans them already
  if isinstance(values, jax.Array) and jnp.issubdtype(values.dtype, jax.dtypes.prng_key):
    bits = place(jax.random.key_data(values), sharding)
    return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(values))
  values = np.asarray(values)
  return jax.make_array_from_callback(values.shape, sharding, values.__getitem__)


@functools.partial(jax.jit, static_argnames="num_examples")
def epoch_order(key: PRNGKey, num_examples: int) -> Int32[Array, " N"]:
  """Returns the order in which one epoch visits the examples: a permutation of their indices.

  ```python
  order = data.epoch_order(key, 8)
  shuffled = images[order], labels[order]
  ```
  """
  return jax.random.permutation(key, jnp.arange(num_examples, dtype=jnp.int32))


def take(split: DeviceSplit, indices: Int[Array, " B"]) -> Batch:
  """Returns the examples at these positions, each in [0, N), pictures as float32 in [0, 1].

  ```python
  split = data.Split(np.uint8((255 * images).round()), np.int32(labels), np.int32(range(8)))
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  batch = data.take(data.to_device(split, here), jnp.array([2, 5]))
  assert batch.images.shape == (2, 16, 16, 3) and batch.ids.tolist() == [2, 5]
  ```
  """
  stored = (split.images.rows, split.labels, split.ids)
  rows, labels, ids = (jnp.take(values, indices, axis=0, mode="clip") for values in stored)
  images = rows.reshape(*indices.shape, *split.images.picture_shape)
  return to_unit(DeviceSplit(images, labels, ids))


def to_unit(split: DeviceSplit) -> Batch:
  """Returns all examples, pictures as float32 in [0, 1].

  ```python
  pixel = jnp.array([[[[0, 51, 255]]]], jnp.uint8)
  batch = data.to_unit(data.DeviceSplit(pixel, jnp.array([3]), jnp.array([0])))
  assert jnp.allclose(batch.images[0, 0, 0], jnp.array([0.0, 0.2, 1.0]))
  ```
  """
  return Batch(split.images.astype(jnp.float32) * _UNIT, split.labels, split.ids)


def padded_batches(
  split: Split, batch_size: int, *, multiple_of: int = 1
) -> Iterator[tuple[Batch, Float[np.ndarray, " B"]]]:
  """Yields all examples once, in order, in batches of one shape, in host memory.

  ```python
  split = data.Split(np.uint8((255 * images).round()), np.int32(labels), np.int32(range(8)))
  shown = [weights.sum() for batch, weights in data.padded_batches(split, batch_size=3)]
  assert shown == [3, 3, 2]  # one row of the last batch only fills it up
  ```

  Args:
    split: whose examples may stay in their files.
    batch_size: examples per batch, rounded up to a multiple of `multiple_of`.
    multiple_of: number of devices that share a batch.

  Yields:
    A batch and the weight of each row: 1, or 0 for the black pictures with label 0 and id -1 that
    fill up the last batch. The weights of all batches sum to `len(split)`.
  """
  if batch_size < 1 or multiple_of < 1:
    raise ValueError(
      f"padded_batches: expected batch_size and multiple_of >= 1, got {batch_size}, {multiple_of}."
    )
  size = -(-batch_size // multiple_of) * multiple_of
  return _padded_batches(split, size)


def _padded_batches(split: Split, size: int) -> Iterator[tuple[Batch, np.ndarray]]:
  for start in range(0, len(split), size):
    part = split.part(start, start + size)
    missing = size - len(part)
    images = part.images.astype(np.float32) * _UNIT
    columns = (images, 0), (np.asarray(part.labels), 0), (part.ids, PADDING_ID)
    filled = (_fill_up(values, missing, value) for values, value in columns)
    yield Batch(*filled), _fill_up(np.ones(len(part), np.float32), missing, 0)


def _fill_up(values: np.ndarray, missing: int, value: int) -> np.ndarray:
  padding = [(0, missing)] + [(0, 0)] * (values.ndim - 1)
  return np.pad(values, padding, constant_values=value) if missing else values
