# SPDX-License-Identifier: Apache-2.0
"""AugMix's objective: three pictures of an example in one batch, cross-entropy and divergence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_trainer as tiny

from configs import base
from mixboost_jax import augment, losses, settings, train
from mixboost_jax.keys import Stream, split_each
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.train import objectives

AUGMIX = base.VARIANTS["augmix_jsd"]
CUTOUT = AUGMIX | {"augment.policy": {"name": "cutout", "length": 12}}  # compiles fastest


def test_a_step_is_that_of_three_pictures_in_one_batch():
  trainer = tiny.build(**CUTOUT)
  batch = tiny.first_batch(trainer)
  clean, labels = tiny.augmented(tiny.build(), batch)  # flip and crop alone
  each = split_each(tiny.draw_keys(trainer, batch, Stream.AUGMENT), 3)[2]
  copies = [augment.cutout(k, clean, length=12) for k in split_each(each, 2)]
  assert not np.array_equal(*copies)

  def loss(network):
    rows = jnp.concatenate([clean, *copies])
    logits, stats = trainer.parts.apply(network, trainer.state.stats, rows, train=True)
    views = jnp.split(logits, 3)
    terms = losses.cross_entropy(views[0], labels), losses.jensen_shannon(views)
    return terms[0].mean() + 12 * terms[1].mean(), (terms[1].mean(), stats)

  network = trainer.state.params["network"]
  (value, (divergence, stats)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(network)
  state, (metrics,) = tiny.advance(trainer, 1)
  assert metrics["loss"] == pytest.approx(float(value), rel=1e-4)
  assert metrics["jensen_shannon"] == pytest.approx(float(divergence), rel=1e-3)
  tiny.assert_close(state.stats, stats, tolerance=1e-4)  # all three pictures count
  updates, _ = trainer.parts.optimizer.update(
    {"network": gradient}, trainer.state.opt_state, trainer.state.params
  )
  moved = jax.tree.map(lambda new, old: new - old, state.params, trainer.state.params)
  tiny.assert_close(moved, updates, tolerance=2e-3)


def test_copies_are_augmix_pictures():
  trainer = tiny.build(**AUGMIX)
  batch = tiny.first_batch(trainer, 4)
  clean, *copies = objectives.by_picture(tiny.augmented(trainer, batch)[0], 3)
  each = split_each(tiny.draw_keys(trainer, batch, Stream.AUGMENT), 3)[2]
  expected = augment.augmix_views(each, clean, severity=3, width=3)
  np.testing.assert_allclose(copies, expected, atol=1e-6)


def test_fused_views_on_8_devices_are_separate_views_on_one():
  options = CUTOUT | {"objective.name": "mixboost", "objective.boost_on": "all"}
  one, eight = (
    tiny.advance(tiny.build(num, **options | {"train.view_forward": forward}), 1)
    for num, forward in ((1, "separate"), (8, "fused"))
  )
  assert one[1][0] == pytest.approx(eight[1][0], rel=1e-3, abs=1e-5)
  tiny.assert_close(jax.device_get(eight[0].stats), one[0].stats, tolerance=1e-4)


def test_joint_statistics_take_views_of_unequal_size():
  options = CUTOUT | {"objective.name": "mixboost", "train.batchnorm_views": "joint"}
  _, (metrics,) = tiny.advance(tiny.build(**options), 1)
  assert np.isfinite(metrics["loss"])


def test_loss_by_hand():
  """Two classes, p = (1/2, 1/2) twice and (1, 0): JSD = log 2 - H(2/3, 1/3) + ... in nats."""
  run = settings.resolve(base.override(base.get_config(), CUTOUT))
  objective = objectives.build(run.objective, run.mask, run.adversary)
  assert objective.pictures[0] == "clean"
  logits = jnp.array([[0.0, 0.0], [0.0, 0.0], [50.0, -50.0]])
  terms = objective.terms([logits], jnp.repeat(jnp.eye(2)[:1], 3, axis=0))
  mixture = np.array([2 / 3, 1 / 3])
  expected = -(mixture * np.log(mixture)).sum() - 2 / 3 * np.log(2)
  np.testing.assert_allclose(terms["jensen_shannon"], expected, rtol=1e-5)
  np.testing.assert_allclose(terms["loss"], np.log(2) + 12 * expected, rtol=1e-5)


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    ({"objective.jsd_weight": 1.0}, "jsd_weight=1 compares .* give config.augment.policy"),
    ({**AUGMIX, "adversary.name": "at"}, "each bring pictures of their own; choose one"),
  ],
)
def test_wrong_settings_give_one_clear_line(overrides, message):
  with pytest.raises(settings.ConfigError, match=message) as caught:
    settings.resolve(base.override(base.get_config(), overrides))
  assert len(caught.value.problems) == 1


MIXUP = {"augment.policy": {"name": "mixup"}}
NESTED = {"augment.policy": {"name": "with_probability", "p": 0.5, "policy": {"name": "mixup"}}}


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    (AUGMIX | NESTED, "'mixup' mixes examples; use a policy such as augmix"),
    ({"augment.manifold_alpha": 2.0} | MIXUP, "manifold_alpha=2 and .* 'mixup' would mix"),
    ({"adversary.name": "iat"} | MIXUP, "name='iat' and config.augment.policy 'mixup' would mix"),
  ],
)
def test_policies_that_mix_examples_are_refused(overrides, message):
  run = settings.resolve(base.override(base.get_config(), {**tiny.TINY, **overrides}))
  with pytest.raises(ValueError, match=message):
    train.build(run, tiny.dataset(), meshes.create(devices=jax.devices()[:1]))


def test_copies_are_the_clean_picture_in_epochs_without_the_policy():
  trainer = tiny.build(**CUTOUT | {"augment.start": 0.5})  # two epochs of four steps
  batch = tiny.first_batch(trainer, 4)
  off, on = (objectives.by_picture(tiny.augmented(trainer, batch, epoch)[0], 3) for epoch in (0, 1))
  np.testing.assert_array_equal(off[1], off[0])
  np.testing.assert_array_equal(off[2], off[0])
  assert not np.array_equal(on[1], on[0])
  assert not np.array_equal(on[2], on[1])
