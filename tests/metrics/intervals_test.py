# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import scipy.stats

from mixboost_jax import metrics

CASES = [(0, 10), (10, 10), (1, 10), (5, 10), (300, 10_000), (9_999, 10_000), (24_000, 50_000)]


@pytest.mark.parametrize(("successes", "count"), CASES)
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
@pytest.mark.parametrize(
  ("function", "method"), [(metrics.wilson, "wilson"), (metrics.clopper_pearson, "exact")]
)
def test_against_scipy(successes, count, confidence, function, method):
  want = scipy.stats.binomtest(successes, count).proportion_ci(confidence, method=method)
  value = function(successes, count, confidence=confidence)
  np.testing.assert_allclose(value, (want.low, want.high), rtol=1e-8, atol=1e-12)


def test_rule_of_three_by_hand():
  # No failure in n trials: the upper end solves (1 - p)^n = .025.
  low, high = metrics.clopper_pearson(0, 50)
  assert low == 0.0
  np.testing.assert_allclose(high, 1 - 0.025 ** (1 / 50), rtol=1e-9)


def test_clopper_pearson_covers_at_every_rate():
  # Enumeration: the chance that the interval of X ~ Binomial(20, p) holds p is at least 90 %.
  intervals = [metrics.clopper_pearson(k, 20, confidence=0.9) for k in range(21)]
  for rate in np.linspace(0.01, 0.99, 60):
    chances = scipy.stats.binom.pmf(range(21), 20, rate)
    covered = sum(
      c for c, (low, high) in zip(chances, intervals, strict=True) if low <= rate <= high
    )
    assert covered >= 0.9


@pytest.mark.parametrize("function", [metrics.wilson, metrics.clopper_pearson])
@pytest.mark.parametrize(
  ("arguments", "message"),
  [((5, 4), "got 5 of 4"), ((-1, 4), "got -1 of 4"), ((0, 0), "count >= 1")],
)
def test_errors(function, arguments, message):
  with pytest.raises(ValueError, match=message):
    function(*arguments)
  with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got 95"):
    function(1, 4, confidence=95.0)
