# SPDX-License-Identifier: Apache-2.0
"""Every loss by hand and by finite differences; interaction losses against exact small games."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mixboost_jax import checks, interactions, losses
from mixboost_jax.interactions import _dropout, _exact
from mixboost_jax.interactions import _game as perturbation

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
    index = _exact.shapley_interaction(game)
    expected = index.sum() / 30
    sample = np.asarray(found[:, output])
    assert abs(sample.mean() - expected) <= 4 * sample.std() / len(sample) ** 0.5
    # Differences of two draws bound |I| from above.
    assert np.abs(sample).mean() >= np.abs(index).sum() / 30 - 4 * sample.std() / 20_000**0.5


def test_masks_are_nested_and_groups_disjoint(key):
  both, first, second, context = np.asarray(
    jax.vmap(lambda k: losses.group_masks(k, num_units=10, group_size=3))(
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
  expected = _exact.shapley_interaction(game).sum() / 42
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
  index = _exact.shapley_interaction(game)
  for a, b in itertools.combinations(range(4), 2):
    np.testing.assert_allclose(index[a, b], -parts[a] @ hessian @ parts[b], atol=1e-4)


def test_dropout_thins_the_context():
  table = np.random.default_rng(6).normal(size=2**5).astype(np.float32)
  game = interactions.table_game(jnp.asarray(table))
  multi, keep = _exact.multi_order(game), 0.3
  found = _dropout.under_dropout(multi, keep_rate=keep)
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
  holds = (codes[:, None] & codes) == codes[None]
  game = interactions.table_game(jnp.asarray(holds @ dividends, jnp.float32))
  multi = _exact.multi_order(game)
  means = _dropout.pattern_means(_exact.harsanyi(game))
  for m in range(5):
    expected = sum(math.comb(m, q) * means[q] for q in range(m + 1))
    np.testing.assert_allclose(multi[m], expected, atol=1e-3)
    survived = sum(math.comb(m, q) * 0.5**q * means[q] for q in range(m + 1))
    np.testing.assert_allclose(_dropout.under_dropout(multi, keep_rate=0.5)[m], survived, atol=1e-3)
  off = ~np.eye(6, dtype=bool)
  assert np.all(_dropout.under_dropout(multi, keep_rate=0.5)[1:, off] < multi[1:, off])
  with pytest.raises(ValueError, match="keep_rate"):
    _dropout.under_dropout(multi, keep_rate=1.2)


# Every loss against hand-worked numbers and finite differences.

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
