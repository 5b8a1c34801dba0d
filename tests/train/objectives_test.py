# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from mixboost_jax import losses, settings
from mixboost_jax.train import objectives

LABELS = jnp.array([[1.0, 0, 0], [0.3, 0.7, 0], [0, 0, 1.0]])


def build(overrides):
  run = settings.resolve(base.override(base.get_config(), overrides))
  return objectives.build(run.objective, run.mask)


def views(num):
  return list(jax.random.normal(jax.random.key(1), (num, 3, 3)))


def test_erm_needs_one_view():
  objective = build({"objective.label_smoothing": 0.1})
  assert objective.keep_rates == ()
  (clean,) = views(1)
  np.testing.assert_allclose(
    objective.terms([clean], LABELS)["loss"],
    losses.cross_entropy(clean, LABELS, label_smoothing=0.1),
  )


@pytest.mark.parametrize(("align", "factor"), [("none", 1.0), ("ratio", 1 / 0.4)])
def test_mixboost_terms(align, factor):
  objective = build(
    {
      "objective.name": "mixboost",
      "objective.boost_weight": 0.5,
      "objective.align": align,
      "mask.keep_rate": 0.4,
    }
  )
  assert objective.keep_rates == (0.4,)
  clean, masked = views(2)
  terms = objective.terms([clean, masked], LABELS)
  cross_entropy = losses.cross_entropy(clean, LABELS)
  entropy = losses.entropy(clean - factor * masked)
  np.testing.assert_allclose(terms["cross_entropy"], cross_entropy, rtol=1e-5)
  np.testing.assert_allclose(terms["boost_entropy"], entropy, rtol=1e-5)
  np.testing.assert_allclose(terms["loss"], cross_entropy - 0.5 * entropy, rtol=1e-5)


def test_three_terms_use_each_distinct_view_once():
  objective = build(
    {
      "objective.name": "interaction",
      "objective.low_weight": 0.5,
      "objective.mid_weight": 2.0,
      "objective.high_weight": 3.0,
    }
  )
  assert objective.keep_rates == (0.0, 0.3, 0.5, 0.7)
  clean, r0, r3, r5, r7 = views(5)
  terms = objective.terms([clean, r0, r3, r5, r7], LABELS)
  low = -losses.entropy(r5 - r0)
  mid = losses.cross_entropy(r7 - 0.7 / 0.3 * r3, LABELS)
  high = -losses.entropy(clean - 1 / 0.7 * r7)
  expected = losses.cross_entropy(clean, LABELS) + 0.5 * low + 2 * mid + 3 * high
  np.testing.assert_allclose(terms["loss"], expected, rtol=1e-5)
  np.testing.assert_allclose(terms["mid_interaction"], mid, rtol=1e-5)


def test_boost_is_the_high_order_penalty_with_alignment():
  """Eq. 3-4 of MixBoost is lambda3 alone, up to the alignment factor."""
  boost = build({"objective.name": "mixboost", "objective.align": "ratio"})
  penalty = build({"objective.name": "interaction", "objective.high_weight": 1.0})
  assert boost.keep_rates == penalty.keep_rates == (0.7,)
  pair = views(2)
  np.testing.assert_allclose(
    boost.terms(pair, LABELS)["loss"], penalty.terms(pair, LABELS)["loss"], rtol=1e-5
  )
