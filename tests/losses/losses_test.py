# SPDX-License-Identifier: Apache-2.0
"""Every loss against hand-worked numbers and finite differences."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mixboost_jax import checks, losses

# softmax([log 1, log 2, log 5]) = (1, 2, 5) / 8
LOGITS = jnp.log(jnp.array([[1.0, 2.0, 5.0], [4.0, 4.0, 8.0]]))
P = np.array([[1, 2, 5], [2, 2, 4]]) / 8


def test_cross_entropy_by_hand():
  expected = [-math.log(2 / 8), -math.log(4 / 8)]
  np.testing.assert_allclose(losses.cross_entropy(LOGITS, jnp.array([1, 2])), expected, rtol=1e-6)


def test_soft_and_integer_labels_agree():
  labels = jnp.array([1, 2])
  np.testing.assert_array_equal(
    losses.cross_entropy(LOGITS, labels), losses.cross_entropy(LOGITS, losses.one_hot(labels, 3))
  )


def test_mixed_label_is_the_mixture_of_losses():
  first, second = jnp.array([0, 1]), jnp.array([2, 0])
  soft = 0.3 * losses.one_hot(first, 3) + 0.7 * losses.one_hot(second, 3)
  expected = 0.3 * losses.cross_entropy(LOGITS, first) + 0.7 * losses.cross_entropy(LOGITS, second)
  np.testing.assert_allclose(losses.cross_entropy(LOGITS, soft), expected, rtol=1e-6)


def test_label_smoothing_by_hand():
  # 0.9 on the class and 0.1 / 3 on each of the three classes.
  expected = -(0.9 * math.log(5 / 8) + 0.1 / 3 * sum(math.log(p) for p in P[0]))
  value = losses.cross_entropy(LOGITS[:1], jnp.array([2]), label_smoothing=0.1)
  np.testing.assert_allclose(value, [expected], rtol=1e-6)
  with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\)"):
    losses.cross_entropy(LOGITS, jnp.array([1, 2]), label_smoothing=1.0)


def test_entropy_by_hand_and_extremes():
  np.testing.assert_allclose(losses.entropy(LOGITS), -(P * np.log(P)).sum(1), rtol=1e-6)
  np.testing.assert_allclose(losses.entropy(jnp.zeros((1, 7))), [math.log(7)], rtol=1e-6)
  certain = jnp.array([[1e4, 0.0, -1e4]])
  np.testing.assert_array_equal(losses.entropy(certain), [0.0])
  assert np.isfinite(jax.grad(lambda z: losses.entropy(z).sum())(certain)).all()


def test_boost_entropy_limits():
  np.testing.assert_allclose(losses.boost_entropy(LOGITS, LOGITS), math.log(3), rtol=1e-6)
  far = jnp.array([[0.0, 500.0, 0.0]])
  np.testing.assert_allclose(losses.boost_entropy(far, jnp.zeros((1, 3))), [0.0], atol=1e-6)


def test_boost_entropy_by_hand():
  # logits - 2 * masked = log(1, 2, 5) - 2 log(1, 2, 1) = log(1, 1/2, 5); sum 6.5
  masked = jnp.log(jnp.array([[1.0, 2.0, 1.0]]))
  p = np.array([1, 0.5, 5]) / 6.5
  value = losses.boost_entropy(LOGITS[:1], masked, align=2.0)
  np.testing.assert_allclose(value, [-(p * np.log(p)).sum()], rtol=1e-6)
  difference = np.array([1, 2, 5]) / 8 - np.array([1, 2, 1]) / 4
  q = np.exp(difference) / np.exp(difference).sum()
  value = losses.boost_entropy(LOGITS[:1], masked, difference="probabilities")
  np.testing.assert_allclose(value, [-(q * np.log(q)).sum()], rtol=1e-6)


def test_mixboost_is_cross_entropy_minus_weighted_entropy():
  masked = LOGITS[::-1]
  labels = jnp.array([0, 2])
  expected = losses.cross_entropy(LOGITS, labels) - 0.5 * losses.boost_entropy(LOGITS, masked)
  np.testing.assert_allclose(losses.mixboost(LOGITS, masked, labels, weight=0.5), expected)


def test_stop_gradient_clean_leaves_only_the_label_term():
  masked, labels = LOGITS[::-1], jnp.array([0, 2])

  def total(z, *, stop):
    return losses.mixboost(z, masked, labels, stop_gradient_clean=stop).sum()

  stopped = jax.grad(lambda z: total(z, stop=True))(LOGITS)
  label_term = jax.grad(lambda z: losses.cross_entropy(z, labels).sum())(LOGITS)
  np.testing.assert_allclose(stopped, label_term, rtol=1e-6)
  assert not np.allclose(stopped, jax.grad(lambda z: total(z, stop=False))(LOGITS))


def test_interaction_modes_by_hand():
  large, small, labels = LOGITS, LOGITS[::-1], jnp.array([1, 0])
  delta = large - 0.7 / 0.3 * small
  np.testing.assert_allclose(
    losses.aligned_difference(large, small, r1=0.3, r2=0.7), delta, rtol=1e-6
  )
  options = {"r1": 0.3, "r2": 0.7}
  np.testing.assert_allclose(
    losses.interaction(large, small, labels, mode="encourage", **options),
    losses.cross_entropy(delta, labels),
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    losses.interaction(large, small, labels, mode="penalize", **options),
    -losses.entropy(delta),
    rtol=1e-6,
  )
  np.testing.assert_array_equal(losses.aligned_difference(large, small, r1=0, r2=1), large - small)
  with pytest.raises(ValueError, match="0 <= r1 < r2 <= 1"):
    losses.interaction(large, small, labels, r1=0.5, r2=0.5)
  with pytest.raises(ValueError, match="mode must be 'encourage' or 'penalize', got 'reward'"):
    losses.interaction(large, small, labels, r1=0.3, r2=0.7, mode="reward")
  with pytest.raises(ValueError, match="difference must be 'logits' or 'probabilities'"):
    losses.boost_entropy(large, small, difference="odds")


def test_presets_are_those_of_deng_et_al():
  assert losses.INTERACTION_PRESETS == {
    "high": ("penalize", 0.0, 0.5),
    "mid": ("encourage", 0.3, 0.7),
    "low": ("penalize", 0.7, 1.0),
  }


def test_jensen_shannon():
  same = losses.jensen_shannon([LOGITS, LOGITS, LOGITS])
  np.testing.assert_allclose(same, 0, atol=1e-6)
  apart = [jnp.array([[60.0, 0, 0]]), jnp.array([[0, 60.0, 0]]), jnp.array([[0, 0, 60.0]])]
  np.testing.assert_allclose(losses.jensen_shannon(apart), [math.log(3)], rtol=1e-5)
  for order in itertools.permutations([LOGITS, LOGITS[::-1], 2 * LOGITS]):
    value = losses.jensen_shannon(list(order))
    reference = losses.jensen_shannon([LOGITS, LOGITS[::-1], 2 * LOGITS])
    np.testing.assert_allclose(value, reference, rtol=1e-5)
  p, q = P[0], P[1]
  mixture = (p + q) / 2
  expected = ((p * np.log(p / mixture)).sum() + (q * np.log(q / mixture)).sum()) / 2
  value = losses.jensen_shannon([LOGITS[:1], LOGITS[1:]])
  np.testing.assert_allclose(value, [expected], rtol=1e-5)
  with pytest.raises(ValueError, match="at least 2 views"):
    losses.jensen_shannon([LOGITS])


@pytest.mark.parametrize(
  "loss",
  [
    lambda z, m: losses.cross_entropy(z, jnp.array([1, 2])),
    lambda z, m: losses.boost_entropy(z, m, align=1.4),
    lambda z, m: losses.boost_entropy(z, m, difference="probabilities"),
    lambda z, m: losses.mixboost(z, m, jnp.array([1, 2]), weight=2.0, label_smoothing=0.1),
    lambda z, m: losses.interaction(z, m, jnp.array([1, 2]), r1=0.3, r2=0.7, mode="encourage"),
    lambda z, m: losses.interaction(z, m, jnp.array([1, 2]), r1=0.0, r2=0.5, mode="penalize"),
    lambda z, m: losses.jensen_shannon([z, m]),
  ],
)
def test_gradients_against_finite_differences(loss):
  with jax.enable_x64(True):
    clean = jnp.array([[0.3, -1.2, 0.7], [0.1, 0.4, -0.3]], jnp.float64)
    masked = jnp.array([[-0.2, 0.5, 0.1], [0.9, 0.0, 0.2]], jnp.float64)

    def total(z, m):
      return loss(jnp.asarray(z), jnp.asarray(m)).sum()

    check_grads(total, (clean, masked), order=1, modes=["rev"], eps=1e-5)


def test_one_step_on_the_penalty_raises_the_entropy():
  large, small, labels = LOGITS, LOGITS[::-1], jnp.array([0, 0])

  def penalty(z):
    return losses.interaction(z, small, labels, r1=0.7, r2=1.0, mode="penalize").mean()

  stepped = large - 0.1 * jax.grad(penalty)(large)

  def entropy_of_difference(z):
    return losses.entropy(losses.aligned_difference(z, small, r1=0.7, r2=1.0)).mean()

  assert entropy_of_difference(stepped) > entropy_of_difference(large)


@pytest.mark.parametrize(("k1", "k2"), [(a, b) for b in range(2, 6) for a in range(1, b)])
def test_aligned_difference_holds_interactions_only(k1, k2):
  """Deng et al. 2022: first-order terms cancel. Full enumeration of a random game, n = 5.

  E[v(S2)] - (k2/k1) E[v(S1)] = (1 - k2/k1) v(0) + sum_m w_m sum_{i != j} I^(m)(i, j).
  """
  n = 5
  value = np.random.default_rng(7).normal(size=2**n)
  subsets = list(range(2**n))
  size = [bin(s).count("1") for s in subsets]

  def mean_value(k):
    return np.mean([value[s] for s in subsets if size[s] == k])

  def interaction_sum(m):
    total = 0.0
    for i, j in itertools.permutations(range(n), 2):
      bit_i, bit_j = 1 << i, 1 << j
      contexts = [s for s in subsets if size[s] == m and not s & (bit_i | bit_j)]
      total += np.mean(
        [
          value[s | bit_i | bit_j] - value[s | bit_i] - value[s | bit_j] + value[s]
          for s in contexts
        ]
      )
    return total

  def weight(m):
    if m <= k1 - 2:
      return (k2 / k1 - 1) * (m + 1) / (n * (n - 1))
    return (k2 - m - 1) / (n * (n - 1))

  small, large = mean_value(k1), mean_value(k2)
  aligned = losses.aligned_difference(
    jnp.full((1, 1), large, jnp.float32), jnp.full((1, 1), small, jnp.float32), r1=k1 / n, r2=k2 / n
  )
  expected = (1 - k2 / k1) * value[0] + sum(weight(m) * interaction_sum(m) for m in range(k2 - 1))
  np.testing.assert_allclose(aligned[0, 0], expected, atol=2e-6)


def test_a_label_that_is_no_class_gives_nan_where_nobody_can_refuse_it(monkeypatch):
  monkeypatch.setattr(checks, "DEBUG", False)
  found = jax.jit(lambda z, y: losses.cross_entropy(z, y))(
    jnp.zeros((3, 10)), jnp.array([10, -1, 9])
  )
  np.testing.assert_allclose(found, [jnp.nan, jnp.nan, jnp.log(10)], rtol=1e-6)


def test_a_class_of_probability_zero_adds_nothing_even_at_minus_infinity():
  """The value and gradient of K classes, one of them impossible, are those of K - 1 classes."""
  few = jnp.array([[0.5, -1.0, 2.0]])
  many = jnp.concatenate([few, jnp.array([[-jnp.inf]])], axis=1)
  soft = jnp.array([[0.2, 0.3, 0.5]])
  padded = jnp.concatenate([soft, jnp.zeros((1, 1))], axis=1)
  pairs = {
    "soft": (lambda z: losses.cross_entropy(z, padded), lambda z: losses.cross_entropy(z, soft)),
    "entropy": (losses.entropy, losses.entropy),
    "kl": (lambda z: losses.kl_divergence(z, many), lambda z: losses.kl_divergence(z, few)),
    "js": (
      lambda z: losses.jensen_shannon([z, many + 1]),
      lambda z: losses.jensen_shannon([z, few + 1]),
    ),
  }
  for of_many, of_few in pairs.values():
    np.testing.assert_allclose(of_many(many), of_few(few), rtol=1e-6, atol=1e-7)
    gradient = jax.grad(lambda z, f=of_many: f(z).sum())(many)
    np.testing.assert_allclose(
      gradient[:, :3], jax.grad(lambda z, f=of_few: f(z).sum())(few), atol=1e-6
    )
    assert float(gradient[0, 3]) == 0
