# SPDX-License-Identifier: Apache-2.0
"""The example of the package runs and prints what it says, also for an NNX model."""

import doctest

import jax
from flax import nnx

from mixboost_jax import interactions, models


def test_the_example_of_the_package():
  found = doctest.testmod(interactions, extraglobs={})
  assert found.attempted >= 7
  assert found.failed == 0


class Tiny(nnx.Module):
  """A network of a user."""

  def __init__(self, rngs: nnx.Rngs):
    self.linear = nnx.Linear(48, 3, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.linear(jax.nn.relu(x.reshape(x.shape[0], -1) - 0.5))


def test_an_nnx_model_of_a_user(key):
  network = models.logits_fn(Tiny(nnx.Rngs(0)))
  game = interactions.image_game(network, jax.random.uniform(key, (4, 4, 3)), 1, grid=4)
  curve = interactions.estimate_strength(
    key,
    [game],
    interactions.grid_population(4),
    orders=interactions.orders_of(16, ratios=(0, 0.5, 1)),
    num_pairs=16,
  )
  assert curve.orders == (0, 7, 14)
  assert curve.strength.min() > 0
