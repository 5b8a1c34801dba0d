# SPDX-License-Identifier: Apache-2.0
"""Which differences between runs are larger than their noise, and how that was decided.

One run per group: the interval of the difference follows from the two intervals (the "square and
add" method, Newcombe 1998, Stat. Med. 17, p. 873). It treats the two test sets as independent; for
the same pictures, where errors go together, that makes it wider than need be. Several seeds per
group: the mean of the differences over the seeds that both have, with their range, and from five on
Wilcoxon's exact signed-rank test. A method with the boost is compared with the method alone if that
was run, all others with the baseline.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from mixboost_jax import metrics
from mixboost_jax.report import svg, titles
from mixboost_jax.report.groups import Group, MetricId, Value, is_better, is_plain, own_plain

MIN_SEEDS = 5
"""With fewer pairs no one-sided p value can fall below 5 %."""
ALPHA = 0.05


@dataclasses.dataclass(frozen=True)
class Difference:
  """Challenger minus baseline, for one metric."""

  key: MetricId
  baseline: str
  challenger: str
  before: Value
  after: Value
  estimate: float
  low: float | None
  """Of the interval; over several seeds the smallest difference."""
  high: float | None
  p_value: float | None
  """Of the one-sided test over seeds that the challenger is better."""
  verdict: str
  """better | worse | unclear | untested."""
  method: str

  @property
  def unit(self) -> str:
    """Unit of the difference; percentages differ by points."""
    return "points" if self.before.metric.unit == "%" else self.before.metric.unit


def baseline_of(groups: Sequence[Group]) -> Group:
  """Returns the first group trained by plain risk minimisation, or else the first group."""
  for group in groups:
    if is_plain(group.runs[0].results.settings):
      return group
  return groups[0]


def difference(baseline: Group, challenger: Group, key: MetricId) -> Difference | None:
  """Compares two groups in one metric; None if one of them does not have it."""
  before, after = baseline.value(key), challenger.value(key)
  if before is None or after is None:
    return None
  shared = {seed for seed, _ in before.by_seed} & {seed for seed, _ in after.by_seed} - {None}
  if shared:
    before, after = (group.value(key, seeds=shared) for group in (baseline, challenger))
    assert before is not None
    assert after is not None
  estimate = after.mean - before.mean
  low = high = p_value = None
  pairs = (before.low, before.high, after.low, after.high)
  ends = [end for end in pairs if end is not None]
  if len(shared) > 1:
    old, new = dict(before.by_seed), dict(after.by_seed)
    changes = [new[seed] - old[seed] for seed in shared]
    low, high = min(changes), max(changes)
    p_value, verdict, method = _over_seeds(before, after)
  elif len(before.by_seed) > 1 and len(after.by_seed) > 1:
    verdict, method = "untested", "other seeds"
  elif len(ends) == 4 and math.isfinite(estimate):
    low, high = _square_and_add(before, after, ends)
    verdict, method = _verdict(low, high, before.metric.better), "intervals"
  else:
    verdict, method = "untested", "none"
  return Difference(
    key,
    baseline.label,
    challenger.label,
    before,
    after,
    estimate,
    low,
    high,
    p_value,
    verdict,
    method,
  )


def _square_and_add(before: Value, after: Value, ends: Sequence[float]) -> tuple[float, float]:
  estimate = after.mean - before.mean
  down = math.hypot(after.mean - ends[2], ends[1] - before.mean)
  up = math.hypot(ends[3] - after.mean, before.mean - ends[0])
  return estimate - down, estimate + up


def _verdict(low: float, high: float, better: str) -> str:
  if low <= 0 <= high or better == "none":
    return "unclear"
  return "better" if is_better(low, 0, better) else "worse"


def _over_seeds(before: Value, after: Value) -> tuple[float | None, str, str]:
  """Returns (p that the challenger is better, verdict, method)."""
  old, new = dict(before.by_seed), dict(after.by_seed)
  shared = [seed for seed in old if seed is not None and seed in new]
  if len(shared) < MIN_SEEDS or before.metric.better == "none":
    return None, "untested", "too few seeds"
  a, b = [new[seed] for seed in shared], [old[seed] for seed in shared]
  lower = before.metric.better == "lower"
  p_better = metrics.wilcoxon(a, b, alternative="less" if lower else "greater").p_value
  p_worse = metrics.wilcoxon(a, b, alternative="greater" if lower else "less").p_value
  verdict = "better" if p_better < ALPHA else "worse" if p_worse < ALPHA else "unclear"
  return p_better, verdict, "signed rank"


def pairs(groups: Sequence[Group]) -> list[tuple[Group, Group]]:
  """Returns what is compared: all with the baseline, a boosted group with its method alone."""
  baseline = baseline_of(groups)
  return [(own_plain(one, groups) or baseline, one) for one in groups if one is not baseline]


def differences(groups: Sequence[Group], keys: Sequence[MetricId]) -> list[Difference]:
  """Compares every pair in every metric that both have."""
  found = [difference(*pair, key) for pair in pairs(groups) for key in keys]
  return [item for item in found if item is not None]


class Panel(NamedTuple):
  """The groups that share a chart, each with the number of its colour."""

  number: str
  """What tells several charts of one quantity apart; empty for one."""
  members: tuple[tuple[Group, int], ...]

  @property
  def legend(self) -> tuple[tuple[str, int], ...]:
    """Labels with their colours, if the charts of the page do not share one legend."""
    return tuple((group.label, colour) for group, colour in self.members if self.number)


def panels(groups: Sequence[Group], *, size: int = svg.NUM_COLOURS) -> list[Panel]:
  """Splits groups so that no chart needs more than `size` hues; the baseline is in each.

  A method and what boosts it stay together if they fit.
  """
  if len(groups) <= size:
    return [Panel("", tuple((one, colour) for colour, one in enumerate(groups)))]
  baseline = baseline_of(groups)
  families: dict[str, list[Group]] = {}
  for one in groups:
    if one is not baseline:
      families.setdefault((own_plain(one, groups) or one).label, []).append(one)
  charts = [[baseline]]
  for family in families.values():
    for start in range(0, len(family), size - 1):
      some = family[start : start + size - 1]
      if len(charts[-1]) + len(some) > size:
        charts.append([baseline])
      charts[-1] += some
  return [
    Panel(f" ({k} of {len(charts)})", tuple((one, i) for i, one in enumerate(chart)))
    for k, chart in enumerate(charts, 1)
  ]


def colours(groups: Sequence[Group]) -> dict[str, int]:
  """Returns the colour that each group has in its panel, by label."""
  return {one.label: colour for panel in panels(groups) for one, colour in panel.members}


# What a reader must know before believing the numbers.

_FEWEST = metrics.STATISTICS["rms_calibration_error"].fewest
_SMOKE = re.compile(r"[:+]smoke\b")
_INTERVALS = {
  "wilson": "Wilson's score interval",
  "clopper-pearson": "Clopper and Pearson's exact interval",
  "bootstrap": "the percentile bootstrap over examples",
  "bootstrap, recentred": (
    "the bootstrap over examples, shifted so that its mean meets the value (resampling adds to "
    "binned calibration errors a bias of its own)"
  ),
}


def collect(
  groups: Sequence[Group], keys: Sequence[MetricId], items: Sequence[Difference]
) -> list[str]:
  """Returns the notes that apply to these runs, most important first."""
  values = [m for group in groups for run in group.runs for m in run.results.metrics]
  found = [_seeds(groups)]
  if any(_SMOKE.search(run.results.command) for group in groups for run in group.runs):
    found.insert(
      0,
      "The word smoke makes a run of seconds, which shows that everything works; its numbers say "
      "nothing about how good a method is.",
    )
  if any(metric.source == "procedural" for metric in values):
    found.append(
      "The pictures are procedural: the program draws them itself. They show that everything works "
      "and how the methods behave on a task with known cues; they are no benchmark result."
    )
  if any(metric.source == "generated" for metric in values):
    found.append(
      "Some sets were generated here and not taken from the released files: such numbers are not "
      "comparable with published ones."
    )
  if any(metric.source == "synthetic" for metric in values):
    found.append(
      "Foreign pictures called synthetic were drawn here; they say little about photographs of "
      "unknown things."
    )
  found += _methods(values)
  found += _comparisons(items)
  few = [m.count for m in values if m.name == "ece" and m.count < _FEWEST]
  if few:
    found.append(
      f"The RMS calibration error needs at least {_FEWEST} pictures (two bins of "
      f"{metrics.BIN_SIZE}); {max(few)} are too few, so it is left out."
    )
  if any(name == "rms_calibration_error" for *_, name in keys):
    found.append(
      "RMS calibration error: as in published tables, the bin of highest confidence is left out; "
      "the row with all bins is the definition itself. With 100 examples per bin even a calibrated "
      "model does not reach 0."
    )
  if any(_has_test_curve(group) for group in groups):
    found.append(
      "The test curve is shown to be looked at. Nothing was selected on it: the last step, or the "
      "best one on a validation split, is what was evaluated."
    )
  commits = [run.results.environment.get("git") or {} for group in groups for run in group.runs]
  if any(commit.get("dirty") for commit in commits):
    found.append("The code had changes that are in no commit when a run was made.")
  if len({commit.get("commit") for commit in commits}) > 1:
    found.append("The runs were made with different commits.")
  hardware = [run.results.environment.get("hardware") or {} for g in groups for run in g.runs]
  if len({str(one.get("device_kind")) + str(one.get("cpu")) for one in hardware}) > 1:
    found.append("The runs were made on different hardware: their times cannot be compared.")
  return found


def _seeds(groups: Sequence[Group]) -> str:
  counts = [len(group.runs) for group in groups]
  if max(counts) == 1:
    each = "Each run was" if len(groups) > 1 else "The run was"
    return (
      f"{each} made once (one seed). The intervals say how much a number would change with other "
      "test pictures; how much it would change if the network were trained again is not measured."
    )
  listed = [f"{group.label}: {len(group.runs)}" for group in groups]
  return (
    f"Runs per config: {', '.join(listed)}. Where there are several, ± is the standard deviation "
    "(n - 1) over their seeds."
  )


def _methods(metrics: Sequence) -> list[str]:
  used: dict[str, list[str]] = {}
  for metric in metrics:
    if metric.interval != "none":
      used.setdefault(metric.interval, []).append(titles.metric(metric.name))
  levels = sorted({m.confidence for m in metrics if m.confidence is not None})
  parts = [
    f"{_INTERVALS.get(how, how)} for {titles.listing(list(dict.fromkeys(names)))}"
    for how, names in used.items()
  ]
  if not parts:
    return ["The numbers have no intervals."]
  shown = " or ".join(titles.percent(level) for level in levels)
  return [f"Intervals ({shown}): {'; '.join(parts)}."]


def _comparisons(items: Sequence[Difference]) -> list[str]:
  found = []
  if any(item.method == "intervals" for item in items):
    count = sum(item.method == "intervals" for item in items)
    found.append(
      "Differences between single runs: the interval follows from the two intervals (Newcombe's "
      "square-and-add method), as if the test sets were independent. The runs saw the same "
      "pictures, so it is wider than need be: a difference called clear is clear, one within the "
      f"noise may still be real. Of {count} such comparisons up to one in twenty would look clear "
      "by chance alone."
    )
  if any(item.method == "signed rank" for item in items):
    found.append("Differences over seeds: Wilcoxon's exact one-sided signed-rank test at 5 %.")
  if any(item.method == "too few seeds" for item in items):
    found.append(
      f"Fewer than {MIN_SEEDS} seeds in common cannot show a difference at the 5 % level by a "
      "signed-rank test, so none was made: the brackets hold the smallest and the largest "
      "difference."
    )
  return found


def _has_test_curve(group: Group) -> bool:
  return any("test" in run.results.curves for run in group.runs)
