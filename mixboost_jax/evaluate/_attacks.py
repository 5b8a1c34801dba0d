# SPDX-License-Identifier: Apache-2.0
"""Attacks with true labels; what they find is projected again and its norm asserted here.

Radii are in pixel units of [0, 1].
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import attacks, keys
from mixboost_jax.evaluate._examples import Unit, padded_batches
from mixboost_jax.evaluate._kind import Curves, Family, Kind, error
from mixboost_jax.evaluate._session import (
  HOLDS_PARAMETERS,
  ApplyFn,
  Scorer,
  Session,
  columns_of,
  tag_of,
)
from mixboost_jax.evaluate._store import Columns
from mixboost_jax.runtime import mesh as mesh_lib
from mixboost_jax.runtime.results import Metric

Options = Mapping[str, Any]
ATTACKS: dict[str, Options] = {
  "pgd": attacks.PRESETS["pixmix"],
  **{f"pgd-{steps}": attacks.PRESETS[f"mixup-inference-{steps}"] for steps in (10, 50, 200)},
  **{
    f"pgd-l2-{radius}-{steps}": attacks.PRESETS[f"jku-{radius}-{steps}"]
    for radius in ("0.25", "0.5")
    for steps in (10, 100)
  },
}
"""Word of a suite -> keywords of `attacks.pgd`."""
AUTOATTACKS: dict[str, Options] = {
  "autoattack": {"norm": "linf", "epsilon": 8 / 255},
  "autoattack-l2": {"norm": "l2", "epsilon": 0.5},
}
"""Word of a suite -> keywords of `attacks.AutoAttack`, and its `epsilon`."""
NORM_TOLERANCE = 1e-5
"""By how much float32 may round a perturbation out of its ball."""
AUTOATTACK_PIECE = 250
"""Examples of one run of AutoAttack, compiled for as many whatever is in them."""
AUTOATTACK_STEPS = 500
"""Gradient steps that the cost of AutoAttack amounts to."""


def attack(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Attacks batch by batch."""
  options = ATTACKS[unit.family]
  run = session.program(unit, lambda: _attack_program(session.scorer.apply_fn, options))

  def change(ids: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
    found, violation = run(session.variables, ids, images, labels)
    _assert_feasible(float(violation), unit, options)
    return found

  part = session.part(start, stop)
  return columns_of(session.scorer(session.variables, part, change=change))


def _attack_program(apply_fn: ApplyFn, options: Options) -> Callable[..., tuple[Any, Any]]:
  def run(variables: Any, ids: Any, images: Any, labels: Any) -> tuple[Any, Any]:
    each = keys.example_keys(keys.root_key(0), keys.Stream.ATTACK, ids)
    logits_fn = functools.partial(apply_fn, variables)
    found = attacks.pgd(each, lambda x: logits_fn(x), images, labels, **options)
    return _projected(found, images, options)

  return jax.jit(run)


def _projected(found: Any, images: Any, options: Options) -> tuple[Any, Any]:
  """Returns what was found inside the ball, and by how much float32 leaves it all the same."""
  ball = {"epsilon": options["epsilon"], "norm": options["norm"]}
  found = attacks.project(found, images, **ball)
  return found, attacks.largest_violation(found, images, **ball)


def _assert_feasible(violation: float, unit: Unit, options: Options) -> None:
  if not violation <= NORM_TOLERANCE:
    raise RuntimeError(
      f"evaluate: {unit.label} left its {options['norm']} ball of radius "
      f"{options['epsilon']:g} by {violation:g}: the attack is broken, its number would be "
      "worthless."
    )


def autoattack(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Runs AutoAttack on a range of examples and scores its worst-case pictures."""
  options, scorer = AUTOATTACKS[unit.family], session.scorer
  part = session.part(start, stop)
  batches = list(padded_batches(part, scorer.batch_for(len(part))))
  clean = np.concatenate([batch.images[batch.real] for batch in batches])
  ids = jnp.asarray(part.ids)
  each = keys.example_keys(keys.root_key(0), keys.Stream.ATTACK, ids, epoch=tag_of(unit))
  name = (unit, HOLDS_PARAMETERS)
  run = session.program(name, lambda: _autoattack_program(session, options))
  result = run(each, clean, part.labels, epsilon=options["epsilon"])
  worst, violation = _projected(jnp.asarray(result.images), jnp.asarray(clean), options)
  _assert_feasible(float(violation), unit, options)
  found = dataclasses.replace(part, images=np.asarray(worst))
  return {**columns_of(scorer(session.variables, found)), "broken_by": result.broken_by}


def _autoattack_program(session: Session, options: Options) -> attacks.AutoAttack:
  rows = session.scorer.batch_for(min(len(session.examples), AUTOATTACK_PIECE))
  rest = {name: value for name, value in options.items() if name != "epsilon"}
  return attacks.AutoAttack(_spread(session.scorer, session.variables), batch_size=rows, **rest)


def _spread(scorer: Scorer, variables: Any) -> Callable[[jax.Array], jax.Array]:
  """Returns the network as a `logits_fn` that asks for its batch to be split over the devices."""
  sharding = mesh_lib.batch_sharding(scorer.mesh)

  def logits_fn(images: jax.Array) -> jax.Array:
    if len(images) % scorer.mesh.size == 0:
      images = jax.lax.with_sharding_constraint(images, sharding)
    return scorer.apply_fn(variables, images)

  return logits_fn


def _error(family: Family) -> tuple[list[Metric], Curves]:
  """The error alone: what an attack does to confidence says nothing about calibration."""
  (columns,) = family.columns.values()
  return [error(family.place, columns["correct"])], {}


ATTACK = Kind(
  words=dict.fromkeys(ATTACKS, ()),
  measure=attack,
  aggregate=_error,
  piece=1000,
  passes=lambda unit: 3.0 * ATTACKS[unit.family]["num_steps"] + 1,
  default_examples=1000,
  quick_examples=200,
  is_attack=True,
  definition=lambda session, unit: dict(ATTACKS[unit.family]),
)
AUTOATTACK = Kind(
  words=dict.fromkeys(AUTOATTACKS, ()),
  measure=autoattack,
  aggregate=_error,
  piece=AUTOATTACK_PIECE,
  passes=lambda unit: 3.0 * AUTOATTACK_STEPS + 1,
  default_examples=500,
  step=AUTOATTACK_PIECE,
  is_attack=True,
  definition=lambda session, unit: dict(AUTOATTACKS[unit.family]),
)
