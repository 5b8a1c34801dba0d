# SPDX-License-Identifier: Apache-2.0
"""Result tables of a README, written between markers from committed results files.

```text
<!-- results:demo runs=erm,mixboost metrics=error,ece -->
anything here is replaced
<!-- /results -->
```

`demo` selects the results whose name is `demo` or starts with `demo_`. `runs` lists the rows that
the table must have (`demo_erm`, or `erm`); those without a results file say "not run". `metrics`
and `datasets` choose the columns. Without them everything that was measured is shown.
`table=robustness` gives the columns of the MixBoost paper instead, `table=boost` what the boost
changes in them, `table=defenses` the accuracies of an audit.
"""

import os
import pathlib
import re
import statistics
from collections.abc import Callable, Iterable, Sequence

from mixboost_jax import files, registry
from mixboost_jax.report import audits, markdown, tables, titles
from mixboost_jax.report import groups as groups_lib
from mixboost_jax.report.groups import Group, MetricId, Run, Source, best_groups
from mixboost_jax.report.tables import Cell, Table

_MARKERS = re.compile(
  r"(?P<open><!-- results:(?P<name>[\w.-]+)(?P<options>(?: \w+=[^\s>]+)*) -->)"
  r"(?P<old>.*?)(?P<close><!-- /results -->)",
  re.DOTALL,
)
_ANY_MARKER = re.compile(r"<!-- */?results\b.*?-->")
_OPTIONS = ("runs", "metrics", "datasets", "table")


def update(path: str | os.PathLike, results: Source | Iterable[Source]) -> bool:
  """Fills every marked place of a Markdown file; returns whether that changed it.

  ```python
  with open("scores.md", "w") as file:
    file.write("<!-- results:demo metrics=error --><!-- /results -->")
  report.update_readme("scores.md", evaluate.evaluate(logits_fn, (images, labels), name="demo"))
  ```

  Raises:
    ValueError: if a marker is malformed or not closed, or there is none.
    WriteError: if the file cannot be written.
  """
  place = pathlib.Path(path)
  text = place.read_text(encoding="utf-8")
  sources = [results] if isinstance(results, Source) else list(results)
  changed = fill(text, groups_lib.load(sources) if sources else [], place=str(place))
  if changed == text:
    return False
  files.write_text(place, changed)
  return True


def fill(text: str, runs: Sequence[Run], *, place: str = "README") -> str:
  """Returns `text` with every marked place filled.

  Raises:
    ValueError: if a marker is malformed or not closed, or there is none.
  """
  whole = list(_MARKERS.finditer(text))
  if not whole:
    raise ValueError(
      f"{place}: no place for results; mark one with <!-- results:NAME --> and <!-- /results -->."
    )
  known = sum(len(_ANY_MARKER.findall(match["old"])) for match in whole)
  if known or len(_ANY_MARKER.findall(text)) != 2 * len(whole):
    raise ValueError(
      f"{place}: a results marker is malformed or not closed; write <!-- results:NAME "
      "[runs=a,b] [metrics=a,b] [datasets=a,b] --> and <!-- /results -->."
    )
  return _MARKERS.sub(lambda match: _filled(match, runs, place), text)


def _filled(match: re.Match[str], runs: Sequence[Run], place: str) -> str:
  name = match["name"]
  options = dict(pair.split("=", 1) for pair in match["options"].split())
  unknown = sorted(set(options) - set(_OPTIONS))
  if unknown:
    raise ValueError(
      f"{place}: results:{name}: unknown option {unknown[0]!r}; choose from {', '.join(_OPTIONS)}."
    )
  own = [r for r in runs if r.results.name == name or r.results.name.startswith(f"{name}_")]
  with groups_lib.explaining(runs):
    groups = groups_lib.group(own, prefix=f"{name}_") if own else []
    if "table" in options:
      field = f"{place}: results:{name}: table"
      data = paper_table(registry.lookup(_TABLES, options["table"], field=field), name, groups)
    else:
      chosen = {key: tuple(value.split(",")) for key, value in options.items()}
      data = readme_table(name, groups, **chosen)
  body = "\n\n".join(text for text in (markdown.table(data), data.caption) if text)
  return f"{match['open']}\n{body}\n{match['close']}"


