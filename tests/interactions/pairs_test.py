# SPDX-License-Identifier: Apache-2.0
"""Populations of pairs against plain loops over the public protocol."""

import itertools

import jax
import numpy as np
import pytest

from mixboost_jax import interactions


def test_uniform_population_lists_every_pair_once():
  population = interactions.uniform_population(6)
  assert [tuple(pair) for pair in population.pairs] == list(itertools.combinations(range(6), 2))
  np.testing.assert_allclose(population.weights, 1 / 15)


@pytest.mark.parametrize(("grid", "stride"), [(4, 2), (5, 1), (3, 2)])
def test_neighbour_weights_are_those_of_clamped_draws(grid, stride):
  weight = {}
  for row, column in itertools.product(range(grid), range(grid)):
    for dr, dc in itertools.product(range(-stride, stride + 1), repeat=2):
      if (dr, dc) == (0, 0):
        continue
      r, c = min(max(row + dr, 0), grid - 1), min(max(column + dc, 0), grid - 1)
      i, j = row * grid + column, r * grid + c
      if i != j:
        weight[min(i, j), max(i, j)] = weight.get((min(i, j), max(i, j)), 0) + 1
  population = interactions.neighbour_population(grid, stride=stride)
  total = sum(weight.values())
  found = {tuple(p): w for p, w in zip(population.pairs.tolist(), population.weights, strict=True)}
  assert found.keys() == weight.keys()
  for pair, count in weight.items():
    np.testing.assert_allclose(found[pair], count / total)


def test_strata_are_offsets_up_to_symmetry():
  population = interactions.neighbour_population(6, stride=2)
  assert population.num_strata == 5  # (0,1) (1,1) (0,2) (1,2) (2,2)
  rows, columns = np.divmod(population.pairs, 6)
  steps = np.sort(np.stack([np.ptp(rows, 1), np.ptp(columns, 1)]), 0).T
  for stratum in range(5):
    assert len(np.unique(steps[population.strata == stratum], axis=0)) == 1
  np.testing.assert_allclose(population.stratum_weights.sum(), 1)


def test_window_has_equal_weights():
  population = interactions.window_population(5, stride=1)
  assert len(population.pairs) == 2 * 5 * 4 + 2 * 4 * 4
  np.testing.assert_allclose(population.weights, 1 / len(population.pairs))


def test_grid_strata_are_distances():
  population = interactions.grid_population(16)
  assert len(population.pairs) == 256 * 255 // 2
  rows, columns = np.divmod(population.pairs, 16)
  distance = np.maximum(np.ptp(rows, 1), np.ptp(columns, 1))
  ranges = [
    (distance[population.strata == s].min(), distance[population.strata == s].max())
    for s in range(population.num_strata)
  ]
  assert ranges == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (7, 9), (10, 15)]


@pytest.mark.parametrize("replace", [False, True])
def test_sampled_pairs_follow_the_weights(key, replace):
  population = interactions.neighbour_population(3, stride=1)
  keys = jax.random.split(key, 3000)
  first = jax.vmap(
    lambda k: interactions.sample_pairs(k, population, num_pairs=5, replace=replace)[0]
  )(keys)
  codes = population.pairs @ [9, 1]
  counts = np.array([(np.asarray(first) @ [9, 1] == code).sum() for code in codes])
  expected = 3000 * population.weights
  assert ((counts - expected) ** 2 / expected).sum() < 43.8  # 0.999 of chi-square, 19 degrees
  if not replace:
    drawn = np.asarray(interactions.sample_pairs(key, population, num_pairs=20))
    assert len(np.unique(drawn, axis=0)) == 20
    with pytest.raises(ValueError, match="population has 20"):
      interactions.sample_pairs(key, population, num_pairs=21)


def test_a_grid_of_one_cell_has_no_neighbours():
  with pytest.raises(ValueError, match="grid >= 2"):
    interactions.neighbour_population(1)
