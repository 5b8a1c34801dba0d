# SPDX-License-Identifier: Apache-2.0
"""Everything that a report says, gathered once and rendered as HTML or Markdown."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from mixboost_jax.report import (
  analysis,
  audits,
  cards,
  compare,
  figures,
  interactions,
  leaderboard,
  tables,
  titles,
)
from mixboost_jax.report import groups as groups_lib
from mixboost_jax.report.cards import Card
from mixboost_jax.report.charts import Figure
from mixboost_jax.report.groups import (
  Group,
  MetricId,
  Run,
  Source,
  common_prefix,
  explaining,
  metric_ids,
)
from mixboost_jax.runtime.results import Flag


@dataclasses.dataclass(frozen=True)
class Charts:
  """Figures side by side."""

  figures: tuple[Figure, ...]
  legend: tuple[str, ...] = ()
  """Labels of the runs in the order of their colours; empty if every figure has its own."""
  size: str = ""
  """Of each: small, large, whole (a row of its own), or empty for none of them."""


@dataclasses.dataclass(frozen=True)
class Fold:
  """What a reader has to unfold."""

  title: str
  parts: tuple["Part", ...]


Part = tables.Table | Charts | figures.Strip | tuple[str, ...] | str | Fold
"""What a section is made of; a tuple of texts is a list."""


@dataclasses.dataclass(frozen=True)
class Content:
  """A page before it is rendered."""

  title: str
  subtitle: str
  summary: tuple[str, ...]
  flags: tuple[tuple[str, Flag], ...]
  sections: Mapping[str, Sequence[Part]]
  """Heading -> parts; a section without any is left out."""
  cards: tuple[Card | tables.Table, ...] = ()
  """The first screen."""


def gather(
  sources: Source | Iterable[Source], *, sample_folder: pathlib.Path | None = None
) -> Content:
  """Reads results and works out what there is to say.

  `sample_folder` holds the sample pictures of results that were not read from a file.

  ```python
  content = report.gather(evaluate.evaluate(logits_fn, (images, labels), suite="clean"))
  print(content.title, content.subtitle, list(content.sections))
  ```

  Raises:
    ValueError: if there is nothing to report, or a file is not a results file.
  """
  runs = groups_lib.load(sources)
  with explaining(runs):
    return _gathered(runs, sample_folder)


def _gathered(runs: Sequence[Run], sample_folder: pathlib.Path | None) -> Content:
  groups = groups_lib.group(runs)
  keys = metric_ids(groups)
  differences = compare.differences(groups, keys) if len(groups) > 1 else []
  strips, unreadable = figures.collect(groups, fallback=sample_folder)
  notes = (*compare.collect(groups, keys, differences), *unreadable)
  rest, curves = notes[NUM_NOTES:], figures.training(groups)
  first = cards.collect(groups, keys)
  sections: dict[str, list[Part | None]] = {
    BELIEVE: [notes[:NUM_NOTES], _fold(_counted(len(rest), "more note"), rest)],
    "Leaderboard": _results(groups, keys),
    "Corruptions": _maps(groups, figures.SEVERITY),
    "Trade-off": [Charts(tuple(figures.trade_offs(groups, keys)), size="large")],
    "Calibration": _calibration(groups),
    "Attacks": [_charts(figures.attacks(groups, keys), groups)],
    "Augmentation, stress and influence": [Charts(tuple(analysis.collect(groups)))],
    "Defenses under attack": [audits.table(groups), Charts(tuple(audits.figures(groups)))],
    "Interactions": _interactions(groups),
    "Classes": _maps(groups, figures.CLASSES),
    "Pictures": [*strips[:MAX_STRIPS], _fold("More pictures", *strips[MAX_STRIPS:])],
    "Training": [_fold(_counted(len(curves), "curve"), _charts(curves, groups))],
    "All numbers": _numbers(groups, keys, differences),
  }
  return Content(
    title=_title(groups),
    subtitle=_subtitle(groups),
    summary=() if first else ("No metric has been measured.",),
    flags=tables.flags(groups),
    sections={title: found for title, parts in sections.items() if (found := _present(parts))},
    cards=first,
  )


BELIEVE = "Before you believe the numbers"
"""The section of notes and flags."""
MAX_OPEN = 8
"""Runs whose charts a page can show unfolded."""
MAX_FIGURES = 4
"""Of interactions; the rest is folded away."""
MAX_NAMES = 4
"""Configs that a title lists."""
MAX_STRIPS = 6
NUM_NOTES = 2
"""Notes that are not folded away."""


def _fold(title: str, *parts: Part | None) -> Fold | None:
  inner = _present(parts)
  return Fold(title, tuple(inner)) if inner else None


def _counted(count: int, words: str) -> str:
  return f"{count} {words}" if count == 1 else f"{count} {words}s"


def _charts(found: Sequence[Figure], groups: Sequence[Group], *, size: str = "") -> Charts:
  shared = () if any(one.legend for one in found) else tuple(group.label for group in groups)
  return Charts(tuple(found), shared, size)


def _maps(groups: Sequence[Group], prefix: str) -> list[Part | None]:
  return [Charts((one,), size="whole") for one in figures.heat_maps(groups, prefix)]


def _results(groups: Sequence[Group], keys: Sequence[MetricId]) -> list[Part | None]:
  boost = tables.boost_table(groups)
  return [*leaderboard.collect(groups, keys), boost and _fold("What the boost changes", boost)]


def _calibration(groups: Sequence[Group]) -> list[Part | None]:
  found = figures.reliability(groups)
  parts = [_charts(found, groups, size="small"), figures.RELIABILITY_NOTE] if found else []
  if len(groups) > MAX_OPEN:
    return [_fold(_counted(len(found), "reliability diagram"), *parts)]
  return [*parts]


def _interactions(groups: Sequence[Group]) -> list[Part | None]:
  found = interactions.collect(groups)
  first, more = tuple(found[:MAX_FIGURES]), tuple(found[MAX_FIGURES:])
  shown = [interactions.NOTE, Charts(first)] if found else []
  return [*shown, _fold(_counted(len(more), "more figure"), Charts(more))]


def _numbers(
  groups: Sequence[Group], keys: Sequence[MetricId], differences: Sequence[compare.Difference]
) -> list[Part | None]:
  found = {
    "Every metric": tables.metric_table(groups, keys),
    "Every comparison": tables.difference_table(differences),
    "Published files and pictures made here": tables.deviation_table(groups),
    "Differences between the configs": tables.config_table(groups),
    "Environment": tables.environment_table(groups),
  }
  return [_fold(title, table) for title, table in found.items()]


def _present(parts: Iterable[Part | None]) -> list[Part]:
  """Leaves out tables without rows and charts without figures."""
  return [
    part
    for part in parts
    if part
    and not (isinstance(part, tables.Table) and not part.rows)
    and not (isinstance(part, Charts) and not part.figures)
  ]


def _title(groups: list[Group]) -> str:
  runs = [run.results for group in groups for run in group.runs]
  shared = common_prefix([groups_lib.without_seed(one.name) for one in runs]).strip("_")
  everyone = titles.listing([group.label for group in groups])
  name = titles.run(shared)
  if len(groups) > MAX_NAMES:
    everyone = f"{len(groups)} configs"
  title = f"{name}: {everyone}" if name else everyone
  is_given = not runs[0].settings  # by a caller, who writes it as it is to be read
  return title if is_given else f"{title[0].upper()}{title[1:]}"


def _subtitle(groups: list[Group]) -> str:
  settings = [run.results.settings for group in groups for run in group.runs]
  models = sorted({s["model"]["name"] for s in settings if "model" in s})
  sets = sorted({titles.dataset(s["data"]["name"]) for s in settings if "data" in s})
  days = sorted({run.results.started[:10] for group in groups for run in group.runs} - {""})
  pair = [compare.baseline_of(groups).label, *(group.label for group in groups)]
  order = " → ".join(dict.fromkeys(pair)) if len(groups) == 2 else ""
  span = " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))
  parts = [order, ", ".join(models), ", ".join(sets), span]
  return " · ".join(part for part in parts if part)
