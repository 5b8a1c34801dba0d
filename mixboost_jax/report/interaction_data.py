# SPDX-License-Identifier: Apache-2.0
"""What the figures of interactions are drawn from, read from results files."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mixboost_jax.report import titles
from mixboost_jax.report.aggregate import Group, is_plain
from mixboost_jax.runtime.results import Metric

CURVE, TRAINING = "interactions", "interactions_training"
MAP, PICTURE, TREE = "interaction_map", "interaction_picture", "interaction_tree"
ATTACK, OUTLIERS = "interaction_attack", "interaction_outliers"
CURVES = (CURVE, TRAINING, MAP, PICTURE, TREE, ATTACK, OUTLIERS)
"""Curves of a results file that have figures of their own."""
PROXY = "interaction_proxy"
PLAIN_ERRORS = ("error", "clean_error")
ERRORS = (*PLAIN_ERRORS, "mce", "mfr")
"""Metrics that M is compared with."""
_SHARED = ("data", "model", "augment", "objective", "adversary", "optimizer", "train")
"""Sections that the runs of a sweep of r1 have in common."""
MAX_CONTRASTS = 6
"""Runs in one figure of attacking utilities or outliers."""
MIN_SCATTER = 4
"""Fewest runs for a scatter of M against an error."""

Rows = Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Measured:
  """The interactions of one group; of several seeds the first that has them."""

  label: str
  colour: int
  rows: Rows
  proxy: float
  proxy_low: float | None
  proxy_high: float | None
  errors: Mapping[str, float]
  """Title of a set of pictures -> error in %."""
  settings: Mapping[str, Any]
  map: Rows
  picture: Rows
  tree: Rows
  attack: Rows = ()
  outliers: Rows = ()

  @property
  def keep_rate(self) -> float:
    """r1: fraction of the cells that the masked view keeps; NaN without a boost loss."""
    if self.settings.get("objective", {}).get("name") != "mixboost":
      return math.nan
    return float(self.settings.get("mask", {}).get("keep_rate", math.nan))

  def to_json(self) -> dict[str, Any]:
    """Returns the numbers, without map and tree."""
    return {
      "orders": [int(row["step"]) for row in self.rows],
      **{
        name: [row[name] for row in self.rows] for name in ("relative", "low", "high", "strength")
      },
      "M": [self.proxy, self.proxy_low, self.proxy_high],
      "errors": dict(self.errors),
    }


def measured(groups: Sequence[Group]) -> list[Measured]:
  """Returns those groups that have a curve J^(m), in their order and colour."""
  found = []
  for colour, group in enumerate(groups):
    for run in group.runs:
      curves = run.results.curves
      if not curves.get(CURVE):
        continue
      known = {metric.name: metric for metric in run.results.metrics}
      proxy = known.get(PROXY)
      errors = {
        _title(metric): metric.value
        for metric in run.results.metrics
        if metric.name in ERRORS and math.isfinite(metric.value)
      }
      rest = {name: curves.get(name, ()) for name in CURVES}
      found.append(
        Measured(
          label=group.label,
          colour=colour,
          rows=curves[CURVE],
          proxy=proxy.value if proxy else math.nan,
          proxy_low=proxy.low if proxy else None,
          proxy_high=proxy.high if proxy else None,
          errors=errors,
          settings=run.results.settings,
          map=rest[MAP],
          picture=rest[PICTURE],
          tree=rest[TREE],
          attack=rest[ATTACK],
          outliers=rest[OUTLIERS],
        )
      )
      break
  return found


def _title(metric: Metric) -> str:
  title = titles.dataset(metric.dataset, metric.split)
  return title if metric.name in PLAIN_ERRORS else f"{title}: {titles.metric(metric.name)}"


def sweep(runs: Sequence[Measured]) -> list[Measured]:
  """Returns the largest set of runs that differ in r1 only, by r1; empty if fewer than 3."""
  families: dict[str, dict[float, Measured]] = {}
  for run in runs:
    if math.isfinite(run.keep_rate):
      rest = {key: run.settings.get(key) for key in _SHARED}
      family = families.setdefault(json.dumps(rest, sort_keys=True, default=str), {})
      family.setdefault(round(run.keep_rate, 6), run)
  best = max(families.values(), key=len, default={})
  return [best[rate] for rate in sorted(best)] if len(best) > 2 else []


def without_boost(boosted: Measured, runs: Sequence[Measured]) -> Measured | None:
  """Returns the run that was trained like `boosted`, but by plain risk minimisation."""
  same = [key for key in _SHARED if key != "objective"]
  return next(
    (
      run
      for run in runs
      if run.settings.get("objective", {}).get("name") == "erm"
      and all(run.settings.get(key) == boosted.settings.get(key) for key in same)
    ),
    None,
  )


def reference(runs: Sequence[Measured]) -> Measured | None:
  """Returns the first run of plain risk minimisation."""
  return next((run for run in runs if is_plain(run.settings)), None)


def panels(runs: Sequence[Measured], *, size: int = 5) -> list[list[Measured]]:
  """Splits many runs into panels that can be read; the reference is in each."""
  if len(runs) <= size + 1:
    return [list(runs)]
  base = reference(runs) or runs[0]
  others = [run for run in runs if run is not base]
  return [[base, *others[start : start + size]] for start in range(0, len(others), size)]


def scatters(runs: Sequence[Measured]) -> dict[str, list[Measured]]:
  """Returns, for each set of pictures, the runs with M and an error there, if they are enough."""
  names = dict.fromkeys(name for run in runs for name in run.errors)
  with_proxy = [run for run in runs if math.isfinite(run.proxy)]
  table = {name: [run for run in with_proxy if name in run.errors] for name in names}
  return {name: some for name, some in table.items() if len(some) >= MIN_SCATTER}


def contrasts(
  runs: Sequence[Measured],
) -> list[tuple[str, str, list[tuple[Measured, Rows]]]]:
  """Returns title, field and runs with rows of each figure that compares two measurements."""
  found = []
  for title, field, rows_of in (
    ("Attacking utility \u0394J of an order, mean over pairs", "utility", "attack"),
    ("Outliers minus normal pictures: mean interaction \u0394I", "average", "outliers"),
    ("Outliers minus normal pictures: positive share \u0394P", "positive", "outliers"),
  ):
    some = [(run, rows) for run in runs if (rows := getattr(run, rows_of))]
    if some:
      found.append((title, field, some[:MAX_CONTRASTS]))
  return found


def tree_layout(rows: Rows) -> tuple[dict[int, tuple[float, float]], list[int], float]:
  """Returns the place of every node (leaf number, T), the leaves' players, and the largest T."""
  places: dict[int, tuple[float, float]] = {}
  players = []
  for row in rows:
    node = int(row["step"])
    if row.get("player") is not None:
      places[node] = (float(len(players)), 0.0)
      players.append(int(row["player"]))
    else:
      left, right = places[int(row["left"])], places[int(row["right"])]
      places[node] = ((left[0] + right[0]) / 2, float(row["total"]))
  return places, players, max((place[1] for place in places.values()), default=0.0) or 1.0
