# SPDX-License-Identifier: Apache-2.0
"""FID and KID against closed forms and double loops."""

import numpy as np
import pytest

from mixboost_jax import metrics

RNG = np.random.default_rng(0)


def moments(mean, covariance):
  return metrics.Moments(np.asarray(mean, float), np.asarray(covariance, float), 100)


def test_frechet_distance_of_gaussians_that_commute():
  """Diagonal covariances: sum (m1 - m2)^2 + (s1 - s2)^2, in any rotated frame."""
  means = np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 0.5]])
  deviations = np.array([[1.0, 2.0, 0.1], [3.0, 0.5, 0.0]])
  turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
  first, second = (
    moments(turn @ mean, turn @ np.diag(s**2) @ turn.T)
    for mean, s in zip(means, deviations, strict=True)
  )
  wanted = np.sum((means[0] - means[1]) ** 2) + np.sum((deviations[0] - deviations[1]) ** 2)
  assert metrics.frechet_distance(first, second) == pytest.approx(wanted, rel=1e-9)
  assert metrics.frechet_distance(second, first) == pytest.approx(wanted, rel=1e-9)


def test_frechet_distance_of_any_gaussians_against_a_general_root():
  linalg = pytest.importorskip("scipy.linalg")
  first, second = (moments(RNG.normal(size=4), np.cov(RNG.normal(size=(4, 9)))) for _ in range(2))
  root = linalg.sqrtm(first.covariance @ second.covariance)
  wanted = np.sum((first.mean - second.mean) ** 2)
  wanted += np.trace(first.covariance + second.covariance - 2 * np.real(root))
  assert metrics.frechet_distance(first, second) == pytest.approx(wanted, rel=1e-7)


def test_frechet_distance_of_equal_sets_is_zero_also_without_full_rank():
  features = RNG.normal(size=(5, 8))  # fewer pictures than features
  found = metrics.feature_moments(features)
  assert metrics.frechet_distance(found, found) == pytest.approx(0, abs=1e-6)
  np.testing.assert_allclose(found.mean, features.mean(0))
  np.testing.assert_allclose(found.covariance, np.cov(features.T), atol=1e-12)
  assert found.count == 5


def test_kernel_distance_against_a_double_loop():
  first, second = RNG.normal(size=(8, 3)), 0.3 + RNG.normal(size=(8, 3))

  def kernel(a, b):
    return (np.dot(a, b) / 3 + 1) ** 3

  def one_block(x, y):
    n = len(x)
    same = sum(
      kernel(rows[i], rows[j]) for rows in (x, y) for i in range(n) for j in range(n) if i != j
    ) / (n * (n - 1))
    return same - 2 * sum(kernel(a, b) for a in x for b in y) / n**2

  blocks = [one_block(first[i : i + 4], second[i : i + 4]) for i in (0, 4)]
  found = metrics.kernel_distance(first, second, num_blocks=2)
  assert found.value == pytest.approx(np.mean(blocks), rel=1e-9)
  assert found.stderr == pytest.approx(abs(blocks[0] - blocks[1]) / 2, rel=1e-9)
  whole = metrics.kernel_distance(first, second, num_blocks=1)
  assert whole.value == pytest.approx(one_block(first, second), rel=1e-9)
  assert np.isnan(whole.stderr)


def test_kernel_distance_is_unbiased_and_its_error_is_right():
  """Two sets of one distribution: 0 within the standard error, which their spread confirms."""
  values, errors = [], []
  for _ in range(60):
    found = metrics.kernel_distance(RNG.normal(size=(80, 4)), RNG.normal(size=(80, 4)))
    values.append(found.value)
    errors.append(found.stderr)
  spread = np.std(values, ddof=1)
  assert abs(np.mean(values)) < 4 * spread / 60**0.5
  assert 0.6 < np.mean(errors) / spread < 1.5


def test_sets_that_cannot_be_compared_are_refused():
  with pytest.raises(ValueError, match="expected 3 features as in first, got 2"):
    metrics.frechet_distance(moments(np.zeros(3), np.eye(3)), moments(np.zeros(2), np.eye(2)))
  with pytest.raises(ValueError, match="at most half of the 6 pictures, got 4"):
    metrics.kernel_distance(np.ones((6, 2)), np.ones((9, 2)), num_blocks=4)
  with pytest.raises(ValueError, match="expected at least 2 rows, got 1"):
    metrics.feature_moments(np.ones((1, 2)))
