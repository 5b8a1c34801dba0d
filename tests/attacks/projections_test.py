# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax.attacks import projections


def test_hand_worked_projections():
  center = jnp.full((1, 1, 2, 1), 0.5)
  far = center + jnp.array([0.3, -0.4]).reshape(1, 1, 2, 1)
  linf = projections.project(far, center, epsilon=0.1, norm="linf")
  np.testing.assert_allclose(linf.ravel(), [0.6, 0.4], rtol=1e-6)
  l2 = projections.project(far, center, epsilon=0.1, norm="l2")  # |(.3, -.4)| = .5
  np.testing.assert_allclose(l2.ravel(), [0.56, 0.42], rtol=1e-6)
  near = projections.project(far, center, epsilon=0.6, norm="l2")
  np.testing.assert_allclose(near, far)


@pytest.mark.parametrize("norm", projections.NORMS)
def test_projection_is_feasible_and_idempotent(norm, key):
  center = jax.random.uniform(key, (5, 6, 6, 3))
  wild = center + jax.random.normal(jax.random.key(1), center.shape)
  once = projections.project(wild, center, epsilon=0.2, norm=norm)
  assert projections.largest_violation(once, center, epsilon=0.2, norm=norm) < 1e-6
  twice = projections.project(once, center, epsilon=0.2, norm=norm)
  np.testing.assert_allclose(once, twice, atol=1e-6)
  assert projections.largest_violation(wild, center, epsilon=0.2, norm=norm) > 0.5


@pytest.mark.parametrize("norm", projections.NORMS)
def test_steepest_has_unit_norm_and_zero_stays(norm):
  gradient = jnp.array([3.0, -4.0, 0.0, 0.0]).reshape(2, 1, 2, 1)
  direction = projections.steepest(gradient, norm=norm)
  expected = [1, -1, 0, 0] if norm == "linf" else [0.6, -0.8, 0, 0]
  np.testing.assert_allclose(direction.ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("norm", projections.NORMS)
def test_random_directions_are_uniform_in_the_ball(norm, key):
  keys = jax.random.split(key, 4000)
  points = projections.random_directions(keys, (1, 2, 1), norm=norm)
  radius = np.asarray(projections.norms(points, norm=norm))
  assert radius.max() <= 1
  # In two dimensions the share of volume within radius 1/2 is 1/4 for both balls.
  share, error = (radius < 0.5).mean(), (0.25 * 0.75 / 4000) ** 0.5
  assert abs(share - 0.25) < 4 * error
  np.testing.assert_allclose(points.mean(axis=0), 0, atol=4 / 4000**0.5)


def test_errors():
  image = jnp.zeros((1, 1, 1, 1))
  with pytest.raises(ValueError, match="norm must be one of linf, l2"):
    projections.project(image, image, epsilon=1.0, norm="l1")
  with pytest.raises(ValueError, match="epsilon must be >= 0, got -1"):
    projections.check_budget(epsilon=-1)
