# SPDX-License-Identifier: Apache-2.0
"""Sets of pictures that are derived from the chosen split on the host."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import data, keys, masks, metrics, registry
from mixboost_jax.array_types import PerExample, Scalar
from mixboost_jax.data import shapes
from mixboost_jax.evaluate._examples import Examples, Unit, padded_batches
from mixboost_jax.evaluate._session import Scorer, Scores, Session, columns_of, scores_of
from mixboost_jax.evaluate._store import Columns
from mixboost_jax.runtime.results import Metric


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
  "clean": lambda examples: examples,
  "occluded": _occluded,
  "neutral": lambda examples: _shapes_variant(examples, "neutral"),
  "conflicting": lambda examples: _shapes_variant(examples, "conflicting"),
}
"""By the word of a suite."""

_fit_temperature = jax.jit(metrics.fit_temperature)

# From the scores of single examples to metrics with intervals.

BIN_SIZE = 100
"""Examples per bin of the RMS calibration error, as in published tables."""
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
_PERCENT = {"error", "aurra", *_BINNED}


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
  if (
    len(confidence) >= 2 * BIN_SIZE
  ):  # fewer make no bins, and no number is better than a wrong one
    bins = metrics.fixed_size_bins(confidence, correct, bin_size=BIN_SIZE)
    found["rms_calibration_error"] = 100 * metrics.rms_gap(bins, skip_last_bin=True)
    found["rms_calibration_error_exact"] = 100 * metrics.rms_gap(bins)
    found["mad_calibration_error"] = 100 * metrics.mean_gap(bins, skip_last_bin=True)
  return found


@functools.cache
def _statistics_fn(ece_bins: int) -> Callable[..., dict[str, Scalar]]:
  """Returns one function object per number of bins, so that it is compiled once."""
  return jax.jit(functools.partial(statistics, ece_bins=ece_bins))


def summarise(
  scores: Scores, examples: Examples, *, ece_bins: int, confidence: float
) -> tuple[Metric, ...]:
  """Returns the metrics of one set of pictures.

  The error has Wilson's interval; the others come from one bootstrap over examples with a fixed
  key, so the same scores always give the same interval.

  Args:
    scores: one entry per example.
    examples: what was scored.
    ece_bins: bins of equal width of the expected calibration error.
    confidence: level of the intervals, in (0, 1).
  """
  count = len(scores.correct)
  wrong = count - round(float(scores.correct.sum(dtype=np.float64)))
  ends = metrics.wilson(wrong, count, confidence=confidence)

  def entry(name: str, value: float, interval: metrics.Interval, how: str) -> Metric:
    unit = "%" if name in _PERCENT else "nats" if name == "nll" else ""
    return Metric(
      name=name,
      value=value,
      low=interval.low,
      high=interval.high,
      confidence=confidence,
      interval=how,
      count=count,
      unit=unit,
      better="higher" if name == "aurra" else "lower",
      dataset=examples.dataset,
      split=examples.split,
      source=examples.source,
    )

  percent = metrics.Interval(100 * ends.low, 100 * ends.high)
  found = [entry("error", 100 * wrong / count, percent, "wilson")]
  order = np.argsort(scores.confidence, kind="stable")
  columns = (scores.confidence, scores.correct, scores.nll, scores.brier)
  arrays = tuple(jnp.asarray(values[order]) for values in columns)

  statistic_fn = _statistics_fn(ece_bins)
  estimates = jax.device_get(statistic_fn(*arrays))
  key = keys.stream_key(keys.root_key(0), keys.Stream.EVALUATE)
  replicates = metrics.replicate(key, statistic_fn, arrays, num_resamples=NUM_RESAMPLES)
  for name in (name for name in ORDER if name in estimates):
    value = float(estimates[name])
    method = "recentred" if name in _BINNED else "percentile"
    ends = metrics.interval_of(
      jax.device_get(replicates[name]), value, confidence=confidence, method=method
    )
    ends = metrics.Interval(max(0.0, ends.low), ends.high)
    how = "bootstrap, recentred" if name in _BINNED else "bootstrap"
    found.append(entry(name, value, ends, how))
  return tuple(found)


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
  error = 100 * (1 - float(scores.correct.mean(dtype=np.float64)))
  return {"clean_error": error, "nll": float(scores.nll.mean(dtype=np.float64))}


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
