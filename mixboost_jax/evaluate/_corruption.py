# SPDX-License-Identifier: Apache-2.0
"""Corrupted pictures (-C, -C-Bar and their like): how they are measured and summed up.

All draws hang on the ids of the examples and on the unit. The units of a family show the same
examples, so one bootstrap resamples examples and takes each of them along through all corruptions
and severities. The interval beside mCE is made of these replicates by `_kind.bootstrapped`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import corruptions, keys, metrics
from mixboost_jax.evaluate._examples import Unit
from mixboost_jax.evaluate._kind import (
  NUM_BINNED_RESAMPLES,
  SEVERITIES,
  Curves,
  Family,
  Kind,
  Place,
  bootstrapped,
)
from mixboost_jax.evaluate._released import Released
from mixboost_jax.evaluate._session import Change, Session, columns_of, tag_of
from mixboost_jax.evaluate._store import Columns
from mixboost_jax.runtime import mesh as mesh_lib
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
  if not unit.source:
    _corrupt(session, unit, rows)


def _corrupt(session: Session, unit: Unit, rows: int) -> Change:
  def change(ids: jax.Array, images: jax.Array) -> jax.Array:
    each = keys.example_keys(keys.root_key(0), keys.Stream.CORRUPT, ids, epoch=tag_of(unit))
    return corruptions.corrupt(each, images, name=unit.member, severity=unit.severity)

  def build() -> Any:
    sharding = mesh_lib.batch_sharding(session.scorer.mesh)
    ids = jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=sharding)
    images = jax.ShapeDtypeStruct((rows, *session.image_shape), jnp.float32, sharding=sharding)
    return session.over_devices(change).lower(ids, images).compile()

  program = session.drawing((unit, rows), build)
  return lambda ids, images, labels: program(ids, images)


def corruption_family(
  family: Family, *, reference: Mapping[str, float] | None
) -> tuple[list[Metric], Curves]:
  """Aggregates one list of corruptions into metrics, and curves of the error over severities.

  Means over corruptions (of errors, of calibration errors) are given only if every corruption of
  the list was measured, over the severities that all of them have. Names, also those of single
  corruptions, end in the severities if these are not all five: `error:fog_severity_3`. With a
  reference (errors of AlexNet in %) there are errors divided by it as well.
  """
  place, columns, members = family.place, family.columns, family.members
  wrong: dict[str, dict[int, np.ndarray]] = {}
  for unit, values in columns.items():
    wrong.setdefault(unit.member, {})[unit.severity] = 1.0 - values["correct"]
  severities = tuple(sorted(set.intersection(*(set(levels) for levels in wrong.values()))))
  count = len(next(iter(columns.values()))["correct"])
  draws = metrics.resample(count)
  found: list[Metric] = []
  if set(wrong) == set(members) and severities:
    errors = np.stack([_mean_over(wrong[name], severities) for name in members], axis=1)
    found += _mean_errors(family, errors, severities, draws, reference)
    shared = {unit: values for unit, values in columns.items() if unit.severity in severities}
    found += calibration_family(place, shared, count, severities)
  for name, levels in wrong.items():
    values, own = _mean_over(levels, tuple(levels)), tuple(sorted(levels))
    title = f"error:{name}{_level_suffix(own)}"
    found.append(bootstrapped(place, title, float(values.mean()), draws.means(values), count=count))
  return found, {
    f"severity/{place.dataset}/{name}": _severity_curve(levels, place)
    for name, levels in wrong.items()
  }


def _mean_over(levels: Mapping[int, np.ndarray], severities: tuple[int, ...]) -> np.ndarray:
  """Returns the error of every example in %, mean over severities."""
  return 100 * np.mean([levels[s] for s in severities], axis=0)


def _level_suffix(severities: tuple[int, ...]) -> str:
  """Returns how names of metrics end: in the severities that were measured if not all five."""
  return "" if severities == SEVERITIES else "_severity_" + "_".join(map(str, severities))


def _mean_errors(
  family: Family,
  errors: np.ndarray,
  severities: tuple[int, ...],
  draws: metrics.Resamples,
  reference: Mapping[str, float] | None,
) -> list[Metric]:
  """Returns the means over corruptions of `errors[N, corruptions]`, and how they exceed clean."""
  count, whole = len(errors), severities == SEVERITIES
  columns = (errors.mean(axis=0, dtype=np.float64).tolist(), draws.means(errors).T)
  # Of the examples themselves, and of every resample at once.
  both = [{m: [value] for m, value in zip(family.members, each, strict=True)} for each in columns]
  clean = None
  if family.clean is not None:
    wrong = 100.0 * (1.0 - family.clean["correct"][:count])
    clean = float(wrong.mean()), draws.means(wrong)
  bases: dict[str, Mapping[str, float] | None]
  bases = {"mce" if whole else f"mean_error{_level_suffix(severities)}": None}
  if whole and reference is not None:
    bases["mce_alexnet"] = reference
  rows = {}
  for name, base in bases.items():
    rows[name] = [metrics.mean_corruption_error(each, reference=base) for each in both]
    if clean is not None:
      options = {"reference": base, "reference_clean_error": ALEXNET_CLEAN_ERROR}
      rows[f"relative_{name}"] = [
        metrics.relative_corruption_error(each, clean_error=own, **options)
        for each, own in zip(both, clean, strict=True)
      ]
  return [
    bootstrapped(family.place, title, float(value), np.asarray(spread), count=count)
    for title, (value, spread) in rows.items()
  ]


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
  files: dict[str, list[Columns]] = {}
  for unit, values in columns.items():
    files.setdefault(unit.member, []).append(values)
  cells = [[values] for values in columns.values()]
  draws = metrics.resample(count, num_resamples=NUM_BINNED_RESAMPLES)
  found, errors = [], None
  for groups, suffixes in ((list(files.values()), ("", "_exact")), (cells, ("_cell",))):
    if len(groups[0]) * count < 2 * metrics.BIN_SIZE:
      continue  # fewer make no bins
    if errors is None or len(files) < len(cells):  # with one severity the two are the same
      errors = np.mean([_rms_of(group, draws) for group in groups], axis=0)
    for suffix, (value, *spread) in zip(suffixes, errors.T, strict=False):
      title = f"rms_calibration_error{suffix}{_level_suffix(severities)}"
      options = {"count": count, "recentred": True}
      found.append(bootstrapped(place, title, float(value), np.array(spread), **options))
  return found


def _rms_of(group: Sequence[Columns], draws: metrics.Resamples) -> np.ndarray:
  """Returns the RMS calibration error in % of several cells taken together: [1 + R, 2].

  The examples themselves are followed by their resamples; without and with the last bin.
  """
  confidence = np.concatenate([cell["confidence"] for cell in group]).astype(np.float64)
  correct = np.concatenate([cell["correct"] for cell in group]).astype(np.float64)
  order = np.argsort(confidence, kind="stable")
  confidence, correct, owner = confidence[order], correct[order], order % draws.counts.shape[1]

  def rms(times: np.ndarray) -> list[float]:
    confidences, hits = np.repeat(confidence, times), np.repeat(correct, times)
    bins = metrics.fixed_size_bins(confidences, hits, bin_size=metrics.BIN_SIZE)
    return [100 * float(metrics.rms_gap(bins, skip_last_bin=skip)) for skip in (True, False)]

  return np.array([rms(np.ones_like(owner)), *(rms(row[owner]) for row in draws.counts)])


def _words(large: bool, foreign_sets: Sequence[str]) -> dict[str, tuple[str, ...]]:
  del foreign_sets
  names = corruptions.NAMES
  bar = names["c_bar_imagenet" if large else "c_bar"]
  return {"c": names["c"], "c_extra": names["c_extra"], "c_bar": bar}


def _aggregate(family: Family) -> tuple[list[Metric], Curves]:
  reference = None
  if family.word == "c" and family.session.table == "imagenet":
    names = corruptions.BENCHMARK_NAMES
    reference = {name: metrics.ALEXNET_ERRORS[names.get(name, name)] for name in family.members}
  return corruption_family(family, reference=reference)


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
