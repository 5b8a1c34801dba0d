# SPDX-License-Identifier: Apache-2.0
"""Every identity of the multi-order and Harsanyi theory, against plain enumeration."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import interactions
from mixboost_jax.interactions import _exact

N = 5
TABLE = np.random.default_rng(0).normal(size=2**N)


def v(players) -> float:
  return TABLE[sum(1 << i for i in players)]


def subsets(players, size=None):
  sizes = range(len(players) + 1) if size is None else [size]
  return [set(s) for k in sizes for s in itertools.combinations(sorted(players), k)]


def others(*gone):
  return set(range(N)) - set(gone)


def brute_multi_order(m, i, j):
  return np.mean([v(s | {i, j}) - v(s | {i}) - v(s | {j}) + v(s) for s in subsets(others(i, j), m)])


def brute_order_shapley(m, i):
  return np.mean([v(s | {i}) - v(s) for s in subsets(others(i), m)])


@pytest.fixture(scope="module")
def game():
  return interactions.table_game(jnp.asarray(TABLE, jnp.float32))


@pytest.fixture(scope="module", autouse=True)
def _float32_table():
  global TABLE
  TABLE = np.asarray(TABLE, np.float32).astype(np.float64)


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


def test_values_by_enumeration(game):
  close(_exact.values(game), TABLE)
  close(_exact.values(game, chunk_size=7), TABLE)


def test_harsanyi_by_enumeration_and_inverse(game):
  dividends = _exact.harsanyi(game)
  for code in range(2**N):
    s = [i for i in range(N) if code >> i & 1]
    close(dividends[code], sum((-1) ** (len(s) - len(sub)) * v(sub) for sub in subsets(s)))
  for code in range(2**N):
    inside = [sub for sub in range(2**N) if sub & code == sub]
    close(dividends[inside].sum(), TABLE[code])
  close(dividends.sum(), v(range(N)))


def test_multi_order_by_enumeration(game):
  table = _exact.multi_order(game)
  for m in range(N - 1):
    for i, j in itertools.permutations(range(N), 2):
      close(table[m, i, j], brute_multi_order(m, i, j))
  assert np.all(table[:, range(N), range(N)] == 0)


def test_order_shapley_by_enumeration(game):
  table = _exact.order_shapley(game)
  for m, i in itertools.product(range(N), range(N)):
    close(table[m, i], brute_order_shapley(m, i))


def test_shapley_by_permutations_and_efficiency(game):
  expected = np.zeros(N)
  for order in itertools.permutations(range(N)):
    for position, i in enumerate(order):
      before = set(order[:position])
      expected[i] += v(before | {i}) - v(before)
  close(_exact.shapley(game), expected / math.factorial(N))
  close(_exact.shapley(game).sum(), v(range(N)) - v([]))


def shapley_weight(size, n):
  return math.factorial(n - size - 1) * math.factorial(size) / math.factorial(n)


def test_shapley_interaction_is_a_difference_of_shapley_values(game):
  index = _exact.shapley_interaction(game)
  for i, j in itertools.permutations(range(N), 2):
    rest = sorted(others(i, j))
    with_j = sum(
      shapley_weight(len(s), N - 1) * (v(s | {i, j}) - v(s | {j})) for s in subsets(rest)
    )
    without_j = sum(shapley_weight(len(s), N - 1) * (v(s | {i}) - v(s)) for s in subsets(rest))
    close(index[i, j], with_j - without_j)


@pytest.mark.parametrize("group", [(3,), (0, 2), (1, 2, 4), (0, 1, 2, 3, 4)])
def test_interaction_of_a_group_by_enumeration(game, group):
  size, total = len(group), 0.0
  for context in subsets(others(*group)):
    count = len(context)
    share = math.factorial(count) * math.factorial(N - count - size) / math.factorial(N - size + 1)
    total += share * sum(
      (-1) ** (size - len(part)) * v(part | context) for part in subsets(set(group))
    )
  close(_exact.group_interaction(game, group), total)
  with pytest.raises(ValueError, match="distinct players"):
    _exact.group_interaction(game, (0, 0))


def test_marginal_and_accumulation_properties(game):
  phi, table = _exact.order_shapley(game), _exact.multi_order(game)
  mean_over_j = table.sum(2) / (N - 1)
  close(phi[1:] - phi[:-1], mean_over_j)
  close(phi[1:], phi[:1] + np.cumsum(mean_over_j, axis=0))


def test_efficiency_over_ordered_pairs(game):
  phi, table = _exact.order_shapley(game), _exact.multi_order(game)
  weights = _exact.efficiency_weights(N)
  total = phi[0].sum() + np.einsum("m,mij->", weights, table)
  close(total, v(range(N)) - v([]))


def test_summability_property(game):
  phi, table, index = (
    _exact.order_shapley(game),
    _exact.multi_order(game),
    _exact.shapley_interaction(game),
  )
  for i in range(N):
    rest = others(i)
    expected = v(range(N)) - v(rest) - v([i]) + v([])
    close(phi[N - 1, i] - phi[0, i], expected)
    close(table[:, i].sum() / (N - 1), expected)
    close(index[i].sum(), expected)


def test_linearity():
  rng = np.random.default_rng(1)
  a, b = rng.integers(-8, 8, (2, 32)).astype(np.float32)
  for index in (
    _exact.multi_order,
    _exact.order_shapley,
    _exact.shapley_interaction,
    _exact.harsanyi,
  ):
    parts = [index(interactions.table_game(jnp.asarray(t))) for t in (a, b, a + 2 * b)]
    close(parts[2], parts[0] + 2 * parts[1])


def test_dummy_has_no_interaction():
  codes = np.arange(32)
  base = np.random.default_rng(2).integers(-8, 8, 16).astype(np.float32)
  table = base[codes % 16] + 3 * (codes >> 4)  # player 4 adds 3 and nothing else
  result = _exact.multi_order(interactions.table_game(jnp.asarray(table)))
  close(result[:, 4], 0)
  assert np.abs(result[:, 0, 1]).max() > 0
  close(_exact.shapley(interactions.table_game(jnp.asarray(table)))[4], 3)


def test_symmetric_players_have_the_same_interactions():
  presence = _exact.members(5)
  swapped = presence[:, [1, 0, 2, 3, 4]] @ (1 << np.arange(5))
  table = np.random.default_rng(3).integers(-8, 8, 32)
  table = (table + table[swapped]).astype(np.float32)
  result = _exact.multi_order(interactions.table_game(jnp.asarray(table)))
  close(result[:, 0, 2:], result[:, 1, 2:])


def test_mean_reward_of_a_size(game):
  # E_{|S|=k} v(S) = v(0) + k/n sum mu + sum_m (k-1-m)/(n(n-1)) sum over ordered pairs of I^(m).
  phi, table = _exact.order_shapley(game), _exact.multi_order(game)
  for k in range(N + 1):
    weights = np.maximum(k - 1 - np.arange(N - 1), 0) / (N * (N - 1))
    expected = v([]) + k / N * phi[0].sum() + np.einsum("m,mij->", weights, table)
    close(np.mean([v(s) for s in subsets(range(N), k)]), expected)


def test_aligned_difference_has_no_first_order_terms(game):
  # E v(S2) - k2/k1 E v(S1): the identity behind losses.aligned_difference.
  table = _exact.multi_order(game)
  mean = [np.mean([v(s) for s in subsets(range(N), k)]) for k in range(N + 1)]
  pairs = table.sum((1, 2))
  for k1, k2 in itertools.combinations(range(1, N + 1), 2):
    a = k2 / k1
    weights = [
      ((a - 1) * (m + 1) if m <= k1 - 2 else k2 - m - 1) / (N * (N - 1)) for m in range(k2 - 1)
    ]
    close(mean[k2] - a * mean[k1], (1 - a) * v([]) + np.dot(weights, pairs[: k2 - 1]))


def test_harsanyi_expresses_every_index(game):
  dividends, presence = _exact.harsanyi(game), _exact.members(N)
  size = presence.sum(1)
  for i in range(N):
    rows = presence[:, i]
    close(_exact.shapley(game)[i], (dividends[rows] / size[rows]).sum())
    for m in range(N):  # low orders hold low-order patterns only
      low = rows & (size - 1 <= m)
      share = [math.comb(N - 1 - (s - 1), m - (s - 1)) / math.comb(N - 1, m) for s in size[low]]
      close(_exact.order_shapley(game)[m, i], (dividends[low] * share).sum())
  for i, j in itertools.combinations(range(N), 2):
    both = presence[:, i] & presence[:, j]
    close(_exact.shapley_interaction(game)[i, j], (dividends[both] / (size[both] - 1)).sum())
    per_size = [dividends[both & (size == q + 2)].mean() for q in range(N - 1)]
    for m in range(N - 1):
      expected = sum(math.comb(m, q) * per_size[q] for q in range(m + 1))
      close(_exact.multi_order(game)[m, i, j], expected)
    for s in subsets(others(i, j)):
      delta = v(s | {i, j}) - v(s | {i}) - v(s | {j}) + v(s)
      code = [sum(1 << p for p in t | {i, j}) for t in subsets(s)]
      close(delta, dividends[code].sum())


def test_an_and_pattern_is_found():
  n, pattern = 6, 0b010110
  codes = np.arange(2**n)
  table = 1.5 + 2.0 * ((codes & pattern) == pattern)
  dividends = _exact.harsanyi(interactions.table_game(jnp.asarray(table, jnp.float32)))
  expected = np.zeros(2**n)
  expected[0], expected[pattern] = 1.5, 2.0
  close(dividends, expected)


def test_a_game_may_be_any_function():
  def count_pairs(coalitions, weight):
    size = coalitions.sum(1)
    return weight * size * (size - 1) / 2

  game = interactions.Game(6, count_pairs, (jnp.float32(2.0),))
  close(_exact.multi_order(game)[:, 0, 1], 2.0)


def test_errors_say_what_to_do():
  with pytest.raises(ValueError, match=r"21 players.*multi_order"):
    _exact.values(interactions.Game(21, lambda c: c.sum(1) * 1.0))
  with pytest.raises(ValueError, match="one number per coalition"):
    _exact.values(interactions.Game(3, lambda c: c * 1.0))
  with pytest.raises(ValueError, match="2\\*\\*n"):
    interactions.table_game(jnp.zeros(6))
  with pytest.raises(ValueError, match="has 3"):
    interactions.Game(3, lambda c: c.sum(1) * 1.0).values(jnp.zeros((2, 4), bool))


def test_twenty_players_are_within_reach():
  scale = jax.random.normal(jax.random.key(0), (16,))
  game = interactions.Game(16, lambda c: jnp.tanh(c @ scale))
  phi = _exact.shapley(game)
  close(phi.sum(), _exact.values(game)[-1] - _exact.values(game)[0])
