# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from mixboost_jax.runtime import mesh

EIGHT = pytest.mark.skipif(jax.device_count() != 8, reason="written for 8 devices")


@EIGHT
@pytest.mark.parametrize(("fsdp", "shape"), [(1, (8, 1)), (2, (4, 2)), (8, (1, 8))])
def test_axes(fsdp, shape):
  made = mesh.create(fsdp=fsdp)
  assert made.axis_names == ("data", "fsdp")
  assert made.devices.shape == shape
  assert made.axis_types == (AxisType.Auto, AxisType.Auto)


@EIGHT
@pytest.mark.parametrize("fsdp", [0, -1, 3, 16])
def test_refuses_what_does_not_divide(fsdp):
  with pytest.raises(ValueError, match=rf"config\.runtime\.fsdp: .*\(8 of kind cpu\), got {fsdp}"):
    mesh.create(fsdp=fsdp)


@EIGHT
def test_a_batch_is_split_over_both_axes():
  made = mesh.create(fsdp=2)
  batch = jax.device_put(jnp.arange(16.0).reshape(16, 1), mesh.batch_sharding(made))
  shards = sorted(batch.addressable_shards, key=lambda s: s.index[0].start)
  assert [s.data.ravel().tolist() for s in shards] == [[2.0 * i, 2.0 * i + 1] for i in range(8)]


@EIGHT
def test_replicated_is_whole_on_every_device():
  whole = jax.device_put(jnp.arange(3), mesh.replicated(mesh.create()))
  assert [s.data.tolist() for s in whole.addressable_shards] == [[0, 1, 2]] * 8


@EIGHT
def test_parameters():
  tree = {
    "kernel": jax.ShapeDtypeStruct((3, 3, 64, 128), jnp.float32),
    "square": np.zeros((128, 128)),
    "odd": np.zeros((129, 127, 2)),  # only the smallest dimension divides
    "none": np.zeros((129, 127, 3)),
    "small": jnp.zeros((64,)),
    "step": 0,
  }
  specs = jax.tree.map(lambda s: s.spec, mesh.shard_params(mesh.create(fsdp=2), tree))
  assert specs == {
    "kernel": PartitionSpec(None, None, None, "fsdp"),
    "square": PartitionSpec(None, "fsdp"),
    "odd": PartitionSpec(None, None, "fsdp"),
    "none": PartitionSpec(),
    "small": PartitionSpec(),
    "step": PartitionSpec(),
  }
  without = mesh.shard_params(mesh.create(), tree)
  assert {s.spec for s in jax.tree.leaves(without)} == {PartitionSpec()}


@EIGHT
def test_a_sharded_step_equals_the_step_of_one_device(key):
  made = mesh.create(fsdp=2)
  weights = jax.random.normal(key, (128, 256))
  inputs = jax.random.normal(jax.random.fold_in(key, 1), (16, 128))

  def step(w, x):
    return jax.grad(lambda w: jnp.mean(jnp.tanh(x @ w) ** 2))(w)

  sharding = mesh.shard_params(made, weights)
  assert sharding.spec == PartitionSpec(None, "fsdp")
  sharded = jax.jit(
    step, in_shardings=(sharding, mesh.batch_sharding(made)), out_shardings=sharding
  )
  np.testing.assert_allclose(sharded(weights, inputs), step(weights, inputs), rtol=1e-5, atol=1e-8)
  assert sharded(weights, inputs).addressable_shards[0].data.shape == (128, 128)


@EIGHT
@pytest.mark.parametrize(
  ("batch", "fsdp", "count"), [(64, 1, 8), (50, 1, 5), (12, 1, 6), (12, 4, 4), (7, 1, 7), (1, 1, 1)]
)
def test_devices_for_a_batch(batch, fsdp, count):
  assert len(mesh.devices_for_batch(batch, fsdp=fsdp)) == count


@EIGHT
def test_no_devices_for_a_batch():
  with pytest.raises(ValueError, match=r"config\.runtime\.fsdp=4: .* config\.train\.batch_size=50"):
    mesh.devices_for_batch(50, fsdp=4)


def test_accelerators_are_all_used_or_refused(monkeypatch):
  class Chip:
    platform = "gpu"

  monkeypatch.setattr(jax, "devices", lambda: [Chip()] * 4)
  assert len(mesh.devices_for_batch(12)) == 4
  with pytest.raises(
    ValueError, match=r"config\.train\.batch_size: .* 4 devices .*got 50; 48 would"
  ):
    mesh.devices_for_batch(50)
