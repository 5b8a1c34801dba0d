# SPDX-License-Identifier: Apache-2.0
"""Map and tree of a small game against exact indices; the compiled program keeps to its chunk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import interactions
from mixboost_jax.interactions import _exact, _multi_order

N = 5


def game(seed=0):
  table = np.random.default_rng(seed).normal(size=2**N)
  return interactions.table_game(jnp.asarray(table, jnp.float32))


def test_map_estimates_the_shapley_interaction_index(key):
  # All orders 0 .. 3 are sampled; the trapezoid rule halves the ends, so compare with that mean.
  orders = (0.0, 1 / 3, 2 / 3, 1.0)
  found = interactions.interaction_map(key, game(), 2, ratios=orders, num_contexts=400)
  mean, error = found.mean, found.stderr
  weights = np.array([0.5, 1, 1, 0.5]) / 3
  expected = np.einsum("m,mj->j", weights, _exact.multi_order(game())[:, 2])
  others = np.arange(N) != 2
  assert np.all(np.abs(mean - expected)[others] <= 4 * error[others] + 1e-5)
  assert mean[2] == error[2] == 0
  assert np.all(error[others] > 0)


def test_a_player_that_there_is_not(key):
  for player in (-1, N):
    with pytest.raises(ValueError, match=rf"player must be in \[0, {N - 1}\], got {player}"):
      interactions.interaction_map(key, game(), player)


def test_strongest_player():
  weight = jnp.array([0.1, -3.0, 0.5, 1.0])
  assert interactions.strongest_player(interactions.Game(4, lambda c, w: c @ w, (weight,))) == 1


def test_tree_rows_list_children_first():
  dividend = interactions.Game(4, lambda c: jnp.where(c[:, 2] & c[:, 3], 5.0, 0.0))
  rows = interactions.tree_rows(interactions.patch_tree(dividend, grid=2))
  # Read in a snake: 0 1 / 3 2. The pattern {2, 3} is merged first.
  leaves = {row["step"]: row["player"] for row in rows if "player" in row}
  assert sorted(leaves.values()) == [0, 1, 2, 3]
  inner = [row for row in rows if "player" not in row]
  assert all(row["left"] < row["step"] and row["right"] < row["step"] for row in inner)
  pair = next(row for row in inner if row["size"] == 2 and row["interaction"])
  assert {leaves[pair["left"]], leaves[pair["right"]]} == {2, 3}
  np.testing.assert_allclose(pair["total"], 5.0)
  assert rows[-1]["size"] == 4


def test_memory_is_bounded_by_the_chunk():
  def logits(images):
    kernel = jnp.ones((3, 3, 3, 64))
    wide = jax.lax.conv_general_dilated(
      images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.tanh(wide).max((1, 2))[:, :3]

  picture = jnp.zeros((32, 32, 3))
  one = interactions.image_game(logits, picture, 0, grid=4)

  def temporary(num_contexts, chunk_size):
    compiled = _multi_order.pair_features.lower(
      jax.random.key(0),
      one,
      jnp.array([[0, 1], [2, 3]]),
      orders=(3, 7),
      num_contexts=num_contexts,
      block=1,
      debias="jackknife",
      chunk_size=chunk_size,
    ).compile()
    found = compiled.memory_analysis()
    assert found is not None
    return found.temp_size_in_bytes

  small = temporary(8, 16)
  assert temporary(64, 16) < 1.2 * small  # eight times the evaluations
  assert temporary(8, 64) > 2 * small
  assert small < 2 * 16 * 32 * 32 * 70 * 4  # about one batch of the widest layer
