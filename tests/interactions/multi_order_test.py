# SPDX-License-Identifier: Apache-2.0
"""Sampled I^(m) against exact tables: unbiased per pair, honest errors, same for any chunk."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import shared_contexts
from mixboost_jax import interactions
from mixboost_jax.interactions import _exact, _multi_order


def random_game(n, seed=0):
  """A smooth part (low orders) plus noise on every coalition (all orders)."""
  rng = np.random.default_rng(seed)
  presence = _exact.members(n)
  smooth = np.tanh(presence @ rng.normal(size=(n, 3))).sum(1)
  table = 3 * smooth + rng.normal(size=2**n)
  return interactions.table_game(jnp.asarray(table, jnp.float32))


def within(actual, expected, stderr, *, factor=4.0):
  gap = np.abs(np.asarray(actual) - expected)
  assert np.all(gap <= factor * np.asarray(stderr) + 1e-4), (gap / stderr).max()


ALL_PAIRS = np.array(list(itertools.combinations(range(8), 2)))


@pytest.mark.parametrize(("n", "block"), [(8, 1), (12, 4)])
def test_independent_pairs_match_the_exact_table(key, n, block):
  game, orders = random_game(n), tuple(range(n - 1))
  pairs = np.array(list(itertools.combinations(range(n), 2)))[:20]
  found = interactions.multi_order(
    key, game, orders=orders, pairs=pairs, num_contexts=400, block=block, chunk_size=4096
  )
  truth = _exact.multi_order(game)[:, pairs[:, 0], pairs[:, 1]]
  within(found.mean, truth, found.stderr)
  # Orders with one context are exact and paid for once.
  np.testing.assert_allclose(found.mean[0], truth[0], atol=1e-4)
  np.testing.assert_allclose(found.mean[-1], truth[-1], atol=1e-4)
  assert found.evaluations == 4 * 20 * (n - 3) * 400 + 2 * (1 + n + 20)


@pytest.mark.parametrize(("n", "size", "block"), [(8, 4, 5), (9, 3, 1), (11, 6, 2)])
def test_shared_sets_match_the_exact_table(key, n, size, block):
  game, orders = random_game(n), tuple(range(n - 1))
  sets = np.stack([np.arange(size), np.arange(n)[::-1][:size]])
  found = shared_contexts.multi_order_sets(
    key, game, orders=orders, sets=sets, num_contexts=400, block=block, chunk_size=4096
  )
  truth = _exact.multi_order(game)[:, found.pairs[:, 0], found.pairs[:, 1]]
  within(found.mean, truth, found.stderr)
  num_pairs = size * (size - 1) // 2
  ends = 1 + min(4 * num_pairs, n) + 2 * num_pairs
  assert found.evaluations == 2 * (1 + size + num_pairs) * (n - 3) * 400 + 2 * ends


@pytest.mark.parametrize("size", [2, 3, 4, 7, 12])
def test_a_set_needs_so_many_evaluations(size):
  members, corners, number = shared_contexts.design(size)
  for h, (i, j) in itertools.product(range(size - 1), itertools.combinations(range(size), 2)):
    rows = members[h][corners[h, number[i, j]]]
    assert len(np.unique(members[h], axis=0)) == 1 + size + size * (size - 1) // 2
    np.testing.assert_array_equal(rows[:, [i, j]], [[1, 1], [1, 0], [0, 1], [0, 0]])
    rest = np.delete(rows, [i, j], axis=1)
    assert np.all(rest == rest[:1])
    assert rest[0].sum() == h


def all_contexts(key, draw, num):
  keys = jax.random.split(key, num)
  codes = np.asarray(jax.jit(jax.vmap(draw))(keys)) @ (1 << np.arange(6))
  return np.unique(codes, return_counts=True)[1]


@pytest.mark.parametrize("turn", [0.0, 0.6])
def test_contexts_are_uniform_over_subsets_of_the_order(key, turn):
  # n = 6 without players 1 and 4: C(4, 2) = 6 contexts of order 2, 3000 draws, chi-square.
  def draw(key):
    ranks = _multi_order.player_ranks(jax.random.uniform(key, (6,)), jnp.array([1, 4]))
    return _multi_order.rotated_context(ranks, jnp.array(2), jnp.float32(turn), num_eligible=4)

  counts = all_contexts(key, draw, 3000)
  assert len(counts) == 6
  assert ((counts - 500) ** 2 / 500).sum() < 20.5  # 0.999 quantile of chi-square with 5 degrees


def test_balanced_contexts_hold_each_player_equally_often(key):
  ranks = _multi_order.player_ranks(jax.random.uniform(key, (10,)), jnp.array([0, 9]))
  turns = (jnp.arange(4) + 0.3) / 4
  contexts = jax.vmap(
    lambda turn: _multi_order.rotated_context(ranks, jnp.array(2), turn, num_eligible=8)
  )(turns)
  np.testing.assert_array_equal(contexts.sum(0), [0, 1, 1, 1, 1, 1, 1, 1, 1, 0])


def test_every_pair_of_a_set_sees_uniform_contexts(key):
  # The reward names the coalition, so a context can be read back from one corner's table entry.
  n, order, num = 6, 2, 4000
  marks = jnp.asarray(np.random.default_rng(0).normal(size=2**n), jnp.float32)
  found = shared_contexts.multi_order_sets(
    key,
    interactions.table_game(marks),
    orders=(order,),
    sets=np.array([[0, 2, 3, 5]]),
    num_contexts=num,
    chunk_size=8192,
  )
  for column, (i, j) in enumerate(np.asarray(found.pairs)):
    rest = sorted(set(range(n)) - {i, j})
    values = []
    for s in itertools.combinations(rest, order):
      code = sum(1 << p for p in s)
      values.append(
        marks[code | 1 << i | 1 << j] - marks[code | 1 << i] - marks[code | 1 << j] + marks[code]
      )
    nearest = np.abs(np.asarray(found.differences[0, column])[:, None] - np.array(values)[None])
    assert nearest.min(1).max() < 1e-4
    counts = np.bincount(nearest.argmin(1), minlength=6)
    assert ((counts - num / 6) ** 2 / (num / 6)).sum() < 22, (i, j, counts)


@pytest.mark.parametrize("mode", ["pairs", "sets"])
def test_the_chunk_does_not_change_the_result(key, mode):
  game = random_game(8)
  if mode == "pairs":
    run = functools.partial(interactions.multi_order, pairs=ALL_PAIRS[:5])
  else:
    run = functools.partial(shared_contexts.multi_order_sets, sets=np.arange(8).reshape(2, 4))
  results = [
    run(key, game, orders=(0, 2, 5, 6), num_contexts=6, block=3, chunk_size=size)
    for size in (37, 10_000)
  ]
  for other in results[1:]:
    np.testing.assert_array_equal(results[0].differences, other.differences)
  again = run(jax.random.key(1), game, orders=(0, 2, 5, 6), num_contexts=6, block=3, chunk_size=37)
  assert not np.array_equal(again.mean, results[0].mean)


@pytest.mark.parametrize("mode", ["pairs", "balanced", "sets"])
def test_interval_covers_the_truth_as_often_as_it_says(mode):
  # 500 repeats of 8 blocks; every repeat checks several pairs at one inner order.
  game, order = random_game(10, seed=3), 4
  truth = _exact.multi_order(game)[order]

  def one(key):
    common = {"orders": (order,), "chunk_size": 10**6}
    if mode == "sets":
      return shared_contexts.multi_order_sets(
        key, game, sets=np.array([[0, 1, 2, 3]]), num_contexts=16, **common
      )
    block = 4 if mode == "balanced" else 1
    return interactions.multi_order(
      key, game, pairs=ALL_PAIRS[:6], num_contexts=16 * block, block=block, **common
    )

  results = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(7), 500))
  pairs = np.asarray(results.pairs[0])
  low, high = jax.vmap(lambda r: r.interval(confidence=0.95))(results)
  expected = truth[pairs[:, 0], pairs[:, 1]]
  covered = (np.asarray(low)[:, 0] <= expected) & (expected <= np.asarray(high)[:, 0])
  assert 0.93 <= covered.mean() <= 0.97, covered.mean()


def test_balanced_contexts_reduce_the_variance(key):
  # Delta v is linear in the context, so balanced blocks of all turns remove its variance.
  weight = jnp.asarray(np.random.default_rng(0).normal(size=10), jnp.float32)
  game = interactions.Game(10, lambda c, w: c[:, 0] * c[:, 1] * (c @ w), (weight,))
  spread = {}
  for block in (1, 8):
    found = interactions.multi_order(
      key, game, orders=(4,), pairs=np.array([[0, 1]]), num_contexts=64, block=block
    )
    spread[block] = float(found.stderr[0, 0])
  assert spread[8] < 0.01 * spread[1]


def test_de_biased_strength(key):
  # Pairs whose interactions are spread evenly around zero, seen through noise.
  num_pairs, num_contexts = 4000, 16
  truth_key, noise_key = jax.random.split(key)
  truth = jax.random.uniform(truth_key, (1, num_pairs, 1), minval=-1, maxval=1)
  noise = jax.random.normal(noise_key, (1, num_pairs, num_contexts))
  result = interactions.MultiOrder(
    orders=(3,),
    num_players=9,
    pairs=jnp.zeros((num_pairs, 2), int),
    differences=truth + noise,
    block=1,
    evaluations=1,
  )
  error, stderr = {}, {}
  for debias in ("none", "half", "jackknife"):
    gap = result.absolute(debias=debias) - jnp.abs(truth[..., 0])
    error[debias], stderr[debias] = float(gap.mean()), float(gap.std()) / num_pairs**0.5
  assert error["none"] > 0.02
  assert abs(error["half"]) < 0.3 * error["none"]
  assert abs(error["jackknife"]) <= 4 * stderr["jackknife"]


def test_a_single_block_has_no_error(key):
  found = interactions.multi_order(
    key, random_game(8), orders=(3,), pairs=ALL_PAIRS[:2], num_contexts=1
  )
  assert np.isnan(found.stderr).all()
  with pytest.raises(ValueError, match="two independent blocks"):
    found.interval()


def test_json(key):
  import json

  found = interactions.multi_order(
    key, random_game(8), orders=(0, 3), pairs=ALL_PAIRS[:2], num_contexts=4
  )
  plain = json.loads(json.dumps(interactions.to_json(found)))
  assert plain["orders"] == [0, 3]
  np.testing.assert_allclose(plain["mean"], found.mean, rtol=1e-6)


def test_errors_say_what_to_do(key):
  game = random_game(8)
  for orders in ((7,), (-1,), (3, 2), ()):
    with pytest.raises(ValueError, match=r"0 \.\. 6"):
      interactions.multi_order(key, game, orders=orders, pairs=ALL_PAIRS, num_contexts=2)
  with pytest.raises(ValueError, match="multiple of block=3"):
    interactions.multi_order(key, game, orders=(1,), pairs=ALL_PAIRS, num_contexts=4, block=3)
  with pytest.raises(ValueError, match="2 to 8"):
    shared_contexts.multi_order_sets(
      key, game, orders=(1,), sets=np.zeros((1, 9), int), num_contexts=2
    )


def test_orders_of_the_paper():
  assert interactions.orders_of(256) == (0, 12, 25, 50, 76, 101, 127, 152, 177, 203, 228, 241, 254)
