# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

from mixboost_jax import metrics


@pytest.fixture
def overconfident(key):
  """Logits that are 2.5 times too large."""
  key_logits, key_labels = jax.random.split(key)
  honest = jax.random.normal(key_logits, (4000, 6))
  return 2.5 * honest, jax.random.categorical(key_labels, honest)


def test_both_find_the_minimum_of_scipy(overconfident):
  logits, labels = overconfident
  z, y = np.asarray(logits, np.float64), np.asarray(labels)

  def nll(t):
    return -(z / t - scipy.special.logsumexp(z / t, axis=1, keepdims=True))[range(len(y)), y].mean()

  want = scipy.optimize.minimize_scalar(nll, bounds=(0.2, 5), method="bounded").x
  assert abs(float(metrics.bisect_temperature(logits, labels)) - want) < 1e-3
  assert abs(float(metrics.fit_temperature(logits, labels)) - want) < 1e-3
  assert abs(want - 2.5) < 0.3  # the factor that was put in, up to sampling noise


@pytest.mark.parametrize("scale", [0.02, 40.0])
def test_only_the_free_search_leaves_the_bracket(overconfident, scale):
  logits, labels = overconfident
  best = float(metrics.fit_temperature(logits, labels))
  scaled = float(metrics.fit_temperature(scale * logits, labels))
  np.testing.assert_allclose(scaled, scale * best, rtol=1e-3)
  bound = 0.2 if scale < 1 else 5.0
  assert abs(float(metrics.bisect_temperature(scale * logits, labels)) - bound) < 2e-4


def test_works_under_jit(overconfident):
  for function in (metrics.bisect_temperature, metrics.fit_temperature):
    np.testing.assert_allclose(
      jax.jit(function)(*overconfident), function(*overconfident), rtol=1e-4
    )


def test_empty_bracket_is_refused(overconfident):
  with pytest.raises(ValueError, match="0 < low < high"):
    metrics.bisect_temperature(*overconfident, low=5.0, high=0.2)


def test_perfect_predictions_end_at_the_cold_end():
  logits = jnp.array([[5.0, 0.0], [0.0, 5.0]])
  assert metrics.fit_temperature(logits, jnp.array([0, 1])) < 2e-3
