# SPDX-License-Identifier: Apache-2.0
"""Corrupted pictures (-C, -C-Bar and their like): how they are measured and summed up.

All draws hang on the ids of the examples and on the unit. The units of a family show the same
examples, so one bootstrap resamples examples and takes each of them along through all corruptions
and severities.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from mixboost_jax import corruptions, keys, metrics
from mixboost_jax.evaluate._examples import Unit
from mixboost_jax.evaluate._kind import Curves, Family, Kind
from mixboost_jax.evaluate._numbers import (
  BIN_SIZE,
  NUM_BINNED_RESAMPLES,
  SEVERITIES,
  Place,
  Resamples,
  level_suffix,
  metric,
  resample,
)
from mixboost_jax.evaluate._released import Released
from mixboost_jax.evaluate._session import Change, Session, columns_of, tag_of
from mixboost_jax.evaluate._store import Columns
from mixboost_jax.runtime.mesh import AXES
from mixboost_jax.runtime.results import Metric

ALEXNET_CLEAN_ERROR = 43.45
"""In %, top-1 with one crop, of the weights that the authors' code loads (`alexnet-owt-4df8aa71` in
ImageNet-C/test.py of github.com/hendrycks/robustness), as the documentation of torchvision of that
time lists it (docs.pytorch.org/0.1.12/torchvision/models.html)."""


def corruption(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Corrupts on the devices and scores; or scores the published pictures."""
  if unit.source:
    assert session.released is not None
    part = session.released.pictures(unit, start, stop)
    return columns_of(session.scorer(session.variables, part))
  part = session.part(start, stop)
  change = _corrupt(session, unit, session.scorer.batch_for(len(part)))
  return columns_of(session.scorer(session.variables, part, change=change))


def prepare(session: Session, unit: Unit, rows: int) -> None:
  """Compiles what `unit` needs for batches of so many rows, in whatever thread it is called."""
  if unit.source or (unit, rows) in session.programs:
    return
  sharding = jax.sharding.NamedSharding(session.scorer.mesh, PartitionSpec(AXES))
  ids = jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=sharding)
  images = jax.ShapeDtypeStruct((rows, *session.image_shape), jnp.float32, sharding=sharding)
  program = _corruption_program(session, unit)
  session.keep((unit, rows), program.lower(ids, images).compile())


def _corrupt(session: Session, unit: Unit, rows: int) -> Change:
  ahead = session.programs.get((unit, rows))
  program = ahead or session.program(unit, lambda: _corruption_program(session, unit))
  return lambda ids, images, labels: program(ids, images)


def _corruption_program(session: Session, unit: Unit) -> Any:
  def change(ids: jax.Array, images: jax.Array) -> jax.Array:
    each = keys.example_keys(keys.root_key(0), keys.Stream.CORRUPT, ids, epoch=tag_of(unit))
    return corruptions.corrupt(each, images, name=unit.member, severity=unit.severity)

  return session.over_devices(change)


def corruption_family(
  place: Place,
  columns: Mapping[Unit, Columns],
  *,
  members: Sequence[str],
  clean_correct: np.ndarray | None,
  reference: Mapping[str, float] | None,
) -> tuple[list[Metric], dict[str, list[dict[str, Any]]]]:
  """Aggregates one list of corruptions.

  Means over corruptions (of errors, of calibration errors) are given only if every corruption of
  the list was measured, over the severities that all of them have. Names, also those of single
  corruptions, end in the severities if these are not all five: `error:fog_severity_3`.

  Args:
    place: of the numbers.
    columns: of every unit of the family, equally many examples each.
    members: the whole list.
    clean_correct: 0 or 1 for the same examples without corruption, for the relative error.
    reference: errors of AlexNet in %, if they are to be divided by.

  Returns:
    Metrics, and curves of the error over severities.
  """
  wrong: dict[str, dict[int, np.ndarray]] = {}
  for unit, values in columns.items():
    wrong.setdefault(unit.member, {})[unit.severity] = 1.0 - values["correct"]
  severities = tuple(sorted(set.intersection(*(set(levels) for levels in wrong.values()))))
  count = len(next(iter(columns.values()))["correct"])
  draws = resample(count)
  found: list[Metric] = []
  if set(wrong) == set(members) and severities:
    stacked = np.stack([_mean_over(wrong[name], severities) for name in members], axis=1)
    each = draws.means(stacked)  # [R, corruptions]
    found += _mean_errors(
      place, stacked, each, members, severities, clean_correct, draws, reference
    )
    shared = {unit: values for unit, values in columns.items() if unit.severity in severities}
    found += calibration_family(place, shared, count, severities)
  for name, levels in wrong.items():
    values, own = _mean_over(levels, tuple(levels)), tuple(sorted(levels))
    title = f"error:{name}{level_suffix(own)}"
    found.append(metric(place, title, float(values.mean()), draws.means(values), count=count))
  return found, {
    f"severity/{place.dataset}/{name}": _severity_curve(levels, place)
    for name, levels in wrong.items()
  }


def _mean_over(levels: Mapping[int, np.ndarray], severities: tuple[int, ...]) -> np.ndarray:
  """Returns the error of every example in %, mean over severities."""
  return 100 * np.mean([levels[s] for s in severities], axis=0)


