# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax.attacks import objectives

LOGITS = jnp.array([[4.0, 1.0, 3.0, -2.0], [0.0, 5.0, 2.0, 1.0]])
LABELS = jnp.array([0, 2])


def test_hand_worked_values():
  np.testing.assert_allclose(objectives.margin(LOGITS, LABELS), [-1.0, 3.0])
  # (z_other - z_y) / (z_(1) - z_(3)): (3-4)/(4-1), (5-2)/(5-1).
  dlr = objectives.difference_of_logits_ratio(LOGITS, LABELS)
  np.testing.assert_allclose(dlr, [-1 / 3, 3 / 4], rtol=1e-6)
  # (z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2), t = 1 and 0.
  targeted = objectives.targeted_difference_of_logits_ratio(LOGITS, LABELS, jnp.array([1, 0]))
  np.testing.assert_allclose(targeted, [-3 / 4.5, -2 / 4.5], rtol=1e-6)
  ce = objectives.cross_entropy(LOGITS, LABELS)
  z = np.asarray(LOGITS, np.float64)
  np.testing.assert_allclose(ce, np.log(np.exp(z).sum(1)) - z[[0, 1], LABELS], rtol=1e-6)


def test_ratio_ignores_shift_and_scale():
  for scaled in (LOGITS + 7.0, LOGITS * 3.0):
    np.testing.assert_allclose(
      objectives.difference_of_logits_ratio(scaled, LABELS),
      objectives.difference_of_logits_ratio(LOGITS, LABELS),
      rtol=1e-6,
    )


def test_few_classes_fall_back():
  two, labels = LOGITS[:, :2], jnp.array([0, 1])
  np.testing.assert_allclose(
    objectives.difference_of_logits_ratio(two, labels), objectives.margin(two, labels)
  )
  np.testing.assert_allclose(
    objectives.targeted_difference_of_logits_ratio(two, labels, 1 - labels), [-3.0, -5.0]
  )
  three = LOGITS[:, :3]
  targeted = objectives.targeted_difference_of_logits_ratio(three, labels, jnp.array([1, 2]))
  np.testing.assert_allclose(targeted, [-3 / 3, -3 / 5], rtol=1e-6)


def test_targeted_is_the_negative():
  ask = objectives.objective("ce", LABELS, targeted=True)
  np.testing.assert_allclose(ask(LOGITS), -objectives.cross_entropy(LOGITS, LABELS))
  assert objectives.fooled(LOGITS, LABELS).tolist() == [False, True]
  assert objectives.fooled(LOGITS, LABELS, targeted=True).tolist() == [True, False]


def test_unknown_loss():
  with pytest.raises(ValueError, match="choose one of ce, dlr, margin"):
    objectives.objective("cw", LABELS, targeted=False)
