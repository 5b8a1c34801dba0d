# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
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


def test_flip_rate_by_hand():
  predictions = jnp.array([[0, 0, 1, 1, 0], [2, 2, 2, 2, 2]])
  # Against the frame before: 2 flips of 4, and none. Against frame 0: 2 of 4 (frames 2 and 3).
  np.testing.assert_allclose(metrics.flip_rate(predictions), (2 / 4 + 0) / 2)
  np.testing.assert_allclose(metrics.flip_rate(predictions, noise=True), (2 / 4 + 0) / 2)
  steps = jnp.array([[0, 1, 2, 3, 4]])
  np.testing.assert_allclose(metrics.flip_rate(steps), 1.0)
  back = jnp.array([[0, 1, 1, 1, 1]])
  np.testing.assert_allclose(metrics.flip_rate(back), 0.25)
  np.testing.assert_allclose(metrics.flip_rate(back, noise=True), 1.0)


def test_ranks_start_at_one_and_break_ties_by_class():
  np.testing.assert_array_equal(
    metrics.rank_classes(jnp.array([[0.1, 0.9, 0.5], [1.0, 1.0, 0.0]])), [[3, 1, 2], [1, 2, 3]]
  )


def test_top5_distance_known_cases():
  same = jnp.tile(jnp.arange(1, 13), (1, 3, 1))
  np.testing.assert_allclose(metrics.top5_distance(same), 0.0)
  rolled = jnp.roll(jnp.arange(1, 13), 6)  # the first five fall to places 7 to 11
  disjoint = jnp.stack([jnp.arange(1, 13), rolled])[None]
  np.testing.assert_allclose(metrics.top5_distance(disjoint), 5 + 4 + 3 + 2 + 1)
  swapped = jnp.array([[[1, 2, 3, 4, 5, 6], [2, 1, 3, 4, 5, 6]]])
  np.testing.assert_allclose(metrics.top5_distance(swapped), 2.0)
  # 1/1 and 1/2 change places: |1 - 1/2| * 1 + |1/2 - 1| / 2.
  np.testing.assert_allclose(metrics.zipf_distance(swapped), 0.75)
  np.testing.assert_allclose(metrics.zipf_distance(same), 0.0)


@pytest.mark.parametrize("noise", [False, True])
def test_distances_by_definition(key, noise):
  ranks = np.asarray(metrics.rank_classes(jax.random.normal(key, (3, 4, 8))))
  top5, zipf = [], []
  for film in ranks:
    for f in range(1, 4):
      before = film[0 if noise else f - 1]
      sigma = [film[f][list(before).index(i)] for i in range(1, 9)]
      top5.append(sum(abs((i - 1) - min(sigma[i - 1] - 1, 5)) for i in range(1, 6)))
      zipf.append(sum(abs(1 / i - 1 / sigma[i - 1]) / i for i in range(1, 9)))
  ranks = jnp.asarray(ranks)
  np.testing.assert_allclose(metrics.top5_distance(ranks, noise=noise), np.mean(top5), rtol=1e-6)
  np.testing.assert_allclose(metrics.zipf_distance(ranks, noise=noise), np.mean(zipf), rtol=1e-5)


def test_means_over_perturbations():
  rates = {"snow": 10.0, "tilt": 2.0}
  assert metrics.mean_flip_rate(rates) == 6.0
  want = 100 * (10 / 11.93 + 2 / 7.05) / 2
  np.testing.assert_allclose(
    metrics.mean_flip_rate(rates, reference=metrics.ALEXNET_FLIP_RATES), want
  )
  assert metrics.mean_top5_distance({"snow": 3.0}, reference={"snow": 1.5}) == 200.0
  assert len(metrics.ALEXNET_FLIP_RATES) == 10
  # The published mean of the ten constants is 14.05.
  assert abs(metrics.mean_flip_rate(metrics.ALEXNET_FLIP_RATES) - 14.05) < 0.01


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: metrics.mean_flip_rate({}), "at least one"),
    (lambda: metrics.mean_flip_rate({"a": 1.0}, reference={}), "no value for a"),
    (lambda: metrics.flip_rate(jnp.zeros((2, 1), int)), "at least 2 frames"),
    (lambda: metrics.top5_distance(jnp.ones((1, 2, 4), int)), "at least 5 classes"),
  ],
)
def test_errors_of_flip_rates(call, message):
  with pytest.raises(ValueError, match=message):
    call()
