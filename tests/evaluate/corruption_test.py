# SPDX-License-Identifier: Apache-2.0

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import evaluate, metrics
from mixboost_jax.evaluate import _corruption, _films, _ood
from mixboost_jax.evaluate._kind import Family, Place

PLACE = Place("set-c", "test", "generated", 0.95)
COUNT = 240


def cells(members, severities: Sequence[int] = range(1, 6), seed=0):
  rng = np.random.default_rng(seed)
  found = {}
  for i, member in enumerate(members):
    for severity in severities:
      confidence = rng.uniform(0.3, 1, COUNT).astype(np.float32)
      correct = (rng.uniform(size=COUNT) > 0.08 * severity + 0.02 * i).astype(np.float32)
      unit = evaluate.Unit("corruption", "c", member, severity)
      found[unit] = {"confidence": confidence, "correct": correct}
  return found


def gathered(columns, members, clean=None):
  return Family("c", columns, members, PLACE, clean, session=None, ece_bins=15)


def family(columns, members, clean=None, reference=None):
  found, curves = _corruption.corruption_family(
    gathered(columns, members, clean), reference=reference
  )
  return {metric.name: metric for metric in found}, curves


def errors_of(columns):
  table = {}
  for unit, values in columns.items():
    wrong = 100 * (1 - values["correct"].astype(np.float64).mean())
    table.setdefault(unit.member, []).append(wrong)
  return table


def test_means_are_those_of_metrics():
  members = ("fog", "snow", "contrast")
  columns = cells(members)
  clean = np.r_[np.zeros(12), np.ones(COUNT - 12)].astype(np.float32)
  reference = {"fog": 81.9, "snow": 86.7, "contrast": 85.3}
  found, curves = family(columns, members, {"correct": clean}, reference)
  errors = errors_of(columns)
  want = {
    "mce": metrics.mean_corruption_error(errors),
    "mce_alexnet": metrics.mean_corruption_error(errors, reference=reference),
    "relative_mce": metrics.relative_corruption_error(errors, clean_error=5.0),
    "relative_mce_alexnet": metrics.relative_corruption_error(
      errors,
      clean_error=5.0,
      reference=reference,
      reference_clean_error=_corruption.ALEXNET_CLEAN_ERROR,
    ),
    "error:snow": np.mean(errors["snow"]),
  }
  for name, value in want.items():
    assert found[name].value == pytest.approx(value, rel=1e-6), name
    assert found[name].low < value < found[name].high
    assert found[name].count == COUNT
  assert [p["error"] for p in curves["severity/set-c/fog"]] == pytest.approx(errors["fog"])


def test_calibration_of_files_and_cells():
  members = ("fog", "snow")
  columns = cells(members)
  found, _ = family(columns, members)
  per_file, per_cell = [], []
  for member in members:
    group = [values for unit, values in columns.items() if unit.member == member]
    for parts, into in (([group], per_file), ([[one] for one in group], per_cell)):
      for part in parts:
        confidence, correct = (
          np.concatenate([one[name] for one in part]) for name in ("confidence", "correct")
        )
        order = np.argsort(confidence, kind="stable")
        bins = metrics.fixed_size_bins(
          jnp.asarray(confidence[order]), jnp.asarray(correct[order]), bin_size=100
        )
        into.append(100 * float(metrics.rms_gap(bins, skip_last_bin=True)))
  assert found["rms_calibration_error"].value == pytest.approx(np.mean(per_file), rel=1e-4)
  assert found["rms_calibration_error_cell"].value == pytest.approx(np.mean(per_cell), rel=1e-4)
  assert found["rms_calibration_error_exact"].value > found["rms_calibration_error"].value


def test_no_mean_over_a_part_of_a_list():
  found, _ = family(cells(("fog",)), ("fog", "snow"))
  assert set(found) == {"error:fog"}
  at_three, _ = family(cells(("fog", "snow"), severities=[3]), ("fog", "snow"))
  assert "mce" not in at_three
  assert "mean_error_severity_3" in at_three
  assert "rms_calibration_error" not in at_three  # the name of the published column
  assert "rms_calibration_error_severity_3" in at_three
  assert {"error:fog_severity_3", "error:snow_severity_3"} <= set(at_three)


