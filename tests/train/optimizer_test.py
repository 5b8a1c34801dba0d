# SPDX-License-Identifier: Apache-2.0
import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mixboost_jax.schema import Optimizer
from mixboost_jax.train.build import build_optimizer, schedule


def test_cosine_is_that_of_the_paper():
  rate = schedule(Optimizer(learning_rate=0.05, final_learning_rate=1e-6), 200)
  for step in (0, 1, 50, 100, 199):
    expected = 1e-6 + (0.05 - 1e-6) / 2 * (1 + math.cos(math.pi * step / 200))
    assert float(rate(step)) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_step_schedule_and_warmup():
  rate = schedule(
    Optimizer(schedule="step", learning_rate=0.1, milestones=(0.5, 0.75), warmup_steps=10), 110
  )
  values = [float(rate(step)) for step in (0, 5, 10, 59, 60, 84, 85, 109)]
  np.testing.assert_allclose(values, [0, 0.05, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-5)
  with pytest.raises(ValueError, match="warmup_steps=110: the run has only 110 steps"):
    schedule(Optimizer(warmup_steps=110), 110)


def test_linear_schedule_ends_at_zero_after_a_warmup():
  rate = schedule(Optimizer(schedule="linear", learning_rate=0.2, warmup_steps=10), 50)
  values = [float(rate(step)) for step in (0, 5, 10, 11, 30, 49, 50)]
  expected = [0, 0.1, 0.2, 0.2 * 39 / 40, 0.1, 0.2 / 40, 0]
  np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-8)


MUON = Optimizer(
  name="muon", learning_rate=0.3, momentum=0.5, rest_learning_rate=0.2, bias_factor=10.0,
  weight_decay=0.06, schedule="constant",
)  # fmt: skip


def muon_params(rng):
  def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  conv = {"kernel": draw(3, 3, 2, 5), "bias": draw(5)}
  network = {"conv": conv, "linear": {"kernel": draw(5, 4)}, "norm": {"scale": draw(5)}}
  return {"network": network, "fill": draw(2, 2, 3)}


@pytest.mark.parametrize("fixed_norms", [False, True])
def test_muon_orthogonalises_kernels(fixed_norms):
  """The update has the singular vectors of the gradient, and values near 1 in their place."""
  rng = np.random.default_rng(0)
  params, grads = muon_params(rng), muon_params(rng)
  rule = build_optimizer(dataclasses.replace(MUON, fixed_norms=fixed_norms), 10)
  updates, _ = rule.update(grads, rule.init(params), params)
  kernel, gradient, update = (
    np.asarray(tree["network"]["conv"]["kernel"], np.float64).reshape(18, 5)
    for tree in (params, grads, updates)
  )
  if fixed_norms:
    after = kernel + update
    assert np.linalg.norm(after) == pytest.approx(5**0.5, rel=1e-5)
    free, _ = build_optimizer(MUON, 10).update(
      grads, build_optimizer(MUON, 10).init(params), params
    )
    moved = kernel + np.asarray(free["network"]["conv"]["kernel"]).reshape(18, 5)
    np.testing.assert_allclose(after / after[0, 0], moved / moved[0, 0], rtol=1e-4)
    return
  left, _, right = np.linalg.svd(gradient, full_matrices=False)
  inside = left.T @ (-(update + 0.06 * kernel) / 0.3) @ right.T  # decay: a share at the peak rate
  np.testing.assert_allclose(inside, np.diag(np.diag(inside)), atol=1e-4)
  assert np.diag(inside).min() > 0.65
  assert np.diag(inside).max() < 1.2


def test_muon_leaves_the_rest_to_sgd():
  """Three steps by hand: decay does not depend on the rates, biases take a rate of their own."""
  rng = np.random.default_rng(1)
  params = muon_params(rng)
  rule = build_optimizer(MUON, 10)
  state = rule.init(params)
  rates = {("linear", "kernel"): 0.2, ("norm", "scale"): 0.2, ("conv", "bias"): 2.0}
  by_hand = {path: np.asarray(params["network"][path[0]][path[1]]) for path in rates}
  buffers = dict.fromkeys(rates, 0.0)
  fill, fill_buffer = np.asarray(params["fill"]), 0.0
  for _ in range(3):
    grads = muon_params(rng)
    updates, state = rule.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    for path, rate in rates.items():
      gradient = np.asarray(grads["network"][path[0]][path[1]]) + 0.06 / rate * by_hand[path]
      buffers[path] = 0.5 * buffers[path] + gradient
      by_hand[path] = by_hand[path] - rate * (gradient + 0.5 * buffers[path])
      found = params["network"][path[0]][path[1]]
      np.testing.assert_allclose(found, by_hand[path], rtol=1e-4, atol=1e-5)
    fill_buffer = 0.5 * fill_buffer + np.asarray(grads["fill"])
    fill = fill - 0.2 * (np.asarray(grads["fill"]) + 0.5 * fill_buffer)
    np.testing.assert_allclose(params["fill"], fill, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd_has_torch_semantics(nesterov):
  """buf = mu buf + (g + wd p); step along g + wd p + mu buf (Nesterov) or buf."""
  rate, momentum, decay = 0.1, 0.9, 0.01
  rule = build_optimizer(
    Optimizer(
      learning_rate=rate, momentum=momentum, nesterov=nesterov, weight_decay=decay,
      schedule="constant",
    ),
    10,
  )  # fmt: skip
  params = {"network": {"w": jnp.array([1.0, -2.0])}}
  state = rule.init(params)
  p, buffer = np.array([1.0, -2.0]), np.zeros(2)
  for g in ([0.5, 0.1], [-0.2, 0.3], [0.4, -0.6]):
    updates, state = rule.update({"network": {"w": jnp.array(g)}}, state, params)
    params = optax.apply_updates(params, updates)
    decayed = np.array(g) + decay * p
    buffer = momentum * buffer + decayed
    p = p - rate * (decayed + momentum * buffer if nesterov else buffer)
    np.testing.assert_allclose(params["network"]["w"], p, rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_a_learned_fill_is_not_decayed(name):
  rule = build_optimizer(Optimizer(name=name, weight_decay=0.1, schedule="constant"), 10)
  params = {"network": {"w": jnp.ones(2)}, "fill": jnp.ones(3)}
  zero = {"network": {"w": jnp.zeros(2)}, "fill": jnp.zeros(3)}
  updates, _ = rule.update(zero, rule.init(params), params)
  np.testing.assert_array_equal(updates["fill"], 0)
  assert float(jnp.abs(updates["network"]["w"]).min()) > 0


def test_clipping_bounds_the_gradient():
  rule = build_optimizer(
    Optimizer(clip_norm=1.0, weight_decay=0.0, schedule="constant", learning_rate=1.0,
            momentum=0.0, nesterov=False),
    10,
  )  # fmt: skip
  params = {"network": {"w": jnp.zeros(2)}}
  updates, _ = rule.update({"network": {"w": jnp.array([30.0, 40.0])}}, rule.init(params), params)
  np.testing.assert_allclose(updates["network"]["w"], [-0.6, -0.8], rtol=1e-5)
