# SPDX-License-Identifier: Apache-2.0
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import augment


def test_mixes_labels_is_what_the_signatures_say():
  named = {
    name
    for name, fn in augment.AUGMENTATIONS.items()
    if "soft_labels" in inspect.signature(fn).parameters
  }
  assert named == augment.MIXES_LABELS


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
  with pytest.raises(ValueError, match="policy"):
    augment.build(policy)


def test_no_problem():
  assert augment.policy_problem({"name": "cutmix", "prob": 0.5}) is None
