# SPDX-License-Identifier: Apache-2.0
"""B([A]) against the Shapley values of the merged game; partitions against full enumeration."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import interactions
from mixboost_jax.interactions import _exact

N = 6
TABLE = np.random.default_rng(0).normal(size=2**N).astype(np.float32).astype(np.float64)


def game_of(table):
  return interactions.table_game(jnp.asarray(table, jnp.float32))


def shapley_of_units(units, table=TABLE):
  """Shapley values of a game whose players are coalitions, found by exact.shapley."""
  codes = [sum(1 << i for i in unit) for unit in units]
  merged = [
    table[sum(c for b, c in enumerate(codes) if row >> b & 1)] for row in range(1 << len(units))
  ]
  return _exact.shapley(game_of(np.array(merged)))


def brute_interaction(group, absent=(), table=TABLE):
  rest = [(p,) for p in range(N) if p not in group and p not in absent]
  together = shapley_of_units([tuple(group), *rest], table)[0]
  return together - sum(shapley_of_units([(i,), *rest], table)[0] for i in group)


@pytest.fixture(scope="module")
def dividends():
  return _exact.harsanyi(game_of(TABLE))


@pytest.mark.parametrize("group", [(0, 1), (1, 3, 4), (0, 2, 3, 5), tuple(range(N))])
@pytest.mark.parametrize("absent", [(), (2,)])
def test_interaction_is_the_gain_of_playing_as_one(dividends, group, absent):
  if set(group) & set(absent):
    with pytest.raises(ValueError, match="absent"):
      interactions.multivariate.interaction(dividends, group, absent=absent)
    return
  actual = interactions.multivariate.interaction(dividends, group, absent=absent)
  np.testing.assert_allclose(actual, brute_interaction(group, absent), atol=1e-6)


def test_two_players_give_the_shapley_interaction_index(dividends):
  index = _exact.shapley_interaction(game_of(TABLE))
  for i, j in itertools.combinations(range(N), 2):
    actual = interactions.multivariate.interaction(dividends, (i, j))
    np.testing.assert_allclose(actual, index[i, j], atol=1e-9)


def test_linear_dummy_and_symmetric():
  rng = np.random.default_rng(1)
  b = interactions.multivariate.interaction
  one, two = rng.integers(-8, 8, (2, 2**N)) * 1.0
  parts = [_exact.moebius(t) for t in (one, two, one - 3 * two)]
  values = [b(part, (0, 1, 2)) for part in parts]
  np.testing.assert_allclose(values[2], values[0] - 3 * values[1])
  codes = np.arange(2**N)
  dummy = _exact.moebius(one[codes % 32] + 2.0 * (codes >> 5))
  np.testing.assert_allclose(b(dummy, (0, 1, 2, 5)), b(dummy, (0, 1, 2)))
  swapped = _exact.members(N)[:, [0, 1, 2, 4, 3, 5]] @ (1 << np.arange(N))
  same = _exact.moebius(one + one[swapped])
  np.testing.assert_allclose(b(same, (0, 1, 3)), b(same, (0, 1, 4)))


def partitions(items):
  if not items:
    yield []
    return
  head, *rest = items
  for smaller in partitions(rest):
    yield [(head,), *smaller]
    for k, block in enumerate(smaller):
      yield [*smaller[:k], (head, *block), *smaller[k + 1 :]]


@pytest.mark.parametrize("group", [(0, 1, 2, 3), (1, 2, 4, 5), (0, 1, 2, 3, 4, 5)])
@pytest.mark.parametrize("blocks", ["contiguous", "any"])
def test_extremes_over_all_partitions(dividends, group, blocks):
  def total(partition):
    worth = interactions.multivariate.block_interactions(dividends, group, partition)
    return sum(worth.values())

  candidates = list(partitions(list(group)))
  assert len(candidates) == {4: 15, 6: 203}[len(group)]  # Bell numbers
  if blocks == "contiguous":
    spans = {group[a:b] for a in range(len(group)) for b in range(a + 1, len(group) + 1)}
    candidates = [p for p in candidates if all(tuple(sorted(block)) in spans for block in p)]
    assert len(candidates) == 2 ** (len(group) - 1)
  sums = [total([tuple(sorted(block)) for block in p]) for p in candidates]
  found = interactions.partition_extremes(dividends, group, blocks=blocks)
  np.testing.assert_allclose([found.largest, found.smallest], [max(sums), min(sums)], atol=1e-9)
  np.testing.assert_allclose(total(found.largest_blocks), found.largest, atol=1e-9)
  np.testing.assert_allclose(total(found.smallest_blocks), found.smallest, atol=1e-9)
  assert found.total >= 0 >= found.smallest  # all singletons give 0


def test_tree_merges_the_pattern_first():
  # Words 2 and 3 form an AND pattern, then word 1 joins it; 0 and 4 act alone.
  codes = np.arange(32)

  def has(pattern):
    return (codes & pattern) == pattern

  table = 4.0 * has(0b01100) + 1.0 * has(0b01110) + 0.5 * has(1) + 0.5 * has(16)
  root = interactions.tree(_exact.moebius(table), range(5))
  found = []

  def visit(node):
    found.append(node.players)
    for child in node.children:
      visit(child)

  visit(root)
  assert root.players == (0, 1, 2, 3, 4)
  assert (2, 3) in found
  assert (1, 2, 3) in found
  assert root.to_json()["players"] == [0, 1, 2, 3, 4]
  assert root.to_json()["children"]
