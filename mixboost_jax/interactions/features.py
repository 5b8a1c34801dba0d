# SPDX-License-Identifier: Apache-2.0
"""What one pair contributes to the curves over orders, in one compiled program per network."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mixboost_jax.array_types import PRNGKey
from mixboost_jax.interactions.ends import end_differences
from mixboost_jax.interactions.estimate import Debias
from mixboost_jax.interactions.game import Game
from mixboost_jax.interactions.pairwise import multi_order

FEATURES = ("absolute", "mean", "spread", "consistency", "bias")
"""Per pair and order: |I| without bias, I, mean |Delta v|, |mean Delta v| / mean |Delta v| without
bias, and an estimate of the bias that |I| has left."""


@functools.partial(
  jax.jit, static_argnames=("orders", "num_contexts", "block", "debias", "chunk_size")
)
def pair_features(
  key: PRNGKey,
  game: Game,
  pairs: Int[Array, "P 2"],
  *,
  orders: tuple[int, ...],
  num_contexts: int,
  block: int,
  debias: Debias,
  chunk_size: int,
) -> Float[Array, "5 M P"]:
  """Returns the `FEATURES` of each pair; one program serves all games of a network."""
  result = multi_order(
    key,
    game,
    orders=orders,
    pairs=pairs,
    num_contexts=num_contexts,
    block=block,
    chunk_size=chunk_size,
  )
  spread = jnp.abs(result.differences).mean(-1)
  return jnp.stack(
    [
      result.absolute(debias=debias),
      result.mean,
      spread,
      result.consistency(debias=debias),
      result.absolute_bias(debias=debias),
    ]
  )


@functools.partial(jax.jit, static_argnames=("ends", "chunk_size"))
def end_features(
  game: Game, pairs: Int[Array, "P 2"], *, ends: tuple[int, ...], chunk_size: int
) -> Float[Array, "5 M P"]:
  """Returns the `FEATURES` of orders 0 and n - 2, which one context gives exactly."""
  exact = jnp.stack(
    [end_differences(game, pairs, jnp.asarray(m > 0), chunk_size=chunk_size) for m in ends]
  )
  size = jnp.abs(exact)
  return jnp.stack([size, exact, size, (size > 0).astype(size.dtype), jnp.zeros_like(size)])
