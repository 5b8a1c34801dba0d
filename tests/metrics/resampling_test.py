# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import metrics


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
