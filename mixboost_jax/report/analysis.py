# SPDX-License-Identifier: Apache-2.0
"""The figures of what augmentation does: risk over its probability, stress, influence."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mixboost_jax import settings as settings_lib
from mixboost_jax.report import charts, titles
from mixboost_jax.report.charts import Figure, Series
from mixboost_jax.report.groups import Group, MetricId, metric_ids
from mixboost_jax.report.interactions import Band, bands

STRESS, INFLUENCE = "stress/", "influence/"
CURVES = (STRESS, INFLUENCE, "influence_top/")
"""Prefixes of the curves of a results file that have figures of their own, or none."""


def collect(groups: Sequence[Group]) -> list[Figure]:
  """Returns every figure that the results allow."""
  return [*over_probability(groups), *stress(groups), *influence(groups)]


def over_probability(groups: Sequence[Group]) -> list[Figure]:
  """Draws each error over p, the probability of an augmentation, with one line per augmentation.

  Bands are one standard deviation over seeds. Runs belong to one line if they differ in p alone; a
  run without any augmentation is p = 0 of every line.
  """
  families: dict[str, dict[float, Group]] = {}
  names: dict[str, str] = {}
  plain: dict[str, Group] = {}
  for group in groups:
    settings = group.runs[0].results.settings
    policy = settings.get("augment", {}).get("policy", {})
    rest = {k: v for k, v in settings_lib.training_keys(settings).items() if k != "seed"}
    rest = {k: v for k, v in rest.items() if not k.startswith("augment.policy")}
    family, probabilities = _without_p(policy), {*_probabilities(policy)}
    if policy.get("name") == "none":
      plain[json.dumps(rest, sort_keys=True)] = group
    elif len(probabilities) == 1:
      identity = json.dumps([family, rest], sort_keys=True)
      names.setdefault(identity, " + ".join(dict.fromkeys(_members(policy))).replace("_", " "))
      families.setdefault(identity, {}).setdefault(probabilities.pop(), group)
  for identity, line in families.items():
    rest = json.dumps(json.loads(identity)[1], sort_keys=True)
    if rest in plain:
      line.setdefault(0.0, plain[rest])
  lines = {names[identity]: line for identity, line in families.items() if len(line) > 1}
  keys = [key for key in metric_ids(groups) if key[2] == "error"]
  return [_risk(key, lines) for key in keys] if lines else []


def _probabilities(policy: Mapping[str, Any]) -> Iterator[float]:
  """Yields the p of every gate of a policy."""
  if policy.get("name") == "with_probability":
    yield float(policy["p"])
  for member in _inside(policy):
    yield from _probabilities(member)


def _inside(policy: Mapping[str, Any]) -> list[Mapping[str, Any]]:
  several = [*policy.get("steps", ()), *policy.get("options", ())]
  return [*several, policy["policy"]] if "policy" in policy else several


def _members(policy: Mapping[str, Any]) -> Iterator[str]:
  inside = _inside(policy)
  if not inside:
    name = str(policy.get("name", ""))
    yield titles.WORDS.get(name, name)
  for member in inside:
    yield from _members(member)


def _without_p(policy: Any) -> Any:
  """Returns a policy whose gates say no p."""
  if isinstance(policy, Mapping):
    kept = {key: _without_p(value) for key, value in policy.items()}
    return {**kept, "p": None} if policy.get("name") == "with_probability" else kept
  return [_without_p(one) for one in policy] if isinstance(policy, list | tuple) else policy


def _risk(key: MetricId, lines: Mapping[str, Mapping[float, Group]]) -> Figure:
  drawn = []
  for colour, (name, line) in enumerate(lines.items()):
    points = []
    for p, group in sorted(line.items()):
      value = group.value(key)
      if value is not None:
        spread = value.deviation or 0.0
        points.append((p, value.mean, value.mean - spread, value.mean + spread))
    if points:
      drawn.append(Band(name, colour, tuple(points)))
  title = f"Error in % over the probability of augmentation, {titles.dataset(*key[:2])}"
  chart = bands(title, drawn, x_label="p", mark=0.0)
  return Figure(title, chart, tuple((one.label, one.colour) for one in drawn))


def stress(groups: Sequence[Group]) -> list[Figure]:
  """Draws stress over the radius, means over seeds; bands are those of these pictures."""
  found: dict[str, list[Band]] = {}
  for colour, group in enumerate(groups):
    for name in dict.fromkeys(name for run in group.runs for name in run.results.curves):
      if name.startswith(STRESS):
        several = [c for run in group.runs if (c := run.results.curves.get(name))]
        points = tuple(
          (rows[0]["radius"], _mean(rows, "stress"), _mean(rows, "low"), _mean(rows, "high"))
          for rows in zip(*several, strict=False)
        )
        found.setdefault(name, []).append(Band(group.label, colour, points))
  figures = []
  for name, lines in found.items():
    place, _, kind = name.removeprefix(STRESS).rpartition("/")
    around = {"clean": "clean", "adv": "attacked"}.get(kind, kind)
    title = f"Stress in % around {around} pictures, {titles.dataset(place)}"
    chart = bands(title, lines, x_label="radius", mark=0.0)
    figures.append(Figure(title, chart, tuple((one.label, one.colour) for one in lines)))
  return figures


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
  return statistics.fmean(row[name] for row in rows)


def influence(groups: Sequence[Group]) -> list[Figure]:
  """Draws the percentiles of the removal effects of each run, for each pair of kinds."""
  figures = []
  for group in groups:
    curves = group.runs[0].results.curves
    pairs = [name for name in curves if name.startswith(INFLUENCE)]
    lines = [
      Series(
        name.removeprefix(INFLUENCE),
        tuple((float(row["step"]), row["effect"]) for row in curves[name]),
        colour,
      )
      for colour, name in enumerate(pairs)
    ]
    if lines:
      title = f"Rise of the test loss without a training picture, {group.label}"
      chart = charts.lines(title, lines, x_label="percentile")
      figures.append(Figure(title, chart, tuple((one.label, one.colour) for one in lines)))
  return figures
