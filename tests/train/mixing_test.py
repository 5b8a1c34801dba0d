# SPDX-License-Identifier: Apache-2.0
"""Mixes that need the trainer: hidden layers (Manifold Mixup), epochs (SamplePairing)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_trainer as tiny

from configs import base
from mixboost_jax import augment, losses, settings
from mixboost_jax.keys import Stream
from mixboost_jax.train import hidden

MANIFOLD = base.VARIANTS["manifold"]


def schema_of(**overrides):
  return settings.resolve(base.override(base.get_config(), overrides)).augment


def test_one_layer_and_the_labels_are_mixed_alike():
  trainer = tiny.build(**MANIFOLD, **{"augment.manifold_layers": (2,)})
  batch = tiny.first_batch(trainer)
  images, labels = tiny.augmented(trainer, batch)
  each = tiny.draw_keys(trainer, batch, Stream.AUGMENT)
  weight = augment.draw_manifold_mix(each, alpha=2.0, layers=(2,)).weight

  def mix(x):
    return weight * x + (1 - weight) * jnp.concatenate([x[-1:], x[:-1]])

  logits, _ = trainer.parts.apply(
    trainer.state.params["network"],
    trainer.state.stats,
    images,
    train=True,
    taps={"stage2": mix},
  )
  expected = losses.cross_entropy(logits, mix(labels)).mean()
  _, (metrics,) = tiny.advance(trainer, 1)
  assert metrics["loss"] == pytest.approx(float(expected), rel=1e-4)


def test_manifold_with_boost_fused_on_8_devices_is_separate_on_one():
  options = {**MANIFOLD, "objective.name": "mixboost", "augment.manifold_layers": (1,)}
  (one,), (eight,) = (
    tiny.advance(tiny.build(num, **options, **{"train.view_forward": forward}), 1)[1]
    for num, forward in ((1, "separate"), (8, "fused"))
  )
  assert one == pytest.approx(eight, rel=1e-3, abs=1e-5)


def test_rows_of_an_example_meet_those_of_its_partner():
  rows = jnp.arange(6.0)[:, None]  # three examples, two rows each
  rolled = hidden.across_examples(lambda x: jnp.roll(x, 1, axis=0), rows, num_examples=3)
  np.testing.assert_array_equal(rolled[:, 0], [4, 5, 0, 1, 2, 3])


def test_missing_layers_are_named():
  with pytest.raises(ValueError, match=r"layers=\(0, 4\): the network has layers 0 to 3 \(input"):
    hidden.build_manifold(
      schema_of(**MANIFOLD, **{"augment.manifold_layers": (0, 4)}), ("stage1", "stage2", "stage3")
    )


def test_sample_pairing_follows_its_schedule():
  options = {**base.VARIANTS["samplepairing"], "augment.on_epochs": 3}
  trainer = tiny.build(**options, **{"train.steps": 40})  # ten epochs of four steps
  plain = tiny.build()
  batch = tiny.first_batch(trainer)
  each = tiny.draw_keys(trainer, batch, Stream.AUGMENT)
  labels = losses.one_hot(batch.labels, trainer.parts.num_classes)
  images, _ = plain.parts.augment(each, batch.images, labels)
  paired = 0.5 * (images + jnp.roll(images, 1, axis=0))
  compiled = jax.jit(trainer.parts.augment)
  on = []
  for epoch in range(10):
    found, same_labels = compiled(each, batch.images, labels, jnp.int32(epoch))
    np.testing.assert_array_equal(same_labels, labels)
    on.append(bool(jnp.allclose(found, paired, atol=1e-6)))
    assert on[-1] or np.array_equal(found, images)
  assert [epoch for epoch in range(10) if on[epoch]] == [1, 2, 3, 6, 7]


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    (
      {**base.VARIANTS["cutout"], "augment.start": 0.8, "augment.end": 0.8},
      "leave no epoch with the policy",
    ),
    ({"augment.off_epochs": -1}, "config.augment.off_epochs: expected a number >= 0"),
    ({"augment.manifold_layers": (2, 1)}, "expected increasing numbers of layers"),
    (
      {"augment.manifold_layers": (0.5,)},
      "config.augment.manifold_layers: expected a tuple of int",
    ),
  ],
)
def test_wrong_settings_give_one_clear_line(overrides, message):
  with pytest.raises(settings.ConfigError, match=message) as caught:
    schema_of(**overrides)
  assert len(caught.value.problems) == 1
