# SPDX-License-Identifier: Apache-2.0

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import augment


def test_who_mixes_labels_is_read_from_the_signatures():
  assert {"cutmix", "mixup", "sample_pairing", "smote"} == augment.MIXES_LABELS


def test_none_is_the_identity(key, images):
  soft = jnp.eye(8)
  out, labels = augment.build({"name": "none"})(key, images, soft)
  assert out is images
  assert labels is soft


def test_built_function_equals_the_plain_one(key, images):
  soft = jax.nn.one_hot(jnp.arange(8), 8)
  out, labels = augment.build({"name": "cutout", "length": 8})(key, images, soft)
  np.testing.assert_array_equal(out, augment.cutout(key, images, length=8))
  assert labels is soft


@pytest.mark.parametrize(
  ("policy", "message"),
  [
    ({}, "needs a name"),
    ({"name": "cutot"}, "Did you mean 'cutout'"),
    ({"name": "cutout"}, "also needs length"),
    ({"name": "cutout", "length": -1}, "length: expected an integer >= 0, got -1"),
    ({"name": "random_crop", "padding": 2, "fill": (0.1, 0.2, 0.3)}, "fill: expected a number in"),
    ({"name": "cutout", "lenght": 3}, "Did you mean 'length'"),
    ({"name": "mixup", "per": "pixel"}, "expected one of batch, example"),
    ({"name": "random_flip", "p": 1}, "takes no keywords"),
    ({"name": "none", "length": 3}, "takes no keywords"),
    ({"name": "autoaugment", "policy": "svhn"}, "expected one of cifar10, imagenet"),
    ({"name": {"a": 1}}, "name: unknown name {'a': 1}"),
    ({"name": "compose", "steps": ({"name": "cutot"},)}, "steps[0]: name: unknown name 'cutot'"),
    ({"name": "compose", "steps": ()}, "expected a tuple of policies"),
    ({"name": "compose", "steps": ("cutout",)}, "steps[0]: expected a policy such as"),
    ({"name": "with_probability", "p": 2.0, "policy": {"name": "none"}}, "p: expected a number"),
    ({"name": "with_probability", "p": 0.5}, "also needs policy"),
    ({"name": "choice", "options": ({"name": "mixup"},), "per": "pixel"}, "one of batch, example"),
  ],
)
def test_problems(policy, message):
  assert message in str(augment.policy_problem(policy))
  with pytest.raises(ValueError, match=r"^policy .*[^.?][.?]$"):
    augment.build(policy)


def test_no_problem():
  assert augment.policy_problem({"name": "cutmix", "prob": 0.5}) is None


def add_noise(key, images):
  return images + jax.vmap(lambda k: jax.random.uniform(k, images.shape[1:]))(key)


def halve(key, images):
  del key
  return images / 2


@pytest.fixture
def labels():
  return jax.nn.one_hot(jnp.arange(8), 8)


@pytest.mark.parametrize("per", ["example", "batch"])
def test_gate_open_is_always_applied(key, images, per):
  gated = augment.with_probability(1.0, halve, per=per)
  np.testing.assert_array_equal(gated(key, images), images / 2)


def test_gate_frequency_per_example(key):
  out = augment.with_probability(0.3, halve)(key, jnp.ones((4000, 1, 1, 1)))
  rate = float((out == 0.5).mean())
  assert abs(rate - 0.3) < 4 * (0.3 * 0.7 / 4000) ** 0.5


def test_gate_per_batch_is_shared_and_has_its_frequency():
  gated = jax.jit(augment.with_probability(0.3, halve, per="batch"))
  ones = jnp.ones((3, 1, 1, 1))
  outs = np.asarray(jax.vmap(lambda k: gated(k, ones))(jax.random.split(jax.random.key(0), 2000)))
  assert (outs == outs[:, :1]).all()
  assert abs((outs[:, 0] == 0.5).mean() - 0.3) < 4 * (0.3 * 0.7 / 2000) ** 0.5


def test_compose_runs_left_to_right(key, images):
  both = augment.compose(halve, lambda k, x: x + 1)
  np.testing.assert_array_equal(both(key, images), images / 2 + 1)


def test_members_draw_independently(key):
  zeros = jnp.zeros((8, 4, 4, 1))
  one = augment.compose(add_noise)(key, zeros)
  two = augment.compose(add_noise, add_noise)(key, zeros)
  assert not np.allclose(two, 2 * one)


def test_composition_is_closed(key, images, labels):
  inner = augment.compose(augment.random_flip, augment.mixup)
  outer = augment.compose(augment.with_probability(0.5, inner), augment.random_flip)
  out, soft = jax.jit(outer)(key, images, labels)
  assert out.shape == images.shape
  assert out.dtype == images.dtype
  np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-6)
  assert float(out.min()) >= 0
  assert float(out.max()) <= 1


def test_empty_composition_is_the_identity(key, images, labels):
  np.testing.assert_array_equal(augment.compose()(key, images), images)
  assert augment.compose()(key, images, labels)[1] is labels


@pytest.mark.parametrize("per", ["example", "batch"])
def test_choice_frequencies(per):
  fns = [lambda k, x, v=v: x + v for v in (1.0, 2.0, 4.0)]
  one = augment.choice(*fns, per=per)
  zeros = jnp.zeros((10, 1, 1, 1))
  outs = np.asarray(jax.vmap(lambda k: one(k, zeros))(jax.random.split(jax.random.key(0), 600)))
  sample = outs.reshape(600, 10)[:, :1] if per == "batch" else outs.ravel()
  if per == "batch":
    assert (outs == outs[:, :1]).all()
  for v in (1.0, 2.0, 4.0):
    assert abs((sample == v).mean() - 1 / 3) < 4 * (2 / 9 / sample.size) ** 0.5


def test_choice_keeps_pictures_and_labels_together(key):
  soft = jnp.eye(8)
  images = soft.reshape(8, 2, 2, 2)
  pick = augment.choice(augment.mixup, functools.partial(augment.mixup, per="example"))
  out, mixed = pick(key, images, soft)
  np.testing.assert_allclose(out.reshape(8, 8), mixed, rtol=1e-6)


def test_mixing_member_without_labels_says_so(key, images):
  with pytest.raises(TypeError, match="soft_labels"):
    augment.compose(augment.mixup)(key, images)


def test_wrong_arguments(images):
  with pytest.raises(ValueError, match=r"with_probability: p: expected a number in \[0, 1\]"):
    augment.with_probability(1.5, halve)
  with pytest.raises(ValueError, match="choice: expected at least one"):
    augment.choice()
  with pytest.raises(ValueError, match="per"):
    augment.with_probability(0.5, halve, per="pixel")
