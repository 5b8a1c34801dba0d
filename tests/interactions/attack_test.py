# SPDX-License-Identifier: Apache-2.0
"""Curves, disentanglement and attacking utility against hand-worked numbers and identities."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import interactions
from mixboost_jax.interactions import _exact


def test_relative_strength_has_mean_one():
  strength = jnp.array([1.0, 2.0, 6.0])
  np.testing.assert_allclose(interactions.relative_strength(strength), [1 / 3, 2 / 3, 2])


def test_averages_by_hand():
  table = jnp.array([[[1.0, -3.0]], [[2.0, 4.0]]])  # two pictures, one order, two pairs
  np.testing.assert_allclose(interactions.average_interaction(table), [1.0])
  np.testing.assert_allclose(interactions.positive_ratio(table), [7 / 10])


def test_disentanglement_by_hand():
  # Two pairs of one picture and order: contexts (1, 3) keep their sign, (1, -3) cancel to 2/4.
  differences = jnp.array([[[[1.0, 3.0], [1.0, -3.0]]]])
  np.testing.assert_allclose(interactions.disentanglement(differences), [(1 + 0.5) / 2])
  np.testing.assert_allclose(interactions.disentanglement(differences, form="means"), [3 / 4])
  lopsided = jnp.array([[[[1.0, 3.0], [10.0, -10.0]]]])
  np.testing.assert_allclose(interactions.disentanglement(lopsided), [0.5])
  np.testing.assert_allclose(interactions.disentanglement(lopsided, form="means"), [2 / 12])
  np.testing.assert_allclose(interactions.disentanglement(jnp.zeros((1, 1, 2, 2))), [0])
  with pytest.raises(ValueError, match="'ratios' or 'means'"):
    interactions.disentanglement(differences, form="mean")


def test_attacking_utility_sums_to_the_change_of_the_output():
  n = 5
  tables = np.random.default_rng(0).normal(size=(2, 2**n)).astype(np.float32)
  tables[1, 0] = tables[0, 0]  # v(empty) is the same picture
  clean, attacked = (interactions.table_game(jnp.asarray(t)) for t in tables)
  pairs = np.array(list(itertools.permutations(range(n), 2)))
  orders = tuple(range(n - 1))
  tables_of = [_exact.multi_order(g)[:, pairs[:, 0], pairs[:, 1]] for g in (clean, attacked)]
  utility = interactions.attacking_utility(
    *(jnp.asarray(t, jnp.float32) for t in tables_of), orders=orders, n=n
  )
  first = _exact.order_shapley(clean)[0].sum() - _exact.order_shapley(attacked)[0].sum()
  np.testing.assert_allclose(
    first + utility.sum(), tables[0, -1] - tables[1, -1], rtol=1e-4, atol=1e-4
  )


def test_under_attack_pairs_the_games(images):
  def game_of(image, label):
    return interactions.Game(2, lambda c, x, y: c.sum(1) * x.mean() + y, (image, label))

  games = interactions.under_attack(
    lambda x, y: x + y[:, None, None, None], images[:2], jnp.array([0.0, 1.0]), game_of
  )
  full = jnp.ones((1, 2), bool)
  for (clean, attacked), shift in zip(games, (0.0, 2.0), strict=True):
    np.testing.assert_allclose(attacked.values(full) - clean.values(full), shift, atol=1e-5)


def symmetric(seed, n=16):
  matrix = np.random.default_rng(seed).normal(size=(n, n))
  return (matrix + matrix.T) / (2 * n**0.5)


def off_diagonal(matrix):
  return matrix - np.diag(np.diag(matrix))


def test_the_interaction_of_a_quadratic_loss_is_exact():
  """L = g d + d H d / 2 has I_ab = d_a H_ab d_b for every pair and context."""
  rng = np.random.default_rng(2)
  g, H, delta = rng.normal(size=16), symmetric(0), rng.normal(size=16) * 0.1

  def logits_fn(images):
    d = images.reshape(-1, 16) - 0.5
    value = d @ jnp.asarray(g, jnp.float32) + 0.5 * ((d @ jnp.asarray(H, jnp.float32)) * d).sum(1)
    return jnp.stack([jnp.zeros_like(value), value], axis=1)

  game = interactions.perturbation_game(
    logits_fn, jnp.full((4, 4, 1), 0.5), jnp.asarray(delta.reshape(4, 4, 1), jnp.float32), 0, grid=4
  )
  expected = delta @ off_diagonal(H) @ delta / (16 * 15)
  np.testing.assert_allclose(interactions.mean_interaction(game), expected, rtol=1e-4)


def perturbation_maps(H, *, alpha, steps, momentum=0.5, smoothing=0.3):
  """Matrices P with delta = P g, of the attacks of the propositions on L = g d + d H d / 2.

  A noisy copy of the gradient of a term of curvature H and frequency k has the mean curvature
  exp(-k^2 sigma^2 / 2) H: VR climbs with `smoothing` H, and is judged with H.
  """
  eye = np.eye(len(H))

  def climb(H, mu):
    P, velocity = np.zeros_like(H), np.zeros_like(H)
    for _ in range(steps):
      velocity = mu * velocity + (1 - mu) * (eye + H @ P)
      P = P + alpha * velocity
    return P

  return {
    "single": alpha * steps * eye, "multi": climb(H, 0.0),
    "vr": climb(smoothing * H, 0.0), "mi": climb(H, momentum),
  }  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_propositions_on_quadratic_losses(seed):
  """Of gradients without a preferred direction: E g' P' H_off P g = tr(P' H_off P) for N(0, 1).

  Paper: Wang et al. 2021, arXiv:2010.04055, propositions 1 to 3: multi-step attacks have larger
  interactions than single-step ones; variance reduction and momentum make them smaller.
  """
  H = symmetric(seed)
  maps = perturbation_maps(H, alpha=0.05, steps=10)
  mean = {name: np.trace(P.T @ off_diagonal(H) @ P) for name, P in maps.items()}
  assert mean["multi"] > mean["single"] == pytest.approx(0)
  assert 0 < mean["vr"] < mean["multi"]
  assert 0 < mean["mi"] < mean["multi"]
  # Not for want of length alone.
  per_length = {name: mean[name] / np.trace(P.T @ P) for name, P in maps.items()}
  assert max(per_length["vr"], per_length["mi"]) < per_length["multi"]
  draws = np.random.default_rng(seed).normal(size=(4000, 16)) @ maps["multi"].T
  drawn = ((draws @ off_diagonal(H)) * draws).sum(1)
  assert abs(drawn.mean() - mean["multi"]) < 4 * drawn.std() / 4000**0.5


def linear(images):
  weights = jnp.asarray(np.random.default_rng(0).normal(size=(12, 3)), jnp.float32)
  return 40 * images.reshape(-1, 12) @ weights


def test_comparable_attack_lowers_the_logit_by_the_same_amount(key):
  images = jnp.asarray(np.random.default_rng(1).uniform(0.3, 0.7, (6, 2, 2, 3)), jnp.float32)
  labels = linear(images).argmax(1)
  attacked, reached = interactions.comparable_attack(key, linear, images, labels, num_steps=40)
  assert np.abs(attacked - images).max() <= 32 / 255 + 1e-6
  assert attacked.min() >= 0
  assert attacked.max() <= 1
  rows = np.arange(6)
  fall = np.asarray(linear(images)[rows, labels] - linear(attacked)[rows, labels])
  assert reached.any()
  reached = np.asarray(reached)
  assert np.all((fall[reached] >= 8) & (fall[reached] <= 8.5 + 1e-4))
  assert np.all(np.asarray(linear(attacked).argmax(1) != labels)[reached])
  other, _ = interactions.comparable_attack(jax.random.key(1), linear, images, labels, num_steps=1)
  assert not np.array_equal(other, attacked)
