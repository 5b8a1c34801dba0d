# SPDX-License-Identifier: Apache-2.0
"""A network in training is measured again and again: its programs are compiled once."""

import jax
import jax.numpy as jnp

from mixboost_jax import interactions
from mixboost_jax.interactions import _multi_order


def apply(params, images):
  return jnp.tanh(images.reshape(images.shape[0], -1) @ params)


def test_new_parameters_compile_nothing(key, images):
  _multi_order.pair_features.clear_cache()
  seen = []
  for scale in (0.5, 1.0):
    network = jax.tree_util.Partial(apply, scale * jax.random.normal(key, (192, 4)))
    games = [
      interactions.image_game(network, image, jnp.int32(label), grid=4)
      for image, label in zip(images[:2, :8, :8], (0, 2), strict=True)
    ]
    found = interactions.estimate_strength(
      key,
      games,
      interactions.neighbour_population(4),
      orders=interactions.orders_of(16, ratios=(0.0, 0.1, 0.5, 0.7, 1.0)),
      num_pairs=16,
      num_contexts=4,
      pilot_pairs=0,
    )
    seen.append(found.relative.tolist())
  assert _multi_order.pair_features._cache_size() == 1
  assert seen[0] != seen[1]
