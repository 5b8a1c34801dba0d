# SPDX-License-Identifier: Apache-2.0
"""Tables as data: what stands in which cell, before anyone decides how it looks."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from mixboost_jax import settings as settings_lib
from mixboost_jax.report import titles
from mixboost_jax.report.compare import Difference, difference
from mixboost_jax.report.groups import Group, MetricId, best_groups, metric_ids, own_plain
from mixboost_jax.runtime.results import LEVELS, Flag, Results

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
  """best | better | worse | unclear | untested | missing; paper: heads a row of the paper."""
  span: int = 1
  """Columns that the cell covers."""


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of cells; the first cell of a row is its heading. A row of one cell heads a section."""

  caption: str
  header: tuple[str, ...]
  rows: tuple[tuple[Cell, ...], ...]
  prose: bool = False
  """Whether the cells hold texts to wrap, not numbers."""
  sort: bool = False
  """Whether a page may offer to sort the rows; none of them heads a section then."""


MISSING = Cell(NOT_RUN, tone="missing")


def metric_table(groups: Sequence[Group], keys: Sequence[MetricId]) -> Table:
  """Returns one row per metric and one column per group, with intervals; the best are marked."""
  rows: list[tuple[Cell, ...]] = []
  place = None
  for key in keys:
    if key[:2] != place:
      place = key[:2]
      rows.append((Cell(_place_title(groups, key)),))
    best = best_groups(groups, key)
    values = [_with_seeds(value_cell(one, key, best=one.label in best), one, key) for one in groups]
    rows.append((Cell(_metric_title(groups, key)), *values))
  note = "↓ lower is better, ↑ higher is better; intervals in brackets."
  if len(groups) > 1:
    note += " Best value of each row in bold: the comparisons say whether it beats the noise."
  return Table(note, ("Metric", *(group.label for group in groups)), tuple(rows))


MAX_SEEDS = 5
"""Whose values stand beside their mean."""


def value_cell(group: Group, key: MetricId, *, best: bool = False) -> Cell:
  """Returns a metric of a group with its interval or its spread over seeds."""
  value = group.value(key)
  if value is None:
    return MISSING
  unit = value.metric.unit
  text = titles.number(value.mean, unit)
  if value.deviation is not None:
    text += f" ± {titles.number(value.deviation, unit)}"
    note = f"{len(value.by_seed)} seeds"
  else:
    note = titles.interval(value.low, value.high, unit)
  return Cell(text, note, "best" if best else "")


def _with_seeds(cell: Cell, group: Group, key: MetricId) -> Cell:
  """Adds the value of every seed, if there are a few."""
  value = group.value(key)
  if value is None or not 1 < len(value.by_seed) <= MAX_SEEDS:
    return cell
  each = ", ".join(titles.number(one, value.metric.unit) for _, one in value.by_seed)
  return dataclasses.replace(cell, note=f"{cell.note}: {each}")


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
    title = f"{titles.metric(item.key[2])} on {titles.dataset(*item.key[:2])}"
    values = (Cell(titles.number(value.mean, unit)) for value in (item.before, item.after))
    rows.append((Cell(title), *values, *difference_cells(item)))
  caption = "Difference with its interval (or test), and whether it stands out of the noise."
  return Table(caption, ("Metric", "Baseline", "Compared", "Difference", "Verdict"), tuple(rows))


def difference_cells(item: Difference) -> tuple[Cell, Cell]:
  """Returns the difference with its evidence, and the verdict."""
  unit = item.before.metric.unit
  estimate = f"{titles.number(item.estimate, unit, sign=True)} {item.unit}".rstrip()
  how = ""
  if item.p_value is not None:
    how = f"one-sided p = {item.p_value:.3g}"
  elif item.low is not None:
    how = titles.interval(item.low, item.high, unit, sign=True)
  return Cell(estimate, how), Cell(VERDICTS[item.verdict], tone=item.verdict)


