# SPDX-License-Identifier: Apache-2.0
"""The words `stress` and `stress:adv`, from a suite to the report."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from mixboost_jax import evaluate, report
from mixboost_jax.evaluate import _stress
from mixboost_jax.runtime import results as results_lib

SIDE, NUM = 4, 30
DIMENSION = SIDE * SIDE * 3


@pytest.fixture(scope="module")
def found(tmp_path_factory):
  """A half-space (the mean of all pixels) around pictures of even grey at known distances."""
  levels = np.linspace(100, 127, NUM).astype(np.uint8)
  images = np.broadcast_to(levels[:, None, None, None], (NUM, SIDE, SIDE, 3))

  def logits_fn(pictures):
    score = 100 * (pictures.mean(axis=(1, 2, 3)) - 0.5)
    return jnp.stack([jnp.zeros_like(score), score], axis=1)

  kept, changed = pytest.MonkeyPatch(), {"norm": "l2", "epsilons": (0.25, 2.0)}
  kept.setitem(_stress.SPHERES, "stress", changed)
  labels = np.zeros(NUM, int)
  folder = tmp_path_factory.mktemp("kept")
  try:
    one = evaluate.evaluate(
      logits_fn, (images, labels), "clean,stress", batch_size=16, folder=folder
    )
  finally:
    kept.undo()
  distances = (0.5 - levels / 255) * np.sqrt(DIMENSION)  # in L2, along the normal
  return one, distances


def caps(distances, radius):
  share = np.clip(distances / radius, 0, 1)
  return 0.5 * special.betainc((DIMENSION - 1) / 2, 0.5, 1 - share**2)


def test_the_half_space_is_met_and_the_attack_stands_at_its_border(found):
  results, distances = found
  metrics = {metric.name: metric for metric in results.metrics if metric.name.startswith("stress")}
  assert set(metrics) == {f"stress:{k}_radius_{r}" for k in ("clean", "adv") for r in ("0.25", "2")}
  for radius in (0.25, 2.0):
    one = metrics[f"stress:clean_radius_{radius:g}"]
    rates = caps(distances, radius)
    stderr = 100 * np.sqrt((rates * (1 - rates)).sum() / _stress.NUM_NEIGHBOURS) / NUM
    assert abs(one.value - 100 * rates.mean()) < 4 * stderr
    assert (one.count, one.unit, one.dataset) == (NUM, "%", "arrays-stress")
    assert one.low < one.value < one.high
  # Attacked pictures have moved by up to 0.5 towards the border and beyond it.
  near = np.abs(np.maximum(distances - 0.5, -0.5))
  assert metrics["stress:adv_radius_0.25"].value > metrics["stress:clean_radius_0.25"].value
  assert near.min() < 0.25 < distances.max()


def test_it_is_drawn(found, tmp_path):
  results, _ = found
  (clean, adv) = (results.curves[f"stress/arrays-stress/{kind}"] for kind in ("clean", "adv"))
  assert [row["radius"] for row in clean] == [0.25, 2.0] == [row["radius"] for row in adv]
  assert all(
    row["picture_low"] <= row["low"] <= row["stress"] <= row["picture_high"] for row in adv
  )
  results_lib.write(tmp_path / "results.json", results)
  report.write(tmp_path / "results.json", tmp_path / "report.html")
  text = (tmp_path / "report.html").read_text()
  assert "Stress in % around attacked pictures" in text
  assert "Prediction-change stress, clean radius 0.25" in text


def test_words():
  labels = [unit.label for unit in evaluate.expand("stress,stress:adv,stress-linf:clean")]
  assert labels == ["stress:clean", "stress:adv", "stress-linf:clean"]
  assert "pgd-l2-0.5-100" in [unit.label for unit in evaluate.expand("augmentation")]
