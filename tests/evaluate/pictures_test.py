# SPDX-License-Identifier: Apache-2.0

import jax
import numpy as np
import pytest

from mixboost_jax import metrics
from mixboost_jax.evaluate import _pictures, _session
from mixboost_jax.evaluate._kind import Place

PLACE = Place("arrays", "test", "arrays", 0.95)


@pytest.fixture(scope="module")
def calibrated():
  """Scores of a model whose labels are drawn from its own probabilities, in random order."""
  key_logits, key_labels = jax.random.split(jax.random.key(3))
  logits = 2 * jax.random.normal(key_logits, (1500, 4))
  labels = jax.random.categorical(key_labels, logits)
  probabilities = jax.nn.softmax(logits)
  scores = _session.Scores(*(np.asarray(values) for values in _session.scores_of(logits, labels)))
  return scores, probabilities, labels


def summarise(calibrated, *, ece_bins=15, confidence=0.95):
  place = PLACE._replace(confidence=confidence)
  found = _pictures.summarise(calibrated[0], place, ece_bins=ece_bins)
  return {metric.name: metric for metric in found}


def test_values_are_those_of_the_metrics(calibrated):
  _, probabilities, labels = calibrated
  found = summarise(calibrated)
  exact = metrics.rms_calibration_error(probabilities, labels, skip_last_bin=False)
  want = {
    "rms_calibration_error": 100 * metrics.rms_calibration_error(probabilities, labels),
    "rms_calibration_error_exact": 100 * exact,
    "ece": 100 * metrics.ece(probabilities, labels),
    "brier": metrics.brier(probabilities, labels),
    "aurra": 100 * metrics.aurra(probabilities, labels),
  }
  for name, value in want.items():
    assert found[name].value == pytest.approx(float(value), rel=1e-4), name


def test_intervals_of_binned_metrics_surround_the_value(calibrated):
  # Resampling adds a bias to a calibrated model's error that alone would push the interval up.
  for name in ("ece", "rms_calibration_error", "rms_calibration_error_exact"):
    metric = summarise(calibrated)[name]
    assert metric.interval == "bootstrap, recentred"
    below, above = metric.value - metric.low, metric.high - metric.value
    assert 0.5 < below / above < 2


def test_level_and_bins_matter(calibrated):
  usual, wide = summarise(calibrated), summarise(calibrated, confidence=0.999)
  for name, metric in usual.items():
    assert wide[name].low <= metric.low <= metric.high <= wide[name].high
  assert summarise(calibrated, ece_bins=4)["ece"].value != usual["ece"].value


def test_the_same_scores_give_the_same_intervals(calibrated):
  assert summarise(calibrated) == summarise(calibrated)


def test_the_order_of_equal_confidences_does_not_matter(calibrated):
  """Certain answers of which every third is wrong: stored first, last or as they come."""
  scores, *_ = calibrated
  correct = (np.arange(1500) % 3 > 0).astype(np.float32)
  ones = np.ones(1500, np.float32)
  found = [
    _pictures.summarise(
      scores._replace(correct=correct[order], confidence=ones), PLACE, ece_bins=15
    )
    for order in (np.arange(1500), np.argsort(correct, kind="stable"), np.argsort(-correct))
  ]
  values = [{metric.name: metric.value for metric in one} for one in found]
  for other in values[1:]:
    assert other == pytest.approx(values[0], rel=1e-5)
  assert values[0]["aurra"] == pytest.approx(200 / 3, rel=1e-5)
