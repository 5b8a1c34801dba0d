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
from collections.abc import Sequence

from mixboost_jax import metrics
from mixboost_jax.report import titles
from mixboost_jax.report.groups import Group, MetricId, Value, is_better, is_plain, own_plain

MIN_SEEDS = 5
"""With fewer pairs no one-sided p value can fall below 5 %."""
ALPHA = 0.05
MAX_SENTENCES = 6
"""Of the summary; the tables hold everything."""


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


def differences(groups: Sequence[Group], keys: Sequence[MetricId]) -> list[Difference]:
  """Compares every other group with the baseline, a boosted one with its method alone instead."""
  baseline = baseline_of(groups)
  found = [
    difference(own_plain(group, groups) or baseline, group, key)
    for group in groups
    if group is not baseline
    for key in keys
  ]
  return [item for item in found if item is not None]


def sentence(item: Difference) -> str:
  """Says one difference in words, with its interval and whether it stands out of the noise."""
  dataset, split, name = item.key
  unit = item.before.metric.unit
  title = titles.metric(name)
  title = title if title.startswith("RMS") else title[0].lower() + title[1:]
  before = titles.with_unit(item.before.mean, unit)
  after = titles.with_unit(item.after.mean, unit)
  place = titles.dataset(dataset, split)
  if item.verdict in ("better", "worse"):
    verb = "lowers" if item.estimate < 0 else "raises"
    start = f"{item.challenger} {verb} the {title} on {place} from {before} to {after}"
  else:
    start = f"On {place} the {title} is {before} for {item.baseline} and {after} for "
    start += item.challenger
  return f"{start} ({evidence(item)})."


def evidence(item: Difference) -> str:
  """Says how sure a difference is."""
  unit = item.before.metric.unit
  estimate = titles.number(item.estimate, unit, sign=True)
  text = f"difference {estimate} {item.unit}".rstrip()
  if item.method == "intervals":
    level = titles.percent(item.before.metric.confidence or 0.95)
    low, high = (titles.number(end, unit, sign=True) for end in (item.low, item.high))
    outside = "clearly outside" if item.verdict in ("better", "worse") else "not outside"
    return f"{text}, {level} interval {low} to {high}: {outside} the noise of the test set"
  if item.method == "signed rank":
    count = len(item.before.by_seed)
    outside = "clearly outside" if item.verdict in ("better", "worse") else "not outside"
    return f"{text}, one-sided p = {item.p_value:.3g} over {count} seeds: {outside} the noise"
  if item.method == "too few seeds":
    low, high = (titles.number(end, unit, sign=True) for end in (item.low, item.high))
    count = len(item.before.by_seed)
    return f"{text}, {low} to {high} over {count} seeds: too few to test it"
  if item.method == "other seeds":
    return f"{text}; no seed in common, so not tested"
  return f"{text}; no interval, so not tested"


def summary(groups: Sequence[Group], keys: Sequence[MetricId]) -> list[str]:
  """Returns the sentences at the top of the report: what changed in the error, and how surely."""
  errors = [key for key in keys if key[2] in ("error", "clean_error")] or list(keys[:1])
  if len(groups) == 1:
    return [_alone(groups[0], key) for key in errors if groups[0].value(key) is not None]
  found = [sentence(item) for item in differences(groups, errors)]
  rest = len(found) - MAX_SENTENCES
  more = [f"{rest} more comparisons of errors stand in the tables."] if rest > 0 else []
  return found[:MAX_SENTENCES] + more


def _alone(group: Group, key: MetricId) -> str:
  value = group.value(key)
  assert value is not None
  unit = value.metric.unit
  title = titles.metric(key[2])
  numbers = titles.with_unit(value.mean, unit)
  if value.deviation is not None:
    spread = titles.number(value.deviation, unit)
    numbers += f" ± {spread} (standard deviation over {len(value.by_seed)} seeds)"
  elif value.low is not None:
    level = titles.percent(value.metric.confidence or 0.95)
    low, high = titles.number(value.low, unit), titles.number(value.high, unit)
    numbers += f" ({level} interval {low} to {high}, {value.metric.count:,} examples)"
  return f"{title} of {group.label} on {titles.dataset(*key[:2])}: {numbers}."


# What a reader must know before believing the numbers.

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
  metrics = [m for group in groups for run in group.runs for m in run.results.metrics]
  found = [_seeds(groups)]
  if any(metric.source == "procedural" for metric in metrics):
    found.append(
      "The pictures are procedural: the program draws them itself. They show that everything works "
      "and how the methods behave on a task with known cues; they are no benchmark result."
    )
  if any(metric.source == "generated" for metric in metrics):
    found.append(
      "Some sets were generated here and not taken from the released files: such numbers are not "
      "comparable with published ones."
    )
  if any(metric.source == "synthetic" for metric in metrics):
    found.append(
      "Foreign pictures called synthetic were drawn here; they say little about photographs of "
      "unknown things."
    )
  found += _methods(metrics)
  found += _comparisons(items)
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
