# SPDX-License-Identifier: Apache-2.0
"""Sampled Shapley values against exact ones."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import interactions
from mixboost_jax.interactions import _exact


@pytest.fixture(scope="module")
def game():
  table = np.random.default_rng(0).normal(size=2**8)
  return interactions.table_game(jnp.asarray(table, jnp.float32))


@pytest.mark.parametrize("antithetic", [False, True])
def test_estimate_and_efficiency(key, game, antithetic):
  found = interactions.shapley(key, game, num_orders=400, antithetic=antithetic, chunk_size=4096)
  truth = _exact.shapley(game)
  assert np.all(np.abs(found.mean - truth) <= 4 * found.stderr)
  values = _exact.values(game)
  np.testing.assert_allclose(found.mean.sum(), values[-1] - values[0], atol=1e-4)
  assert found.evaluations == 2 + 400 * 7
  other = interactions.shapley(key, game, num_orders=400, antithetic=antithetic, chunk_size=97)
  np.testing.assert_allclose(found.mean, other.mean, rtol=1e-6)
  assert len(json.loads(json.dumps(found.to_json()))["mean"]) == 8


def test_interval_covers_the_truth(game):
  truth = _exact.shapley(game)
  results = jax.jit(
    jax.vmap(lambda k: interactions.shapley(k, game, num_orders=64, chunk_size=10**6))
  )(jax.random.split(jax.random.key(5), 500))
  inside = np.abs(results.mean - truth[None]) <= 2.0395 * np.asarray(results.stderr)  # t, 31
  assert 0.93 <= inside.mean() <= 0.97


def test_antithetic_orders_remove_additive_and_pairwise_noise(key):
  # With pairwise interactions a player gains linearly in its position, so two reversed orders
  # average exactly.
  table = np.random.default_rng(1).normal(size=(6, 6))
  game = interactions.Game(6, lambda c, w: ((c @ w) * c).sum(1), (jnp.asarray(table, jnp.float32),))
  found = interactions.shapley(key, game, num_orders=4)
  np.testing.assert_allclose(found.mean, _exact.shapley(game), atol=1e-5)
  np.testing.assert_allclose(found.stderr, 0, atol=1e-5)


def test_odd_numbers_cannot_be_paired(key, game):
  with pytest.raises(ValueError, match="even with antithetic"):
    interactions.shapley(key, game, num_orders=3)
  assert interactions.shapley(key, game, num_orders=1, antithetic=False).stderr.shape == (8,)
