# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from mixboost_jax import metrics

ERRORS = {"fog": [10.0, 30.0], "snow": [20.0, 60.0]}


def test_plain_mean_by_hand():
  assert metrics.mean_corruption_error(ERRORS) == 30.0


def test_normalised_is_a_ratio_of_means():
  reference = {"fog": 40.0, "snow": 80.0}
  # (20 / 40 + 40 / 80) / 2, not the mean of the four cells' ratios.
  assert metrics.mean_corruption_error(ERRORS, reference=reference) == 50.0


def test_the_reference_scores_100_against_itself():
  own = {name: [error] * 5 for name, error in metrics.ALEXNET_ERRORS.items()}
  assert len(own) == 15
  value = metrics.mean_corruption_error(own, reference=metrics.ALEXNET_ERRORS)
  np.testing.assert_allclose(value, 100.0)
  value = metrics.relative_corruption_error(
    own, clean_error=40.0, reference=metrics.ALEXNET_ERRORS, reference_clean_error=40.0
  )
  np.testing.assert_allclose(value, 100.0)


def test_relative_by_hand():
  assert metrics.relative_corruption_error(ERRORS, clean_error=5.0) == 25.0
  value = metrics.relative_corruption_error(
    ERRORS, clean_error=5.0, reference={"fog": 40.0, "snow": 80.0}, reference_clean_error=10.0
  )
  assert value == 50.0  # (15 / 30 + 35 / 70) / 2


@pytest.mark.parametrize(
  ("errors", "options", "message"),
  [
    ({}, {}, "at least one corruption"),
    ({"fog": [1.0], "snow": [1.0, 2.0]}, {}, "same severities"),
    ({"fog": []}, {}, "same severities"),
    (ERRORS, {"reference": {"fog": 1.0}}, r"not in the reference: \['snow'\]"),
    ({"fog": [1.0]}, {"reference": {"fog": 1.0, "snow": 1.0}}, r"not in the errors: \['snow'\]"),
  ],
)
def test_errors(errors, options, message):
  with pytest.raises(ValueError, match=message):
    metrics.mean_corruption_error(errors, **options)


def test_relative_needs_the_clean_error_of_the_reference():
  with pytest.raises(ValueError, match="reference_clean_error"):
    metrics.relative_corruption_error(ERRORS, clean_error=1.0, reference={"fog": 1.0, "snow": 1.0})
