# SPDX-License-Identifier: Apache-2.0
"""Interaction loss, perturbation units and dropout against exact small games."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mixboost_jax import interactions
from mixboost_jax.interactions import dropout, exact, perturbation, reduction

WEIGHTS = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), jnp.float32)


def network(x):
  return jnp.tanh(x @ WEIGHTS)[:, :2] + (x[:, :2] * x[:, 2:4])


def test_mean_difference_is_the_mean_shapley_interaction():
  x = jnp.asarray(np.random.default_rng(1).normal(size=6), jnp.float32)
  keys = jax.random.split(jax.random.key(0), 20_000)
  found = interactions.group_differences(
    keys, network, jnp.broadcast_to(x, (20_000, 6)), fraction=1 / 6
  )
  for output in range(2):
    game = interactions.Game(6, lambda c, k=output: network(jnp.where(c, x[None], 0))[:, k])
    index = exact.shapley_interaction(game)
    expected = index.sum() / 30
    sample = np.asarray(found[:, output])
    assert abs(sample.mean() - expected) <= 4 * sample.std() / len(sample) ** 0.5
    # Differences of two draws bound |I| from above.
    assert np.abs(sample).mean() >= np.abs(index).sum() / 30 - 4 * sample.std() / 20_000**0.5


def test_masks_are_nested_and_groups_disjoint(key):
  both, first, second, context = np.asarray(
    jax.vmap(lambda k: reduction.group_masks(k, num_units=10, group_size=3))(
      jax.random.split(key, 500)
    )
  ).swapaxes(0, 1)
  a, b = first & ~context, second & ~context
  assert np.all(a.sum(1) == 3)
  assert np.all(b.sum(1) == 3)
  assert not np.any(a & b)
  assert np.array_equal(both, first | second)
  sizes = np.bincount(context.sum(1), minlength=5)
  assert ((sizes - 100) ** 2 / 100).sum() < 18.5  # sizes 0 .. 4 alike


def test_loss_is_zero_without_interactions_and_has_a_gradient(key):
  x = jnp.asarray(np.random.default_rng(2).normal(size=(3, 6)), jnp.float32)
  np.testing.assert_allclose(
    interactions.interaction_loss(key, lambda z: z @ WEIGHTS, x, fraction=0.2), 0, atol=1e-5
  )
  loss = interactions.interaction_loss(key, network, x, fraction=0.2, num_draws=3)
  assert loss.shape == (3,)
  assert np.all(loss > 0)
  check_grads(
    jax.jit(
      lambda z: interactions.interaction_loss(key, network, z, fraction=0.2, num_draws=3).sum()
    ),
    (x,),
    order=1,
    modes=["rev"],
    rtol=2e-2,
  )
  single = [
    interactions.interaction_loss(
      jax.random.fold_in(key, i)[None], network, x[i : i + 1], fraction=0.2, num_draws=3
    )[0]
    for i in range(3)
  ]
  np.testing.assert_allclose(loss, single, rtol=1e-6)  # depends on the example's own key only


def test_channels_can_be_the_units(key):
  x = jnp.asarray(np.random.default_rng(3).normal(size=(2, 4, 4, 6)), jnp.float32)
  rows = []

  def record(z):
    rows.append(z)
    return z.sum((1, 2))

  interactions.group_differences(key, record, x, fraction=0.3, mask_shape=(1, 1, 6))
  zero = np.asarray(rows[0] == 0)
  assert np.all(zero.all((1, 2)) | ~zero.any((1, 2)))
  with pytest.raises(ValueError, match="do not fit"):
    interactions.interaction_loss(key, record, x, fraction=0.6)


def test_mean_interaction_needs_few_evaluations():
  table = np.random.default_rng(4).normal(size=2**7)
  game = interactions.table_game(jnp.asarray(table, jnp.float32))
  expected = exact.shapley_interaction(game).sum() / 42
  np.testing.assert_allclose(interactions.mean_interaction(game), expected, atol=1e-5)
  np.testing.assert_allclose(interactions.mean_interaction(game, chunk_size=5), expected, atol=1e-5)


def test_quadratic_margin_gives_the_hessian_blocks():
  # z = (0, c + g delta + delta H delta / 2): I_ab = -delta_a H_ab delta_b for the margin 0 - z_1.
  rng = np.random.default_rng(5)
  hessian = rng.normal(size=(48, 48))
  hessian, slope = hessian + hessian.T, rng.normal(size=48)
  image = jnp.zeros((4, 4, 3))
  delta = rng.normal(size=(4, 4, 3)) * 0.3

  def logits(x):
    flat = x.reshape(-1, 48)
    quadratic = flat @ slope.astype(np.float32) + 0.5 * (
      (flat @ hessian.astype(np.float32)) * flat
    ).sum(1)
    return jnp.stack([jnp.zeros_like(quadratic), quadratic], 1)

  game = interactions.perturbation_game(logits, image, jnp.asarray(delta, jnp.float32), 1, grid=2)
  cells = perturbation.grid_labels(4, 4, grid=2)
  parts = [np.where((cells == p)[..., None], delta, 0).ravel() for p in range(4)]
  index = exact.shapley_interaction(game)
  for a, b in itertools.combinations(range(4), 2):
    np.testing.assert_allclose(index[a, b], -parts[a] @ hessian @ parts[b], atol=1e-4)


def test_dropout_thins_the_context():
  table = np.random.default_rng(6).normal(size=2**5).astype(np.float32)
  game = interactions.table_game(jnp.asarray(table))
  multi, keep = exact.multi_order(game), 0.3
  found = dropout.under_dropout(multi, keep_rate=keep)
  i, j, rest = 0, 3, [1, 2, 4]

  def delta(s):
    code = sum(1 << p for p in s)
    return table[code | 1 << i | 1 << j] - table[code | 1 << i] - table[code | 1 << j] + table[code]

  for size in range(4):
    total = 0.0
    contexts = list(itertools.combinations(rest, size))
    for context in contexts:
      for survivors in itertools.product([0, 1], repeat=size):
        chance = math.prod(keep if alive else 1 - keep for alive in survivors)
        total += chance * delta([p for p, alive in zip(context, survivors, strict=True) if alive])
    np.testing.assert_allclose(found[size, i, j], total / len(contexts), atol=1e-5)


def test_dropout_lowers_interactions_of_one_sign():
  codes = np.arange(2**6)
  dividends = np.abs(np.random.default_rng(7).normal(size=2**6))
  game = interactions.table_game(jnp.asarray(exact.zeta(dividends), jnp.float32))
  multi = exact.multi_order(game)
  means = dropout.pattern_means(exact.harsanyi(game))
  for m in range(5):
    expected = sum(math.comb(m, q) * means[q] for q in range(m + 1))
    np.testing.assert_allclose(multi[m], expected, atol=1e-3)
    survived = sum(math.comb(m, q) * 0.5**q * means[q] for q in range(m + 1))
    np.testing.assert_allclose(dropout.under_dropout(multi, keep_rate=0.5)[m], survived, atol=1e-3)
  off = ~np.eye(6, dtype=bool)
  assert np.all(dropout.under_dropout(multi, keep_rate=0.5)[1:, off] < multi[1:, off])
  assert codes.size == 64
  with pytest.raises(ValueError, match="keep_rate"):
    dropout.under_dropout(multi, keep_rate=1.2)
