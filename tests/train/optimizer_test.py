# SPDX-License-Identifier: Apache-2.0
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


@pytest.mark.parametrize("name", ["sgd", "adamw"])
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
