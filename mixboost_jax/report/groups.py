# SPDX-License-Identifier: Apache-2.0
"""From results files to groups: the runs of one config under several seeds belong together."""

import contextlib
import dataclasses
import functools
import itertools
import json
import math
import os
import pathlib
import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mixboost_jax import files
from mixboost_jax import settings as settings_lib
from mixboost_jax.report import titles
from mixboost_jax.runtime import log
from mixboost_jax.runtime import results as results_lib
from mixboost_jax.runtime.results import Metric, Results
from mixboost_jax.schema import READ_WHEN

RESULTS_FILE, INTERACTIONS_FILE, AUDIT_FILE = "results.json", "interactions.json", "audit.json"
INFLUENCE_FILE = "influence.json"
_FILES = (RESULTS_FILE, INTERACTIONS_FILE, INFLUENCE_FILE, AUDIT_FILE)
Source = Results | str | os.PathLike
"""Results in memory, a results file, a run folder, or a folder of run folders."""
MetricId = tuple[str, str, str]
"""(dataset, split, name)."""


@dataclasses.dataclass(frozen=True)
class Run:
  """One results file and the folder that its pictures are relative to."""

  results: Results
  folder: pathlib.Path | None

  @property
  def seed(self) -> int | None:
    """Root of the run's randomness, if it is recorded."""
    return self.results.settings.get("seed")


@dataclasses.dataclass(frozen=True)
class Value:
  """One metric of one group."""

  mean: float
  low: float | None
  """Interval of the test set if there is one run, else None."""
  high: float | None
  deviation: float | None
  """Standard deviation over seeds (n - 1), None for one run."""
  by_seed: tuple[tuple[int | None, float], ...]
  metric: Metric
  """Of the first run: unit, direction, method."""


@dataclasses.dataclass(frozen=True)
class Group:
  """The runs of one config; they differ in their seed only."""

  label: str
  runs: tuple[Run, ...]

  def value(self, key: MetricId, *, seeds: Collection[int | None] | None = None) -> Value | None:
    """Returns a metric over the runs of the group (of some seeds), None if no run has it."""
    pairs = [
      (run.seed, m)
      for run in self.runs
      if seeds is None or run.seed in seeds
      for m in run.results.metrics
      if key_of(m) == key
    ]
    if not pairs:
      return None
    values = [metric.value for _, metric in pairs]
    first = pairs[0][1]
    several = len(values) > 1
    return Value(
      mean=statistics.fmean(values),
      low=None if several else first.low,
      high=None if several else first.high,
      deviation=statistics.stdev(values) if several else None,
      by_seed=tuple((seed, metric.value) for seed, metric in pairs),
      metric=first,
    )

  @functools.cached_property
  def apart_from_boost(self) -> dict[str, Any]:
    """The settings that training depends on, without seed and boost."""
    settings = self.runs[0].results.settings
    flat = settings_lib.training_keys(settings) | {"data.note": _note(settings)}
    return {key: value for key, value in flat.items() if key not in {*_OF_BOOST, "seed"}}


AUDIT = "audit"
"""First part of the names of what `--job=audit` measures; it has a table of its own."""


def key_of(metric: Metric) -> MetricId:
  """Returns what makes two metrics the same quantity."""
  return metric.dataset, metric.split, metric.name


def metric_ids(groups: Sequence[Group]) -> list[MetricId]:
  """Returns every metric that any run has, in the order of the files, datasets kept together.

  Accuracies of an audit are left out; areas under its curves are not.
  """
  found = [key_of(m) for group in groups for run in group.runs for m in run.results.metrics]
  found = [key for key in found if not key[2].startswith(f"{AUDIT}/") or "/auc/" in key[2]]
  places = list(dict.fromkeys((dataset, split) for dataset, split, _ in found))
  unique = list(dict.fromkeys(found))
  return [key for place in places for key in unique if key[:2] == place]


def is_plain(settings: Mapping[str, Any]) -> bool:
  """Tells whether stored settings are plain risk minimisation: no policy and no further term."""
  objective, augment, adversary = (
    settings.get(section, {}) for section in ("objective", "augment", "adversary")
  )
  options = (
    objective.get("jsd_weight"),
    objective.get("reduction_weight"),
    augment.get("manifold_alpha"),
  )
  return (
    objective.get("name") == "erm"
    and augment.get("policy", {}).get("name", "none") == "none"
    and adversary.get("name", "none") == "none"
    and not any(options)
  )


_OF_BOOST = frozenset(
  {"objective.name"}
  | {
    key
    for key, conditions in READ_WHEN.items()
    if any(w.key == "objective.name" for w in conditions)
  }
)
"""Keys that only say whether there are masked views, and what is done with them."""


def own_plain(group: "Group", groups: Sequence["Group"]) -> "Group | None":
  """Returns the group that differs from a boosted one in the boost alone."""

  def objective(one: "Group") -> Any:
    return one.runs[0].results.settings.get("objective", {}).get("name")

  if objective(group) != "mixboost":
    return None
  own = group.apart_from_boost
  plain = (one for one in groups if objective(one) == "erm" and one.apart_from_boost == own)
  return next(plain, None)


def is_better(first: float, second: float, better: str) -> bool:
  """Tells whether the first value beats the second in the stated direction."""
  return first < second if better == "lower" else first > second


