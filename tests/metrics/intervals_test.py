# SPDX-License-Identifier: Apache-2.0

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from mixboost_jax import metrics

CASES = [(0, 10), (10, 10), (1, 10), (5, 10), (300, 10_000), (9_999, 10_000), (24_000, 50_000)]


@pytest.mark.parametrize(("successes", "count"), CASES)
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_wilson_against_scipy(successes, count, confidence):
  want = scipy.stats.binomtest(successes, count).proportion_ci(confidence, method="wilson")
  value = metrics.wilson(successes, count, confidence=confidence)
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


def test_student_by_hand():
  # One degree of freedom: Cauchy's distribution, whose quantiles are tangents.
  low, high = metrics.student_interval(3.0, np.array([1.0, 2.0]), count=2, confidence=0.9)
  np.testing.assert_allclose(high - 3, np.tan(np.pi * 0.45) * np.array([1, 2]), rtol=1e-9)
  np.testing.assert_allclose(low + high, 6, rtol=1e-9)
  with pytest.raises(ValueError, match="got 1; measure more"):
    metrics.student_interval(3.0, 1.0, count=1)


def test_resamples_are_the_same_every_time_and_shared():
  draws = metrics.resample(40, num_resamples=3000)
  np.testing.assert_array_equal(draws.counts, metrics.resample(40, num_resamples=3000).counts)
  assert (draws.counts.sum(axis=1) == 40).all()
  values = np.random.default_rng(0).normal(size=(40, 2))
  means = draws.means(values)
  assert means.shape == (3000, 2)
  np.testing.assert_allclose(means[7], values[np.repeat(np.arange(40), draws.counts[7])].mean(0))
  want = values.std(axis=0) / 40**0.5
  assert (abs(means.std(axis=0) - want) < 4 * want / 6000**0.5).all()


def test_indices_are_sorted_and_uniform(key):
  draws = jax.vmap(lambda k: metrics.resample_indices(k, 7, num_draws=7))(
    jax.random.split(key, 4000)
  )
  assert bool((jnp.diff(draws, axis=1) >= 0).all())
  counts = np.bincount(np.asarray(draws).ravel(), minlength=7)
  assert len(counts) == 7
  # Each of 28,000 draws falls on each place with chance 1/7.
  assert np.abs(counts - 4000).max() < 4 * np.sqrt(28_000 * (1 / 7) * (6 / 7))


def test_indices_have_the_spread_of_independent_draws(key):
  # The number of distinct places among 7 draws has mean 7 (1 - (6/7)^7) and a known variance.
  draws = jax.vmap(lambda k: metrics.resample_indices(k, 7, num_draws=7))(
    jax.random.split(key, 4000)
  )
  distinct = np.array([len(set(row)) for row in np.asarray(draws)])
  miss, miss_two = (6 / 7) ** 7, (5 / 7) ** 7
  variance = 7 * miss + 42 * miss_two - 49 * miss**2
  assert abs(distinct.mean() - 7 * (1 - miss)) < 4 * np.sqrt(variance / 4000)


def test_standard_error_of_a_mean(key):
  values = jax.random.normal(jax.random.fold_in(key, 1), (400,))
  replicates = metrics.replicate(key, jnp.mean, (values,), num_resamples=2000)
  assert replicates.shape == (2000,)
  want = float(values.std()) / 20
  # The standard deviation of 2000 nearly normal numbers has relative error 1 / sqrt(4000).
  assert abs(float(replicates.std()) - want) < 4 * want / np.sqrt(4000)
  assert abs(float(replicates.mean() - values.mean())) < 4 * want / np.sqrt(2000)


def test_interval_of_a_mean_is_the_normal_one(key):
  values = jax.random.normal(jax.random.fold_in(key, 1), (400,))
  low, high = metrics.bootstrap(key, jnp.mean, (values,), num_resamples=4000, confidence=0.9)
  mean, error = float(values.mean()), float(values.std()) / 20
  # Standard error of a 5 % quantile of 4000 draws: sqrt(.05 * .95 / 4000) / density(1.645).
  tolerance = 4 * error * np.sqrt(0.05 * 0.95 / 4000) / 0.103
  np.testing.assert_allclose(
    [low, high], [mean - 1.645 * error, mean + 1.645 * error], atol=tolerance
  )


