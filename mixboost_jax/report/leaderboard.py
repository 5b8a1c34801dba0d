# SPDX-License-Identifier: Apache-2.0
"""The runs in the columns of Table I of MixBoost, the rows of the paper among them in grey."""

from collections.abc import Sequence

from mixboost_jax.report import cards, tables
from mixboost_jax.report.groups import Group, MetricId, best_groups
from mixboost_jax.report.tables import MISSING, Cell, Table

METHODS = ("Baseline", "Cutout", "Mixup", "CutMix", "AutoAugment", "AugMix", "PixMix", "MixBoost")
PAPER = {
  "CIFAR-10": (
    (4.0, 25.1, 24.9, 3.2, 6.5, 23.9, 23.1, 85.7),
    (3.6, 25.9, 24.5, 3.7, 3.3, 17.8, 17.5, 96.0),
    (4.2, 21.0, 22.1, 2.9, 12.5, 12.1, 10.9, 93.3),
    (4.0, 26.5, 25.4, 3.5, 5.0, 18.6, 17.8, 92.1),
    (3.9, 22.2, 24.4, 3.6, 4.0, 14.8, 16.6, 95.1),
    (4.3, 12.4, 16.4, 1.7, 5.1, 9.4, 12.6, 86.8),
    (3.4, 8.0, 11.4, 1.7, 3.1, 4.0, 4.6, 78.7),
    (3.0, 6.5, 9.0, 1.2, 2.3, 3.9, 4.4, 68.4),
  ),
  "CIFAR-100": (
    (20.5, 50.0, 51.9, 10.5, 14.0, 31.4, 30.9, 93.8),
    (19.9, 51.5, 50.2, 11.9, 11.4, 31.1, 29.4, 98.5),
    (21.1, 48.0, 49.8, 9.5, 10.5, 13.0, 12.9, 97.4),
    (20.3, 51.5, 49.6, 12.0, 12.2, 29.3, 26.5, 97.0),
    (19.6, 47.0, 46.8, 11.2, 9.9, 24.9, 22.8, 98.1),
    (20.6, 35.4, 41.2, 6.5, 12.5, 18.8, 22.5, 95.6),
    (19.4, 29.2, 34.2, 5.7, 9.4, 10.7, 10.5, 91.5),
    (18.1, 26.7, 30.5, 4.7, 5.9, 7.6, 7.7, 86.3),
  ),
}
"""Data set -> Table I of MixBoost: a row per method, columns as `tables.STANDARD`."""
PAPER_NOTE = (
  " Grey: Table I of the paper (Wide ResNet 40-4, its own schedule, published pictures), a "
  "reference and no comparison."
)
SORT_NOTE = "A click on a heading sorts."


def collect(groups: Sequence[Group], keys: Sequence[MetricId]) -> list[Table]:
  """Returns one table per data set; without whole lists of corruptions, the numbers there are."""
  whole = tables.standard_table(groups)
  if whole is None:
    return [_plain(groups, keys)]
  sets: dict[str, list[tuple[Cell, ...]]] = {}
  title = ""
  for cells in whole.rows:
    title = cells[0].text if len(cells) == 1 else title
    sets.setdefault(title, []).extend([cells] if len(cells) > 1 else [])
  found = []
  for title, rows in sets.items():
    paper = _paper(title)
    caption = f"{title}. {whole.caption}{PAPER_NOTE if paper else ''} {SORT_NOTE}"
    found.append(Table(caption, whole.header, (*rows, *paper), sort=True))
  return found


def _paper(title: str) -> tuple[tuple[Cell, ...], ...]:
  """Returns the rows of the paper on a data set, whatever files it was read from."""
  values = PAPER.get(title.partition(" (")[0], ())
  return tuple(
    (Cell(f"{name}, paper", tone="paper"), *(Cell(f"{value:.1f}") for value in row))
    for name, row in zip(METHODS, values, strict=False)
  )


def _plain(groups: Sequence[Group], keys: Sequence[MetricId]) -> Table:
  first = cards.headline(keys)
  units = {title: f" ({unit})" for title, key in first.items() if (unit := _unit(groups, key))}
  rows = []
  for group in groups if first else ():
    cells = [
      MISSING
      if group.value(key) is None
      else tables.value_cell(group, key, best=group.label in best_groups(groups, key))
      for key in first.values()
    ]
    rows.append((Cell(group.label), *cells))
  header = ("Run", *(f"{title}{units.get(title, '')}" for title in first))
  caption = f"Intervals in brackets; the best of each column in bold. {SORT_NOTE}"
  return Table(caption, header, tuple(rows), sort=True)


def _unit(groups: Sequence[Group], key: MetricId) -> str:
  return next(value.metric.unit for one in groups if (value := one.value(key)) is not None)
