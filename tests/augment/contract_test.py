# SPDX-License-Identifier: Apache-2.0
"""What holds for every augmentation of the registry."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mixboost_jax import augment, target

SMALL_KEYWORDS = {
  "augmix": {"all_ops": True},
  "color_jitter": {"hue": 0.2},
  "cutout": {"length": 8},
  "gaussian_blur": {"radius": 3},
  "gaussian_noise": {"sigma": 0.1},
  "random_crop": {"padding": 4},
  "random_resized_crop": {"size": 32},
  "random_grayscale": {"prob": 0.5},
  "sample_pairing": {"partner": "permutation"},
}
NAMES = sorted(augment.AUGMENTATIONS)
EXAMPLE_WISE = sorted(set(NAMES) - augment.MIXES_LABELS)
FORMULATED = sorted(name for name in NAMES if "formulation" in augment.AUGMENTATIONS[name].keywords)


@functools.cache
def batch():
  rng = np.random.default_rng(0)
  coarse = np.kron(rng.uniform(size=(32, 8, 8, 3)), np.ones((1, 4, 4, 1)))
  images = np.floor((0.7 * coarse + 0.3 * rng.uniform(size=(32, 32, 32, 3))) * 255) / 255
  return jnp.asarray(images, jnp.float32), jax.nn.one_hot(jnp.arange(32) % 4, 4)


@functools.cache
def mixing_set():
  return jnp.asarray(np.random.default_rng(1).integers(0, 256, (5, 36, 36, 3)), jnp.uint8)


def built(name, **resources):
  policy = {"name": name, **SMALL_KEYWORDS.get(name, {})}
  return augment.build(policy, mixing_images=mixing_set(), **resources)


@functools.cache
def compiled(name):
  # Functions with formulations are compiled inside; jit around them is tested on 8 devices.
  return built(name) if name in FORMULATED else jax.jit(built(name))


@functools.cache
def reference(name):
  """The result of a compiled call on 32 examples with one key each."""
  each = jax.random.split(jax.random.key(7), 32)
  return each, jax.tree.map(np.asarray, compiled(name)(each, *batch()))


@pytest.mark.parametrize("name", NAMES)
def test_shape_type_and_range(name):
  images, labels = batch()
  _, (out, soft) = reference(name)
  assert out.shape == images.shape
  assert out.dtype == np.float32
  assert np.isfinite(out).all()
  assert out.min() >= 0
  assert out.max() <= 1
  assert soft.shape == labels.shape
  np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-6)
  assert soft.min() >= 0
  assert not np.array_equal(out, images), "does nothing"


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(FORMULATED)))
def test_eager_equals_compiled(name):
  each, (out, soft) = reference(name)
  eager, eager_soft = built(name)(each, *batch())
  np.testing.assert_allclose(eager, out, atol=2e-6)
  np.testing.assert_allclose(eager_soft, soft, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_same_key_same_result_and_new_key_new_result(name):
  each, (out, _) = reference(name)
  run = compiled(name)
  np.testing.assert_array_equal(run(each, *batch())[0], out)
  other = run(jax.random.split(jax.random.key(8), 32), *batch())[0]
  assert not np.array_equal(other, out)


@pytest.mark.parametrize("name", EXAMPLE_WISE)
def test_an_example_depends_on_its_own_key_only(name):
  """One by one, and in another order: every example comes out as it did in the batch."""
  each, (out, _) = reference(name)
  images, labels = batch()
  run = compiled(name)
  for i in (0, 5, 31):
    one = run(each[i : i + 1], images[i : i + 1], labels[i : i + 1])[0]
    np.testing.assert_array_equal(one[0], out[i])
  order = np.random.default_rng(0).permutation(32)
  shuffled = run(each[order], images[order], labels[order])[0]
  np.testing.assert_array_equal(shuffled, out[order])


@pytest.mark.parametrize(
  ("name", "mode"),
  [(name, "compiled") for name in EXAMPLE_WISE]
  + [(name, "eager") for name in EXAMPLE_WISE if name not in FORMULATED],
)
def test_a_row_alone_has_the_bits_of_its_batch(name, mode):
  """In pictures of an odd size, which vector instructions cut differently for one and for four."""
  run = compiled(name) if mode == "compiled" else built(name)
  each = jax.random.split(jax.random.key(7), 4)
  images, labels = (array[:4] for array in batch())
  images = images[:, :29, :17]
  out = run(each, images, labels)[0]
  for i in range(4):
    one = run(each[i : i + 1], images[i : i + 1], labels[i : i + 1])[0]
    np.testing.assert_array_equal(one[0], out[i])


@pytest.mark.parametrize("name", ["pixmix", "trivial_augment_wide"])
def test_same_in_a_batch_of_64(name):
  each, (out, _) = reference(name)
  images, labels = batch()
  twice = [jnp.concatenate([x, x]) for x in (images, labels)]
  more = jnp.concatenate([each, jax.random.split(jax.random.key(9), 32)])
  np.testing.assert_array_equal(compiled(name)(more, *twice)[0][:32], out)


@pytest.mark.parametrize("name", NAMES)
def test_same_on_one_and_eight_devices(name):
  if len(jax.devices()) < 8:
    pytest.skip("needs 8 devices")
  each, (out, soft) = reference(name)
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  sharding = NamedSharding(mesh, PartitionSpec("data"))
  arguments = jax.device_put((each, *batch()), sharding)
  run = jax.jit(built(name, mesh=mesh), out_shardings=sharding).lower(*arguments).compile()
  sharded, sharded_soft = run(*arguments)
  np.testing.assert_allclose(sharded, out, atol=2e-6)
  np.testing.assert_allclose(sharded_soft, soft, atol=1e-6)
  if name in EXAMPLE_WISE:
    words = ("all-gather", "all-reduce", "all-to-all", "collective-permute")
    assert not [word for word in words if word in run.as_text()], "devices talk to each other"


# PixMix multiplies by exp and log, whose last bits JAX 0.12 leaves to how a loop is vectorised.
LAST_BITS = {"pixmix": 4 * 2.0**-24 if jax.__version_info__ >= (0, 11) else 0}


@pytest.mark.parametrize("name", FORMULATED)
def test_formulations_give_the_same_bits(name):
  each, (out, _) = reference(name)
  policy = {"name": name, **SMALL_KEYWORDS.get(name, {}), "formulation": "merged"}
  merged = augment.build(policy, mixing_images=mixing_set())
  result = jax.jit(merged)(each, *batch())[0]
  np.testing.assert_allclose(result, out, rtol=0, atol=LAST_BITS.get(name, 0))


@pytest.mark.parametrize("name", [*FORMULATED, "random_crop"])
def test_what_a_tpu_does_gives_the_same_bits(name):
  each, (out, _) = reference(name)
  with target.compiling_for("tpu"):
    result = jax.jit(built(name))(each, *batch())[0]
  np.testing.assert_allclose(result, out, rtol=0, atol=LAST_BITS.get(name, 0))


@pytest.mark.parametrize("name", NAMES)
def test_no_key_is_used_twice(name):
  core = pytest.importorskip("jax.experimental.key_reuse._core")
  fn = built(name)
  images, labels = batch()
  for key in (jax.random.key(0), jax.random.split(jax.random.key(0), 2)):
    core.check_key_reuse(lambda k: fn(k, images[:2], labels[:2])[0], key)


@pytest.mark.parametrize("name", NAMES)
def test_gate_closed_is_the_bitwise_identity(name):
  images, labels = batch()
  for per in ("example", "batch"):
    gated = jax.jit(augment.with_probability(0.0, built(name), per=per))
    out, soft = gated(jax.random.key(0), images, labels)
    np.testing.assert_array_equal(out, images)
    np.testing.assert_array_equal(soft, labels)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(5, 9), (1, 1)])
def test_odd_shapes_constant_pictures_and_batches_of_one(name, shape):
  if name == "gaussian_blur" and shape == (1, 1):
    with pytest.raises(ValueError, match="cannot be reflected"):
      built(name)(jax.random.key(3), jnp.zeros((1, *shape, 3)), jnp.ones((1, 1)))
    return
  images = jnp.full((1, *shape, 3), 100 / 255)
  out, soft = compiled(name)(jax.random.key(3), images, jnp.ones((1, 1)))
  assert out.shape == images.shape or name == "random_resized_crop"
  assert np.isfinite(np.asarray(out)).all()
  np.testing.assert_array_equal(soft, [[1.0]])


def test_the_default_key_is_split_by_position():
  """One key for a batch stands for `fold_in(key, i)` per example."""
  images, labels = batch()
  key = jax.random.key(11)
  each = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(32))
  run = compiled("random_crop")
  np.testing.assert_array_equal(run(key, images, labels)[0], run(each, images, labels)[0])
