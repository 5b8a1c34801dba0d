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
from mixboost_jax.data import shapes
from mixboost_jax.evaluate._examples import Examples, Unit, padded_batches
from mixboost_jax.evaluate._kind import (
  CLEAN,
  Curves,
  Family,
  Kind,
  Place,
  bootstrapped,
  error,
  metric,
)
from mixboost_jax.evaluate._released import Released
from mixboost_jax.evaluate._session import Scorer, Scores, Session, columns_of, scores_of
from mixboost_jax.evaluate._store import Columns, digest
from mixboost_jax.runtime.results import Metric

NUM_RESAMPLES = 1000
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
  temperatures = np.ones(len(part), np.float32)
  if session.held_out is None:
    even, odd = slice(0, None, 2), slice(1, None, 2)
    for half, other in ((even, odd), (odd, even)):
      temperatures[half] = _fitted(logits[other], part.labels[other])
  else:
    temperatures[:] = _fitted(_logits(session, session.held_out), session.held_out.labels)
  scaled = jnp.asarray(logits / temperatures[:, None])
  scores = jax.device_get(scores_of(scaled, jnp.asarray(part.labels)))
  return {**columns_of(scores), "temperature": temperatures}


def _fitted(logits: np.ndarray, labels: np.ndarray) -> float:
  return float(_fit_temperature(jnp.asarray(logits), jnp.asarray(labels)))


def _logits(session: Session, examples: Examples) -> np.ndarray:
  scorer = session.scorer
  found = []
  for batch in padded_batches(examples, scorer.batch_for(len(examples))):
    logits = scorer.logits(session.variables, scorer.place(batch.images))
    found.append(jax.device_get(logits)[batch.real])
  return np.concatenate(found)


@functools.cache
def _statistics(ece_bins: int, chosen: tuple[tuple[str, metrics.Statistic], ...]) -> Any:
  """Returns one function object per choice and number of bins, so that it is compiled once."""

  def compute(*columns: jax.Array) -> dict[str, jax.Array]:
    return {name: one.fn(Scores(*columns), ece_bins) for name, one in chosen}

  return jax.jit(compute)


def summarise(scores: Scores, place: Place, *, ece_bins: int) -> list[Metric]:
  """Returns the error and `metrics.STATISTICS` of one set of pictures.

  The error has Wilson's interval; the others come from one bootstrap over examples with a fixed
  key, so the same scores always give the same interval.
  """
  count, order = len(scores.correct), np.argsort(scores.confidence, kind="stable")
  columns = tuple(jnp.asarray(values[order]) for values in scores)
  chosen = {name: one for name, one in metrics.STATISTICS.items() if count >= one.fewest}
  compute = _statistics(ece_bins, tuple(chosen.items()))
  key = keys.stream_key(keys.root_key(0), keys.Stream.EVALUATE)
  estimates, replicates = jax.device_get(
    (compute(*columns), metrics.replicate(key, compute, columns, num_resamples=NUM_RESAMPLES))
  )
  found = [error(place, scores.correct)]
  for name, (_, unit, better, recentred, _) in chosen.items():
    options = {"count": count, "unit": unit, "better": better, "recentred": recentred}
    found.append(bootstrapped(place, name, float(estimates[name]), replicates[name], **options))
  return found


def reliability(scores: Scores, *, num_bins: int) -> list[dict[str, float | int | None]]:
  """Returns the points of a reliability diagram: `step` is the number of a bin of confidence."""
  bins = metrics.equal_width_bins(
    jnp.asarray(scores.confidence), jnp.asarray(scores.correct), num_bins=num_bins
  )
  rows = zip(*(np.asarray(values, np.float64) for values in bins), strict=True)
  return [
    {
      "step": i,
      "low": i / num_bins,
      "high": (i + 1) / num_bins,
      "count": round(count),
      "confidence": confidence_sum / count if count else None,
      "accuracy": correct_sum / count if count else None,
    }
    for i, (count, confidence_sum, correct_sum) in enumerate(rows)
  ]


def headline(scores: Scores) -> dict[str, float]:
  """Returns the two numbers to watch while training, without intervals: error in %, NLL."""
  wrong = 1 - float(scores.correct.mean(dtype=np.float64))
  return {"clean_error": 100 * wrong, "nll": float(scores.nll.mean(dtype=np.float64))}


def _aggregate(family: Family) -> tuple[list[Metric], Curves]:
  (columns,) = family.columns.values()
  scores = Scores(*(columns[name] for name in Scores._fields))
  found = summarise(scores, family.place, ece_bins=family.ece_bins)
  curves = {f"reliability/{family.place.dataset}": reliability(scores, num_bins=family.ece_bins)}
  return found, curves | (_by_class(family, scores.correct) if family.word in VARIANTS else {})


MAX_CLASSES = 100
"""Classes that results list one by one."""


def _by_class(family: Family, correct: np.ndarray) -> Curves:
  """Returns the error of every class with Wilson's interval, a curve of one point for each."""
  examples, place = family.session.examples, family.place
  labels = examples.labels[examples.order[: len(correct)]]
  classes = np.unique(labels)
  curves: Curves = {}
  for number in classes if len(classes) <= MAX_CLASSES else ():
    one = error(place, correct[labels == number])
    name = examples.class_names[number] if examples.class_names else str(number)
    point = {"step": 0, "error": one.value, "low": one.low, "high": one.high, "count": one.count}
    curves[f"classes/{place.dataset}/{name.replace('/', ' ')}"] = [point]
  return curves


def _with_temperature(family: Family) -> tuple[list[Metric], Curves]:
  (columns,) = family.columns.values()
  found, curves = _aggregate(family)
  fitted = columns["temperature"]
  options = {"count": len(fitted), "unit": "", "better": "none"}
  mean = float(np.unique(fitted).mean())
  return [*found, metric(family.place, "temperature", mean, **options)], curves


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