def _mean_errors(
  place: Place,
  errors: np.ndarray,
  replicates: np.ndarray,
  members: Sequence[str],
  severities: tuple[int, ...],
  clean_correct: np.ndarray | None,
  draws: Resamples,
  reference: Mapping[str, float] | None,
) -> list[Metric]:
  count = len(errors)
  whole = severities == SEVERITIES
  name = "mce" if whole else f"mean_error{level_suffix(severities)}"
  means = errors.mean(axis=0)
  found = [metric(place, name, float(means.mean()), replicates.mean(axis=1), count=count)]
  clean = None
  if clean_correct is not None:
    wrong = 100.0 * (1.0 - clean_correct[:count])
    clean = float(wrong.mean()), draws.means(wrong)
    growth = means.mean() - clean[0]
    spread = replicates.mean(axis=1) - clean[1]
    found.append(metric(place, f"relative_{name}", float(growth), spread, count=count))
  if reference is None or not whole:
    return found
  base = np.array([reference[one] for one in members])
  value, spread = 100 * (means / base).mean(), 100 * (replicates / base[None]).mean(axis=1)
  found.append(metric(place, "mce_alexnet", float(value), spread, count=count))
  if clean is not None:
    growth = 100 * ((means - clean[0]) / (base - ALEXNET_CLEAN_ERROR)).mean()
    grown = (replicates - clean[1][:, None]) / (base - ALEXNET_CLEAN_ERROR)[None]
    spread = 100 * grown.mean(axis=1)
    found.append(metric(place, "relative_mce_alexnet", float(growth), spread, count=count))
  return found


def _severity_curve(levels: Mapping[int, np.ndarray], place: Place) -> list[dict[str, Any]]:
  points = []
  for severity, wrong in sorted(levels.items()):
    count = len(wrong)
    ends = metrics.wilson(round(float(wrong.sum())), count, confidence=place.confidence)
    points.append(
      {
        "step": severity,
        "error": 100 * float(wrong.mean(dtype=np.float64)),
        "low": 100 * ends.low,
        "high": 100 * ends.high,
        "count": count,
      }
    )
  return points


def calibration_family(
  place: Place, columns: Mapping[Unit, Columns], count: int, severities: tuple[int, ...]
) -> list[Metric]:
  """Returns the mean RMS calibration error: per corruption (severities together) and per cell."""
  level = level_suffix(severities)
  files: dict[str, list[Columns]] = {}
  for unit, values in columns.items():
    files.setdefault(unit.member, []).append(values)
  per_file = list(files.values())
  per_cell = [[values] for values in columns.values()]
  draws = resample(count, num_resamples=NUM_BINNED_RESAMPLES)
  found = []
  for name, groups in (
    ("rms_calibration_error", per_file),
    ("rms_calibration_error_cell", per_cell),
  ):
    if len(groups[0]) * count < 2 * BIN_SIZE:
      continue  # fewer make no bins
    for suffix, skip in (("", True), ("_exact", False)):
      if name.endswith("cell") and not skip:
        continue
      values = [_rms_of(group, draws, skip_last_bin=skip) for group in groups]
      value = float(np.mean([estimate for estimate, _ in values]))
      spread = np.mean([replicates for _, replicates in values], axis=0)
      title = f"{name}{suffix}{level}"
      found.append(metric(place, title, value, spread, count=count, recentred=True))
  return found


def _rms_of(
  group: Sequence[Columns], draws: Resamples, *, skip_last_bin: bool
) -> tuple[float, np.ndarray]:
  """Returns the RMS calibration error in % of several cells taken together, and its replicates."""
  confidence = np.concatenate([cell["confidence"] for cell in group]).astype(np.float64)
  correct = np.concatenate([cell["correct"] for cell in group]).astype(np.float64)
  order = np.argsort(confidence, kind="stable")
  confidence, correct, owner = confidence[order], correct[order], order % draws.counts.shape[1]

  def rms(times: np.ndarray) -> float:
    values = (np.repeat(array, times) for array in (confidence, correct))
    return _rms(*values, skip_last_bin=skip_last_bin)

  replicates = [rms(row[owner]) for row in draws.counts]
  return rms(np.ones_like(owner)), np.array(replicates)


def _rms(confidence: np.ndarray, correct: np.ndarray, *, skip_last_bin: bool) -> float:
  """As `metrics.rms_calibration_error`, of examples in order of confidence, in %."""
  gaps = confidence - metrics.tied_means(confidence, correct, xp=np)
  starts = np.arange(max(len(gaps) // BIN_SIZE, 1)) * BIN_SIZE  # the remainder joins the last bin
  sizes = np.diff(np.append(starts, len(gaps)))
  squares = np.square(np.add.reduceat(gaps, starts)) / sizes
  kept = squares[:-1] if skip_last_bin else squares
  return float(100 * np.sqrt(kept.sum() / len(gaps)))


def _words(large: bool, foreign_sets: Sequence[str]) -> dict[str, tuple[str, ...]]:
  del foreign_sets
  names = corruptions.NAMES
  bar = names["c_bar_imagenet" if large else "c_bar"]
  return {"c": names["c"], "c_extra": names["c_extra"], "c_bar": bar}


def _aggregate(family: Family) -> tuple[list[Metric], Curves]:
  clean, reference = family.clean, None
  if family.word == "c" and family.session.table == "imagenet":
    names = corruptions.BENCHMARK_NAMES
    reference = {name: metrics.ALEXNET_ERRORS[names.get(name, name)] for name in family.members}
  return corruption_family(
    family.place,
    family.columns,
    members=family.members,
    clean_correct=None if clean is None else clean["correct"],
    reference=reference,
  )


def _definition(session: Session, unit: Unit) -> Any:
  return corruptions.parameters(unit.member, severity=unit.severity, table=session.table)


def _published(released: Released, unit: Unit, start: int, stop: int) -> tuple[Any, ...]:
  part = released.pictures(unit, start, stop)
  return part.images, part.labels


CORRUPTION = Kind(
  words=_words,
  measure=corruption,
  aggregate=_aggregate,
  default_examples=500,
  quick_examples=200,
  has_severities=True,
  published=_published,
  definition=_definition,
  prepare=prepare,
)
