# SPDX-License-Identifier: Apache-2.0
"""Calibration errors of a family of corruptions, with intervals."""

from collections.abc import Mapping, Sequence

import numpy as np

from mixboost_jax import metrics
from mixboost_jax.evaluate.replicates import (
  NUM_BINNED_RESAMPLES,
  Place,
  Resamples,
  metric,
  resample,
)
from mixboost_jax.evaluate.store import Columns
from mixboost_jax.evaluate.suites import SEVERITIES, Unit
from mixboost_jax.evaluate.summary import BIN_SIZE
from mixboost_jax.runtime.results import Metric


def level_suffix(severities: tuple[int, ...]) -> str:
  """Returns how names of metrics end: in the severities that were measured if not all five."""
  return "" if severities == SEVERITIES else "_severity_" + "_".join(map(str, severities))


def calibration_family(
  place: Place, columns: Mapping[Unit, Columns], count: int, severities: tuple[int, ...]
) -> list[Metric]:
  """Returns the mean RMS calibration error: per corruption (severities together) and per cell."""
  level = level_suffix(severities)
  files: dict[str, list[Columns]] = {}
  for unit, values in columns.items():
    files.setdefault(unit.member, []).append(values)
  per_file = list(files.values())
  per_cell = [[values] for values in columns.values()]
  draws = resample(count, num_resamples=NUM_BINNED_RESAMPLES)
  found = []
  for name, groups in (
    ("rms_calibration_error", per_file),
    ("rms_calibration_error_cell", per_cell),
  ):
    if len(groups[0]) * count < 2 * BIN_SIZE:
      continue  # fewer make no bins
    for suffix, skip in (("", True), ("_exact", False)):
      if name.endswith("cell") and not skip:
        continue
      values = [_rms_of(group, draws, skip_last_bin=skip) for group in groups]
      value = float(np.mean([estimate for estimate, _ in values]))
      spread = np.mean([replicates for _, replicates in values], axis=0)
      title = f"{name}{suffix}{level}"
      found.append(metric(place, title, value, spread, count=count, recentred=True))
  return found


def _rms_of(
  group: Sequence[Columns], draws: Resamples, *, skip_last_bin: bool
) -> tuple[float, np.ndarray]:
  """Returns the RMS calibration error in % of several cells taken together, and its replicates."""
  confidence = np.concatenate([cell["confidence"] for cell in group]).astype(np.float64)
  correct = np.concatenate([cell["correct"] for cell in group]).astype(np.float64)
  order = np.argsort(confidence, kind="stable")
  confidence, correct, owner = confidence[order], correct[order], order % draws.counts.shape[1]

  def rms(times: np.ndarray) -> float:
    values = (np.repeat(array, times) for array in (confidence, correct))
    return _rms(*values, skip_last_bin=skip_last_bin)

  replicates = [rms(row[owner]) for row in draws.counts]
  return rms(np.ones_like(owner)), np.array(replicates)


def _rms(confidence: np.ndarray, correct: np.ndarray, *, skip_last_bin: bool) -> float:
  """As `metrics.rms_calibration_error`, of examples in order of confidence, in %."""
  gaps = confidence - metrics.tied_means(confidence, correct, xp=np)
  starts = np.arange(max(len(gaps) // BIN_SIZE, 1)) * BIN_SIZE  # the remainder joins the last bin
  sizes = np.diff(np.append(starts, len(gaps)))
  squares = np.square(np.add.reduceat(gaps, starts)) / sizes
  kept = squares[:-1] if skip_last_bin else squares
  return float(100 * np.sqrt(kept.sum() / len(gaps)))
