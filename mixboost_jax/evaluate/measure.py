# SPDX-License-Identifier: Apache-2.0
"""How each kind of unit is measured: from a range of examples to per-example columns.

All draws hang on the ids of the examples and on the unit, not on a run: every network sees the same
corrupted pictures, whatever the batch size and the number of devices.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from mixboost_jax import attacks, corruptions, keys, metrics
from mixboost_jax.evaluate import foreign
from mixboost_jax.evaluate.attacks_table import ATTACKS, AttackUnit
from mixboost_jax.evaluate.examples import Examples, padded_batches
from mixboost_jax.evaluate.released import Released
from mixboost_jax.evaluate.scoring import Change, Scorer, scores_of
from mixboost_jax.evaluate.store import Columns
from mixboost_jax.evaluate.suites import Unit
from mixboost_jax.evaluate.variants import VARIANTS
from mixboost_jax.runtime.mesh import AXES

MAX_PROGRAMS = 8
"""Compiled units that a session remembers."""
NORM_TOLERANCE = 1e-5
"""By how much float32 may round a perturbation out of its ball."""


@dataclasses.dataclass(frozen=True)
class Session:
  """One network and the examples that it is measured on."""

  scorer: Scorer
  variables: Any
  """Of the network, on the devices."""
  examples: Examples
  foreign_sets: dict[str, np.ndarray]
  """Name -> uint8[N, H, W, C] of out-of-distribution sets that were read from folders."""
  held_out: Examples | None = None
  """Where a temperature is fitted; None: on the other half of the examples."""
  released: Released | None = None
  """Published files, for units that are read from them."""
  programs: dict[Any, Any] = dataclasses.field(default_factory=dict)
  """What was compiled for the last units: by unit, or by (unit, rows) if compiled ahead."""

  def program(self, unit: Unit, build: Callable[[], Any]) -> Any:
    """Returns the program of a unit; pieces of one unit share it."""
    if unit not in self.programs:
      self.keep(unit, build())
    return self.programs[unit]

  def keep(self, name: Any, program: Any) -> None:
    """Keeps a program until `MAX_PROGRAMS` others have come."""
    self.programs[name] = program
    for oldest in list(self.programs)[:-MAX_PROGRAMS]:
      del self.programs[oldest]

  def part(self, start: int, stop: int) -> Examples:
    """Returns places `start` to `stop` of the examples in their order."""
    return self.examples.take(self.examples.order[start:stop])

  @functools.cached_property
  def num_classes(self) -> int:
    """Columns of the logits."""
    images = jax.ShapeDtypeStruct((self.scorer.mesh.size, *self.image_shape), jnp.float32)
    return jax.eval_shape(self.scorer.logits, self.variables, images).shape[-1]

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width, channels."""
    height, width, channels = self.examples.images.shape[1:]
    return height, width, channels

  def over_devices(self, fn: Callable[..., Any]) -> Any:
    """Compiles a function of batches that treats rows independently; each device takes its part."""
    batch = PartitionSpec(AXES)
    return jax.jit(
      jax.shard_map(fn, mesh=self.scorer.mesh, in_specs=batch, out_specs=batch, check_vma=False)
    )


def tag_of(unit: Unit) -> int:
  """Returns the number by which the draws of a unit differ from those of others."""
  return zlib.crc32(f"{unit.member}:{unit.severity}".encode()) % 2**31


def _columns(scores: Any) -> Columns:
  return {name: np.asarray(values) for name, values in scores._asdict().items()}


