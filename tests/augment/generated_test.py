# SPDX-License-Identifier: Apache-2.0
"""Pictures of a pool in place of real ones: how often, of which class, and what is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import augment
from mixboost_jax.train.augmentation import POLICIES, policy_problem

POOL = jnp.broadcast_to(  # picture m of class c has the level 10 c + m everywhere
  (10 * jnp.arange(3)[:, None] + jnp.arange(5)[None])[..., None, None, None], (3, 5, 4, 4, 3)
).astype(jnp.uint8)


def batch(number):
  classes = jnp.arange(number) % 3
  soft = 0.1 / 3 + 0.9 * jax.nn.one_hot(classes, 3)
  return jnp.full((number, 4, 4, 3), 0.9), soft, np.asarray(classes)


def test_p_0_is_the_identity(key):
  images, soft, _ = batch(6)
  out, same = augment.swap_in_class(key, images, soft, POOL, p=0)
  np.testing.assert_array_equal(out, images)
  np.testing.assert_array_equal(same, soft)


def test_p_1_shows_pictures_of_the_right_class_only(key):
  images, soft, classes = batch(600)
  out, same = augment.swap_in_class(key, images, soft, POOL, p=1)
  levels = np.asarray(jnp.round(out * 255)).astype(int)
  assert (levels == levels[:, :1, :1, :1]).all()
  np.testing.assert_array_equal(levels[:, 0, 0, 0] // 10, classes)
  picture = levels[:, 0, 0, 0] % 10
  assert set(picture) == set(range(5))
  counts = np.bincount(picture, minlength=5)
  assert np.abs(counts - 120).max() < 4 * (600 * 0.2 * 0.8) ** 0.5
  np.testing.assert_array_equal(same, soft)


def test_replaces_the_asked_share_and_says_what_it_did(key):
  images, soft, _ = batch(600)
  policy = {"name": "gan", "p": 0.3}
  run = jax.jit(augment.build(policy, table=POLICIES, class_pictures=POOL))
  each = jax.random.split(key, 600)
  out = np.asarray(run(each, images, soft)[0])
  swapped = np.abs(out - 0.9).max((1, 2, 3)) > 1e-6
  assert abs(swapped.mean() - 0.3) < 4 * (0.3 * 0.7 / 600) ** 0.5
  for row in (int(np.argmax(swapped)), int(np.argmin(swapped))):
    told = augment.explain(
      each, policy, shape=(4, 4), row=row, batch=(images, soft), table=POLICIES,
      class_pictures=POOL,
    )  # fmt: skip
    level = round(float(out[row, 0, 0, 0]) * 255)
    wanted = {"picture_of_class": level % 10} if swapped[row] else {"applied": False}
    assert told == [{"op": "gan", **wanted}]
  alone = run(each[7:8], images[7:8], soft[7:8])[0]
  np.testing.assert_array_equal(alone[0], out[7])


def test_a_made_picture_may_be_the_partner_of_a_mix(key):
  images, soft, _ = batch(6)
  steps = ({"name": "gan", "p": 1.0}, {"name": "mixup", "per": "example"})
  policy = {"name": "compose", "steps": steps}
  mixed, labels = augment.build(policy, table=POLICIES, class_pictures=POOL)(key, images, soft)
  assert float(mixed.max()) <= 24 / 255 + 1e-6
  np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-6)


def test_wrong_pools_and_policies_are_refused(key):
  images, soft, _ = batch(6)
  with pytest.raises(ValueError, match="class_pictures"):
    augment.swap_in_class(key, images, soft, POOL[:2], p=0.5)
  with pytest.raises(ValueError, match="class_pictures"):
    augment.swap_in_class(key, images, soft, POOL[:, :, :2], p=0.5)
  assert policy_problem({"name": "gan", "p": 2}) == "p: expected a number in [0, 1], got 2"