def config_table(groups: Sequence[Group]) -> Table:
  """Returns the settings that differ between groups; for one group, an empty table."""
  flat = [settings_lib.flatten(group.runs[0].results.settings) for group in groups]
  rows = []
  for key in dict.fromkeys(key for settings in flat for key in settings):
    values = [_setting(settings[key]) if key in settings else "absent" for settings in flat]
    if len(set(values)) > 1 and key != "seed" and not key.startswith(_HIDDEN_SETTINGS):
      rows.append((Cell(key), *map(Cell, values)))
  header = ("Setting", *(group.label for group in groups))
  return Table("Settings that differ; all others are equal.", header, tuple(rows), prose=True)


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
    same = len(set(values)) == 1
    rows.append((Cell(key), *([Cell(values[0], span=len(values))] if same else map(Cell, values))))
  header = ("What", *(group.label for group in groups))
  return Table("How the runs were made.", header, tuple(rows), prose=True)


def _summed_up(values: Sequence[str]) -> str:
  """Lists what the runs of one group have, without repeats and not at length."""
  unique = list(dict.fromkeys(values))
  if len(unique) <= 3:
    return "; ".join(unique)
  return f"{unique[0]}; {unique[1]}; … ({len(unique)} different)"


def _environment(results: Results) -> dict[str, str]:
  environment = results.environment
  git, versions = environment.get("git") or {}, environment.get("versions") or {}
  dirty = " with uncommitted changes" if git.get("dirty") else ""
  policy = results.settings.get("augment", {}).get("policy", {})
  rows = {
    "Augmentation": settings_lib.in_words(policy) if policy else "",
    "Evaluated": results.started.replace("T", " ").replace("+00:00", " UTC"),
    **{f"Time: {phase}": titles.duration(spent) for phase, spent in results.seconds.items()},
    "Hardware": hardware_title(environment.get("hardware") or {}),
    "Commit of mixboost_jax": f"{git['commit'][:12]}{dirty}" if git.get("commit") else "",
    "Config hash": results.config_hash,
    "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    "Command": results.command,
  }
  return {title: text for title, text in rows.items() if text}


def hardware_title(hardware: Mapping[str, object]) -> str:
  """Writes what a run computed on in one line; nothing if that is not known."""
  count, kind = hardware.get("device_count", 1), hardware.get("device_kind", "")
  if hardware.get("platform") == "cpu":
    cores = hardware.get("cores", "?")
    return f"{cores} CPU core{'' if cores == 1 else 's'} ({hardware.get('cpu', kind)})"
  return f"{count} x {kind}" if hardware else ""


# Tables of the robustness suites: the columns of the MixBoost paper, and files against our own.

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
_CORRUPTED = ("-c", "-c_bar", "-p")


def standard_table(groups: Sequence[Group]) -> Table | None:
  """Returns one row per run with the eight columns of the paper, per data set; None if not run."""
  keys = metric_ids(groups)
  rows: list[tuple[Cell, ...]] = []
  header: tuple[str, ...] = ()
  counts: dict[str, int] = {}
  origins: set[str] = set()
  for dataset, split in bases(keys):
    columns = [(column, column_key(column, dataset, split, keys)) for column in STANDARD]
    header = header or ("Run", *(column_title(column, dataset) for column in STANDARD))
    rows.append((Cell(titles.dataset(dataset, split)),))
    for group in groups:
      rows.append((Cell(group.label), *(_cell(group, key, groups) for _, key in columns)))
    for column, key in columns:
      for group in groups:
        if key is not None and (value := group.value(key)) is not None:
          counts[column_title(column, dataset)] = value.metric.count
          if column.suffix in _CORRUPTED:
            origins.add(value.metric.source)
  if not rows:
    return None
  listed = ", ".join(f"{title} {count:,}" for title, count in counts.items())
  caption = (
    "Columns of Table I of MixBoost, in %, lower is better; intervals in brackets. mCE and mFR are "
    f"plain means. Examples (films for mFR): {listed}. Corrupted pictures: "
    f"{' and '.join(sorted(origins))}.{_recompressed(rows)}"
  )
  return Table(caption, header, tuple(rows))


def _recompressed(rows: Iterable[Sequence[Cell]]) -> str:
  """Returns what to mind where the clean pictures have been through JPEG before."""
  if not any("(JPEG)" in row[0].text for row in rows):
    return ""
  return (
    " The clean pictures are JPEGs of quality 75, whose quantisation steps are half those of "
    "jpeg_compression at severity 4: rounding again on a coarser grid of the same points is "
    "untypical of that severity."
  )


