# SPDX-License-Identifier: Apache-2.0
"""Frequencies and magnitudes of what the policies draw, with fixed keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mixboost_jax.augment import _augmix, _autoaugment, _pixmix, _randaugment
from mixboost_jax.augment import _steps as steps
from mixboost_jax.augment._steps import ENHANCERS, GEOMETRIC, Op

NUM = 20_000
P_VALUE = 1e-4


@pytest.fixture(scope="module")
def each():
  return jax.random.split(jax.random.key(5), NUM)


def close_to(rate, expected, count):
  return abs(rate - expected) < 4 * (expected * (1 - expected) / count) ** 0.5


def test_trivial_draws_14_by_31_uniformly(each):
  table = _randaugment.trivial_table((32, 32), ranges="torchvision")
  drawn = jax.tree.map(np.asarray, _randaugment.draw_trivial(each, table))
  assert drawn.op.shape == (NUM, 1)
  counts = np.array([(drawn.op == op).sum() for op in _randaugment.OPS])
  assert stats.chisquare(counts).pvalue > P_VALUE
  shears = drawn.magnitude[drawn.op == Op.SHEAR_X]
  strengths = np.rint(np.abs(shears) / 0.99 * 30).astype(int)
  assert stats.chisquare(np.bincount(strengths, minlength=31)).pvalue > P_VALUE
  assert close_to((shears[strengths > 0] > 0).mean(), 0.5, (strengths > 0).sum())


@pytest.mark.parametrize(
  ("op", "strength", "torchvision", "official"),
  [
    (Op.SHEAR_X, 30, 0.99, 0.99),
    (Op.TRANSLATE_Y, 17, 18, 18),
    (Op.ROTATE, 7, 31.5, 31),
    (Op.COLOR, 30, 0.99, 2.0),
    (Op.SHARPNESS, 0, 0.0, 0.01),
    (Op.POSTERIZE, 30, 2, 2),
    (Op.POSTERIZE, 13, 5, 6),
    (Op.SOLARIZE, 30, 0, 0),
    (Op.SOLARIZE, 1, 246.5, 248),
  ],
)
def test_wide_magnitudes_by_hand(op, strength, torchvision, official):
  got = [_randaugment.wide_magnitudes(strength, r)[op] for r in ("torchvision", "official")]
  np.testing.assert_allclose(got, [torchvision, official], atol=1e-9)


def test_rand_magnitudes_by_hand():
  def at(op, ranges="torchvision", share=9 / 30):
    return _randaugment.rand_magnitudes(share, ranges, (32, 64))[op]

  assert at(Op.ROTATE) == pytest.approx(9)
  assert at(Op.TRANSLATE_X) == int(150 / 331 * 64 * 0.3)
  assert at(Op.TRANSLATE_Y) == int(150 / 331 * 32 * 0.3)
  assert at(Op.TRANSLATE_X, "official") == int(14.4 * 0.3)
  assert at(Op.COLOR) == pytest.approx(0.27)
  assert at(Op.COLOR, "official") == pytest.approx(0.1 + 1.8 * 0.3)
  assert at(Op.POSTERIZE) == 8 - 1
  assert at(Op.SOLARIZE) == pytest.approx(255 * 0.7)
  assert at(Op.SOLARIZE, "official", 1.0) == 0


def test_rand_draws_with_replacement(each):
  table = _randaugment.rand_table((32, 32), magnitude=9, bins=31, ranges="torchvision")
  drawn = np.asarray(_randaugment.draw_rand(each, table, num_ops=2).op)
  assert drawn.shape == (NUM, 2)
  counts = np.bincount(drawn.ravel(), minlength=len(Op))[list(_randaugment.OPS)]
  assert stats.chisquare(counts).pvalue > P_VALUE
  assert close_to((drawn[:, 0] == drawn[:, 1]).mean(), 1 / 14, NUM)


def test_no_operations_change_nothing(key, images):
  out = _randaugment.randaugment(key, images, num_ops=0)
  np.testing.assert_allclose(out, images, atol=1e-7)


@pytest.mark.parametrize("policy", sorted(_autoaugment.SUB_POLICIES))
def test_autoaugment_lists_have_25_pairs(policy):
  table = _autoaugment.SUB_POLICIES[policy]
  assert len(table) == 25
  assert all(0 <= p <= 1 and 0 <= k <= 10 for pair in table for _, p, k in pair)


def test_autoaugment_frequencies(each):
  """Operations and gates: expected rate of each operation, summed over the list."""
  table = _autoaugment.auto_table((32, 32), policy="cifar10", ranges="default")
  drawn = np.asarray(_autoaugment.draw_auto(each, table).op)
  for position in (0, 1):
    for op in Op:
      if op is Op.IDENTITY:
        continue
      pairs = _autoaugment.CIFAR10
      expected = sum(pair[position][1] for pair in pairs if pair[position][0] is op) / 25
      rate = (drawn[:, position] == op).mean()
      assert rate == 0 if expected == 0 else close_to(rate, expected, NUM)


def test_autoaugment_magnitudes_by_hand():
  """Of pairs of each list: cifar10 has (rotate, 2) first in its second, ..."""

  def at(policy, pair, position):
    table, _ = _autoaugment.auto_table((32, 64), policy=policy, ranges="default")
    return table.magnitude[pair, position].tolist()

  assert at("cifar10", 1, 0) == pytest.approx([30 * 2 / 9, -30 * 2 / 9])
  assert at("cifar10", 1, 1) == [29, -29]  # translate_x 9: int(150 / 331 * 64)
  assert at("cifar10", 3, 1) == [14, -14]  # translate_y 9
  assert at("cifar10", 5, 1) == [8 - 3, 8 - 3]  # posterize 7
  assert at("cifar10", 22, 1) == pytest.approx([170, 170])  # solarize 3
  assert at("cifar10", 6, 0) == pytest.approx([1.3, 0.7])  # color 3
  assert at("imagenet_v0", 22, 0) == [4, 4]  # posterize 2
  assert at("imagenet_v0", 3, 0) == [256 - 76, 256 - 76]  # solarize 3
  assert at("imagenet_v0", 1, 0) == pytest.approx([1.72, 1.72])  # color 9
  assert at("imagenet_v0", 15, 1) == [9, -9]  # translate_y 9
  assert at("imagenet_v0", 21, 1) == [77, 77]  # solarize_add 7


def test_ranges_that_do_not_fit_the_list(key, images):
  with pytest.raises(ValueError, match="needs 11; use ranges='original'"):
    _autoaugment.autoaugment(key, images, policy="imagenet_v0", ranges="torchvision")


def test_levels_of_chains_have_the_stated_ranges():
  """SPEC ranges at severity 3: |rotation| <= 8, |shift| <= 3 of 32, thresholds 180..254, ..."""
  u = jax.random.uniform(jax.random.key(2), (NUM, 3))
  drawn = _augmix.steps_at(u, severity=3.0, all_ops=True, shape=(32, 32))
  op, m = np.asarray(drawn.op), np.asarray(drawn.magnitude)
  assert stats.chisquare(np.bincount(op, minlength=16)[list(_augmix.ALL_OPS)]).pvalue > P_VALUE
  assert set(np.unique(m[op == Op.POSTERIZE])) == {3.0, 4.0}
  assert close_to((m[op == Op.POSTERIZE] == 4).mean(), 2.4 / 2.9, (op == Op.POSTERIZE).sum())
  assert set(np.unique(m[op == Op.ROTATE])) == set(range(-8, 9))
  assert set(np.unique(m[op == Op.TRANSLATE_X])) == set(range(-3, 4))
  solarized = m[op == Op.SOLARIZE]
  assert (solarized.min(), solarized.max()) == (180, 254)
  shear = np.abs(m[op == Op.SHEAR_Y])
  assert 0.003 <= shear.min() <= shear.max() <= 0.09
  for enhancer in ENHANCERS:
    factor = m[op == enhancer]
    assert stats.kstest(factor, "uniform", (0.118, 0.522)).pvalue > P_VALUE
  for geometric in GEOMETRIC:
    signs = np.sign(m[op == geometric])
    assert close_to((signs > 0).sum() / (signs != 0).sum(), 0.5, (signs != 0).sum())


def test_chains_of_augmix(each):
  drawn = _augmix.draw_chains(
    each[:3000], severity=3.0, width=3, depth=-1, alpha=1.0, all_ops=False, shape=(32, 32)
  )
  drawn = jax.tree.map(np.asarray, drawn)
  assert stats.chisquare(np.bincount(drawn.depth.ravel())[1:]).pvalue > P_VALUE
  np.testing.assert_allclose(drawn.weights.sum(1), 1, rtol=1e-5)
  # A weight of Dirichlet(1, 1, 1) is Beta(1, 2).
  assert stats.kstest(drawn.weights[:, 1], stats.beta(1, 2).cdf).pvalue > P_VALUE
  assert stats.kstest(drawn.share, "uniform").pvalue > P_VALUE
  assert not set(np.unique(drawn.steps.op)) & ENHANCERS


@pytest.fixture(scope="module")
def rounds(each):
  drawn = _pixmix.draw_rounds(
    each,
    k=4,
    beta=3.0,
    severity=3.0,
    all_ops=True,
    num_mixings=2,
    shape=(32, 32),
    mixing_shape=(7, 36, 36),
  )
  return jax.tree.map(np.asarray, drawn)


def test_rounds_of_pixmix(rounds):
  for counts in (
    np.bincount(rounds.count, minlength=5),
    np.bincount(rounds.picture, minlength=7),
    np.bincount(rounds.top * 5 + rounds.left, minlength=25),
    np.bincount(rounds.mixing[:, 1:].ravel(), minlength=3)[1:],
  ):
    assert stats.chisquare(counts).pvalue > P_VALUE
  assert close_to((rounds.steps.op[:, 0] == Op.IDENTITY).mean(), 0.5, NUM)
  assert rounds.from_original[:, 0].all()
  assert (rounds.mixing[:, 0] == 0).all()
  later = rounds.from_original[:, 1:]
  assert close_to(later.mean(), 0.5, later.size)
  assert not (rounds.steps.op[:, 1:] == Op.IDENTITY).any()


def test_factors_of_pixmix(rounds):
  a, b = rounds.a[:, 1], rounds.b[:, 1]
  shrinks = a <= 1
  assert close_to(shrinks.mean(), 0.5, NUM)
  assert (b[shrinks] >= 0).all()
  assert (b[~shrinks] <= 0).all()
  assert stats.kstest(a[shrinks], stats.beta(3, 1).cdf).pvalue > P_VALUE
  assert stats.kstest(b[shrinks], stats.beta(1, 3).cdf).pvalue > P_VALUE
  assert stats.kstest(a[~shrinks] - 1, stats.beta(1, 3).cdf).pvalue > P_VALUE
  assert stats.kstest(-b[~shrinks], stats.beta(1, 3).cdf).pvalue > P_VALUE
  assert abs(stats.spearmanr(a[~shrinks], b[~shrinks]).statistic) < 4 / NUM**0.5 * 2


def test_draws_differ_between_the_rounds(rounds):
  for leaf in (rounds.a, rounds.b, rounds.steps.magnitude, rounds.coin):
    assert abs(np.corrcoef(leaf[:, 1], leaf[:, 2])[0, 1]) < 4 / NUM**0.5


def test_uniform_index_covers_its_range():
  u = jnp.array([0.0, 0.1, 0.5, 1 - 2.0**-24])
  np.testing.assert_array_equal(steps.index(u, 3), [0, 0, 1, 2])
