# SPDX-License-Identifier: Apache-2.0
"""The split itself and sets derived from it on the host: scores of single examples and metrics.

Also ImageNet-R (`renditions`), and the split with a fitted temperature.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import data, keys, masks, metrics, registry
from mixboost_jax.array_types import PerExample, Scalar
from mixboost_jax.data import shapes
from mixboost_jax.evaluate._examples import Examples, Unit, padded_batches
from mixboost_jax.evaluate._kind import CLEAN, Curves, Family, Kind
from mixboost_jax.evaluate._numbers import BIN_SIZE, Place, error, metric
from mixboost_jax.evaluate._released import Released
from mixboost_jax.evaluate._session import Scorer, Scores, Session, columns_of, scores_of
from mixboost_jax.evaluate._store import Columns, digest
from mixboost_jax.runtime.results import Metric

NUM_RESAMPLES = 1000
# Resampling adds to these a bias of their own, which the interval must not contain.
_BINNED = (
  "ece",
  "adaptive_ece",
  "rms_calibration_error",
  "rms_calibration_error_exact",
  "mad_calibration_error",
)
ORDER = ("nll", *_BINNED, "brier", "aurra")
_PERCENT = {"aurra", *_BINNED}
_fit_temperature = jax.jit(metrics.fit_temperature)


def _shapes_variant(examples: Examples, variant: str) -> Examples:
  """Draws the same objects again with another relation of texture and class."""
  if examples.dataset != "shapes":
    raise ValueError(
      f"evaluate: suite shapes changes textures of the procedural set and cannot be run on "
      f"{examples.dataset!r}; use suite='clean', or config.data.name='shapes'."
    )
  agreement = registry.lookup(data.SHAPES_VARIANTS, variant, field="variant of shapes")
  if agreement is None:
    raise ValueError(f"evaluate: variant {variant!r} is the test split itself; use unit clean.")
  drawn = shapes.generate(examples.ids, texture_agreement=agreement)
  return dataclasses.replace(
    examples, images=drawn.images, labels=drawn.labels, dataset=f"shapes-{variant}"
  )


def _occluded(examples: Examples) -> Examples:
  """Paints over 30 % of an 8 x 8 grid of cells in mid-grey, other cells for every example."""
  _, height, width, _ = examples.images.shape
  grid = min(8, height, width)
  root = keys.root_key(0)  # part of the definition of this unit, not of a run
  example_keys = keys.example_keys(root, keys.Stream.EVALUATE, jnp.asarray(examples.ids))
  mask = masks.sample_patch_mask(example_keys, grid=grid, keep_rate=0.7)
  keep = np.asarray(masks.upsample(mask, height=height, width=width))[..., None]
  gray = examples.images.dtype.type(128 if examples.images.dtype == np.uint8 else 0.5)
  painted = np.where(keep, examples.images, gray)
  return dataclasses.replace(examples, images=painted, dataset=f"{examples.dataset}-occluded")


VARIANTS: dict[str, Callable[[Examples], Examples]] = {
  CLEAN: lambda examples: examples,
  "occluded": _occluded,
  "neutral": lambda examples: _shapes_variant(examples, "neutral"),
  "conflicting": lambda examples: _shapes_variant(examples, "conflicting"),
}
"""By the word of a suite."""


def pictures(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Scores the split, or a set derived from it on the host."""
  examples = VARIANTS[unit.family](session.part(start, stop))
  return columns_of(session.scorer(session.variables, examples))


