# SPDX-License-Identifier: Apache-2.0
"""Everything that a report says, gathered once and rendered as HTML or Markdown."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from mixboost_jax.report import analysis, audits, compare, figures, interactions, tables, titles
from mixboost_jax.report import groups as groups_lib
from mixboost_jax.report.charts import Figure
from mixboost_jax.report.groups import Group, Run, Source, common_prefix, explaining, metric_ids
from mixboost_jax.runtime.results import Flag


@dataclasses.dataclass(frozen=True)
class Charts:
  """Figures side by side."""

  figures: tuple[Figure, ...]
  legend: tuple[str, ...] = ()
  """Labels of the runs in the order of their colours; empty if every figure has its own."""
  narrow: bool = False
  folded: bool = False
  """Whether a reader has to unfold them."""


Part = tables.Table | Charts | figures.Strip | tuple[str, ...] | str
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


def gather(
  sources: Source | Iterable[Source], *, sample_folder: pathlib.Path | None = None
) -> Content:
  """Reads results and works out what there is to say.

  `sample_folder` holds the sample pictures of results that were not read from a file.

  Raises:
    ValueError: if there is nothing to report, or a file is not a results file.
  """
  runs = groups_lib.load(sources)
  with explaining(runs):
    return _gathered(runs, sample_folder)


def _gathered(runs: Sequence[Run], sample_folder: pathlib.Path | None) -> Content:
  groups = groups_lib.group(runs)
  labels = tuple(group.label for group in groups)
  keys = metric_ids(groups)
  differences = compare.differences(groups, keys) if len(groups) > 1 else []
  in_columns = len(groups) == 2 and compare.baseline_of(groups) is groups[0]
  curves, more = figures.training(groups)
  strips, unreadable = figures.collect(groups, fallback=sample_folder)
  drawn, reliability = interactions.collect(groups), figures.reliability(groups)
  errors = figures.errors(groups, keys)
  sections: dict[str, list[Part | None]] = {
    "Robustness": [tables.standard_table(groups)],
    "Metrics": [
      *([Charts((errors,)), figures.ERRORS] if errors else ()),
      tables.metric_table(groups, keys, differences if in_columns else ()),
    ],
    "Comparisons": [tables.difference_table([] if in_columns else differences)],
    "Published files and pictures made here": [tables.deviation_table(groups)],
    "Training pictures": [*strips],
    "Training": [Charts(tuple(curves), labels), Charts(tuple(more), folded=True)],
    "Reliability": [Charts(tuple(reliability), labels, narrow=True)],
    "Interactions": [Charts(tuple(drawn))],
    "Augmentation, stress and influence": [Charts(tuple(analysis.collect(groups)))],
    "Defenses under attack": [audits.table(groups), Charts(tuple(audits.figures(groups)))],
    "Differences between the configs": [tables.config_table(groups)],
    "Environment": [tables.environment_table(groups)],
    "Notes": [(*compare.collect(groups, keys, differences), *unreadable)],
  }
  if reliability:
    sections["Reliability"].append(figures.RELIABILITY_NOTE)
  if drawn:
    sections["Interactions"].insert(0, interactions.NOTE)
  return Content(
    title=_title(groups),
    subtitle=_subtitle(groups),
    summary=(*compare.summary(groups, keys), *audits.summary(groups))
    or ("No metric has been measured.",),
    flags=tables.flags(groups),
    sections={title: found for title, parts in sections.items() if (found := _present(parts))},
  )


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
  names = [run.results.name for group in groups for run in group.runs]
  shared = common_prefix(names).strip("_")
  everyone = titles.listing([group.label for group in groups])
  name = titles.run(shared)
  return f"{name[0].upper()}{name[1:]}: {everyone}" if name else everyone


def _subtitle(groups: list[Group]) -> str:
  settings = [run.results.settings for group in groups for run in group.runs]
  models = sorted({s["model"]["name"] for s in settings if "model" in s})
  sets = sorted({titles.dataset(s["data"]["name"]) for s in settings if "data" in s})
  days = sorted({run.results.started[:10] for group in groups for run in group.runs} - {""})
  parts = [", ".join(models), ", ".join(sets), " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))]
  return " · ".join(part for part in parts if part)
