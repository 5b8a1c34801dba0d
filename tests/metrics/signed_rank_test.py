# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest
import scipy.stats

from mixboost_jax import metrics


@pytest.mark.parametrize("alternative", ["less", "greater", "two-sided"])
@pytest.mark.parametrize("count", [1, 5, 12, 40])
def test_against_scipy(alternative, count):
  rng = np.random.default_rng(count)
  a, b = rng.normal(size=count), rng.normal(0.4, size=count)
  want = scipy.stats.wilcoxon(a, b, alternative=alternative, method="exact")
  value = metrics.wilcoxon(a, b, alternative=alternative)
  np.testing.assert_allclose(value.p_value, want.pvalue, rtol=1e-10)
  if alternative != "two-sided":
    assert value.statistic == want.statistic


def test_smallest_p_of_five_runs():
  better, worse = [1.0, 2.0, 3.0, 4.0, 5.0], [1.5, 2.6, 3.7, 4.8, 5.9]
  assert metrics.wilcoxon(better, worse).p_value == 1 / 32
  assert metrics.wilcoxon(better, worse, alternative="two-sided").p_value == 1 / 16
  assert metrics.wilcoxon(worse, better).p_value == 1.0


def enumerated(differences, ranks, alternative):
  """p value over all 2^n signs."""
  ranks = np.asarray(ranks)
  observed = ranks[np.asarray(differences) > 0].sum()
  sums = np.array([np.dot(signs, ranks) for signs in itertools.product([0, 1], repeat=len(ranks))])
  less, greater = (sums <= observed).mean(), (sums >= observed).mean()
  return {"less": less, "greater": greater, "two-sided": min(1, 2 * min(less, greater))}[
    alternative
  ]


@pytest.mark.parametrize("alternative", ["less", "greater", "two-sided"])
@pytest.mark.parametrize("zeros", ["wilcox", "pratt"])
def test_ties_and_zeros_by_enumeration(alternative, zeros):
  differences = np.array([0.0, -1, -1, 2, -3, 0, 1, -3])
  kept = differences[differences != 0]
  if zeros == "wilcox":
    ranks = scipy.stats.rankdata(np.abs(kept))
  else:
    ranks = scipy.stats.rankdata(np.abs(differences))[differences != 0]
  value = metrics.wilcoxon(differences, np.zeros(8), alternative=alternative, zeros=zeros)
  np.testing.assert_allclose(value.p_value, enumerated(kept, ranks, alternative), rtol=1e-12)
  assert value.statistic == ranks[kept > 0].sum()
  assert value.num_pairs == 6


def test_equal_runs_show_nothing():
  value = metrics.wilcoxon([1.0, 2.0], [1.0, 2.0])
  assert value == (0.0, 1.0, 0)


def test_many_pairs():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=375), rng.normal(0.1, size=375)
  want = scipy.stats.wilcoxon(a, b, alternative="less", method="approx").pvalue
  np.testing.assert_allclose(metrics.wilcoxon(a, b).p_value, want, rtol=0.02)


@pytest.mark.parametrize(
  ("arguments", "options", "message"),
  [
    (([1.0], [1.0, 2.0]), {}, "equally long"),
    (([], []), {}, "equally long"),
    (([1.0, float("nan")], [1.0, 2.0]), {}, "finite"),
    (([1.0], [2.0]), {"alternative": "smaller"}, "alternative must be"),
    (([1.0], [2.0]), {"zeros": "split"}, "zeros must be"),
  ],
)
def test_errors(arguments, options, message):
  with pytest.raises(ValueError, match=message):
    metrics.wilcoxon(*arguments, **options)
