# SPDX-License-Identifier: Apache-2.0
"""A GPU finds what the host's CPU finds: the compiled step, checkpoints, defenses, estimators.

Draws, augmentations, corruptions and attacks are compared by `golden_test.py`, which
`launch/gpu_check.sh` runs on the GPU, too. In a rehearsal without one, two virtual devices of the
CPU are compared: that shows that the tests work.
"""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_trainer as tiny

from configs import base
from mixboost_jax import attacks, interactions, settings, train
from mixboost_jax.runtime import checkpoint
from mixboost_jax.runtime import mesh as meshes

REHEARSED = bool(os.environ.get("MIXBOOST_REHEARSE"))
pytestmark = pytest.mark.gpu
PLAIN = {"train.batch_size": 16}
BOOST = {"objective.name": "mixboost", "mask.grid": 8, "augment.policy": {"name": "randaugment"}}


def device_of(side):
  if REHEARSED:
    return jax.devices()[side == "host"]
  return jax.devices("cpu" if side == "host" else None)[0]


@functools.cache
def trainer_on(side, words="", **changes):
  chosen = {**tiny.TINY, **(BOOST if words == "boost" else PLAIN), **changes}
  run = settings.resolve(base.override(base.get_config(), chosen))
  return train.build(run, tiny.dataset(), meshes.create(devices=[device_of(side)]))


@functools.cache
def advanced(side, words):
  return tiny.advance(trainer_on(side, words), 3)


@pytest.mark.parametrize("words", ["", "boost"])
def test_a_few_steps_are_those_of_the_host(words):
  (ours, losses), (theirs, expected) = (advanced(side, words) for side in ("gpu", "host"))
  for one, other in zip(losses, expected, strict=True):
    assert one == pytest.approx(other, rel=2e-3, abs=2e-4)
  assert {d for leaf in jax.tree.leaves(ours.params) for d in leaf.devices()} == {device_of("gpu")}
  tiny.assert_close(jax.device_get(ours.params), jax.device_get(theirs.params), tolerance=5e-3)


def test_bfloat16_stays_near_float32():
  _, losses = tiny.advance(trainer_on("gpu", **{"model.compute_dtype": "bfloat16"}), 3)
  _, expected = advanced("host", "")
  found = [each["loss"] for each in losses]
  assert found == pytest.approx([each["loss"] for each in expected], rel=0.05)
  assert found != [each["loss"] for each in expected]


def test_a_checkpoint_comes_back_bit_for_bit_to_the_device(tmp_path):
  state, _ = advanced("gpu", "boost")
  with checkpoint.Checkpointer(tmp_path) as saver:
    saver.save(3, state)
    restored = saver.restore(jax.tree.map(jnp.zeros_like, state)).state
  for one, other in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
    assert one.sharding == other.sharding
    bits = [jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
            for x in (one, other)]  # fmt: skip
    np.testing.assert_array_equal(*map(np.asarray, bits))


def on(side, function):
  with jax.default_device(device_of(side)):
    trainer = trainer_on(side)
    logits_fn = trainer.predictor(trainer.state)
    images = jnp.asarray(tiny.dataset().test.images[:4], jnp.float32) / 255
    return np.asarray(function(logits_fn, images))


def both(function):
  return [on(side, function) for side in ("gpu", "host")]


def test_an_attack_reaches_what_it_reaches_on_the_host():
  key = jax.random.split(jax.random.key(1), 4)

  def loss(logits_fn, images):
    labels = jnp.arange(4) % 4
    found = attacks.pgd(
      key, logits_fn, images, labels, epsilon=0.1, step_size=0.02, num_steps=5
    )  # fmt: skip
    logits = logits_fn(found)
    return jax.nn.logsumexp(logits, 1) - jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]

  ours, theirs = both(loss)
  np.testing.assert_allclose(ours, theirs, rtol=1e-2)  # signs of gradients near 0 may differ


def test_interactions_are_those_of_the_host():
  def estimate(logits_fn, images):
    game = interactions.image_game(logits_fn, images[0], 0, grid=4, fill=0.5)
    pairs, key = jnp.array([[0, 1], [4, 9]]), jax.random.key(2)
    found = interactions.multi_order(key, game, orders=(1, 7), pairs=pairs, num_contexts=8)
    return found.differences

  ours, theirs = both(estimate)
  assert np.abs(theirs).max() > 5e-4
  np.testing.assert_allclose(ours, theirs, atol=2e-5)
