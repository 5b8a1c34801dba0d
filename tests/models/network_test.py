# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import models


def keys_for(count, start=0):
  return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(7), i))(start + jnp.arange(count))


@pytest.fixture(scope="module")
def network():
  return models.create("tiny-cnn", num_classes=4, key=jax.random.key(0), dropout=0.5)


@pytest.mark.parametrize(
  "wrong",
  [
    jnp.zeros((2, 32, 32, 3), jnp.uint8),
    np.zeros((2, 32, 32, 3), np.int32),
    jnp.zeros((2, 3, 32, 32)),
    jnp.zeros((2, 28, 28, 3)),
    jnp.zeros((2, 32, 32, 1)),
    jnp.zeros((32, 32, 3)),
  ],
)
def test_images_of_another_form_are_refused(network, wrong):
  message = r"expected \[N, 32, 32, 3\] float32 images in \[0, 1\], got " + str(wrong.dtype)
  with pytest.raises(ValueError, match=message):
    network(wrong)


@pytest.mark.parametrize(
  ("kwargs", "message"),
  [
    ({"num_views": 3}, "num_views: expected a divisor of the 8 rows"),
    ({"num_views": 0}, "num_views: expected a divisor"),
    ({"batchnorm_views": "own"}, "batchnorm_views: expected one of clean, both, joint"),
    ({"taps": {"stage4": jnp.sin}}, "taps: expected stages among input, stage1, stage2, stage3"),
    ({"train": True}, "dropout_keys: training with dropout 0.5 needs one key per row, got None"),
    ({"train": True, "dropout_keys": keys_for(4)}, "expected 8 keys, one per row"),
  ],
)
def test_wrong_arguments_are_refused(network, images, kwargs, message):
  with pytest.raises(ValueError, match=message):
    network(images, **kwargs)


def test_numpy_images_are_accepted(network, images):
  np.testing.assert_allclose(network(np.asarray(images)), network(images), atol=1e-6)


def test_dropout_acts_in_training_only_and_per_example(network, images):
  # One picture in every row: batch normalisation then leaves only dropout to tell rows apart.
  same = jnp.broadcast_to(images[:1], images.shape)
  pure = models.functional(network)
  run = jax.jit(
    lambda rows, keys: pure.apply(pure.params, pure.stats, rows, train=True, dropout_keys=keys)[0]
  )
  logits = run(same, keys_for(8))
  assert len(np.unique(np.round(np.asarray(logits), 4), axis=0)) == 8
  np.testing.assert_array_equal(run(same, keys_for(8)), logits)
  np.testing.assert_allclose(run(same[:2], keys_for(2, 5)), logits[5:7], atol=1e-5)
  shared = run(same, jnp.repeat(keys_for(4), 2))
  np.testing.assert_allclose(shared[0::2], shared[1::2], atol=1e-6)
  np.testing.assert_allclose(network(same), jnp.broadcast_to(network(same)[:1], (8, 4)), atol=1e-6)


@pytest.mark.parametrize("name", ["wrn-10-1", "alexnet"])
def test_half_precision_hidden_layers(name, images):
  seen = {}

  def tap(stage):
    def look(hidden):
      seen[stage] = hidden.dtype
      return hidden

    return look

  kwargs = {"num_classes": 10, "key": jax.random.key(0)}
  half = models.create(name, **kwargs, compute_dtype="bfloat16")
  full = models.create(name, **kwargs)
  run = jax.jit(lambda x: half(x, taps={s: tap(s) for s in ("input", "stage1", "stage3")}))
  logits = run(images)
  assert logits.dtype == jnp.float32
  assert set(seen.values()) == {jnp.dtype("bfloat16")}
  expected = jax.jit(full)(images)
  assert 0 < jnp.abs(logits - expected).max() < 0.05 * jnp.abs(expected).max() + 0.02


@pytest.mark.parametrize("name", ["wrn-10-1", "alexnet"])
def test_jit_equals_eager(name, images):
  model = models.create(name, num_classes=10, key=jax.random.key(0))
  np.testing.assert_allclose(jax.jit(model)(images), model(images), atol=1e-5)
