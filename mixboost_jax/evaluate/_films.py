# SPDX-License-Identifier: Apache-2.0
"""Sequences (-P): films, and how often predictions flip along them."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import corruptions, keys, metrics
from mixboost_jax.evaluate._examples import Unit, padded_batches
from mixboost_jax.evaluate._kind import STEP, Curves, Family, Kind, bootstrapped
from mixboost_jax.evaluate._session import Scorer, Session, tag_of
from mixboost_jax.evaluate._store import Columns
from mixboost_jax.runtime.results import Metric

FRAMES = 31
"""Of most films."""
VERSION = 2
"""Raised when films of the same constants become others than before."""


def sequence(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Makes or reads films; returns how often each prediction flips, and its top-5 distance."""
  scorer, judge = session.scorer, _judge("noise" in unit.member)
  found: list[tuple[np.ndarray, ...]] = []
  for frames, real in _film_batches(session, unit, start, stop):
    rows, num_frames = frames.shape[:2]
    logits = scorer.logits(session.variables, frames.reshape(-1, *frames.shape[2:]))
    judged = jax.device_get(judge(logits.reshape(rows, num_frames, -1)))
    found.append(tuple(values[real] for values in judged))
  flips, distances = (np.concatenate(values) for values in zip(*found, strict=True))
  if not np.isfinite(flips).all():
    raise ValueError(f"evaluate: the logits of {unit.label} are not finite; check the checkpoint.")
  return {"flip_rate": flips, "top5_distance": distances}


def _film_batches(
  session: Session, unit: Unit, start: int, stop: int
) -> Iterator[tuple[Any, np.ndarray]]:
  """Yields (frames[V, F, H, W, C], which films are real) with as many frames as a batch holds."""
  scorer = session.scorer
  if unit.source:
    assert session.released is not None
    films = session.released.films(unit, start, stop)
    rows = _num_films(scorer, films.shape[1], len(films))
    for first in range(0, len(films), rows):
      part = films[first : first + rows].astype(np.float32) / np.float32(255)
      missing = rows - len(part)
      padded = np.pad(part, [(0, missing)] + 4 * [(0, 0)])
      yield scorer.place(padded), np.arange(rows) < len(part)
    return
  make = session.drawing(unit, lambda: _film_program(session, unit))
  one = (scorer.mesh.size,)  # row per device
  ids = jax.ShapeDtypeStruct(one, jnp.int32)
  images = jax.ShapeDtypeStruct((*one, *session.image_shape), jnp.float32)
  num_frames = jax.eval_shape(make, ids, images).shape[1]
  rows = _num_films(scorer, num_frames, stop - start)
  for batch in padded_batches(session.part(start, stop), rows):
    yield make(*scorer.place((batch.ids, batch.images))), batch.real


def _num_films(scorer: Scorer, num_frames: int, count: int) -> int:
  return scorer.rounded(min(count, max(scorer.batch_size // num_frames, 1)))


def _film_program(session: Session, unit: Unit) -> Any:
  def make(ids: jax.Array, images: jax.Array) -> jax.Array:
    each = keys.example_keys(keys.root_key(0), keys.Stream.CORRUPT, ids, epoch=tag_of(unit))
    film = functools.partial(corruptions.perturb_sequence, name=unit.member)
    return jax.vmap(film)(each, images)

  return session.over_devices(make)


@functools.cache
def _judge(noise: bool) -> Callable[..., tuple[jax.Array, jax.Array]]:
  def judge(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    best = jnp.argmax(logits, axis=-1)
    flips = jax.vmap(lambda film: metrics.flip_rate(film[None], noise=noise))(best)
    flips = jnp.where(jnp.isfinite(logits).all(axis=(1, 2)), flips, jnp.nan)
    if logits.shape[-1] < 5:
      return flips, jnp.full_like(flips, jnp.nan)
    ranks = metrics.rank_classes(logits)
    return flips, jax.vmap(lambda film: metrics.top5_distance(film[None], noise=noise))(ranks)

  return jax.jit(judge)


def sequence_family(family: Family, *, reference: Mapping[str, float] | None) -> list[Metric]:
  """Aggregates films: flip rates, and top-5 distances if there are five classes.

  Means over the list are given only if all of it was measured; with a reference (flip rates of
  AlexNet in %), also divided by that.
  """
  exact = {
    unit.member: {name: one.astype(np.float64) for name, one in columns.items()}
    for unit, columns in family.columns.items()
  }
  rates = {member: 100.0 * columns["flip_rate"] for member, columns in exact.items()}
  distances = {member: columns["top5_distance"] for member, columns in exact.items()}
  count = len(next(iter(rates.values())))
  draws = metrics.resample(count)

  def mean(name: str, each: Any, unit: str = "%") -> Metric:
    options = {"count": count, "unit": unit}
    return bootstrapped(family.place, name, float(each.mean()), draws.means(each), **options)

  found: list[Metric] = []
  ranked = all(np.isfinite(values).all() for values in distances.values())
  if set(rates) == set(family.members):  # means of each film over the sequences, then over films
    found.append(mean("mfr", metrics.mean_flip_rate(rates)))
    if reference is not None:
      found.append(mean("mfr_alexnet", metrics.mean_flip_rate(rates, reference=reference)))
    if ranked:
      found.append(mean("mt5d", metrics.mean_top5_distance(distances), unit=""))
  found += [mean(f"flip_rate:{name}", values) for name, values in rates.items()]
  if ranked:
    found += [mean(f"top5_distance:{name}", v, unit="") for name, v in distances.items()]
  return found


def _aggregate(family: Family) -> tuple[list[Metric], Curves]:
  is_imagenet_p = family.word == "p" and family.session.table == "imagenet"
  reference = metrics.ALEXNET_FLIP_RATES if is_imagenet_p else None
  return sequence_family(family, reference=reference), {}


def _definition(session: Session, unit: Unit) -> Any:
  return [VERSION, getattr(corruptions.SEQUENCES[unit.member], session.table)]


SEQUENCE = Kind(
  words={word: corruptions.NAMES[word] for word in ("p", "p_extra", "p_code")},
  measure=sequence,
  aggregate=_aggregate,
  piece=500,
  passes=lambda unit: FRAMES,
  default_examples=200,
  step=STEP // FRAMES,
  counted="films of ",
  published=lambda released, *piece: (released.films(*piece),),
  num_published=lambda released, unit: released.num_films(unit),
  definition=_definition,
)
