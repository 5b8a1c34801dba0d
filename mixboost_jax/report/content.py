# SPDX-License-Identifier: Apache-2.0
"""Everything that a report says, gathered once and rendered as HTML or Markdown."""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

from mixboost_jax.report import audits as audits_lib
from mixboost_jax.report import charts, compare, figures, tables, titles
from mixboost_jax.report import groups as groups_lib
from mixboost_jax.report.audits import table
from mixboost_jax.report.groups import (
  Group,
  Run,
  Source,
  common_prefix,
  explaining,
  load,
  metric_ids,
)
from mixboost_jax.report.interactions import collect
from mixboost_jax.runtime.results import Flag


@dataclasses.dataclass(frozen=True)
class Content:
  """The report before it is rendered."""

  title: str
  subtitle: str
  summary: tuple[str, ...]
  groups: tuple[Group, ...]
  flags: tuple[tuple[str, Flag], ...]
  standard: tables.Table | None
  metrics: tables.Table
  differences: tables.Table | None
  deviations: tables.Table | None
  settings: tables.Table | None
  environment: tables.Table
  errors: charts.Figure | None
  curves: tuple[charts.Figure, ...]
  more_curves: tuple[charts.Figure, ...]
  reliability: tuple[charts.Figure, ...]
  interactions: tuple[charts.Figure, ...]
  audits: tables.Table | None
  audit_figures: tuple[charts.Figure, ...]
  strips: tuple[figures.Strip, ...]
  notes: tuple[str, ...]


def gather(
  sources: Source | Iterable[Source], *, sample_folder: pathlib.Path | None = None
) -> Content:
  """Reads results and works out what there is to say.

  Args:
    sources: results, results files, run folders or folders of run folders.
    sample_folder: folder of the sample pictures of results that were not read from a file.

  Raises:
    ValueError: if there is nothing to report, or a file is not a results file.
  """
  runs = load(sources)
  with explaining(runs):
    return _gathered(runs, sample_folder)


def _gathered(runs: Sequence[Run], sample_folder: pathlib.Path | None) -> Content:
  groups = groups_lib.group(runs)
  keys = metric_ids(groups)
  differences = compare.differences(groups, keys) if len(groups) > 1 else []
  in_columns = len(groups) == 2 and compare.baseline_of(groups) is groups[0]
  curves, more = figures.training(groups)
  strips, unreadable = figures.collect(groups, fallback=sample_folder)
  settings = tables.config_table(groups)
  return Content(
    title=_title(groups),
    subtitle=_subtitle(groups),
    summary=(*compare.summary(groups, keys), *audits_lib.summary(groups))
    or ("No metric has been measured.",),
    groups=tuple(groups),
    flags=tables.flags(groups),
    standard=tables.standard_table(groups),
    metrics=tables.metric_table(groups, keys, differences if in_columns else ()),
    differences=tables.difference_table(differences) if differences and not in_columns else None,
    deviations=tables.deviation_table(groups),
    settings=settings if settings.rows else None,
    environment=tables.environment_table(groups),
    errors=figures.errors(groups, keys),
    curves=tuple(curves),
    more_curves=tuple(more),
    reliability=tuple(figures.reliability(groups)),
    interactions=tuple(collect(groups)),
    audits=table(groups),
    audit_figures=tuple(audits_lib.figures(groups)),
    strips=tuple(strips),
    notes=(*compare.collect(groups, keys, differences), *unreadable),
  )


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
