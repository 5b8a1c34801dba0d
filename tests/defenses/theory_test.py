# SPDX-License-Identifier: Apache-2.0
"""What mixup inference does to an ideal model, against the equations of the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import defenses

infer = jax.jit(
  defenses.mixup_inference, static_argnames=("logits_fn", "mode", "mix_weight", "num_draws")
)


@pytest.mark.parametrize("mode", ["pl", "ol"])
def test_gap_of_the_ideal_model_has_the_paper_value(ideal, mode, key):
  # Eqs. 14 and 16: DG = G(d) - G(lambda d) - (1 - lambda), the same for both modes.
  weight = 0.7

  def scores(images):
    plain = jax.nn.softmax(ideal.logits_fn(images))
    defended = infer(
      key, ideal.logits_fn, images, ideal.pool, mode=mode, mix_weight=weight, num_draws=5
    )
    return defenses.detection_score(plain, defended)

  clean, adversarial = scores(ideal.clean), scores(ideal.adversarial)
  gap = defenses.detection_gap(clean, adversarial)
  # Clean input scores 0 (PL) or 1 - lambda (OL); both gaps are .9 - .9 * .49 - (1 - lambda).
  assert gap.value == pytest.approx(0.9 - 0.9 * weight**2 - (1 - weight), abs=1e-5)
  assert gap.stderr < 1e-6
  assert defenses.roc(clean, adversarial).auc == 1


@pytest.mark.parametrize("mode", ["pl", "ol"])
def test_sweep_follows_the_theory(ideal4, mode, key):
  weights = (0.2, 0.5, 0.8, 1.0)
  measured = defenses.sweep(
    key, ideal4.logits_fn, ideal4.adversarial, ideal4.labels, ideal4.pool, mode=mode,
    mix_weights=weights, num_draws=10,
  )  # fmt: skip
  for i, weight in enumerate(weights):
    small = 0.9 * weight**2
    true, predicted = defenses.ideal_prediction(
      mode=mode, mix_weight=weight, num_classes=4, adversarial=True, gain_true=-small,
      gain_predicted=small,
    )  # fmt: skip
    assert abs(measured.true_class[i] - (true - 0.1)) <= 4 * measured.true_class_stderr[i] + 1e-5
    assert measured.predicted_class[i] == pytest.approx(predicted - 0.9, abs=1e-5)
    # The condition of eqs. 12 and 15, from the shrinkage of G, agrees with what was measured.
    upper, lower = defenses.improvement_bounds(mode=mode, mix_weight=weight, num_classes=4)
    shrinkage = 0.9 - small
    holds = -shrinkage < upper and shrinkage > lower
    means = measured.true_class[i] > 1e-4, measured.predicted_class[i] < -1e-4
    assert holds == all(means), (weight, shrinkage, upper, lower)
  np.testing.assert_array_equal(measured.mix_weights, weights)


def test_condition_for_the_clean_decision(ideal, key):
  for weight in (1.5 / ideal.num_classes, 0.5 / ideal.num_classes):
    out = infer(
      key, ideal.logits_fn, ideal.clean, ideal.pool, mode="ol", mix_weight=weight, num_draws=900
    )
    kept = bool((jnp.argmax(out, axis=-1) == 0).all())
    assert kept == defenses.keeps_clean_decision(mix_weight=weight, num_classes=ideal.num_classes)


def test_errors():
  with pytest.raises(ValueError, match="'pl' or 'ol'"):
    defenses.improvement_bounds(mode="any", mix_weight=0.5, num_classes=3)
  with pytest.raises(ValueError, match="'pl' or 'ol'"):
    defenses.ideal_prediction(mode="any", mix_weight=0.5, num_classes=3, adversarial=True)
