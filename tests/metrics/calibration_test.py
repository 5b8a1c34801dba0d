# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
from sklearn import calibration as sklearn_calibration

from mixboost_jax import metrics


def two_class(confidence, is_correct):
  """Probabilities and labels that have exactly these confidences (> 0.5) and outcomes."""
  confidence = jnp.asarray(confidence, jnp.float32)
  labels = 1 - jnp.asarray(is_correct, jnp.int32)
  return jnp.stack([confidence, 1 - confidence], axis=1), labels


@pytest.fixture
def predictions(key):
  key_logits, key_labels = jax.random.split(key)
  logits = 2.0 * jax.random.normal(key_logits, (1037, 5))
  labels = jax.random.categorical(key_labels, 0.6 * logits)
  return jax.nn.softmax(logits), labels


def test_ece_by_hand():
  # Bins of width 1/4: (.5, .75] holds .6 (right), .7 (wrong); (.75, 1] holds .8, .9 (right),
  # 1 (wrong).
  probabilities, labels = two_class([0.6, 0.7, 0.8, 0.9, 1.0], [1, 0, 1, 1, 0])
  want = (abs(1.3 - 1) + abs(2.7 - 2)) / 5
  np.testing.assert_allclose(metrics.ece(probabilities, labels, num_bins=4), want, rtol=1e-5)


def test_edges_belong_to_the_bin_below():
  bins = metrics.equal_width_bins(jnp.array([0.0, 0.5, 0.500001, 1.0]), jnp.ones(4), num_bins=2)
  np.testing.assert_array_equal(bins.count, [2, 2])


def test_adaptive_ece_by_hand():
  # Sorted: .6 right, .7 wrong, .8 right, .9 right, 1. wrong.
  probabilities, labels = two_class([0.9, 0.6, 0.8, 0.7, 1.0], [1, 1, 1, 0, 0])
  value = metrics.adaptive_ece(probabilities, labels, num_bins=2)
  # 3 examples go to the first run: places i * 2 // 5 = 0 0 0 1 1.
  want = (abs(0.6 + 0.7 + 0.8 - 2) + abs(0.9 + 1.0 - 1)) / 5
  np.testing.assert_allclose(value, want, rtol=1e-5)


def test_ece_against_scikit_learn(predictions):
  probabilities, labels = predictions
  confidence = np.asarray(metrics.confidence(probabilities), np.float64)
  is_correct = np.asarray(metrics.correct(probabilities, labels))
  fraction, mean = sklearn_calibration.calibration_curve(is_correct, confidence, n_bins=15)
  count, _ = np.histogram(confidence, bins=np.linspace(0, 1, 16))
  want = np.sum(count[count > 0] * np.abs(fraction - mean)) / len(confidence)
  np.testing.assert_allclose(metrics.ece(probabilities, labels), want, rtol=1e-4)


