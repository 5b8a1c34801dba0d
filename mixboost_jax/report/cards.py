# SPDX-License-Identifier: Apache-2.0
"""The first screen: what became of the numbers that matter, A -> B, by how much, how surely.

One run: a card per number. Two: a card per number and its change. More: a card per method, which is
compared with the baseline and with what it becomes by its own boost; in it a line per number.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from mixboost_jax.report import audits, compare, tables, titles
from mixboost_jax.report.compare import Difference
from mixboost_jax.report.groups import Group, MetricId
from mixboost_jax.report.tables import Cell, Table

MAX_NUMBERS = 8
MAX_LINES = 6
"""In the card of one comparison."""
ERRORS = ("error", "clean_error", "mean_error", "mce", "mfr")
_SHORT = {**tables.VERDICTS, "unclear": "noise", "untested": "untested"}


@dataclasses.dataclass(frozen=True)
class Card:
  """One number, or its change."""

  title: str
  values: str
  note: str
  """Its interval, or the difference with its interval."""
  verdict: str = ""
  """A key of `tables.VERDICTS`; empty if there is nothing to compare with."""


def headline(keys: Sequence[MetricId]) -> dict[str, MetricId]:
  """Returns what is looked at first, by title, errors before calibration.

  The columns of Table I of MixBoost where whole lists of corruptions were measured.
  """
  for dataset, split in tables.bases(keys):
    return {
      tables.column_title(column, dataset): key
      for column in tables.STANDARD
      if (key := tables.column_key(column, dataset, split, keys)) is not None
    }
  names = ["error", "clean_error", "mean_error", "rms_calibration_error"]
  if not any(_stem(key) == "mean_error" for key in keys):  # single corruptions stand for themselves
    names[2:2] = dict.fromkeys(_stem(key) for key in keys if key[2].startswith("error:"))
  chosen = [key for name in names for key in keys if _stem(key) == name] or list(keys[:MAX_NUMBERS])
  return {f"{titles.metric(key[2])}, {titles.dataset(*key[:2])}": key for key in chosen}


def _stem(key: MetricId) -> str:
  """Returns the name of a metric without the severities it was measured at."""
  return key[2].partition("_severity_")[0]


def collect(groups: Sequence[Group], keys: Sequence[MetricId]) -> tuple[Card | Table, ...]:
  """Returns the cards, those of audits last."""
  first = headline(keys)
  if len(groups) > 2:
    errors = {title: key for title, key in first.items() if _stem(key) in ERRORS} or first
    cards = [table for chain in _chains(groups) if (table := _comparison(chain, errors)).rows]
  else:
    made = (_card(groups, title, key) for title, key in first.items())
    cards = [card for card in made if card is not None][:MAX_NUMBERS]
  return (*cards, *audits.cards(groups))


def _card(groups: Sequence[Group], title: str, key: MetricId) -> Card | None:
  unit = next(value.metric.unit for one in groups if (value := one.value(key)) is not None)
  behind = f"{titles.NO_BREAK}{unit}" if unit else ""
  if len(groups) == 1:
    cell = tables.value_cell(groups[0], key)
    return Card(title, f"{cell.text}{behind}", cell.note)
  before = compare.baseline_of(groups)
  after = next(one for one in groups if one is not before)
  item = compare.difference(before, after, key)
  if item is None:
    return None
  change, _ = tables.difference_cells(item)
  values = (titles.number(value.mean, unit) for value in (item.before, item.after))
  note = f"{change.text} {change.note}"
  return Card(title, f"{' → '.join(values)}{behind}", note, item.verdict)


def _chains(groups: Sequence[Group]) -> list[tuple[Group, ...]]:
  """Returns (baseline, method) or (baseline, method, the same with boost), no step twice."""
  baseline, pairs = compare.baseline_of(groups), compare.pairs(groups)
  inner = {before.label for before, _ in pairs} - {baseline.label}
  return [
    (before, after) if before is baseline else (baseline, before, after)
    for before, after in pairs
    if after.label not in inner
  ]


def _comparison(chain: Sequence[Group], keys: Mapping[str, MetricId]) -> Table:
  """Values along a chain and the change in each of its steps."""
  steps, rows = list(itertools.pairwise(chain)), []
  for title, key in list(keys.items())[:MAX_LINES]:
    items = [compare.difference(*step, key) for step in steps]
    if any(items):
      values = " → ".join(tables.value_cell(one, key).text for one in chain)
      short = title.replace("CIFAR", "").removesuffix(" Error")
      rows.append((Cell(short), Cell(values), *map(_change, items)))
  header = ("In %", " → ".join("ABC"[: len(chain)]), *("A → B", "B → C")[: len(steps)])
  return Table(" → ".join(one.label for one in chain), header, tuple(rows))


def _change(item: Difference | None) -> Cell:
  if item is None:
    return tables.MISSING
  text = titles.number(item.estimate, item.before.metric.unit, sign=True)
  return Cell(text, _SHORT[item.verdict], item.verdict)