def test_chunks_do_not_change_the_result(key):
  values = jax.random.normal(key, (50,))
  results = [
    metrics.replicate(key, jnp.mean, (values,), num_resamples=30, chunk_size=size)
    for size in (1, 7, 30)
  ]
  np.testing.assert_allclose(results[0], results[1], rtol=1e-6)
  np.testing.assert_allclose(results[0], results[2], rtol=1e-6)


def test_statistics_may_be_a_tree(key):
  values = jax.random.normal(key, (50,))
  tree = metrics.replicate(
    key, lambda v: {"mean": v.mean(), "max": v.max()}, (values,), num_resamples=9
  )
  assert tree["mean"].shape == tree["max"].shape == (9,)
  assert not np.array_equal(tree["mean"], tree["max"])


def test_methods_by_hand():
  replicates = np.arange(101.0)  # percentiles 2.5 and 97.5 are 2.5 and 97.5, mean 50
  interval = metrics.interval_of
  np.testing.assert_allclose(interval(replicates, 40.0), (2.5, 97.5))
  np.testing.assert_allclose(interval(replicates, 40.0, method="basic"), (-17.5, 77.5))
  np.testing.assert_allclose(interval(replicates, 40.0, method="recentred"), (-7.5, 87.5))


def test_pairing_sees_what_separate_intervals_hide(key):
  base = jax.random.normal(key, (200,))
  first, second = base - 0.05, base + 0.01 * jax.random.normal(jax.random.fold_in(key, 1), (200,))
  paired = metrics.paired_bootstrap(key, jnp.mean, (first,), (second,))
  np.testing.assert_allclose(paired.estimate, float(first.mean() - second.mean()), atol=1e-6)
  assert paired.interval.high < 0
  assert paired.p_value < 0.01
  separate = [metrics.bootstrap(key, jnp.mean, (values,)) for values in (first, second)]
  assert separate[0].high > separate[1].low
  same = metrics.paired_bootstrap(key, jnp.mean, (first,), (first,))
  np.testing.assert_allclose(same.interval, (0, 0), atol=1e-6)
  assert same.p_value > 0.05


@pytest.mark.parametrize("arrays", [(jnp.ones(3), jnp.ones(4)), (jnp.ones(0),)])
def test_lengths_are_checked(key, arrays):
  with pytest.raises(ValueError, match="equally long, non-empty"):
    metrics.replicate(key, lambda *a: a[0].mean(), arrays)


def test_options_are_checked():
  with pytest.raises(
    ValueError, match="method must be 'percentile' or 'basic' or 'recentred', got 'bca'"
  ):
    metrics.interval_of(np.ones(3), 1.0, method="bca")
  with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\)"):
    metrics.interval_of(np.ones(3), 1.0, confidence=95.0)


@pytest.mark.parametrize("alternative", ["less", "greater", "two-sided"])
@pytest.mark.parametrize("count", [1, 5, 12, 40])
def test_signed_rank_against_scipy(alternative, count):
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
def test_errors_of_signed_rank(arguments, options, message):
  with pytest.raises(ValueError, match=message):
    metrics.wilcoxon(*arguments, **options)


def test_permutations_by_enumeration():
  # Of the 24 pairings, only the given one and its mirror image reach |r| = 1.
  r, p_value = metrics.permutation_p([1, 2, 3, 4], [2, 4, 6, 8])
  assert r == pytest.approx(1)
  assert p_value == pytest.approx(2 / 24)
  draw = np.random.default_rng(0)
  x = draw.normal(size=20)
  assert metrics.permutation_p(x, x + 0.1 * draw.normal(size=20))[1] == pytest.approx(1 / 5000)
  assert metrics.permutation_p(x, draw.normal(size=20))[1] > 0.05
  with pytest.raises(ValueError, match="not all"):
    metrics.permutation_p([1, 1, 1], [1, 2, 3])