@pytest.mark.parametrize("bin_size", [10, 100, 1037])
def test_rms_and_mad_by_definition(predictions, bin_size):
  probabilities, labels = predictions
  confidence = np.asarray(metrics.confidence(probabilities), np.float64)
  order = np.argsort(confidence, kind="stable")
  confidence = confidence[order]
  is_correct = np.asarray(metrics.correct(probabilities, labels), np.float64)[order]
  starts = [i * bin_size for i in range(len(confidence) // bin_size)]
  stops = [*starts[1:], len(confidence)]
  gaps = [
    abs(confidence[a:b].mean() - is_correct[a:b].mean()) for a, b in zip(starts, stops, strict=True)
  ]
  shares = [(b - a) / len(confidence) for a, b in zip(starts, stops, strict=True)]
  for skip in (False, True) if len(starts) > 1 else (False,):
    kept = slice(None, -1) if skip else slice(None)
    rms = np.sqrt(np.sum((np.array(shares) * np.square(gaps))[kept]))
    mad = np.sum((np.array(shares) * np.array(gaps))[kept])
    options = {"bin_size": bin_size, "skip_last_bin": skip}
    value = metrics.rms_calibration_error(probabilities, labels, **options)
    np.testing.assert_allclose(value, rms, rtol=1e-4)
    value = metrics.mad_calibration_error(probabilities, labels, **options)
    np.testing.assert_allclose(value, mad, rtol=1e-4)


def test_skipping_the_last_bin_hides_confident_mistakes():
  # 100 calibrated-by-construction hits at confidence 1 - 0 and 100 mistakes at confidence 1.
  probabilities, labels = two_class([0.75] * 100 + [1.0] * 100, [1, 1, 1, 0] * 25 + [0] * 100)
  skipped = metrics.rms_calibration_error(probabilities, labels)
  exact = metrics.rms_calibration_error(probabilities, labels, skip_last_bin=False)
  np.testing.assert_allclose(skipped, 0.0, atol=1e-6)
  np.testing.assert_allclose(exact, np.sqrt(0.5), rtol=1e-6)


def test_remainder_joins_the_last_bin():
  bins = metrics.fixed_size_bins(jnp.linspace(0.5, 1, 25), jnp.ones(25), bin_size=10)
  np.testing.assert_array_equal(bins.count, [10, 15])


@pytest.mark.parametrize("function", [metrics.rms_calibration_error, metrics.mad_calibration_error])
def test_too_few_examples_is_an_error_not_a_perfect_score(function):
  probabilities, labels = two_class([0.9] * 99, [0] * 99)
  with pytest.raises(ValueError, match="at least bin_size=100 examples, got 99"):
    function(probabilities, labels, skip_last_bin=False)
  probabilities, labels = two_class([0.9] * 199, [0] * 199)
  with pytest.raises(ValueError, match="at least two bins"):
    function(probabilities, labels)
  np.testing.assert_allclose(function(probabilities, labels, skip_last_bin=False), 0.9, rtol=1e-5)


def test_aurra_by_hand():
  # From the most confident on: right, right, wrong -> accuracies 1, 1, 2/3.
  probabilities, labels = two_class([0.7, 0.9, 0.8], [0, 1, 1])
  want = (1 + 1 + 2 / 3) / 3
  np.testing.assert_allclose(metrics.aurra(probabilities, labels), want, rtol=1e-6)


def test_aurra_of_a_perfect_model_is_one():
  probabilities, labels = two_class([0.7, 0.9], [1, 1])
  np.testing.assert_allclose(metrics.aurra(probabilities, labels), 1.0)


def test_ties_count_with_their_mean():
  # 1 is said three times (right, right, wrong) and .75 twice (right, wrong).
  probabilities, labels = two_class([1.0, 0.75, 1.0, 0.75, 1.0], [0, 1, 1, 0, 1])
  want = (2 / 3 + 2 / 3 + 2 / 3 + 2.5 / 4 + 3 / 5) / 5
  np.testing.assert_allclose(metrics.aurra(probabilities, labels), want, rtol=1e-6)
  # Runs of 2 by confidence: .75 .75 | 1 1 1.
  want = (2 * abs(0.75 - 0.5) + 3 * abs(1 - 2 / 3)) / 5
  options = {"bin_size": 2, "skip_last_bin": False}
  value = metrics.mad_calibration_error(probabilities, labels, **options)
  np.testing.assert_allclose(value, want, rtol=1e-6)


TIED = ("adaptive_ece", "aurra", "ece", "mad_calibration_error", "rms_calibration_error", "soft_f1")


@pytest.mark.parametrize("name", TIED)
def test_the_order_of_ties_does_not_matter(name):
  """300 certain answers, of which 250 are right: first the right ones, last, or mixed."""
  rng = np.random.default_rng(0)
  confidence = np.concatenate([np.ones(300), rng.choice([0.6, 0.7, 0.8], 150)])
  correct = np.concatenate([np.ones(250), np.zeros(50), rng.integers(0, 2, 150)])
  ascending = np.lexsort((correct, confidence))
  orders = (ascending, np.lexsort((-correct, confidence)), rng.permutation(450))
  values = [
    float(getattr(metrics, name)(*two_class(confidence[order], correct[order]))) for order in orders
  ]
  np.testing.assert_allclose(values, values[0], rtol=1e-5)
  assert values[0] > 0


def test_soft_f1_by_hand():
  # Doubts .4 .2 .1, mistakes 1 0 0: 2 * .4 / (.7 + 1).
  probabilities, labels = two_class([0.6, 0.8, 0.9], [0, 1, 1])
  np.testing.assert_allclose(metrics.soft_f1(probabilities, labels), 0.8 / 1.7, rtol=1e-5)
  probabilities, labels = two_class([1.0, 1.0], [1, 1])
  assert metrics.soft_f1(probabilities, labels) == 0


@pytest.mark.parametrize(
  "name", ["ece", "adaptive_ece", "rms_calibration_error", "aurra", "soft_f1"]
)
def test_jit_gives_the_same(name, predictions):
  function = getattr(metrics, name)
  np.testing.assert_allclose(jax.jit(function)(*predictions), function(*predictions), rtol=1e-5)


def test_calibrated_model_meets_the_noise_floor(key):
  # Confidence about .9, never the same twice, right 90 % of the time: E[gap^2] = p (1 - p) / 100.
  is_correct = jax.random.bernoulli(key, 0.9, (10_000,))
  probabilities, labels = two_class(np.linspace(0.899, 0.901, 10_000), is_correct)
  value = metrics.rms_calibration_error(probabilities, labels, skip_last_bin=False)
  floor = 0.9 * 0.1 / 100
  # The mean of 100 squared gaps; a squared normal variable has variance 2 floor^2.
  assert abs(float(value) ** 2 - floor) < 4 * np.sqrt(2 * floor**2 / 100)


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
