# SPDX-License-Identifier: Apache-2.0
"""How each kind of unit is measured: from a range of examples to per-example columns."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from mixboost_jax import corruptions, keys, metrics
from mixboost_jax.evaluate import foreign, measure_attacks, measure_films
from mixboost_jax.evaluate.attacks_table import ATTACKS
from mixboost_jax.evaluate.examples import Examples, padded_batches
from mixboost_jax.evaluate.scoring import Change, Scorer, scores_of
from mixboost_jax.evaluate.session import Session, columns_of, tag_of
from mixboost_jax.evaluate.store import Columns
from mixboost_jax.evaluate.suites import Unit
from mixboost_jax.evaluate.variants import VARIANTS
from mixboost_jax.runtime.mesh import AXES

FRAMES = 31
"""Of most films."""
_fit_temperature = jax.jit(metrics.fit_temperature)


def pictures(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Scores the split, or a set derived from it on the host."""
  examples = VARIANTS[unit.family](session.part(start, stop))
  return columns_of(session.scorer(session.variables, examples))


def corruption(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Corrupts on the devices and scores; or scores the published pictures."""
  if unit.source:
    assert session.released is not None
    part = session.released.pictures(unit, start, stop)
    return columns_of(session.scorer(session.variables, part))
  part = session.part(start, stop)
  change = _corrupt(session, unit, session.scorer.batch_for(len(part)))
  return columns_of(session.scorer(session.variables, part, change=change))


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


def prepare(session: Session, unit: Unit, rows: int) -> None:
  """Compiles what `unit` needs for batches of so many rows, in whatever thread it is called."""
  if unit.kind != "corruption" or unit.source:
    return
  if (unit, rows) in session.programs:
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


def ood(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Scores foreign pictures; what the network says about classes does not matter."""
  if unit.member in session.foreign_sets:
    images = session.foreign_sets[unit.member][start:stop]
    count = np.arange(start, start + len(images), dtype=np.int32)
    part = Examples(images, np.zeros_like(count), count, unit.member, "test", "files")
    return _ood_columns(session.scorer(session.variables, part))
  part = session.part(start, stop)
  draw = functools.partial(foreign.draw, unit.member)
  program = session.program(unit, lambda: session.over_devices(draw))
  scores = session.scorer(session.variables, part, change=lambda ids, x, _: program(ids, x))
  return _ood_columns(scores)


def _ood_columns(scores: Any) -> Columns:
  kept = ("confidence", "max_logit", "negative_energy")
  return {name: np.asarray(getattr(scores, name)) for name in kept}


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


class Kind(NamedTuple):
  """One way of measuring."""

  run: Callable[[Session, Unit, int, int], Columns]
  piece: int
  """Examples measured between two saves (rounded up to whole batches); 0: all at once."""


KINDS: dict[str, Kind] = {
  "pictures": Kind(pictures, 5000),
  "corruption": Kind(corruption, 5000),
  "sequence": Kind(measure_films.sequence, 500),
  "renditions": Kind(renditions, 5000),
  "attack": Kind(measure_attacks.attack, 1000),
  "autoattack": Kind(measure_attacks.autoattack, measure_attacks.AUTOATTACK_PIECE),
  "ood": Kind(ood, 5000),
  "temperature": Kind(temperature, 0),
}
"""By `Unit.kind`."""


def passes(unit: Unit) -> float:
  """Returns roughly how many passes of the network one example of a unit takes."""
  if unit.kind == "sequence":
    return FRAMES
  if unit.kind in ("attack", "autoattack"):
    return 3.0 * ATTACKS[unit.family].num_steps + 1
  return 1.0
