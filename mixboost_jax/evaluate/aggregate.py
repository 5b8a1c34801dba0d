# SPDX-License-Identifier: Apache-2.0
"""From per-example columns of many units to the numbers of the benchmarks, with intervals.

The units of a family show the same examples, so one bootstrap resamples examples (or films) and
takes each of them along through all corruptions and severities.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixboost_jax import metrics
from mixboost_jax.evaluate.aggregate_calibration import calibration_family, level_suffix
from mixboost_jax.evaluate.replicates import Place, Resamples, metric, resample
from mixboost_jax.evaluate.store import Columns
from mixboost_jax.evaluate.suites import SEVERITIES, Unit
from mixboost_jax.runtime.results import Metric

ALEXNET_CLEAN_ERROR = 43.45
"""In %, top-1 with one crop, of the weights that the authors' code loads (`alexnet-owt-4df8aa71` in
ImageNet-C/test.py of github.com/hendrycks/robustness), as the documentation of torchvision of that
time lists it (docs.pytorch.org/0.1.12/torchvision/models.html)."""


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
    found += calibration_family(place, shared, count, severities)
  for name, levels in wrong.items():
    values, own = _mean_over(levels, tuple(levels)), tuple(sorted(levels))
    title = f"error:{name}{level_suffix(own)}"
    found.append(metric(place, title, float(values.mean()), draws.means(values), count=count))
  return found, {
    f"severity/{place.dataset}/{name}": _severity_curve(levels, place)
    for name, levels in wrong.items()
  }


def _mean_over(levels: Mapping[int, np.ndarray], severities: tuple[int, ...]) -> np.ndarray:
  """Returns the error of every example in %, mean over severities."""
  return 100 * np.mean([levels[s] for s in severities], axis=0)


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
  name = "mce" if whole else f"mean_error{level_suffix(severities)}"
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
