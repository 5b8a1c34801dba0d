# SPDX-License-Identifier: Apache-2.0
"""How attacks are measured; the results are projected again and their norms asserted here."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from mixboost_jax import attacks, keys
from mixboost_jax.evaluate._examples import Unit, padded_batches
from mixboost_jax.evaluate._numbers import Place
from mixboost_jax.evaluate._session import ApplyFn, Scorer, Session, columns_of, tag_of
from mixboost_jax.evaluate._store import Columns
from mixboost_jax.runtime.mesh import AXES
from mixboost_jax.runtime.results import Metric

NORM_TOLERANCE = 1e-5
"""By how much float32 may round a perturbation out of its ball."""
AUTOATTACK_PIECE = 250
"""Examples of one run of AutoAttack."""


def attack(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Attacks batch by batch; the result is projected again and its norm asserted here."""
  spec = ATTACKS[unit.family]
  run = session.program(unit, lambda: _attack_program(session.scorer.apply_fn, spec))

  def change(ids: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
    found, violation = run(session.variables, ids, images, labels)
    _assert_feasible(float(violation), unit, spec)
    return found

  part = session.part(start, stop)
  return columns_of(session.scorer(session.variables, part, change=change))


# The attacks that a suite can ask for. Radii are in pixel units of [0, 1]; labels are true.


@dataclasses.dataclass(frozen=True)
class AttackUnit:
  """One attack with its threat model."""

  title: str
  """For tables."""
  kind: str
  """"attack" (a function of a batch) or "autoattack" (its own batches)."""
  options: Mapping[str, Any]
  """Keywords of `attacks.pgd`; or of `attacks.AutoAttack`, and its `epsilon`."""

  @property
  def norm(self) -> str:
    """Norm of the ball."""
    return self.options["norm"]

  @property
  def epsilon(self) -> float:
    """Radius of the ball."""
    return self.options["epsilon"]

  @property
  def num_steps(self) -> int:
    """Gradient steps, or how many the cost amounts to."""
    return self.options.get("num_steps", 500)


def _attack_program(apply_fn: ApplyFn, spec: AttackUnit) -> Callable[..., tuple[Any, Any]]:
  def run(variables: Any, ids: Any, images: Any, labels: Any) -> tuple[Any, Any]:
    each = keys.example_keys(keys.root_key(0), keys.Stream.ATTACK, ids)
    logits_fn = functools.partial(apply_fn, variables)
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
  return {**columns_of(scored), "broken_by": result.broken_by}


def _autoattack_program(session: Session, spec: AttackUnit) -> attacks.AutoAttack:
  rows = session.scorer.batch_for(min(len(session.examples), AUTOATTACK_PIECE))
  options = {name: value for name, value in spec.options.items() if name != "epsilon"}
  return attacks.AutoAttack(_spread(session.scorer, session.variables), batch_size=rows, **options)


def _spread(scorer: Scorer, variables: Any) -> Callable[[jax.Array], jax.Array]:
  """Returns the network as a `logits_fn` that asks for its batch to be split over the devices."""
  sharding = jax.sharding.NamedSharding(scorer.mesh, PartitionSpec(AXES))

  def logits_fn(images: jax.Array) -> jax.Array:
    if len(images) % scorer.mesh.size == 0:
      images = jax.lax.with_sharding_constraint(images, sharding)
    return scorer.apply_fn(variables, images)

  return logits_fn


def _pgd(num_steps: int) -> AttackUnit:
  options = attacks.PRESETS[f"mixup-inference-{num_steps}"]
  return AttackUnit(f"PGD-{num_steps}, L∞ 8/255", "attack", options)


ATTACKS: dict[str, AttackUnit] = {
  "pgd": AttackUnit("PGD-20, L∞ 2/255", "attack", attacks.PRESETS["pixmix"]),
  "pgd-10": _pgd(10),
  "pgd-50": _pgd(50),
  "pgd-200": _pgd(200),
  "autoattack": AttackUnit(
    "AutoAttack, L∞ 8/255", "autoattack", {"norm": "linf", "epsilon": 8 / 255}
  ),
  "autoattack-l2": AttackUnit("AutoAttack, L2 0.5", "autoattack", {"norm": "l2", "epsilon": 0.5}),
}
"""By the word of a suite."""


def with_interval(metric: Metric, low: float, high: float, place: Place) -> Metric:
  return dataclasses.replace(
    metric, low=low, high=high, confidence=place.confidence, interval="wilson"
  )
