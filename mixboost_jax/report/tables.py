# SPDX-License-Identifier: Apache-2.0
"""Tables as data: what stands in which cell, before anyone decides how it looks."""

import dataclasses
from collections.abc import Sequence

from mixboost_jax.report import titles
from mixboost_jax.report.aggregate import Group, MetricId, best_groups, flatten
from mixboost_jax.report.compare import Difference
from mixboost_jax.runtime.results import Results

NOT_RUN = "not run"
_HIDDEN_SETTINGS = ("name", "runtime.", "report.")
VERDICTS = {
  "better": "better",
  "worse": "worse",
  "unclear": "within noise",
  "untested": "not tested",
}


@dataclasses.dataclass(frozen=True)
class Cell:
  """One cell."""

  text: str
  note: str = ""
  """Smaller, under the text."""
  tone: str = ""
  """best | better | worse | unclear | untested | missing."""
  span: int = 1
  """Columns that the cell covers."""


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of cells; the first cell of a row is its heading. A row of one cell heads a section."""

  caption: str
  header: tuple[str, ...]
  rows: tuple[tuple[Cell, ...], ...]


def metric_table(
  groups: Sequence[Group], keys: Sequence[MetricId], items: Sequence[Difference] = ()
) -> Table:
  """Returns one row per metric and one column per group, with intervals; the best are marked.

  Args:
    groups: columns.
    keys: rows.
    items: differences of the second of two groups from the first, shown in two more columns.
  """
  by_key = {item.key: item for item in items}
  rows: list[tuple[Cell, ...]] = []
  place = None
  for key in keys:
    if key[:2] != place:
      place = key[:2]
      rows.append((Cell(_place_title(groups, key)),))
    best = best_groups(groups, key)
    values = [value_cell(group, key, best=group.label in best) for group in groups]
    found = difference_cells(by_key.get(key)) if items else ()
    rows.append((Cell(_metric_title(groups, key)), *values, *found))
  note = "↓ lower is better, ↑ higher is better; intervals in brackets."
  if len(groups) > 1:
    note += " Best value of each row in bold: see beside or below whether it beats the noise."
  more = (f"Difference from {items[0].baseline}", "Verdict") if items else ()
  return Table(note, ("Metric", *(group.label for group in groups), *more), tuple(rows))


def value_cell(group: Group, key: MetricId, *, best: bool = False) -> Cell:
  """Returns a metric of a group with its interval or its spread over seeds."""
  value = group.value(key)
  if value is None:
    return Cell(NOT_RUN, tone="missing")
  unit = value.metric.unit
  text = titles.number(value.mean, unit)
  if value.deviation is not None:
    text += f" ± {titles.number(value.deviation, unit)}"
    note = f"{len(value.by_seed)} seeds"
  else:
    note = titles.interval(value.low, value.high, unit)
  return Cell(text, note, "best" if best else "")


def _place_title(groups: Sequence[Group], key: MetricId) -> str:
  values = [value.metric for group in groups if (value := group.value(key)) is not None]
  counts = sorted({metric.count for metric in values})
  sources = sorted({metric.source for metric in values})
  examples = " or ".join(f"{count:,}" for count in counts)
  return f"{titles.dataset(*key[:2])} ({examples} examples, {', '.join(sources)})"


def _metric_title(groups: Sequence[Group], key: MetricId) -> str:
  first = next(value.metric for group in groups if (value := group.value(key)) is not None)
  unit = f" ({first.unit})" if first.unit else ""
  return f"{titles.metric(key[2])}{unit} {titles.ARROWS.get(first.better, '')}".rstrip()


def difference_table(items: Sequence[Difference]) -> Table:
  """Returns one row per comparison with the baseline."""
  rows: list[tuple[Cell, ...]] = []
  pair = None
  for item in items:
    if (item.challenger, item.baseline) != pair:
      pair = (item.challenger, item.baseline)
      rows.append((Cell(f"{item.challenger} compared with {item.baseline}"),))
    unit = item.before.metric.unit
    rows.append(
      (
        Cell(f"{titles.metric(item.key[2])} on {titles.dataset(*item.key[:2])}"),
        Cell(titles.number(item.before.mean, unit)),
        Cell(titles.number(item.after.mean, unit)),
        *difference_cells(item),
      )
    )
  caption = "Difference with its interval (or test), and whether it stands out of the noise."
  return Table(caption, ("Metric", "Baseline", "Compared", "Difference", "Verdict"), tuple(rows))


def difference_cells(item: Difference | None) -> tuple[Cell, Cell]:
  """Returns the difference with its evidence, and the verdict."""
  if item is None:
    return Cell(NOT_RUN, tone="missing"), Cell("", tone="missing")
  unit = item.before.metric.unit
  estimate = f"{titles.number(item.estimate, unit, sign=True)} {item.unit}".rstrip()
  how = ""
  if item.low is not None:
    how = (
      f"[{titles.number(item.low, unit, sign=True)}, {titles.number(item.high, unit, sign=True)}]"
    )
  elif item.p_value is not None:
    how = f"one-sided p = {item.p_value:.3g}"
  return Cell(estimate, how), Cell(VERDICTS[item.verdict], tone=item.verdict)


def config_table(groups: Sequence[Group]) -> Table:
  """Returns the settings that differ between groups; for one group, an empty table."""
  flat = [flatten(group.runs[0].results.settings) for group in groups]
  keys = dict.fromkeys(key for settings in flat for key in settings)
  rows = []
  for key in keys:
    if key == "seed" or key.startswith(_HIDDEN_SETTINGS):
      continue
    values = [_setting(settings[key]) if key in settings else "absent" for settings in flat]
    if len(set(values)) > 1:
      rows.append((Cell(key), *(Cell(value) for value in values)))
  header = ("Setting", *(group.label for group in groups))
  return Table("Settings that differ; all others are equal.", header, tuple(rows))


def _setting(value: object) -> str:
  if isinstance(value, float):
    return f"{value:g}"
  if isinstance(value, list | tuple):
    return ", ".join(map(_setting, value))
  return str(value)


def environment_table(groups: Sequence[Group]) -> Table:
  """Returns when, where, how long and with what the runs were made; equal values stand once."""
  columns = [[_environment(run.results) for run in group.runs] for group in groups]
  rows = []
  for key in dict.fromkeys(key for column in columns for run in column for key in run):
    values = [_summed_up([run.get(key, "not recorded") for run in column]) for column in columns]
    if len(set(values)) == 1:
      rows.append((Cell(key), Cell(values[0], span=len(values))))
    else:
      rows.append((Cell(key), *(Cell(value) for value in values)))
  header = ("", *(group.label for group in groups))
  return Table("How the runs were made.", header, tuple(rows))


def _summed_up(values: Sequence[str]) -> str:
  """Lists what the runs of one group have, without repeats and not at length."""
  unique = list(dict.fromkeys(values))
  if len(unique) <= 3:
    return "; ".join(unique)
  return f"{unique[0]}; {unique[1]}; … ({len(unique)} different)"


def _environment(results: Results) -> dict[str, str]:
  environment = results.environment
  hardware = environment.get("hardware") or {}
  git = environment.get("git") or {}
  rows: dict[str, str] = {}
  if results.started:
    rows["Evaluated"] = results.started.replace("T", " ").replace("+00:00", " UTC")
  for phase, seconds in results.seconds.items():
    rows[f"Time: {phase}"] = titles.duration(seconds)
  if hardware:
    rows["Hardware"] = hardware_title(hardware)
  if git.get("commit"):
    dirty = " with uncommitted changes" if git.get("dirty") else ""
    rows["Commit"] = f"{git['commit'][:12]}{dirty}"
  if results.config_hash:
    rows["Config hash"] = results.config_hash
  versions = environment.get("versions") or {}
  if versions:
    rows["Versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
  if results.command:
    rows["Command"] = results.command
  return rows


def hardware_title(hardware: dict[str, object]) -> str:
  """Writes what a run computed on in one line."""
  count, kind = hardware.get("device_count", 1), hardware.get("device_kind", "")
  if hardware.get("platform") == "cpu":
    cores = hardware.get("cores", "?")
    return f"{cores} CPU cores ({hardware.get('cpu', kind)})"
  return f"{count} x {kind}"
