# SPDX-License-Identifier: Apache-2.0
"""The interaction-reduction term of the step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_trainer as tiny

from configs import base
from mixboost_jax import settings
from mixboost_jax.train.hidden import build_reduction

REDUCE = {"objective.reduction_weight": 0.5, "objective.reduction_fraction": 0.3}


def objective_of(**overrides):
  return settings.resolve(base.override(base.get_config(), {**REDUCE, **overrides})).objective


@pytest.mark.parametrize(
  ("units", "group"), [("entries", 39), ("positions", 5 * 8), ("channels", 3 * 16)]
)
def test_a_square_of_the_sum_by_hand(units, group):
  """f = (sum of the features)^2 has Delta f(S, A, B) = 2 |A| |B| if every feature is 1."""

  def apply(params, stats, rows, *, train, taps):
    assert not train
    hidden = taps["stage1"](jnp.ones((len(rows), 4, 4, 8)) + 0 * rows.mean())
    total = params * hidden.sum((1, 2, 3))
    return jnp.stack([total**2, total], axis=1), stats

  reduce = build_reduction(
    objective_of(**{"objective.reduction_stage": "stage1", "objective.reduction_units": units}),
    apply,
    ("stage1",),
  )
  each = jax.random.split(jax.random.key(0), 5)
  value, slope = jax.value_and_grad(lambda p: reduce(each, p, {}, jnp.zeros((5, 6, 6, 3))).mean())(
    1.0
  )
  assert float(value) == pytest.approx(
    group**2, rel=1e-5
  )  # mean with the linear output, which has 0
  assert float(slope) == pytest.approx(2 * group**2, rel=1e-5)


def test_the_step_adds_the_weighted_term():
  plain, reduced = (tiny.advance(tiny.build(**options), 1) for options in ({}, REDUCE))
  before, after = plain[1][0], reduced[1][0]
  assert after["interaction"] > 1e-5
  assert after["loss"] == pytest.approx(before["loss"] + 0.5 * after["interaction"], rel=1e-5)
  assert after["gradient_norm"] != pytest.approx(before["gradient_norm"], rel=1e-4)
  tiny.assert_close(jax.device_get(reduced[0].stats), plain[0].stats, tolerance=1e-5)


def test_wrong_layer_is_named():
  with pytest.raises(ValueError, match="expected one of input, stage1, got 'stage2'"):
    build_reduction(objective_of(), np.zeros, ("stage1",))
