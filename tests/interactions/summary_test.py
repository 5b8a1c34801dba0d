# SPDX-License-Identifier: Apache-2.0
"""Rows and measures of a curve by hand, and the permutation test by enumeration."""

import json

import numpy as np
import pytest

from mixboost_jax import interactions

ORDERS = (0, 2, 7, 12, 14)


def strength(curves):
  curves = np.asarray(curves, np.float64)
  rest = [0.5 * curves, 2 * curves, np.full_like(curves, 0.3), 0.1 * curves]
  per_game = np.stack([curves, *rest], 1)
  count = curves.shape[1]
  covariance = 1e-4 * np.eye(5 * count).reshape(5, count, 5, count)
  return interactions.Strength(ORDERS, 16, per_game, covariance, 99, 8, 4)


def test_rows_by_hand():
  found = strength([[1, 2, 3, 2, 2], [3, 2, 1, 2, 2]])
  rows = interactions.curve_rows(found, noisy=strength([[2, 2, 2, 2, 2]] * 2))
  assert [row["step"] for row in rows] == list(ORDERS)
  np.testing.assert_allclose([row["ratio"] for row in rows], np.array(ORDERS) / 14)
  np.testing.assert_allclose([row["relative"] for row in rows], 1.0)
  # Two pictures, residuals +-1 over a mean of 2: deviation of the mean 0.5, t(0.975, 1) = 12.706.
  np.testing.assert_allclose(rows[0]["high"] - 1, 12.706 * 0.5, rtol=1e-3)
  np.testing.assert_allclose(rows[3]["high"], 1.0)
  np.testing.assert_allclose([row["positive_ratio"] for row in rows], 0.75)
  np.testing.assert_allclose([row["change"] for row in rows], 0.0, atol=1e-6)


def test_measures_agree_with_their_definitions():
  found = strength([[4, 3, 1, 1, 1], [4, 3, 1, 1, 1]])
  result = interactions.measures(found)
  assert result["interaction_low"].value == pytest.approx(1.75)
  assert result["interaction_middle"].value == pytest.approx(0.5)
  assert result["interaction_high"].value == pytest.approx(0.5)
  expected = float(interactions.proxy(found.relative, ORDERS, num_players=16))
  proxy = result["interaction_proxy"]
  assert proxy.value == pytest.approx(expected)
  # Equal pictures: resampling changes nothing.
  assert proxy.low == pytest.approx(expected)
  assert proxy.high == pytest.approx(expected)
  wide = interactions.measures(strength([[4, 3, 1, 1, 1], [1, 1, 2, 3, 4]]))["interaction_low"]
  assert wide.low is not None
  assert wide.high is not None
  assert wide.low < wide.value < wide.high


def test_one_picture_has_no_interval():
  found = strength([[4, 3, 1, 1, 1]])
  assert interactions.measures(found)["interaction_proxy"].low is None
  assert np.isnan(interactions.curve_rows(found)[0]["low"])


def test_json_brings_everything_back():
  found = strength([[4, 3, 1, 1, 1], [1, 1, 2, 3, 4]])
  again = interactions.Strength.from_json(json.loads(json.dumps(found.to_json(full=True))))
  np.testing.assert_array_equal(again.per_game, found.per_game)
  np.testing.assert_array_equal(again.covariance, found.covariance)
  assert (again.orders, again.evaluations, again.num_contexts) == (ORDERS, 99, 4)


def test_permutations_by_enumeration():
  # Of the 24 pairings, only the given one and its mirror image reach |r| = 1.
  r, p_value = interactions.permutation_p([1, 2, 3, 4], [2, 4, 6, 8])
  assert r == pytest.approx(1)
  assert p_value == pytest.approx(2 / 24)
  draw = np.random.default_rng(0)
  x = draw.normal(size=20)
  assert interactions.permutation_p(x, x + 0.1 * draw.normal(size=20))[1] == pytest.approx(1 / 5000)
  assert interactions.permutation_p(x, draw.normal(size=20))[1] > 0.05
  with pytest.raises(ValueError, match="not all"):
    interactions.permutation_p([1, 1, 1], [1, 2, 3])