def renditions(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Scores the pictures of a published set among the classes that occur there."""
  assert session.released is not None
  part, columns = session.released.renditions(unit, start, stop)

  def build() -> Scorer:
    whole, kept = session.scorer, np.asarray(columns)
    return Scorer(
      lambda variables, images: whole.apply_fn(variables, images)[:, kept],
      batch_size=whole.batch_size,
      mesh=whole.mesh,
    )

  return columns_of(session.program((unit, tuple(columns)), build)(session.variables, part))


def temperature(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Divides the logits by a temperature fitted elsewhere.

  On held-out examples, or, if there are none, for each half of the examples on the other half.
  """
  del unit
  part = session.part(start, stop)
  logits = _logits(session, part)
  fold = np.arange(len(part)) % 2 if session.held_out is None else np.zeros(len(part), int)
  temperatures = np.ones(len(part), np.float32)
  for i in range(int(fold.max()) + 1):
    if session.held_out is None:
      rows = fold != i
      fitted = _fit_temperature(jnp.asarray(logits[rows]), jnp.asarray(part.labels[rows]))
    else:
      held_out = session.held_out
      fitted = _fit_temperature(
        jnp.asarray(_logits(session, held_out)), jnp.asarray(held_out.labels)
      )
    temperatures[fold == i] = float(fitted)
  scaled = jnp.asarray(logits / temperatures[:, None])
  scores = jax.device_get(scores_of(scaled, jnp.asarray(part.labels)))
  return {**columns_of(scores), "temperature": temperatures}


def _logits(session: Session, examples: Examples) -> np.ndarray:
  scorer = session.scorer
  found = []
  for batch in padded_batches(examples, scorer.batch_for(len(examples))):
    logits = scorer.logits(session.variables, scorer.place(batch.images))
    found.append(jax.device_get(logits)[batch.real])
  return np.concatenate(found)


def statistics(
  confidence: PerExample,
  correct: PerExample,
  nll: PerExample,
  brier: PerExample,
  *,
  ece_bins: int,
) -> dict[str, Scalar]:
  """Returns every bootstrapped metric; the examples come in ascending order of confidence."""
  equal_width = metrics.equal_width_bins(confidence, correct, num_bins=ece_bins)
  equal_mass = metrics.equal_mass_bins(confidence, correct, num_bins=ece_bins)
  found = {
    "nll": nll.mean(),
    "brier": brier.mean(),
    "ece": 100 * metrics.mean_gap(equal_width),
    "adaptive_ece": 100 * metrics.mean_gap(equal_mass),
    "aurra": 100 * metrics.sorted_aurra(confidence, correct),
  }
  if len(confidence) >= 2 * BIN_SIZE:  # fewer make no bins: no number is better than a wrong one
    bins = metrics.fixed_size_bins(confidence, correct, bin_size=BIN_SIZE)
    found["rms_calibration_error"] = 100 * metrics.rms_gap(bins, skip_last_bin=True)
    found["rms_calibration_error_exact"] = 100 * metrics.rms_gap(bins)
    found["mad_calibration_error"] = 100 * metrics.mean_gap(bins, skip_last_bin=True)
  return found


@functools.cache
def _statistics_fn(ece_bins: int) -> Callable[..., dict[str, Scalar]]:
  """Returns one function object per number of bins, so that it is compiled once."""
  return jax.jit(functools.partial(statistics, ece_bins=ece_bins))


def summarise(scores: Scores, place: Place, *, ece_bins: int) -> list[Metric]:
  """Returns the metrics of one set of pictures.

  The error has Wilson's interval; the others come from one bootstrap over examples with a fixed
  key, so the same scores always give the same interval.

  Args:
    scores: one entry per example.
    place: names of what was scored, and level of the intervals.
    ece_bins: bins of equal width of the expected calibration error.
  """
  found = [error(place, scores.correct)]
  order = np.argsort(scores.confidence, kind="stable")
  columns = (scores.confidence, scores.correct, scores.nll, scores.brier)
  arrays = tuple(jnp.asarray(values[order]) for values in columns)

  statistic_fn = _statistics_fn(ece_bins)
  estimates = jax.device_get(statistic_fn(*arrays))
  key = keys.stream_key(keys.root_key(0), keys.Stream.EVALUATE)
  replicates = metrics.replicate(key, statistic_fn, arrays, num_resamples=NUM_RESAMPLES)
  for name in (name for name in ORDER if name in estimates):
    found.append(
      metric(
        place,
        name,
        float(estimates[name]),
        jax.device_get(replicates[name]),
        count=len(scores.correct),
        unit="%" if name in _PERCENT else "nats" if name == "nll" else "",
        better="higher" if name == "aurra" else "lower",
        recentred=name in _BINNED,
      )
    )
  return found


def reliability(scores: Scores, *, num_bins: int) -> list[dict[str, float | int | None]]:
  """Returns the points of a reliability diagram, one per bin of confidence; `step` is its number.

  Args:
    scores: one entry per example.
    num_bins: bins of equal width.
  """
  bins = metrics.equal_width_bins(
    jnp.asarray(scores.confidence), jnp.asarray(scores.correct), num_bins=num_bins
  )
  points: list[dict[str, float | int | None]] = []
  rows = zip(*(np.asarray(values, np.float64) for values in bins), strict=True)
  for i, (count, confidence_sum, correct_sum) in enumerate(rows):
    filled = count > 0
    points.append(
      {
        "step": i,
        "low": i / num_bins,
        "high": (i + 1) / num_bins,
        "count": round(count),
        "confidence": confidence_sum / count if filled else None,
        "accuracy": correct_sum / count if filled else None,
      }
    )
  return points


def headline(scores: Scores) -> dict[str, float]:
  """Returns the two numbers to watch while training, without intervals: error in %, NLL."""
  wrong = 1 - float(scores.correct.mean(dtype=np.float64))
  return {"clean_error": 100 * wrong, "nll": float(scores.nll.mean(dtype=np.float64))}


def _aggregate(family: Family) -> tuple[list[Metric], Curves]:
  (columns,) = family.columns.values()
  scores = Scores(*(columns[name] for name in Scores._fields))
  found = summarise(scores, family.place, ece_bins=family.ece_bins)
  curve = reliability(scores, num_bins=family.ece_bins)
  return found, {f"reliability/{family.place.dataset}": curve}


def _with_temperature(family: Family) -> tuple[list[Metric], Curves]:
  (columns,) = family.columns.values()
  found, curves = _aggregate(family)
  mean = float(np.unique(columns["temperature"]).mean())
  options = {"count": len(columns["temperature"]), "unit": "", "better": "none"}
  return [*found, metric(family.place, "temperature", mean, None, **options)], curves


def _held_out(session: Session, unit: Unit) -> str | None:
  one = session.held_out
  return None if one is None else digest(one.images, one.labels)


def _published(released: Released, unit: Unit, start: int, stop: int) -> tuple[Any, ...]:
  part, columns = released.renditions(unit, start, stop)
  return part.images, part.labels, columns


PICTURES = Kind(
  words=dict.fromkeys(VARIANTS, ()),
  measure=pictures,
  aggregate=_aggregate,
  suffix=lambda word: "" if word == CLEAN else f"-{word}",
)
RENDITIONS = Kind(
  words={"r": ()},
  measure=renditions,
  aggregate=_aggregate,
  made_here=False,
  published=_published,
  num_published=lambda released, unit: released.sets[unit.family].num_rows,
)
TEMPERATURE = Kind(
  words={"temperature": ()},
  measure=temperature,
  aggregate=_with_temperature,
  piece=0,
  definition=_held_out,
)
