# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mixboost_jax import data


@pytest.fixture
def split():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, size=(11, 4, 4, 3), dtype=np.uint8)
  return data.Split(images, np.arange(11, dtype=np.int32) % 3, np.arange(100, 111, dtype=np.int32))


def replicated():
  mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
  return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))


def test_epoch_order_is_a_permutation_that_the_key_decides(key):
  order = data.epoch_order(key, 50)
  np.testing.assert_array_equal(np.sort(order), np.arange(50))
  assert order.dtype == jnp.int32
  np.testing.assert_array_equal(order, data.epoch_order(key, 50))
  assert not np.array_equal(order, data.epoch_order(jax.random.key(1), 50))


def test_take_returns_the_right_rows_in_unit_range(split):
  whole = data.to_device(split, replicated()[0])
  indices = jnp.array([10, 0, 3, 3])
  batch = jax.jit(data.take)(whole, indices)
  expected = split.images[[10, 0, 3, 3]] / np.float64(255)
  np.testing.assert_allclose(batch.images, expected, rtol=1.2e-7)
  np.testing.assert_array_equal(batch.labels, split.labels[[10, 0, 3, 3]])
  np.testing.assert_array_equal(batch.ids, [110, 100, 103, 103])
  assert batch.images.dtype == jnp.float32
  assert whole.images.dtype == jnp.uint8


def test_take_on_several_devices_needs_no_communication(split):
  whole_sharding, batch_sharding = replicated()
  whole = data.to_device(split, whole_sharding)
  indices = jax.device_put(jnp.arange(8), batch_sharding)
  compiled = jax.jit(data.take, out_shardings=batch_sharding).lower(whole, indices).compile()
  text = compiled.as_text()
  assert text is not None
  assert not any(op in text for op in ("all-gather", "all-reduce", "collective", "all-to-all"))
  np.testing.assert_array_equal(compiled(whole, indices).ids, np.arange(100, 108))


@pytest.mark.parametrize(
  ("batch_size", "multiple_of", "shape"),
  [(4, 1, 4), (5, 4, 8), (11, 1, 11), (3, 8, 8), (50, 1, 50), (1, 1, 1)],
)
def test_padded_batches_score_every_example_once(split, batch_size, multiple_of, shape):
  batches = list(data.padded_batches(split, batch_size, multiple_of=multiple_of))
  assert {batch.images.shape for batch, _ in batches} == {(shape, 4, 4, 3)}
  assert sum(weights.sum() for _, weights in batches) == 11
  scored = np.concatenate([batch.ids[weights == 1] for batch, weights in batches])
  np.testing.assert_array_equal(scored, split.ids)
  images = np.concatenate([batch.images[weights == 1] for batch, weights in batches])
  np.testing.assert_allclose(images, split.images / np.float64(255), rtol=1.2e-7)
  for batch, weights in batches:
    assert set(weights.tolist()) <= {0.0, 1.0}
    assert np.all(batch.ids[weights == 0] == data.PADDING_ID)
    assert np.all(batch.images[weights == 0] == 0)
    assert np.all(batch.labels[weights == 0] == 0)
    assert weights.dtype == batch.images.dtype == np.float32
    assert batch.labels.dtype == batch.ids.dtype == np.int32


def test_bytes_survive_the_way_to_unit_range_and_back():
  images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
  split = data.Split(images, np.zeros(1, np.int32), np.zeros(1, np.int32))
  batch, _ = next(iter(data.padded_batches(split, 1)))
  np.testing.assert_array_equal(np.floor(batch.images * np.float32(255)), images)
  assert batch.images.max() == 1


def test_host_and_device_batches_are_bitwise_equal(split):
  whole = data.to_device(split, replicated()[0])
  host, _ = next(iter(data.padded_batches(split, 11)))
  on_device = jax.jit(data.take)(whole, jnp.arange(11))
  np.testing.assert_array_equal(host.images, on_device.images)


@pytest.mark.parametrize(("batch_size", "multiple_of"), [(0, 1), (4, 0), (-1, 1)])
def test_padded_batches_refuse_nonsense_at_the_call(split, batch_size, multiple_of):
  with pytest.raises(ValueError, match="batch_size and multiple_of >= 1"):
    data.padded_batches(split, batch_size, multiple_of=multiple_of)
