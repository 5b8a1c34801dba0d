# SPDX-License-Identifier: Apache-2.0
"""Synthetic functions with known baselines, and how well the two losses find them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from benchmarks import synthetic_functions as synthetic
from mixboost_jax import interactions
from mixboost_jax.interactions import _baselines, _exact


def salient_patterns(function, baseline):
  """Mean number of Harsanyi dividends above 1 % of the range, over all inputs."""
  inputs = synthetic.binary_inputs(function.num_inputs)
  presence = _exact.members(function.num_inputs)
  spread = np.ptp(np.asarray(function(jnp.asarray(inputs, jnp.float32))))
  counts = []
  for x in np.random.default_rng(0).permutation(inputs)[:64]:
    table = function(jnp.asarray(np.where(presence, x, baseline), jnp.float32))
    counts.append((np.abs(_exact.moebius(np.asarray(table))[1:]) > 0.05 * spread).sum())
  return np.mean(counts)


@pytest.mark.parametrize("name", sorted(synthetic.PAPER_FUNCTIONS))
def test_true_baselines_leave_few_patterns(name):
  function = synthetic.PAPER_FUNCTIONS[name]
  truth = function.truth
  assert salient_patterns(function, truth) < 0.6 * salient_patterns(function, 1 - truth)


def test_paper_functions_by_hand():
  f4 = synthetic.PAPER_FUNCTIONS["F4"]
  np.testing.assert_array_equal(f4.truth, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
  x = np.ones(10)
  x[1] = 0
  expected = -1 / (1 + np.exp(-(4 + 4 - 6))) - 1 - 1
  np.testing.assert_allclose(f4(jnp.asarray(x, jnp.float32)), expected, rtol=1e-5)
  f1 = synthetic.PAPER_FUNCTIONS["F1"]
  np.testing.assert_allclose(f1(jnp.ones(7)), -0.185 * 2**2.432 - 1, rtol=1e-5)
  f3 = synthetic.PAPER_FUNCTIONS["F3"]
  np.testing.assert_array_equal(f3.truth, [0, 0, 0, 1, 1, 1, 1, 0, 0])
  np.testing.assert_allclose(f3(jnp.zeros(9)), 1 / (1 + np.exp(-2.5)), rtol=1e-5)


def test_printed_f3_contradicts_its_baseline():
  # sigmoid(-5 x4 x5 x6 x7 + 2.5): a baseline of 0 leaves fewer patterns than the stated 1.
  printed = synthetic.parse("+sigmoid(-5a*b*c*d+2.50)")
  np.testing.assert_array_equal(synthetic.PRINTED_F3.truth, np.zeros(9))

  presence = _exact.members(4)

  def patterns(b):
    found = []
    for x in synthetic.binary_inputs(4):
      table = _exact.moebius(
        np.asarray(printed(jnp.asarray(np.where(presence, x, b), jnp.float32)))
      )
      found.append((np.abs(table[1:]) > 1e-3).sum())
    return np.mean(found)

  np.testing.assert_allclose(patterns(np.zeros(4)), 1 / 16)
  np.testing.assert_allclose(patterns(np.ones(4)), 4.0625)


def test_loss_against_exact_shapley_values(key):
  # Order 0 has one context, so L_Shapley with orders {0} is the sum of |v(i) - v(empty)|.
  function, x, b = synthetic.PAPER_FUNCTIONS["F4"], jnp.ones(10), jnp.zeros(10)
  game = interactions.Game(10, lambda c: function(jnp.where(c, x[None], b[None])))
  expected = np.abs(_exact.order_shapley(game)[0]).sum()
  for loss in ("shapley", "marginal"):
    found = interactions.baseline_loss(
      key, function, x[None], b, loss=loss, low_fraction=0.1, num_contexts=3
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_contexts_hold_m_players_on_average(key):
  contexts = _baselines.low_order_contexts(key, num_players=10, low_fraction=0.5, num_contexts=4000)
  assert contexts.shape == (5, 4000, 10)
  sizes = np.asarray(contexts.sum(2))
  for m in range(5):
    error = (10 * m / 10 * (1 - m / 10) / 4000) ** 0.5
    assert abs(sizes[m].mean() - m) <= 4 * error + 1e-9


def test_marginal_loss_bounds_the_shapley_loss_and_has_a_gradient(key):
  function = synthetic.PAPER_FUNCTIONS["F2"]
  inputs = jnp.asarray(synthetic.binary_inputs(9)[::40], jnp.float32)
  baseline = jnp.full(9, 0.4)

  @functools.partial(jax.jit, static_argnums=1)
  def loss(b, kind):
    return interactions.baseline_loss(key, function, inputs, b, loss=kind, num_contexts=20)

  assert loss(baseline, "marginal") >= loss(baseline, "shapley") > 0
  check_grads(lambda b: loss(b, "shapley"), (baseline,), order=1, modes=["rev"], rtol=2e-2)


@pytest.mark.parametrize("loss", ["shapley", "marginal"])
def test_learning_finds_the_true_baselines(loss):
  # From 0.5, with larger steps than the paper's, hence fewer.
  random = synthetic.random_function(jax.random.key(1), max_inputs=8)
  function = synthetic.PAPER_FUNCTIONS["F4"] if loss == "shapley" else random
  size = function.num_inputs
  inputs = np.random.default_rng(0).permutation(synthetic.binary_inputs(size))[:32]
  found = interactions.learn_baseline(
    jax.random.key(0),
    function,
    jnp.asarray(inputs, jnp.float32),
    jnp.full(size, 0.5),
    low=jnp.zeros(size),
    high=jnp.ones(size),
    loss=loss,
    num_contexts=16,
    learning_rate=0.1,
    num_steps=32,
  )
  assert found.losses[-4:].mean() < found.losses[0]
  assert synthetic.accuracy(found.baseline, jnp.asarray(function.truth)) >= 0.9


def test_accuracy_is_strict():
  truth = jnp.array([0.0, 1.0, 1.0, 0.0])
  np.testing.assert_allclose(synthetic.accuracy(jnp.array([0.4, 0.6, 0.5, 0.5]), truth), 0.5)


def test_log_odds_are_clamped():
  p = jnp.array([0.0, 0.25, 1.0])
  odds = _baselines.clamped_log_odds(p)
  assert np.all(np.isfinite(odds))
  np.testing.assert_allclose(odds[1], np.log(1 / 3), rtol=1e-5)


def test_random_functions_are_reproducible_and_silent_at_the_truth():
  for seed in range(5):
    function = synthetic.random_function(jax.random.key(seed))
    assert function == synthetic.random_function(jax.random.key(seed))
    assert sorted(v for t in function.terms for v in t.variables) == list(
      range(function.num_inputs)
    )
  assert synthetic.random_function(jax.random.key(0)) != synthetic.random_function(
    jax.random.key(1)
  )
  with pytest.raises(ValueError, match="'shapley' or 'marginal'"):
    interactions.baseline_loss(
      jax.random.key(0), function, jnp.ones((1, 3)), jnp.zeros(3), loss="both"
    )


def test_parse_reads_every_kind_of_term():
  x = jnp.asarray(np.random.default_rng(0).uniform(0.2, 1, (5, 5)), jnp.float32)
  a, b, c, d, e = x.T
  cases = {
    "-0.185*a*b*(c+d)^2.432|+e": -0.185 * a * b * (c + d) ** 2.432 + e,
    "+0.011*(a+b+c)^2.0|-d*e": 0.011 * (a + b + c) ** 2 - d * e,
    "-sigmoid(+7a-7b*c-7d+7e+10.50)": -jax.nn.sigmoid(7 * (a - b * c - d + e) + 10.5),
  }
  for text, expected in cases.items():
    np.testing.assert_allclose(synthetic.parse(text)(x), expected, rtol=1e-5)
  # On for a = 1, b = 0 only; off for a = 0, b = c = d = 1 only.
  np.testing.assert_array_equal(synthetic.parse("+sigmoid(+4a-4b-2.00)").truth, [0, 1])
  np.testing.assert_array_equal(synthetic.parse("+sigmoid(+4a-4b*c-4d+6.00)").truth, [1, 0, 0, 0])
  with pytest.raises(ValueError, match="no baseline is true"):
    _ = synthetic.parse("+sigmoid(+4a+4b+2.00)").truth
  for wrong in ("", "a*b", "+sigmoid(+4a-3b+2.00)", "+a*", "+sin(a)"):
    with pytest.raises(ValueError, match="cannot read"):
      synthetic.parse(wrong)


@pytest.mark.parametrize("loss", ["shapley", "marginal"])
def test_the_loss_is_the_sum_over_terms(key, loss):
  # Order 0 has one context, so nothing is random; a plain function takes the stacked path.
  whole = synthetic.parse("-a*b*c|+sigmoid(+4d-4e*f+2.00)")
  inputs = jnp.asarray(synthetic.binary_inputs(6)[::5], jnp.float32)
  baseline = jnp.linspace(0.1, 0.9, 6)
  options = {"loss": loss, "low_fraction": 0.2, "num_contexts": 2}
  found = interactions.baseline_loss(key, whole, inputs, baseline, **options)
  plain = interactions.baseline_loss(key, lambda x: whole(x), inputs, baseline, **options)
  np.testing.assert_allclose(found, plain, rtol=1e-6)
  parts = [
    interactions.baseline_loss(
      key,
      synthetic.parse(text),
      inputs[:, columns],
      baseline[columns],
      num_players=6,
      **options,
    )
    for text, columns in (
      ("-a*b*c", np.array([0, 1, 2])),
      ("+sigmoid(+4a-4b*c+2.00)", np.array([3, 4, 5])),
    )
  ]
  np.testing.assert_allclose(sum(parts), found, rtol=1e-5)


def test_the_losses_agree_where_gains_keep_their_sign(key):
  inputs, baseline = (
    jnp.asarray(synthetic.binary_inputs(3), jnp.float32),
    jnp.full(3, 0.4),
  )

  def both(function):
    options = {"low_fraction": 1.0, "num_contexts": 20}
    return [
      float(interactions.baseline_loss(key, function, inputs, baseline, loss=loss, **options))
      for loss in ("shapley", "marginal")
    ]

  shapley, marginal = both(synthetic.parse("+sigmoid(+4a-4b*c-2.00)"))
  np.testing.assert_allclose(shapley, marginal, rtol=1e-5)
  shapley, marginal = both(lambda x: (x[..., 0] - x[..., 1]) ** 2)  # falls, then rises
  assert shapley < 0.95 * marginal


def test_many_features_are_exchanged_in_one_batch(key, monkeypatch):
  function = synthetic.PAPER_FUNCTIONS["F4"]
  contexts = _baselines.low_order_contexts(key, num_players=10, low_fraction=0.5, num_contexts=6)
  arguments = jnp.linspace(0, 1, 10), jnp.linspace(0.9, 0.2, 10), contexts
  few = _baselines.marginals(function, *arguments)
  monkeypatch.setattr(_baselines, "MAX_UNROLLED", 4)
  np.testing.assert_allclose(_baselines.marginals(function, *arguments), few, atol=1e-6)


def test_marginals_by_hand():
  contexts = jnp.array([[[True, False, False], [False, True, True]]])
  found = _baselines.marginals(
    synthetic.parse("+a*b*c"), jnp.array([1.0, 2.0, 3.0]), jnp.full(3, 0.5), contexts
  )
  # S = {a}: values of the others at 0.5; S = {b, c}.
  expected = [[[0.5 * 0.25, 0.5 * 6]], [[1.5 * 0.5, 1.5 * 0.5 * 3]], [[2.5 * 0.5, 2.5 * 0.5 * 2]]]
  np.testing.assert_allclose(found, expected, rtol=1e-6)