def pictures(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Scores the split, or a set derived from it on the host."""
  examples = VARIANTS[unit.family](session.part(start, stop))
  return _columns(session.scorer(session.variables, examples))


def corruption(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Corrupts on the devices and scores; or scores the published pictures."""
  if unit.source:
    assert session.released is not None
    part = session.released.pictures(unit, start, stop)
    return _columns(session.scorer(session.variables, part))
  part = session.part(start, stop)
  change = _corrupt(session, unit, session.scorer.batch_for(len(part)))
  return _columns(session.scorer(session.variables, part, change=change))


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

  return _columns(session.program(unit, build)(session.variables, part))


def prepare(session: Session, unit: Unit, rows: int) -> None:
  """Compiles what `unit` needs for batches of so many rows, in whatever thread it is called."""
  if unit.kind != "corruption" or unit.source:
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
  make = session.program(unit, lambda: _film_program(session, unit))
  num_frames = jax.eval_shape(make, *_one_row(session)).shape[1]
  rows = _num_films(scorer, num_frames, stop - start)
  for batch in padded_batches(session.part(start, stop), rows):
    yield make(*scorer.place((batch.ids, batch.images))), batch.real


def _num_films(scorer: Scorer, num_frames: int, count: int) -> int:
  return scorer.rounded(min(count, max(scorer.batch_size // num_frames, 1)))


def _one_row(session: Session) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
  rows = session.scorer.mesh.size
  return (
    jax.ShapeDtypeStruct((rows,), jnp.int32),
    jax.ShapeDtypeStruct((rows, *session.image_shape), jnp.float32),
  )


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


def attack(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Attacks batch by batch; the result is projected again and its norm asserted here."""
  spec = ATTACKS[unit.family]
  run = session.program(unit, lambda: _attack_program(session, spec))

  def change(ids: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
    found, violation = run(session.variables, ids, images, labels)
    _assert_feasible(float(violation), unit, spec)
    return found

  part = session.part(start, stop)
  return _columns(session.scorer(session.variables, part, change=change))


def _attack_program(session: Session, spec: AttackUnit) -> Callable[..., tuple[Any, Any]]:
  def run(variables: Any, ids: Any, images: Any, labels: Any) -> tuple[Any, Any]:
    each = keys.example_keys(keys.root_key(0), keys.Stream.ATTACK, ids)
    logits_fn = functools.partial(session.scorer.apply_fn, variables)
    found = attacks.pgd(each, lambda x: logits_fn(x), images, labels, **spec.options)
    found = attacks.project(found, images, epsilon=spec.epsilon, norm=spec.norm)
    violation = attacks.largest_violation(found, images, epsilon=spec.epsilon, norm=spec.norm)
    return found, violation

  return jax.jit(run)


def _assert_feasible(violation: float, unit: Unit, spec: AttackUnit) -> None:
  if not violation <= NORM_TOLERANCE:
    raise RuntimeError(
      f"evaluate: {unit.label} left its {spec.norm} ball of radius {spec.epsilon:g} by "
      f"{violation:g}: the attack is broken, its number would be worthless."
    )


def autoattack(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Runs AutoAttack on a range of examples and scores its worst-case pictures."""
  spec, scorer = ATTACKS[unit.family], session.scorer
  part = session.part(start, stop)
  batches = list(padded_batches(part, scorer.batch_for(len(part))))
  clean = np.concatenate([batch.images[batch.real] for batch in batches])
  each = keys.example_keys(
    keys.root_key(0), keys.Stream.ATTACK, jnp.asarray(part.ids), epoch=tag_of(unit)
  )
  run = session.program(unit, lambda: _autoattack_program(session, spec))
  result = run(each, clean, part.labels, epsilon=spec.epsilon)
  centres = jnp.asarray(clean)
  worst = jnp.asarray(result.images)
  worst = attacks.project(worst, centres, epsilon=spec.epsilon, norm=spec.norm)
  violation = attacks.largest_violation(worst, centres, epsilon=spec.epsilon, norm=spec.norm)
  found = np.asarray(worst)
  _assert_feasible(float(violation), unit, spec)
  scored = session.scorer(session.variables, dataclasses.replace(part, images=found))
  return {**_columns(scored), "broken_by": result.broken_by}


def _autoattack_program(session: Session, spec: AttackUnit) -> attacks.AutoAttack:
  rows = session.scorer.batch_for(min(len(session.examples), KINDS["autoattack"].piece))
  options = {name: value for name, value in spec.options.items() if name != "epsilon"}
  return attacks.AutoAttack(_spread(session), batch_size=rows, **options)


def _spread(session: Session) -> Callable[[jax.Array], jax.Array]:
  """Returns the network as a `logits_fn` that asks for its batch to be split over the devices."""
  scorer, variables = session.scorer, session.variables
  sharding = jax.sharding.NamedSharding(scorer.mesh, PartitionSpec(AXES))

  def logits_fn(images: jax.Array) -> jax.Array:
    if len(images) % scorer.mesh.size == 0:
      images = jax.lax.with_sharding_constraint(images, sharding)
    return scorer.apply_fn(variables, images)

  return logits_fn


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
      fitted = metrics.fit_temperature(jnp.asarray(logits[rows]), jnp.asarray(part.labels[rows]))
    else:
      held_out = session.held_out
      fitted = metrics.fit_temperature(
        jnp.asarray(_logits(session, held_out)), jnp.asarray(held_out.labels)
      )
    temperatures[fold == i] = float(fitted)
  scaled = jnp.asarray(logits / temperatures[:, None])
  scores = jax.device_get(scores_of(scaled, jnp.asarray(part.labels)))
  return {**_columns(scores), "temperature": temperatures}


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
  "sequence": Kind(sequence, 500),
  "renditions": Kind(renditions, 5000),
  "attack": Kind(attack, 1000),
  "autoattack": Kind(autoattack, 250),
  "ood": Kind(ood, 5000),
  "temperature": Kind(temperature, 0),
}
"""By `Unit.kind`."""


def passes(unit: Unit) -> float:
  """Returns roughly how many passes of the network one example of a unit takes."""
  if unit.kind == "sequence":
    return 31.0
  if unit.kind in ("attack", "autoattack"):
    return 3.0 * ATTACKS[unit.family].num_steps + 1
  return 1.0
