# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from mixboost_jax import metrics

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
