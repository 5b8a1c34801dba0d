# SPDX-License-Identifier: Apache-2.0
"""Rows of attacking utilities and outliers, by hand."""

import numpy as np
import pytest

from mixboost_jax import interactions


def strength(size, mean, orders=(0, 4)):
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
  normal = strength([[2.0, 2.0], [2.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]])
  odd = strength([[2.0, 2.0], [2.0, 6.0]], [[1.0, 1.0], [1.0, 3.0]])
  rows = interactions.outlier_rows(odd, normal, confidence=0.9)
  np.testing.assert_allclose([row["average"] for row in rows], [1.0, 2.0])
  np.testing.assert_allclose([row["positive"] for row in rows], [0.25, 0.25])
  np.testing.assert_allclose(rows[1]["average_high"], 2 + 6.3138, atol=1e-3)
  # I / |I| is the same in both pictures, so P has no error.
  np.testing.assert_allclose(rows[1]["positive_high"], 0.25, atol=1e-12)
  # Means 0.5 and 1.5 over a size of 2: P = 0.75 with a standard error of 0.5 / (2 * 2).
  uneven = strength([[2.0, 2.0]] * 2, [[0.5, 0.5], [1.5, 1.5]])
  row = interactions.outlier_rows(uneven, normal, confidence=0.9)[0]
  np.testing.assert_allclose(row["positive_high"], 0.25 + 6.3138 * 0.125, atol=1e-3)
  with pytest.raises(ValueError, match="orders differ"):
    interactions.outlier_rows(odd, strength([[1, 1]] * 2, [[1, 1]] * 2, orders=(0, 3)))
