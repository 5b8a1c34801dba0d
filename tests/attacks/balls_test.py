# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax.attacks import _balls

LOGITS = jnp.array([[4.0, 1.0, 3.0, -2.0], [0.0, 5.0, 2.0, 1.0]])
LABELS = jnp.array([0, 2])


def test_hand_worked_values():
  np.testing.assert_allclose(_balls.margin(LOGITS, LABELS), [-1.0, 3.0])
  # (z_other - z_y) / (z_(1) - z_(3)): (3-4)/(4-1), (5-2)/(5-1).
  dlr = _balls.difference_of_logits_ratio(LOGITS, LABELS)
  np.testing.assert_allclose(dlr, [-1 / 3, 3 / 4], rtol=1e-6)
  # (z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2), t = 1 and 0.
  targeted = _balls.targeted_difference_of_logits_ratio(LOGITS, LABELS, jnp.array([1, 0]))
  np.testing.assert_allclose(targeted, [-3 / 4.5, -2 / 4.5], rtol=1e-6)
  ce = _balls.cross_entropy(LOGITS, LABELS)
  z = np.asarray(LOGITS, np.float64)
  np.testing.assert_allclose(ce, np.log(np.exp(z).sum(1)) - z[[0, 1], LABELS], rtol=1e-6)


def test_ratio_ignores_shift_and_scale():
  for scaled in (LOGITS + 7.0, LOGITS * 3.0):
    np.testing.assert_allclose(
      _balls.difference_of_logits_ratio(scaled, LABELS),
      _balls.difference_of_logits_ratio(LOGITS, LABELS),
      rtol=1e-6,
    )


def test_few_classes_fall_back():
  two, labels = LOGITS[:, :2], jnp.array([0, 1])
  np.testing.assert_allclose(
    _balls.difference_of_logits_ratio(two, labels), _balls.margin(two, labels)
  )
  np.testing.assert_allclose(
    _balls.targeted_difference_of_logits_ratio(two, labels, 1 - labels), [-3.0, -5.0]
  )
  three = LOGITS[:, :3]
  targeted = _balls.targeted_difference_of_logits_ratio(three, labels, jnp.array([1, 2]))
  np.testing.assert_allclose(targeted, [-3 / 3, -3 / 5], rtol=1e-6)


def test_targeted_is_the_negative():
  ask = _balls.objective("ce", LABELS, targeted=True)
  np.testing.assert_allclose(ask(LOGITS), -_balls.cross_entropy(LOGITS, LABELS))
  assert _balls.fooled(LOGITS, LABELS).tolist() == [False, True]
  assert _balls.fooled(LOGITS, LABELS, targeted=True).tolist() == [True, False]


def test_unknown_loss():
  with pytest.raises(ValueError, match="choose one of ce, dlr, margin"):
    _balls.objective("cw", LABELS, targeted=False)


def test_hand_worked_projections():
  center = jnp.full((1, 1, 2, 1), 0.5)
  far = center + jnp.array([0.3, -0.4]).reshape(1, 1, 2, 1)
  linf = _balls.project(far, center, epsilon=0.1, norm="linf")
  np.testing.assert_allclose(linf.ravel(), [0.6, 0.4], rtol=1e-6)
  l2 = _balls.project(far, center, epsilon=0.1, norm="l2")  # |(.3, -.4)| = .5
  np.testing.assert_allclose(l2.ravel(), [0.56, 0.42], rtol=1e-6)
  near = _balls.project(far, center, epsilon=0.6, norm="l2")
  np.testing.assert_allclose(near, far)


@pytest.mark.parametrize("norm", _balls.NORMS)
def test_projection_is_feasible_and_idempotent(norm, key):
  center = jax.random.uniform(key, (5, 6, 6, 3))
  wild = center + jax.random.normal(jax.random.key(1), center.shape)
  once = _balls.project(wild, center, epsilon=0.2, norm=norm)
  assert _balls.largest_violation(once, center, epsilon=0.2, norm=norm) < 1e-6
  twice = _balls.project(once, center, epsilon=0.2, norm=norm)
  np.testing.assert_allclose(once, twice, atol=1e-6)
  assert _balls.largest_violation(wild, center, epsilon=0.2, norm=norm) > 0.5


@pytest.mark.parametrize("norm", _balls.NORMS)
def test_steepest_has_unit_norm_and_zero_stays(norm):
  gradient = jnp.array([3.0, -4.0, 0.0, 0.0]).reshape(2, 1, 2, 1)
  direction = _balls.steepest(gradient, norm=norm)
  expected = [1, -1, 0, 0] if norm == "linf" else [0.6, -0.8, 0, 0]
  np.testing.assert_allclose(direction.ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("norm", _balls.NORMS)
def test_random_directions_are_uniform_in_the_ball(norm, key):
  keys = jax.random.split(key, 4000)
  points = _balls.random_directions(keys, (1, 2, 1), norm=norm)
  radius = np.asarray(_balls.norms(points, norm=norm))
  assert radius.max() <= 1
  # In two dimensions the share of volume within radius 1/2 is 1/4 for both balls.
  share, error = (radius < 0.5).mean(), (0.25 * 0.75 / 4000) ** 0.5
  assert abs(share - 0.25) < 4 * error
  np.testing.assert_allclose(points.mean(axis=0), 0, atol=4 / 4000**0.5)


def test_errors():
  image = jnp.zeros((1, 1, 1, 1))
  with pytest.raises(ValueError, match="norm must be one of linf, l2"):
    _balls.project(image, image, epsilon=1.0, norm="l1")
  with pytest.raises(ValueError, match="epsilon must be >= 0, got -1"):
    _balls.check_budget(epsilon=-1)
