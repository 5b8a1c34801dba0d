# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from mixboost_jax import checks, metrics

# Three examples, three classes, worked by hand.
PROBABILITIES = jnp.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
LABELS = jnp.array([0, 2, 1])


def test_hand_worked_numbers():
  logits = jnp.log(PROBABILITIES)
  np.testing.assert_array_equal(metrics.correct(logits, LABELS), [True, True, False])
  np.testing.assert_allclose(metrics.clean_error(logits, LABELS), 100 / 3, rtol=1e-6)
  np.testing.assert_allclose(metrics.accuracy(logits, LABELS), 2 / 3, rtol=1e-6)
  want = [-np.log(0.5), -np.log(0.7), -np.log(0.3)]
  np.testing.assert_allclose(metrics.nll_per_example(logits, LABELS), want, rtol=1e-6)
  np.testing.assert_allclose(metrics.nll(logits, LABELS), np.mean(want), rtol=1e-6)
  # (.5^2 + .25^2 + .25^2), (.1^2 + .2^2 + .3^2), (.6^2 + .7^2 + .1^2)
  squares = [0.375, 0.14, 0.86]
  np.testing.assert_allclose(metrics.brier_per_example(PROBABILITIES, LABELS), squares, rtol=1e-6)
  np.testing.assert_allclose(metrics.brier(PROBABILITIES, LABELS), np.mean(squares), rtol=1e-6)
  np.testing.assert_allclose(metrics.confidence(PROBABILITIES), [0.5, 0.7, 0.6])


def test_against_scikit_learn(key):
  logits = 3 * jax.random.normal(key, (500, 7))
  labels = jax.random.randint(jax.random.fold_in(key, 1), (500,), 0, 7)
  exact = scipy.special.softmax(np.asarray(logits, np.float64), axis=1)
  want = sklearn.metrics.log_loss(labels, exact, labels=range(7))
  np.testing.assert_allclose(metrics.nll(logits, labels), want, rtol=1e-5)
  accuracy = sklearn.metrics.accuracy_score(labels, np.argmax(logits, -1))
  np.testing.assert_allclose(metrics.accuracy(logits, labels), accuracy, rtol=1e-6)
  two = jax.nn.softmax(logits[:, :2])
  binary = sklearn.metrics.brier_score_loss(labels % 2, np.asarray(two[:, 1], np.float64))
  np.testing.assert_allclose(metrics.brier(two, labels % 2), 2 * binary, rtol=1e-5)


def test_extreme_logits_stay_finite():
  logits = jnp.array([[1e4, 0.0], [-1e4, 0.0]])
  np.testing.assert_allclose(metrics.nll(logits, jnp.array([1, 0])), 1e4)


@pytest.mark.parametrize("name", ["clean_error", "accuracy", "nll", "brier"])
def test_jit_gives_the_same(name):
  function = getattr(metrics, name)
  np.testing.assert_allclose(
    jax.jit(function)(PROBABILITIES, LABELS), function(PROBABILITIES, LABELS), rtol=1e-6
  )


OF_LOGITS = ("accuracy", "clean_error", "nll", "fit_temperature", "bisect_temperature")
OF_PROBABILITIES = ("brier", "ece", "adaptive_ece", "aurra", "soft_f1")
IN_BINS = ("rms_calibration_error", "mad_calibration_error")


@pytest.mark.parametrize("name", [*OF_LOGITS, *OF_PROBABILITIES, *IN_BINS])
def test_nonsense_is_nan_and_never_a_plausible_number(monkeypatch, name):
  """Traced, so that nobody can refuse it: NaN looked like class 0, label -1 like the last."""
  monkeypatch.setattr(checks, "DEBUG", False)
  function, options = getattr(metrics, name), {"bin_size": 2} if name in IN_BINS else {}
  measure = jax.jit(lambda scores, labels: function(scores, labels, **options))
  logits = jax.random.normal(jax.random.key(0), (6, 10))
  scores = logits if name in OF_LOGITS else jax.nn.softmax(logits)
  labels = jnp.zeros(6, int)
  assert jnp.isfinite(measure(scores, labels))
  for row in range(6):
    assert jnp.isnan(measure(scores.at[row].set(jnp.nan), labels))
    assert jnp.isnan(measure(scores, labels.at[row].set(-1)))
    assert jnp.isnan(measure(scores, labels.at[row].set(10)))


@pytest.mark.parametrize("name", [*OF_LOGITS, *OF_PROBABILITIES, *IN_BINS])
def test_numpy_arrays_are_as_good(name):
  function, options = getattr(metrics, name), {"bin_size": 2} if name in IN_BINS else {}
  scores = jax.nn.softmax(jax.random.normal(jax.random.key(0), (6, 10)))
  labels = jnp.arange(6)
  found = function(np.asarray(scores), np.asarray(labels), **options)
  np.testing.assert_array_equal(found, function(scores, labels, **options))


def test_nothing_is_right_about_nan():
  scores = jnp.full((2, 3), jnp.nan)
  np.testing.assert_array_equal(metrics.correct(scores, jnp.zeros(2, int)), [False, False])