def test_names_carry_the_severities_of_each_corruption():
  columns = cells(("fog",)) | cells(("snow",), severities=[2, 4])
  found, curves = family(columns, ("fog", "snow"))
  errors = {
    name: [100 * (1 - v["correct"]).mean() for unit, v in columns.items() if unit.member == name]
    for name in ("fog", "snow")
  }
  assert found["error:fog"].value == pytest.approx(np.mean(errors["fog"]))
  assert found["error:snow_severity_2_4"].value == pytest.approx(np.mean(errors["snow"]))
  shared = np.mean([errors["fog"][1], errors["fog"][3], *errors["snow"]])
  assert found["mean_error_severity_2_4"].value == pytest.approx(shared)
  assert [p["step"] for p in curves["severity/set-c/fog"]] == [1, 2, 3, 4, 5]
  assert [p["step"] for p in curves["severity/set-c/snow"]] == [2, 4]
  apart = cells(("fog",), severities=[1]) | cells(("snow",), severities=[4])
  alone, _ = family(apart, ("fog", "snow"))
  assert set(alone) == {"error:fog_severity_1", "error:snow_severity_4"}


def test_interval_takes_examples_along_through_all_corruptions():
  """Three copies of one corruption say no more than one of them."""
  (one,) = cells(("fog",), severities=[1]).values()
  members = [f"copy{i}" for i in range(3)]
  copies = {
    evaluate.Unit("corruption", "c", member, s): one for member in members for s in range(1, 6)
  }
  mean = family(copies, members)[0]["mce"]
  wrong = 1 - one["correct"]
  width = 2 * 1.96 * 100 * wrong.std() / np.sqrt(COUNT)
  # Two ends of 1000 replicates: 4 standard errors of 0.085 / 1.96 of the half width each.
  assert mean.high - mean.low == pytest.approx(width, rel=0.2)


def films(names, seed=0):
  rng = np.random.default_rng(seed)
  return {
    evaluate.Unit("sequence", "p", name): {
      "flip_rate": rng.uniform(0, 0.2, 50).astype(np.float32),
      "top5_distance": rng.uniform(0, 5, 50).astype(np.float32),
    }
    for name in names
  }


def test_films():
  names = ("tilt", "scale")
  columns = films(names)
  reference = {"tilt": 7.05, "scale": 23.53}
  found = {m.name: m for m in _films.sequence_family(gathered(columns, names), reference=reference)}
  rates = {unit.member: 100 * float(v["flip_rate"].mean()) for unit, v in columns.items()}
  distances = {unit.member: float(v["top5_distance"].mean()) for unit, v in columns.items()}
  assert found["mfr"].value == pytest.approx(metrics.mean_flip_rate(rates), rel=1e-5)
  assert found["mfr_alexnet"].value == pytest.approx(
    metrics.mean_flip_rate(rates, reference=reference), rel=1e-5
  )
  assert found["mt5d"].value == pytest.approx(metrics.mean_top5_distance(distances), rel=1e-5)
  assert found["mt5d"].unit == ""
  few = films(names)
  for values in few.values():
    values["top5_distance"][:] = np.nan  # fewer than five classes
  fewer = _films.sequence_family(gathered(few, names), reference=None)
  assert "mt5d" not in {m.name for m in fewer}


def test_detection_names_sets_and_never_averages_over_sources():
  rng = np.random.default_rng(0)

  def columns(shift, count):
    return {name: rng.normal(shift, 1, count).astype(np.float32) for name in _ood.SCORES}

  known, sets = columns(2, 100), {"blobs": columns(0, 20), "mine": columns(1, 10)}
  found = _ood.summarise(PLACE, known, sets, sources={"blobs": "synthetic", "mine": "synthetic"})
  assert list(dict.fromkeys(m.dataset for m in found)) == [
    "set-c-ood",
    "set-c-ood-blobs",
    "set-c-ood-mine",
  ]
  by_key = {(m.dataset, m.name): m for m in found}
  each = [by_key[f"set-c-ood-{name}", "auroc_msp"].value for name in sets]
  mean = by_key["set-c-ood", "auroc_msp"]
  assert mean.value == pytest.approx(np.mean(each))
  assert (mean.count, mean.better) == (30, "higher")
  assert by_key["set-c-ood", "fpr95_energy"].better == "lower"
  assert by_key["set-c-ood-blobs", "known_per_foreign"].value == 5
  assert by_key["set-c-ood-mine", "known_per_foreign"].value == 10  # too few pictures for 5
  mixed = _ood.summarise(PLACE, known, sets, sources={"blobs": "synthetic", "mine": "files"})
  assert "set-c-ood" not in {m.dataset for m in mixed}
