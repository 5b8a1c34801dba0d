# SPDX-License-Identifier: Apache-2.0
"""The monitor returns plain numbers, compiles once for a whole training, and keeps its budget."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import interactions
from mixboost_jax.interactions import features


def apply(params, images):
  return jnp.tanh(images.reshape(images.shape[0], -1) @ params)


def test_monitor_compiles_once_and_reports_the_proxy(key, images):
  small = images[:2, :8, :8]
  features.pair_features.clear_cache()
  seen = []
  for scale in (0.5, 1.0):
    params = scale * jax.random.normal(key, (192, 4))
    report = interactions.monitor(
      key,
      jax.tree_util.Partial(apply, params),
      small,
      jnp.array([0, 2]),
      grid=4,
      ratios=(0.0, 0.1, 0.5, 0.7, 1.0),
      num_pairs=16,
      num_contexts=4,
    )
    json.dumps(report)
    seen.append(report)
  assert features.pair_features._cache_size() == 1
  assert seen[0]["relative"] != seen[1]["relative"]
  expected = interactions.proxy(np.array(seen[0]["relative"]), seen[0]["orders"], num_players=16)
  np.testing.assert_allclose(seen[0]["proxy"], expected)


def test_budget_by_hand():
  budget = interactions.Budget(share=0.05)
  assert budget.allows(spent=0, cost=0, elapsed=0)
  assert not budget.allows(spent=0, cost=1, elapsed=18)
  assert budget.allows(spent=0, cost=1, elapsed=19)
  assert not budget.allows(spent=5, cost=1, elapsed=100)
  assert budget.allows(spent=4, cost=1, elapsed=100)
