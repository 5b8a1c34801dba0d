# SPDX-License-Identifier: Apache-2.0
"""What a reader must know before believing the numbers."""

from collections.abc import Sequence

from mixboost_jax.report import compare, titles
from mixboost_jax.report.aggregate import Group, MetricId
from mixboost_jax.report.compare import Difference

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
      f"Fewer than {compare.MIN_SEEDS} seeds in common cannot show a difference at the 5 % level "
      "by a signed-rank test, so none was made."
    )
  return found


def _has_test_curve(group: Group) -> bool:
  return any("test" in run.results.curves for run in group.runs)
