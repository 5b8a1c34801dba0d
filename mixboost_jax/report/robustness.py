# SPDX-License-Identifier: Apache-2.0
"""Tables of the robustness suites: the columns of the MixBoost paper, and files against our own."""

import dataclasses
from collections.abc import Sequence

from mixboost_jax.report import aggregate, tables, titles
from mixboost_jax.report.aggregate import Group, MetricId
from mixboost_jax.report.tables import NOT_RUN, Cell, Table
from mixboost_jax.runtime.results import Flag

RELEASED = "-released"
"""End of the names of numbers on published files."""


@dataclasses.dataclass(frozen=True)
class Column:
  """One column: title, suffix of the data set's name, metric."""

  title: str
  suffix: str
  metric: str


STANDARD = (
  Column("Clean Error", "", "error"),
  Column("{}-C mCE", "-c", "mce"),
  Column("{}-C̄ mCE", "-c_bar", "mce"),
  Column("{}-P mFR", "-p", "mfr"),
  Column("Clean RMS", "", "rms_calibration_error"),
  Column("{}-C RMS", "-c", "rms_calibration_error"),
  Column("{}-C̄ RMS", "-c_bar", "rms_calibration_error"),
  Column("PGD Error", "-pgd", "error"),
)
"""Table I of MixBoost; `{}` is the family of the data set, CIFAR there."""


def standard_table(groups: Sequence[Group]) -> Table | None:
  """Returns one row per run with the eight columns of the paper, per data set; None if not run."""
  keys = aggregate.metric_ids(groups)
  rows: list[tuple[Cell, ...]] = []
  header: tuple[str, ...] = ()
  counts: dict[str, int] = {}
  origins: set[str] = set()
  for dataset, split in _bases(keys):
    columns = [(column, _key(column, dataset, split, keys)) for column in STANDARD]
    header = header or ("Run", *(_title(column, dataset) for column in STANDARD))
    rows.append((Cell(titles.dataset(dataset, split)),))
    for group in groups:
      rows.append((Cell(group.label), *(_cell(group, key, groups) for _, key in columns)))
    for column, key in columns:
      for group in groups:
        if key is not None and (value := group.value(key)) is not None:
          counts[_title(column, dataset)] = value.metric.count
          if column.suffix in ("-c", "-c_bar", "-p"):
            origins.add(value.metric.source)
  if not rows:
    return None
  listed = ", ".join(f"{title} {count:,}" for title, count in counts.items())
  caption = (
    "Columns of Table I of MixBoost, in %, lower is better; intervals in brackets. mCE and mFR are "
    f"plain means. Examples (films for mFR): {listed}. Corrupted pictures: "
    f"{' and '.join(sorted(origins))}."
  )
  return Table(caption, header, tuple(rows))


def _bases(keys: Sequence[MetricId]) -> list[tuple[str, str]]:
  """Returns the data sets of which a whole list of corruptions was measured."""
  suffixes = [
    f"{column.suffix}{end}"
    for column in STANDARD
    if column.metric in ("mce", "mfr")
    for end in ("", RELEASED)
  ]
  found = {
    (dataset.removesuffix(suffix), split): None
    for dataset, split, metric in keys
    if metric in ("mce", "mfr")
    for suffix in suffixes
    if dataset.endswith(suffix)
  }
  return list(found)


def _key(column: Column, dataset: str, split: str, keys: Sequence[MetricId]) -> MetricId | None:
  """Returns where a column is found: on published files if these were measured."""
  for end in (RELEASED, "") if column.suffix in ("-c", "-c_bar", "-p") else ("",):
    key = (f"{dataset}{column.suffix}{end}", split, column.metric)
    if key in keys:
      return key
  return None


def _title(column: Column, dataset: str) -> str:
  family = "CIFAR" if dataset.startswith("cifar") else titles.dataset(dataset)
  return column.title.format(family)


def _cell(group: Group, key: MetricId | None, groups: Sequence[Group]) -> Cell:
  if key is None:
    return Cell(NOT_RUN, tone="missing")
  return tables.value_cell(group, key, best=group.label in aggregate.best_groups(groups, key))


def deviation_table(groups: Sequence[Group]) -> Table | None:
  """Returns published files against pictures made here, metric by metric; None without both."""
  keys = aggregate.metric_ids(groups)
  rows: list[tuple[Cell, ...]] = []
  for dataset, split, metric in keys:
    made_here = (dataset.removesuffix(RELEASED), split, metric)
    if not dataset.endswith(RELEASED) or made_here not in keys:
      continue
    name = f"{titles.metric(metric)}, {titles.dataset(made_here[0], split)}"
    for group in groups:
      released, generated = group.value((dataset, split, metric)), group.value(made_here)
      if released is None or generated is None:
        continue
      unit = released.metric.unit
      rows.append(
        (
          Cell(f"{group.label}: {name}" if len(groups) > 1 else name),
          tables.value_cell(group, (dataset, split, metric)),
          tables.value_cell(group, made_here),
          Cell(titles.number(generated.mean - released.mean, unit, sign=True)),
        )
      )
  if not rows:
    return None
  caption = "How far numbers on pictures made here are from those on the published files."
  return Table(caption, ("Metric", "Published", "Made here", "Difference"), tuple(rows))


def flags(groups: Sequence[Group]) -> tuple[tuple[str, Flag], ...]:
  """Returns (run, flag) for every flag of every run, red ones first, notes last."""
  levels = ("red", "amber", "note")
  found = [
    (group.label if len(groups) > 1 else "", flag)
    for group in groups
    for flag in dict.fromkeys(flag for run in group.runs for flag in run.results.flags)
  ]
  return tuple(sorted(found, key=lambda pair: levels.index(pair[1].level)))
