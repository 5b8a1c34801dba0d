# SPDX-License-Identifier: Apache-2.0
"""The curves of the figures of Mixup Inference."""

import jax
import jax.numpy as jnp
import pytest
from small_audit import PLAN, POLICIES, make

from mixboost_jax import defenses, evaluate
from mixboost_jax.audit import figures, plan
from mixboost_jax.runtime import mesh as meshes


def test_figures(monkeypatch):
  monkeypatch.setattr(figures, "MIX_WEIGHTS", (0.5, 1.0))
  monkeypatch.setattr(figures, "NUM_SAMPLES", (2,))
  monkeypatch.setattr(figures, "stronger", lambda policy: [(0.6, policy)])
  logits_fn, pool, images, labels = make()
  found = figures.measure(
    logits_fn,
    evaluate.from_dataset((images, labels), split="test"),
    POLICIES,
    pool=pool,
    plan=PLAN,
    figures=tuple(plan.FIGURES),
    layers_fn=lambda x: [jnp.tanh(x)],
    batch_size=64,
    seed=0,
    confidence=0.5,
    mesh=meshes.create(devices=jax.devices()[:1]),
  )
  curves = {name.removeprefix("audit/"): points for name, points in found.curves.items()}
  assert set(curves) == {
    *(f"lambda/{mode}/{kind}" for mode in ("pl", "ol") for kind in ("clean", "adversarial")),
    "roc/mi-pl", "roc/confidence", "tradeoff/mi-ol", "samples/mi-ol", "samples/none",
    *(f"detectors/{n}-{a}" for n in ("ml-loo", "rank", "mi-pl") for a in ("oblivious", "aware")),
  }  # fmt: skip
  half, whole = curves["lambda/ol/clean"]
  assert (half["ideal"], whole["ideal"]) == (-0.5, 0)  # F_y falls from 1 to lambda
  assert half["true_class"] < whole["true_class"] == pytest.approx(0, abs=1e-6)
  (tradeoff,) = curves["tradeoff/mi-ol"]
  assert tradeoff["adversarial"] < tradeoff["clean"]
  assert curves["samples/none"][0]["accuracy"] <= curves["samples/mi-ol"][0]["accuracy"] < 100
  for metric in found.metrics:
    assert metric.confidence == 0.5
    assert 0 <= metric.low <= metric.value <= metric.high <= 1
  areas = {metric.name.removeprefix("audit/auc/"): metric.value for metric in found.metrics}
  for name in ("ml-loo", "rank", "mi-pl"):
    assert areas[f"{name}-aware"] <= areas[f"{name}-oblivious"]
    assert areas[f"fooled/{name}-oblivious"] > 0


def test_strengths_of_the_tradeoff():
  preset = defenses.PRESETS["cifar10/mixup"]
  grids = {name: [s for s, _ in figures.stronger(policy)] for name, policy in preset.items()}
  assert grids["mi-ol"] == grids["mi-combined"] == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
  assert grids["gaussian-noise"] == [0.01, 0.02, 0.03, 0.04]
  assert grids["rotation"] == [20, 40, 60, 80]
  assert grids["crop-pad"] == [8, 12, 16, 24]
  for policy in preset.values():
    for strength, changed in figures.stronger(policy):
      assert strength in changed.values()
