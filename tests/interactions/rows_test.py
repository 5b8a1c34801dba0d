# SPDX-License-Identifier: Apache-2.0
"""Rows and measures of a curve by hand."""

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
  rows = interactions.curve_rows(found)
  assert [row["step"] for row in rows] == list(ORDERS)
  np.testing.assert_allclose([row["ratio"] for row in rows], np.array(ORDERS) / 14)
  np.testing.assert_allclose([row["relative"] for row in rows], 1.0)
  # Two pictures, residuals +-1 over a mean of 2: deviation of the mean 0.5, t(0.975, 1) = 12.706.
  np.testing.assert_allclose(rows[0]["high"] - 1, 12.706 * 0.5, rtol=1e-3)
  np.testing.assert_allclose(rows[3]["high"], 1.0)
  np.testing.assert_allclose([row["positive_ratio"] for row in rows], 0.75)


def test_changes_of_two_networks_by_hand():
  plain = [{"step": m, "ratio": m / 4, "relative": 1.0, "low": 0.7, "high": 1.3} for m in (0, 4)]
  noisy = [{**row, "relative": level, "low": 0.0, "high": level + 0.4}
           for row, level in zip(plain, (0.2, 1.8), strict=True)]  # fmt: skip
  first, last = interactions.change_rows(noisy, plain)
  # The difference is -0.8 +- 0.5 and 0.8 +- 0.5: sqrt(0.3^2 + 0.4^2) = 0.5.
  for row in (first, last):
    assert [row[f"change{end}"] for end in ("", "_low", "_high")] == pytest.approx([0.8, 0.3, 1.3])
  (same,) = interactions.change_rows(plain[:1], plain[:1])
  assert (same["change"], same["change_low"]) == (0.0, 0.0)
  assert same["change_high"] == pytest.approx(0.3 * 2**0.5)
  with pytest.raises(ValueError, match="the orders differ"):
    interactions.change_rows(noisy, plain[:1])


def test_measures_agree_with_their_definitions():
  found = strength([[4, 3, 1, 1, 1], [4, 3, 1, 1, 1]])
  result = interactions.measures(found)
  assert result["interaction_low"].mean == pytest.approx(1.75)
  assert result["interaction_middle"].mean == pytest.approx(0.5)
  assert result["interaction_high"].mean == pytest.approx(0.5)
  expected = float(interactions.proxy(found.relative, ORDERS, num_players=16))
  proxy = result["interaction_proxy"]
  assert proxy.mean == pytest.approx(expected)
  # Equal pictures: resampling changes nothing.
  assert proxy.low == pytest.approx(expected)
  assert proxy.high == pytest.approx(expected)
  wide = interactions.measures(strength([[4, 3, 1, 1, 1], [1, 1, 2, 3, 4]]))["interaction_low"]
  assert wide.low is not None
  assert wide.high is not None
  assert wide.low < wide.mean < wide.high


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


# Rows of attacking utilities and outliers, by hand.


def strength_of(size, mean, orders=(0, 4)):
  """Two pictures; E|I| and I of every order."""
  per_game = np.zeros((2, 5, 2))
  per_game[:, 0], per_game[:, 1] = size, mean
  return interactions.Strength(orders, 6, per_game, np.zeros((5, 2, 5, 2)), 1, 1, 1)


def test_utilities_by_hand():
  utilities = np.array([[[1.0, -1.0], [2.0, 4.0]], [[2.0, 0.0], [5.0, 5.0]]])
  rows = interactions.utility_rows(utilities, orders=(0, 4), num_players=6, confidence=0.9)
  assert [row["step"] for row in rows] == [0, 4]
  assert [row["ratio"] for row in rows] == [0, 1]
  np.testing.assert_allclose([row["utility"] for row in rows], [0.5, 4.0])
  np.testing.assert_allclose([row["size"] for row in rows], [1.0, 4.0])
  # Means 3 and 5 of two pictures: standard error 1, Student t of one degree at 95 % is 6.3138.
  np.testing.assert_allclose(rows[1]["utility_low"], 4 - 6.3138, atol=1e-3)
  np.testing.assert_allclose(rows[1]["utility_high"], 4 + 6.3138, atol=1e-3)
  alone = interactions.utility_rows(utilities[:1], orders=(0, 4), num_players=6)
  assert alone[0]["utility_low"] is None


def test_outliers_by_hand():
  normal = strength_of([[2.0, 2.0], [2.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]])
  odd = strength_of([[2.0, 2.0], [2.0, 6.0]], [[1.0, 1.0], [1.0, 3.0]])
  rows = interactions.outlier_rows(odd, normal, confidence=0.9)
  np.testing.assert_allclose([row["average"] for row in rows], [1.0, 2.0])
  np.testing.assert_allclose([row["positive"] for row in rows], [0.25, 0.25])
  np.testing.assert_allclose(rows[1]["average_high"], 2 + 6.3138, atol=1e-3)
  # I / |I| is the same in both pictures, so P has no error.
  np.testing.assert_allclose(rows[1]["positive_high"], 0.25, atol=1e-12)
  # Means 0.5 and 1.5 over a size of 2: P = 0.75 with a standard error of 0.5 / (2 * 2).
  uneven = strength_of([[2.0, 2.0]] * 2, [[0.5, 0.5], [1.5, 1.5]])
  row = interactions.outlier_rows(uneven, normal, confidence=0.9)[0]
  np.testing.assert_allclose(row["positive_high"], 0.25 + 6.3138 * 0.125, atol=1e-3)
  with pytest.raises(ValueError, match="orders differ"):
    interactions.outlier_rows(odd, strength_of([[1, 1]] * 2, [[1, 1]] * 2, orders=(0, 3)))
