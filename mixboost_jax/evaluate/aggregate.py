# SPDX-License-Identifier: Apache-2.0
"""From per-example columns of many units to the numbers of the benchmarks, with intervals.

The units of a family show the same examples, so one bootstrap resamples examples (or films) and
takes each of them along through all corruptions and severities.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mixboost_jax import metrics
from mixboost_jax.evaluate.store import Columns
from mixboost_jax.evaluate.suites import SEVERITIES, Unit
from mixboost_jax.evaluate.summary import BIN_SIZE
from mixboost_jax.runtime.results import Metric

NUM_RESAMPLES = 1000
NUM_BINNED_RESAMPLES = 200
"""Of the calibration errors of whole families, which cost a sort's length each."""
ALEXNET_CLEAN_ERROR = 43.45
"""In %, top-1 with one crop, of the weights that the authors' code loads (`alexnet-owt-4df8aa71` in
ImageNet-C/test.py of github.com/hendrycks/robustness), as the documentation of torchvision of that
time lists it (docs.pytorch.org/0.1.12/torchvision/models.html)."""


class Place(NamedTuple):
  """What all metrics of one family share."""

  dataset: str
  split: str
  source: str
  confidence: float


@dataclasses.dataclass(frozen=True)
class Resamples:
  """How often each of N examples occurs in each resample."""

  counts: np.ndarray
  """uint16[R, N]."""

  def means(self, values: np.ndarray) -> np.ndarray:
    """Returns the mean of `values[N, ...]` in each resample: [R, ...]."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    found = np.stack([row @ flat for row in self.counts.astype(np.float64)])
    return (found / len(values)).reshape(len(self.counts), *values.shape[1:])


def resample(count: int, *, num_resamples: int = NUM_RESAMPLES) -> Resamples:
  """Draws resamples of `count` examples; the same ones every time."""
  generator = np.random.Generator(np.random.Philox(key=count))
  drawn = [
    np.bincount(generator.integers(0, count, count), minlength=count) for _ in range(num_resamples)
  ]
  return Resamples(np.stack(drawn).astype(np.uint16))


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


def corruption_family(
  place: Place,
  columns: Mapping[Unit, Columns],
  *,
  members: Sequence[str],
  clean_correct: np.ndarray | None,
  reference: Mapping[str, float] | None,
) -> tuple[list[Metric], dict[str, list[dict[str, Any]]]]:
  """Aggregates one list of corruptions.

  Means over corruptions (of errors, of calibration errors) are given only if every corruption of
  the list was measured, over the severities that all of them have. Names, also those of single
  corruptions, end in the severities if these are not all five: `error:fog_severity_3`.

  Args:
    place: of the numbers.
    columns: of every unit of the family, equally many examples each.
    members: the whole list.
    clean_correct: 0 or 1 for the same examples without corruption, for the relative error.
    reference: errors of AlexNet in %, if they are to be divided by.

  Returns:
    Metrics, and curves of the error over severities.
  """
  wrong: dict[str, dict[int, np.ndarray]] = {}
  for unit, values in columns.items():
    wrong.setdefault(unit.member, {})[unit.severity] = 1.0 - values["correct"]
  severities = tuple(sorted(set.intersection(*(set(levels) for levels in wrong.values()))))
  count = len(next(iter(columns.values()))["correct"])
  draws = resample(count)
  found: list[Metric] = []
  if set(wrong) == set(members) and severities:
    stacked = np.stack([_mean_over(wrong[name], severities) for name in members], axis=1)
    each = draws.means(stacked)  # [R, corruptions]
    found += _mean_errors(
      place, stacked, each, members, severities, clean_correct, draws, reference
    )
    shared = {unit: values for unit, values in columns.items() if unit.severity in severities}
    found += _calibration(place, shared, count, severities)
  for name, levels in wrong.items():
    values, own = _mean_over(levels, tuple(levels)), tuple(sorted(levels))
    title = f"error:{name}{_level(own)}"
    found.append(metric(place, title, float(values.mean()), draws.means(values), count=count))
  return found, {
    f"severity/{place.dataset}/{name}": _severity_curve(levels, place)
    for name, levels in wrong.items()
  }


def _mean_over(levels: Mapping[int, np.ndarray], severities: tuple[int, ...]) -> np.ndarray:
  """Returns the error of every example in %, mean over severities."""
  return 100 * np.mean([levels[s] for s in severities], axis=0)


def _level(severities: tuple[int, ...]) -> str:
  """Returns how names of metrics end: in the severities that were measured if not all five."""
  return "" if severities == SEVERITIES else "_severity_" + "_".join(map(str, severities))


def _mean_errors(
  place: Place,
  errors: np.ndarray,
  replicates: np.ndarray,
  members: Sequence[str],
  severities: tuple[int, ...],
  clean_correct: np.ndarray | None,
  draws: Resamples,
  reference: Mapping[str, float] | None,
) -> list[Metric]:
  count = len(errors)
  whole = severities == SEVERITIES
  name = "mce" if whole else f"mean_error{_level(severities)}"
  means = errors.mean(axis=0)
  found = [metric(place, name, float(means.mean()), replicates.mean(axis=1), count=count)]
  clean = None
  if clean_correct is not None:
    wrong = 100.0 * (1.0 - clean_correct[:count])
    clean = float(wrong.mean()), draws.means(wrong)
    growth = means.mean() - clean[0]
    spread = replicates.mean(axis=1) - clean[1]
    found.append(metric(place, f"relative_{name}", float(growth), spread, count=count))
  if reference is None or not whole:
    return found
  base = np.array([reference[one] for one in members])
  value, spread = 100 * (means / base).mean(), 100 * (replicates / base[None]).mean(axis=1)
  found.append(metric(place, "mce_alexnet", float(value), spread, count=count))
  if clean is not None:
    growth = 100 * ((means - clean[0]) / (base - ALEXNET_CLEAN_ERROR)).mean()
    grown = (replicates - clean[1][:, None]) / (base - ALEXNET_CLEAN_ERROR)[None]
    spread = 100 * grown.mean(axis=1)
    found.append(metric(place, "relative_mce_alexnet", float(growth), spread, count=count))
  return found


def _calibration(
  place: Place, columns: Mapping[Unit, Columns], count: int, severities: tuple[int, ...]
) -> list[Metric]:
  """Returns the mean RMS calibration error: per corruption (severities together) and per cell."""
  level = _level(severities)
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
  gaps, owner = (confidence - correct)[order], order % draws.counts.shape[1]
  replicates = [
    _rms(np.repeat(gaps, row[owner]), skip_last_bin=skip_last_bin) for row in draws.counts
  ]
  return _rms(gaps, skip_last_bin=skip_last_bin), np.array(replicates)


def _rms(gaps: np.ndarray, *, skip_last_bin: bool) -> float:
  """As `metrics.rms_calibration_error`, of confidence - correct in order of confidence, in %."""
  starts = np.arange(max(len(gaps) // BIN_SIZE, 1)) * BIN_SIZE  # the remainder joins the last bin
  sizes = np.diff(np.append(starts, len(gaps)))
  squares = np.square(np.add.reduceat(gaps, starts)) / sizes
  kept = squares[:-1] if skip_last_bin else squares
  return float(100 * np.sqrt(kept.sum() / len(gaps)))


def _severity_curve(levels: Mapping[int, np.ndarray], place: Place) -> list[dict[str, Any]]:
  points = []
  for severity, wrong in sorted(levels.items()):
    count = len(wrong)
    ends = metrics.wilson(round(float(wrong.sum())), count, confidence=place.confidence)
    points.append(
      {
        "step": severity,
        "error": 100 * float(wrong.mean(dtype=np.float64)),
        "low": 100 * ends.low,
        "high": 100 * ends.high,
        "count": count,
      }
    )
  return points


def sequence_family(
  place: Place,
  columns: Mapping[Unit, Columns],
  *,
  members: Sequence[str],
  reference: Mapping[str, float] | None,
) -> list[Metric]:
  """Aggregates films: flip rates, and top-5 distances if there are five classes.

  Args:
    place: of the numbers.
    columns: of every sequence, equally many films each.
    members: the whole list; the means are given only if all of it was measured.
    reference: flip rates of AlexNet in %, if they are to be divided by.
  """
  rates = {unit.member: 100.0 * values["flip_rate"] for unit, values in columns.items()}
  distances = {unit.member: values["top5_distance"] for unit, values in columns.items()}
  count = len(next(iter(rates.values())))
  draws = resample(count)
  found: list[Metric] = []
  ranked = all(np.isfinite(values).all() for values in distances.values())
  if set(rates) == set(members):
    found.append(_mean(place, "mfr", [rates[name] for name in members], draws))
    if reference is not None:
      base = np.array([reference[name] for name in members])
      scaled = [100 * rates[name] / b for name, b in zip(members, base, strict=True)]
      found.append(_mean(place, "mfr_alexnet", scaled, draws))
    if ranked:
      found.append(_mean(place, "mt5d", [distances[name] for name in members], draws, unit=""))
  for name, values in rates.items():
    found.append(_mean(place, f"flip_rate:{name}", [values], draws))
  if ranked:
    for name, values in distances.items():
      found.append(_mean(place, f"top5_distance:{name}", [values], draws, unit=""))
  return found


def _mean(
  place: Place, name: str, values: Sequence[np.ndarray], draws: Resamples, *, unit: str = "%"
) -> Metric:
  each = np.stack(values).astype(np.float64).mean(axis=0)
  return metric(place, name, float(each.mean()), draws.means(each), count=len(each), unit=unit)


def two_samples(
  statistic: Callable[[np.ndarray, np.ndarray], np.ndarray],
  first: np.ndarray,
  second: np.ndarray,
  *,
  num_resamples: int = NUM_BINNED_RESAMPLES,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns a vector of statistics of two independent samples, and its replicates [R, ...]."""
  draws = resample(len(first), num_resamples=num_resamples).counts
  others = resample(len(second), num_resamples=num_resamples).counts
  first, second = np.sort(first), np.sort(second)
  replicates = [
    statistic(np.repeat(first, a), np.repeat(second, b)) for a, b in zip(draws, others, strict=True)
  ]
  return statistic(first, second), np.stack(replicates)
