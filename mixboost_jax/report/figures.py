# SPDX-License-Identifier: Apache-2.0
"""Which charts the results allow, and from which curves they are drawn."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mixboost_jax.report import charts, interaction_data, titles
from mixboost_jax.report.aggregate import AUDIT, Group, MetricId
from mixboost_jax.report.markup import Markup

SEVERITY = "severity/"
"""Prefix of the curves of the error over the severities of a corruption."""
RELIABILITY = "reliability/"
"""Prefix of the curves that hold the bins of a reliability diagram."""
FIRST = ("loss", "clean_error", "error", "nll", "learning_rate")
"""Quantities shown at once; the others are folded away."""
_FROM_ZERO = {"clean_error", "error", "learning_rate"}


@dataclasses.dataclass(frozen=True)
class Figure:
  """A chart and its heading; `legend` lists (label, colour) if the page's legend does not hold."""

  title: str
  chart: Markup
  legend: tuple[tuple[str, int], ...] = ()


def errors(groups: Sequence[Group], keys: Sequence[MetricId]) -> Figure | None:
  """Returns the errors of all groups on all sets, with their intervals."""
  clusters = []
  for key in keys:
    if key[2] not in ("error", "clean_error"):
      continue
    row = []
    for i, group in enumerate(groups):
      value = group.value(key)
      if value is None:
        continue
      low, high, text = value.low, value.high, titles.with_unit(value.mean, "%")
      if value.deviation is not None:
        low, high = value.mean - value.deviation, value.mean + value.deviation
        text = f"{titles.number(value.mean, '%')} ± {titles.with_unit(value.deviation, '%')}"
      row.append(charts.Whisker(group.label, value.mean, low, high, i, text))
    if row:
      clusters.append((titles.dataset(*key[:2]), row))
  if not clusters:
    return None
  return Figure("Error", charts.whiskers("Error", clusters, unit="error in %, lower is better"))


def training(groups: Sequence[Group]) -> tuple[list[Figure], list[Figure]]:
  """Returns the main training curves and the remaining ones, all runs overlaid."""
  places: dict[tuple[str, str], None] = {}
  for group in groups:
    for run in group.runs:
      for name, points in run.results.curves.items():
        names = (RELIABILITY, SEVERITY, f"{AUDIT}/")
        if not name.startswith(names) and name not in interaction_data.CURVES:
          fields = [field for point in points for field in point if field != "step"]
          places.update(dict.fromkeys((name, field) for field in fields))
  first, others = [], []
  for name, field in places:
    figure = _training_figure(groups, name, field)
    (first if field in FIRST else others).append((field, figure))
  first.sort(key=lambda pair: FIRST.index(pair[0]))
  return [figure for _, figure in first], [figure for _, figure in others]


def _training_figure(groups: Sequence[Group], name: str, field: str) -> Figure:
  series = []
  for i, group in enumerate(groups):
    for run in group.runs:
      points = _points(run.results.curves.get(name, ()), field)
      if points:
        series.append(charts.Series(group.label, points, i))
  part = titles.PARTS.get(name, name)
  title = f"{titles.CURVES.get(field, field.replace('_', ' '))}, {part}"
  return Figure(title, charts.lines(title, series, from_zero=field in _FROM_ZERO))


def _points(
  curve: Sequence[Mapping[str, Any]], field: str
) -> tuple[tuple[float, float | None], ...]:
  return tuple((float(point["step"]), point[field]) for point in curve if field in point)


def reliability(groups: Sequence[Group]) -> list[Figure]:
  """Returns one reliability diagram per set of pictures; of several seeds the first is drawn."""
  names = dict.fromkeys(
    name
    for group in groups
    for run in group.runs
    for name in run.results.curves
    if name.startswith(RELIABILITY)
  )
  figures = []
  for name in names:
    runs = []
    for i, group in enumerate(groups):
      bins = [_bin(point) for point in group.runs[0].results.curves.get(name, ())]
      if bins and None not in bins:
        runs.append((group.label, [one for one in bins if one is not None], i))
    if runs:
      title = titles.dataset(name.removeprefix(RELIABILITY))
      figures.append(Figure(title, charts.reliability(title, runs)))
  return figures


def _bin(point: Mapping[str, Any]) -> charts.Bin | None:
  low, high, count = point.get("low"), point.get("high"), point.get("count")
  if low is None or high is None or count is None:
    return None
  return charts.Bin(low, high, round(count), point.get("confidence"), point.get("accuracy"))
