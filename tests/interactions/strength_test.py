# SPDX-License-Identifier: Apache-2.0
"""Curves over orders against exact tables of small grids: unbiased, with honest errors."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import paper_protocol
from mixboost_jax import interactions
from mixboost_jax.interactions import _exact, _multi_order, _sampling

GRID, ORDERS = 3, (0, 2, 4, 7)


def make_game(seed):
  """Neighbours of a 3x3 grid interact smoothly; some pairs hardly, some strongly."""
  rng = np.random.default_rng(seed)
  presence = _exact.members(GRID**2).astype(np.float64)
  pairs = interactions.neighbour_population(GRID, stride=1).pairs
  inner = sum(rng.gamma(0.7) * presence[:, i] * presence[:, j] for i, j in pairs)
  table = np.tanh(presence @ rng.normal(size=(9, 4))).sum(1) + np.sin(inner) * 2
  return interactions.table_game(jnp.asarray(table, jnp.float32))


GAMES = [make_game(seed) for seed in range(2)]
POPULATION = interactions.neighbour_population(GRID, stride=2)


def truth(power=1):
  rows = []
  for game in GAMES:
    table = _exact.multi_order(game)[np.array(ORDERS)]
    table = table[:, POPULATION.pairs[:, 0], POPULATION.pairs[:, 1]]
    rows.append((np.abs(table) if power else table) @ POPULATION.weights)
  return np.mean(rows, axis=0)


@pytest.mark.parametrize("pilot_pairs", [0, 3])
def test_curve_is_unbiased_and_its_errors_are_honest(pilot_pairs):
  results = [
    interactions.estimate_strength(
      jax.random.key(seed),
      GAMES,
      POPULATION,
      orders=ORDERS,
      num_pairs=32,
      num_contexts=16,
      pilot_pairs=pilot_pairs,
      chunk_size=4096,
    )
    for seed in range(40)
  ]
  for found, stderr, expected in (
    ([r.average for r in results], [r.stderr("mean") for r in results], truth(power=0)),
    ([r.strength for r in results], [r.stderr("absolute") for r in results], truth()),
  ):
    found, stderr = np.array(found), np.array(stderr)
    gap = found.mean(0) - expected
    assert np.all(np.abs(gap) <= 4 * found.std(0, ddof=1) / 40**0.5 + 1e-5), gap
    # Reported errors against the actual scatter: 40 repeats know it to about 11 %.
    inner = slice(1, 3)
    ratio = np.sqrt((stderr**2).mean(0))[inner] / found.std(0, ddof=1)[inner]
    assert np.all((ratio > 0.6) & (ratio < 1.7)), ratio
  relative = np.array([r.relative for r in results])
  expected = truth() / truth().mean()
  assert np.all(np.abs(relative.mean(0) - expected) < 0.02)


def enumerated_disentanglement(games, pairs, orders):
  """D^(m) from every context of every pair, [games, orders, pairs]."""
  codes = np.arange(1 << GRID**2)
  sizes = _exact.members(GRID**2).sum(1)
  result = np.zeros((len(games), len(orders), len(pairs)))
  for x, game in enumerate(games):
    v = _exact.values(game)
    for p, (i, j) in enumerate(pairs):
      for k, order in enumerate(orders):
        rows = codes[((codes >> i | codes >> j) & 1 == 0) & (sizes == order)]
        delta = v[rows | 1 << i | 1 << j] - v[rows | 1 << i] - v[rows | 1 << j] + v[rows]
        result[x, k, p] = abs(delta.mean()) / np.abs(delta).mean()
  return result


def test_few_contexts_do_not_raise_the_disentanglement():
  results = [
    interactions.estimate_strength(
      jax.random.key(seed), GAMES, POPULATION, orders=ORDERS, num_pairs=32, num_contexts=8,
      pilot_pairs=0, chunk_size=4096,
    )
    for seed in range(12)
  ]  # fmt: skip
  found = np.array([result.disentanglement for result in results])
  expected = enumerated_disentanglement(GAMES, POPULATION.pairs, ORDERS)
  gap = found.mean(0) - expected.mean(0) @ POPULATION.weights
  assert np.all(np.abs(gap) <= 4 * found.std(0, ddof=1) / 12**0.5 + 1e-5), gap


UNIFORM = interactions.uniform_population(GRID**2)
HEAVY_ORDERS = (0, 3, 7)
HEAVY = [
  interactions.table_game(
    jnp.asarray(np.random.default_rng(seed).standard_t(2, 1 << GRID**2), jnp.float32)
  )
  for seed in range(8)
]


@pytest.fixture(scope="module")
def heavy():
  """Random games of heavy tails, where contexts dominate: with 8 contexts alone, and grown."""
  tables = [_exact.multi_order(game)[np.array(HEAVY_ORDERS)] for game in HEAVY]
  rows, columns = UNIFORM.pairs.T
  expected = np.mean([np.abs(table[:, rows, columns]) @ UNIFORM.weights for table in tables], 0)

  def measure(**options):
    return [
      interactions.estimate_strength(
        jax.random.key(seed), HEAVY, UNIFORM, orders=HEAVY_ORDERS, num_pairs=32,
        chunk_size=4096, **options,
      )
      for seed in range(4)
    ]  # fmt: skip

  return expected, measure(max_contexts=8), measure()


def test_bias_left_by_few_contexts_is_flagged(heavy):
  expected, few, _ = heavy
  flagged = np.array([result.is_biased for result in few])
  assert not flagged[:, [0, 2]].any()  # one context each: exact
  assert flagged[:, 1].sum() >= 3  # with so few pairs one may hide it
  strength = np.mean([result.strength for result in few], 0)
  assert strength[1] > 1.2 * expected[1]
  assert np.mean([result.bias[1] for result in few]) > 0.03 * expected[1]
  row = interactions.curve_rows(few[0])[1]
  assert (row["bias"], row["is_biased"]) == (few[0].bias[1], float(flagged[0, 1]))


def test_contexts_grow_until_intervals_hold_the_enumerated_value(heavy):
  expected, few, grown = heavy
  for result in grown:
    assert 16 <= result.num_contexts <= 64
    gap = np.abs(result.strength - expected)
    assert np.all(gap <= 3 * result.stderr("absolute") + np.abs(result.bias) + 1e-5), gap
    relative = np.abs(result.relative - expected / expected.mean())
    assert np.all(relative <= 3 * result.relative_stderr + 0.05), relative
  assert grown[0].evaluations > few[0].evaluations
  assert abs(np.mean([result.strength[1] for result in grown]) / expected[1] - 1) < 0.1


def test_paper_protocol_is_biased_upwards_by_noise():
  few, many = (
    paper_protocol.paper_strength(
      jax.random.key(0),
      GAMES,
      POPULATION,
      orders=ORDERS,
      num_pairs=len(POPULATION.pairs),
      num_contexts=count,
      chunk_size=4096,
    )
    for count in (4, 400)
  )
  assert np.all(few.strength[1:3] > many.strength[1:3] + 0.01)
  assert few.evaluations == 4 * len(POPULATION.pairs) * 4 * len(ORDERS) * 2
  np.testing.assert_allclose(few.strength[[0, 3]], many.strength[[0, 3]], rtol=1e-5)
  # All pairs of both games, hence up to weights the truth.
  assert np.all(np.abs(many.relative.mean() - 1) < 1e-6)


def test_stop_rule_reaches_its_target():
  common = {
    "orders": ORDERS,
    "num_pairs": 16,
    "num_contexts": 8,
    "pilot_pairs": 0,
    "chunk_size": 4096,
  }
  args = (jax.random.key(3), GAMES, POPULATION)
  once = interactions.estimate_strength(*args, **common)
  target = 0.6 * once.relative_stderr.max()
  enough = interactions.estimate_strength(*args, target_stderr=target, **common)
  assert enough.relative_stderr.max() <= target
  assert enough.evaluations > 2 * once.evaluations
  capped = interactions.estimate_strength(*args, target_stderr=0.0, max_rounds=2, **common)
  assert capped.evaluations == 2 * once.evaluations


def test_all_games_and_orders_share_one_program():
  _multi_order.pair_features.clear_cache()
  interactions.estimate_strength(
    jax.random.key(0),
    [*GAMES, make_game(5)],
    POPULATION,
    orders=ORDERS,
    num_pairs=48,
    num_contexts=4,
    max_contexts=4,
    chunk_size=4096,
  )
  assert _multi_order.pair_features._cache_size() == 1


def test_json_is_plain_and_complete():
  result = interactions.estimate_strength(
    jax.random.key(0),
    GAMES,
    POPULATION,
    orders=ORDERS,
    num_pairs=16,
    num_contexts=4,
    chunk_size=4096,
  )
  plain = json.loads(json.dumps(result.to_json()))
  assert plain["orders"] == list(ORDERS)
  assert len(plain["relative_stderr"]) == 4
  assert len(plain["strength_per_game"]) == 2
  np.testing.assert_allclose(np.mean(plain["relative"]), 1)
  np.testing.assert_allclose(
    plain["positive_ratio"],
    (1 + np.array(plain["average"]) / np.array(plain["strength"])) / 2,
  )
  assert result.relative_stderr_over_games.shape == (4,)


def test_systematic_draws_follow_the_weights():
  starts = np.random.default_rng(0).uniform(size=4000)
  counts = np.zeros(len(POPULATION.pairs))
  for start in starts:
    rows = _sampling.systematic_pairs(POPULATION, 0, count=3, start=start)
    assert len(rows) == 3
    np.add.at(counts, rows, 1)
  inside = POPULATION.strata == 0
  expected = 3 * POPULATION.weights[inside] / POPULATION.weights[inside].sum()
  assert counts[~inside].sum() == 0
  np.testing.assert_allclose(counts[inside] / 4000, expected, atol=4 * (0.25 / 4000) ** 0.5)


def test_allocation_fills_batches_and_follows_the_spread():
  spread = np.full((2, POPULATION.num_strata), 0.05)
  spread[:, 0] = 1.0
  spread[1] *= 3
  ideal = _sampling.neyman(POPULATION, spread, num_pairs=100)
  np.testing.assert_allclose(ideal.sum(), 200)
  np.testing.assert_allclose(ideal[1], 3 * ideal[0])
  share = ideal[0] / POPULATION.stratum_weights
  np.testing.assert_allclose(share[0] / share[1], 20)
  counts = _sampling.whole_batches(ideal, batch=16)
  assert np.all(counts >= _sampling.MIN_PAIRS)
  assert np.all(counts.sum(1) % 16 == 0)
  assert np.all(np.abs(counts.sum(1) - ideal.sum(1)) <= 16)


def test_regression_on_the_ends_by_hand():
  # One game, one stratum: order 1 is twice the end plus noise; the end's mean is known to be 5.
  end = np.array([1.0, 2.0, 4.0, 3.0])
  cell = np.stack([np.stack([end, 2 * end + 1])] * 4)
  ends = np.full((4, 1, 8), 5.0)
  weights = np.ones(1)
  regression = _sampling.Regression.fit([[cell]], weights, [0])
  np.testing.assert_allclose(regression.slopes[0, 0], [1, 2])
  mean, covariance = regression.adjusted_mean([[cell]], [[ends]])
  np.testing.assert_allclose(mean[0, 0], [5, 11])
  np.testing.assert_allclose(covariance, 0, atol=1e-12)


def test_games_must_fit_the_pairs():
  with pytest.raises(ValueError, match="one size"):
    interactions.estimate_strength(
      jax.random.key(0),
      GAMES,
      interactions.grid_population(4),
      orders=(1,),
      num_pairs=16,
    )