def readme_table(
  name: str,
  groups: Sequence[Group],
  *,
  runs: tuple[str, ...] = (),
  metrics: tuple[str, ...] = (),
  datasets: tuple[str, ...] = (),
) -> Table:
  """Returns one row per config and one column per metric; what is missing says "not run"."""
  keys = [
    key
    for key in groups_lib.metric_ids(groups)
    if (not metrics or key[2] in metrics) and (not datasets or key[0] in datasets)
  ]
  if not keys:  # nothing was run, but the columns are known all the same
    keys = [(dataset, "test", metric) for dataset in datasets or ("",) for metric in metrics]
  rows: list[tuple[str, Group | None]] = [
    (titles.run(row.removeprefix(f"{name}_")), _group_of(name, row, groups)) for row in runs
  ]
  rows = rows or [(group.label, group) for group in groups] or [(titles.run(name), None)]
  header = ("Run", *(_column(groups, key) for key in keys), "Seeds", "Training", "Commit")
  lines = []
  for label, group in rows:
    values = [_value(group, key, groups) for key in keys]
    lines.append((Cell(label), *values, *_origin(group)))
  return Table("", header, tuple(lines))


_TABLES = {
  "robustness": (
    tables.standard_table,
    ("Run", *(column.title.format("CIFAR") for column in tables.STANDARD)),
  ),
  "boost": (
    tables.boost_table,
    ("Boost on", *(column.title.format("CIFAR") for column in tables.STANDARD)),
  ),
  "defenses": (audits.table, ("Accuracy in %", audits.attack_title(audits.CLAIM))),
}
"""By `table=`: from groups to a table, and the header where nothing was run."""


def paper_table(
  kind: tuple[Callable[[Sequence[Group]], Table | None], tuple[str, ...]],
  name: str,
  groups: Sequence[Group],
) -> Table:
  """Returns a table in the layout of a paper, an entry of `_TABLES`; without runs, one row."""
  build, header = kind
  missing = (Cell(titles.run(name)), *[tables.MISSING] * (len(header) - 1))
  return (build(groups) if groups else None) or Table("", header, (missing,))


def _group_of(name: str, row: str, groups: Sequence[Group]) -> Group | None:
  wanted = {row, f"{name}_{row}"}
  return next((g for g in groups if wanted & {run.results.name for run in g.runs}), None)


def _column(groups: Sequence[Group], key: MetricId) -> str:
  first = next((v.metric for group in groups if (v := group.value(key)) is not None), None)
  place = titles.dataset(*key[:2]) if key[0] else ""
  title = titles.metric(key[2])
  if place:  # within a sentence, but for RMS and the like
    title = f"{place}: {title[0].lower() if title[1:2].islower() else title[0]}{title[1:]}"
  if first is None:
    return title
  return f"{title} {f'({first.unit}) ' if first.unit else ''}{titles.ARROWS[first.better]}".rstrip()


def _value(group: Group | None, key: MetricId, groups: Sequence[Group]) -> Cell:
  if group is None:
    return tables.MISSING
  return tables.value_cell(group, key, best=group.label in best_groups(groups, key))


def _origin(group: Group | None) -> tuple[Cell, Cell, Cell]:
  """Returns seeds, training time with hardware, and commit."""
  if group is None:
    return tables.MISSING, tables.MISSING, tables.MISSING
  all_results = [run.results for run in group.runs]
  times = [r.seconds["train"] for r in all_results if r.seconds.get("train")]
  hardware = [tables.hardware_title(r.environment.get("hardware") or {}) for r in all_results]
  spent = titles.duration(statistics.fmean(times)) if times else "not recorded"
  where = next((f" on {found}" for found in hardware if found and times), "")
  commits = dict.fromkeys(
    git["commit"][:7] + ("+" if git.get("dirty") else "")
    for r in all_results
    if (git := r.environment.get("git")) and git.get("commit")
  )
  return Cell(str(len(all_results))), Cell(spent + where), Cell(", ".join(commits) or "unknown")