def boost_table(groups: Sequence[Group]) -> Table | None:
  """Returns what the boost changes in each method, in the columns of the paper; None if not run."""
  keys = metric_ids(groups)
  pairs = [(plain, one) for one in groups if (plain := own_plain(one, groups)) is not None]
  rows: list[tuple[Cell, ...]] = []
  header: tuple[str, ...] = ()
  for dataset, split in bases(keys) if pairs else ():
    header = header or ("Boost on", *(column_title(column, dataset) for column in STANDARD))
    columns = [column_key(column, dataset, split, keys) for column in STANDARD]
    rows.append((Cell(titles.dataset(dataset, split)),))
    for plain, one in pairs:
      found = [key and difference(plain, one, key) for key in columns]
      rows.append((Cell(f"{plain.label} → {one.label}"), *map(_change, found)))
  if not rows:
    return None
  caption = (
    "Change by the boost in points, the same seeds with and without it; lower is better. Brackets: "
    "smallest and largest change over the seeds, or the interval of a single pair; p: one-sided "
    "signed-rank test that the boost is better, from 5 seeds on."
  )
  return Table(caption, header, tuple(rows))


def _change(item: Difference | None) -> Cell:
  if item is None:
    return Cell(NOT_RUN, tone="missing")
  estimate, _ = difference_cells(item)
  seeds = len(item.before.by_seed)
  note = f"{estimate.note}, {seeds} seeds" if seeds > 1 else estimate.note
  text = titles.number(item.estimate, item.before.metric.unit, sign=True)
  return Cell(text, note, "best" if item.verdict == "better" else "")


def bases(keys: Sequence[MetricId]) -> list[tuple[str, str]]:
  """Returns the data sets of which a whole list of corruptions was measured."""
  suffixes = [c.suffix for c in STANDARD if c.metric in ("mce", "mfr")]
  found = {
    (dataset.removesuffix(RELEASED).removesuffix(suffix), split): None
    for dataset, split, metric in keys
    if metric in ("mce", "mfr")
    for suffix in suffixes
    if dataset.removesuffix(RELEASED).endswith(suffix)
  }
  return list(found)


def column_key(
  column: Column, dataset: str, split: str, keys: Sequence[MetricId]
) -> MetricId | None:
  """Returns where a column is found: on published files if these were measured."""
  ends = (RELEASED, "") if column.suffix in _CORRUPTED else ("",)
  places = ((f"{dataset}{column.suffix}{end}", split, column.metric) for end in ends)
  return next((key for key in places if key in keys), None)


def column_title(column: Column, dataset: str) -> str:
  """Returns the heading of a column for a data set."""
  family = "CIFAR" if dataset.startswith("cifar") else titles.dataset(dataset)
  return column.title.format(family)


def _cell(group: Group, key: MetricId | None, groups: Sequence[Group]) -> Cell:
  if key is None:
    return MISSING
  return value_cell(group, key, best=group.label in best_groups(groups, key))


def deviation_table(groups: Sequence[Group]) -> Table:
  """Returns published files against pictures made here, metric by metric that has both."""
  rows: list[tuple[Cell, ...]] = []
  for key in metric_ids(groups):
    here = (key[0].removesuffix(RELEASED), *key[1:])
    name = f"{titles.metric(key[2])}, {titles.dataset(*here[:2])}"
    for group in groups if here != key else ():
      released, generated = group.value(key), group.value(here)
      if released is None or generated is None:
        continue
      change = titles.number(generated.mean - released.mean, released.metric.unit, sign=True)
      title = f"{group.label}: {name}" if len(groups) > 1 else name
      rows.append((Cell(title), value_cell(group, key), value_cell(group, here), Cell(change)))
  caption = "How far numbers on pictures made here are from those on the published files."
  return Table(caption, ("Metric", "Published", "Made here", "Difference"), tuple(rows))


def flags(groups: Sequence[Group]) -> tuple[tuple[str, Flag], ...]:
  """Returns (runs, flag) for every flag, red ones first, notes last.

  What all runs have in common stands once and names none of them.
  """
  owners: dict[Flag, list[str]] = {}
  for group in groups:
    for flag in dict.fromkeys(flag for run in group.runs for flag in run.results.flags):
      owners.setdefault(flag, []).append(group.label)
  found = [
    ("" if len(labels) == len(groups) else titles.listing(labels), flag)
    for flag, labels in owners.items()
  ]
  return tuple(sorted(found, key=lambda pair: LEVELS.index(pair[1].level)))