def best_groups(groups: Sequence[Group], key: MetricId) -> set[str]:
  """Returns the labels of the groups with the best value; empty unless two can be compared."""
  values = {group.label: value for group in groups if (value := group.value(key)) is not None}
  finite = {label: value for label, value in values.items() if math.isfinite(value.mean)}
  if len(finite) < 2:
    return set()
  better = next(iter(finite.values())).metric.better
  if better == "none":
    return set()
  pick = min if better == "lower" else max
  best = pick(value.mean for value in finite.values())
  return {label for label, value in finite.items() if value.mean == best}


def load(sources: Source | Iterable[Source]) -> list[Run]:
  """Reads whatever names results, in the given order.

  Of several sources, JSON files of another kind (which `results/*.json` also names) are passed by,
  with a warning.

  Raises:
    ResultsError: if a file is missing or not a results file.
    ValueError: if there is nothing to read.
  """
  if isinstance(sources, Results | str | os.PathLike):
    sources = [sources]
  sources = list(sources)
  runs = []
  for source in sources:
    try:
      runs += _load_one(source)
    except results_lib.ForeignFileError as error:
      if len(sources) == 1:
        raise
      log.warn(f"report: passed by: {error}")
  if not runs:
    raise ValueError("report: no results were given; name at least one run folder.")
  return runs


@contextlib.contextmanager
def explaining(runs: Sequence[Run]) -> Iterator[None]:
  """Names the runs where what the schema leaves open (settings, curves) has an unknown shape.

  Raises:
    ResultsError: in place of what the code that draws a report raises then.
  """
  try:
    yield
  except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
    names = titles.listing(list(dict.fromkeys(run.results.name for run in runs)))
    raise results_lib.ResultsError(
      f"report: settings, environment or curves of {names} are not as this version writes them "
      f"({type(error).__name__}: {files.reason(error)}); evaluate the runs again."
    ) from error


def _load_one(source: Source) -> list[Run]:
  if isinstance(source, Results):
    return [Run(source, None)]
  path = pathlib.Path(source)
  if not path.is_dir():
    return [Run(results_lib.read(path), path.parent)]
  found = [path / name for name in _FILES if (path / name).exists()]
  if found:
    return [Run(joined([results_lib.read(file) for file in found]), path)]
  inner = sorted({child.parent for name in _FILES for child in path.glob(f"*/{name}")})
  if not inner:
    raise ValueError(
      f"report: {path} holds no {RESULTS_FILE}, nor do the folders in it; evaluate the run first "
      "(--job=evaluate)."
    )
  return [run for folder in inner for run in _load_one(folder)]


def joined(parts: Sequence[Results]) -> Results:
  """Returns one run out of what its jobs wrote; the first part says what the run is."""
  first = parts[0]
  for other in parts[1:]:
    first = dataclasses.replace(
      first,
      metrics=(*first.metrics, *other.metrics),
      curves={**first.curves, **other.curves},
      seconds={**first.seconds, **other.seconds},
      flags=(*first.flags, *other.flags),
    )
  return first


def group(runs: Sequence[Run], *, prefix: str | None = None) -> list[Group]:
  """Puts runs that differ in their seed only into one group; keeps the order.

  What several jobs of one run left in several files is one run.

  Args:
    runs: from `load`.
    prefix: start of the names that labels leave out; what all names share if None.
  """
  members: dict[str, list[Run]] = {}
  for i, run in enumerate(runs):
    members.setdefault(_identity(run.results, i), []).append(run)
  members = {identity: _one_per_run(runs) for identity, runs in members.items()}
  names = [without_seed(group[0].results.name) for group in members.values()]
  shared = common_prefix(names) if prefix is None else prefix
  labels = [titles.run(name.removeprefix(shared)) for name in names]
  unique: list[str] = []
  for label in labels:
    repeats = sum(other == label or other.startswith(f"{label} (") for other in unique)
    unique.append(f"{label} ({repeats + 1})" if repeats else label)
  return [Group(label, tuple(group)) for label, group in zip(unique, members.values(), strict=True)]


def _one_per_run(runs: Sequence[Run]) -> list[Run]:
  """Joins the files of one seed that do not measure the same."""
  kept: list[Run] = []
  for run in runs:
    measured = {key_of(metric) for metric in run.results.metrics}
    for i, other in enumerate(kept):
      if other.seed == run.seed and measured.isdisjoint(map(key_of, other.results.metrics)):
        kept[i] = Run(joined([other.results, run.results]), other.folder)
        break
    else:
      kept.append(run)
  return kept


def common_prefix(names: Sequence[str]) -> str:
  """Returns the leading words ("demo_") that all names share, never a whole name."""
  if len(set(names)) < 2:
    return ""
  words = [name.split("_")[:-1] for name in names]
  shared = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))
  return "".join(f"{column[0]}_" for column in shared)


def without_seed(name: str) -> str:
  """Returns the name of a run without the `_seed3` at its end."""
  head, _, tail = name.rpartition("_")
  return head if head and tail.startswith("seed") and tail[4:].isdigit() else name


def _identity(results: Results, index: int) -> str:
  settings = {key: v for key, v in results.settings.items() if key not in ("name", "seed")}
  if not settings:  # a stranger's model: nothing is known but that it was evaluated
    return f"#{index}"
  return json.dumps([settings_lib.training_keys(settings), _note(settings)], sort_keys=True)


def _note(settings: Mapping[str, Any]) -> str:
  return settings["data"].get("note", "") if "data" in settings else ""
