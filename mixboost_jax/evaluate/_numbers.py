# SPDX-License-Identifier: Apache-2.0
"""Metrics with intervals, and what the metrics of one family share."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mixboost_jax import metrics
from mixboost_jax.runtime.results import Metric

SEVERITIES = (1, 2, 3, 4, 5)
BIN_SIZE = 100
"""Examples per bin of the RMS calibration error, as in published tables."""
NUM_BINNED_RESAMPLES = 200
"""Of the calibration errors of whole families, which cost a sort's length each."""


class Place(NamedTuple):
  """What all metrics of one family share."""

  dataset: str
  split: str
  source: str
  confidence: float


def metric(
  place: Place,
  name: str,
  value: float,
  replicates: np.ndarray | None,
  *,
  count: int,
  unit: str = "%",
  better: str = "lower",
  recentred: bool = False,
) -> Metric:
  """Returns a metric whose interval comes from bootstrap replicates."""
  low = high = None
  how = "none"
  if replicates is not None and count > 1:
    method = "recentred" if recentred else "percentile"
    ends = metrics.interval_of(replicates, value, confidence=place.confidence, method=method)
    low, high = (max(0.0, ends.low), max(0.0, ends.high)) if recentred else ends
    how = "bootstrap, recentred" if recentred else "bootstrap"
  return Metric(
    name=name,
    value=value,
    low=low,
    high=high,
    confidence=None if low is None else place.confidence,
    interval=how,
    count=count,
    unit=unit,
    better=better,
    dataset=place.dataset,
    split=place.split,
    source=place.source,
  )


def error(place: Place, correct: np.ndarray) -> Metric:
  """Returns the error in % of examples that are right or wrong (1 or 0), with Wilson's interval."""
  count = len(correct)
  wrong = count - round(float(correct.sum(dtype=np.float64)))
  ends = metrics.wilson(wrong, count, confidence=place.confidence)
  return dataclasses.replace(
    metric(place, "error", 100 * wrong / count, None, count=count),
    low=100 * ends.low,
    high=100 * ends.high,
    confidence=place.confidence,
    interval="wilson",
  )


def two_samples(
  statistic: Callable[[np.ndarray, np.ndarray], np.ndarray],
  first: np.ndarray,
  second: np.ndarray,
  *,
  num_resamples: int = NUM_BINNED_RESAMPLES,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns a vector of statistics of two independent samples, and its replicates [R, ...]."""
  draws = metrics.resample(len(first), num_resamples=num_resamples).counts
  others = metrics.resample(len(second), num_resamples=num_resamples).counts
  first, second = np.sort(first), np.sort(second)
  replicates = [
    statistic(np.repeat(first, a), np.repeat(second, b)) for a, b in zip(draws, others, strict=True)
  ]
  return statistic(first, second), np.stack(replicates)


def level_suffix(severities: tuple[int, ...]) -> str:
  """Returns how names of metrics end: in the severities that were measured if not all five."""
  return "" if severities == SEVERITIES else "_severity_" + "_".join(map(str, severities))
