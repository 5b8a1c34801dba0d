# SPDX-License-Identifier: Apache-2.0
"""Prediction-change stress around pictures, clean (`stress:clean`) and attacked (`stress:adv`)."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mixboost_jax import analysis, attacks, keys
from mixboost_jax.evaluate._examples import Unit, padded_batches
from mixboost_jax.evaluate._kind import Curves, Family, Kind, metric
from mixboost_jax.evaluate._session import ApplyFn, Session
from mixboost_jax.evaluate._store import Columns
from mixboost_jax.runtime.results import Metric

SPHERES: Mapping[str, Mapping[str, Any]] = {
  "stress": {"norm": "l2", "epsilons": (0.01, 0.1, 0.25, 0.5, 1.0, 2.0)},
  "stress-linf": {"norm": "linf", "epsilons": tuple(k / 255 for k in (1, 2, 4, 8, 16, 32))},
}
"""Word of a suite -> keywords of `analysis.prediction_changes`."""
NUM_NEIGHBOURS = 100
"""Per picture and radius."""
REFERENCES: Mapping[str, str] = {"clean": "", "adv": "jku-0.5-10"}
"""Member of a word -> which of `attacks.PRESETS` makes its reference points; "": none does."""
_DIRECTIONS = 1
"""Sets the keys of the directions apart; clean and attacked points share them."""


def stress(session: Session, unit: Unit, start: int, stop: int) -> Columns:
  """Counts, for each picture and radius, the neighbours with another label."""
  scorer, part = session.scorer, session.part(start, stop)
  run = session.program(unit, lambda: _program(scorer.apply_fn, unit))
  found = []
  for batch in padded_batches(part, scorer.batch_for(len(part))):
    images, labels, ids = scorer.place((batch.images, batch.labels, batch.ids))
    counts = run(session.variables, ids, images, labels)
    found.append(np.asarray(jax.device_get(counts))[batch.real])
  return {"changes": np.concatenate(found)}


def _program(apply_fn: ApplyFn, unit: Unit) -> Callable[..., jax.Array]:
  attack = REFERENCES[unit.member]

  def run(variables: Any, ids: Any, images: Any, labels: Any) -> jax.Array:
    root = keys.root_key(0)  # part of the definition of this unit, not of a run
    logits_fn = functools.partial(apply_fn, variables)
    points = images
    if attack:
      each = keys.example_keys(root, keys.Stream.ATTACK, ids)
      points = attacks.pgd(each, logits_fn, images, labels, **attacks.PRESETS[attack])
    each = keys.example_keys(root, keys.Stream.EVALUATE, ids, epoch=_DIRECTIONS)
    options: dict[str, Any] = {**SPHERES[unit.family], "num_neighbours": NUM_NEIGHBOURS}
    return analysis.prediction_changes(each, logits_fn, points, **options)

  return jax.jit(run)


def _aggregate(family: Family) -> tuple[list[Metric], Curves]:
  """One number per radius; its interval is that of these pictures, the curve also has the other."""
  place, found = family.place, []
  curves: Curves = {}
  radii = SPHERES[family.word]["epsilons"]
  for unit, columns in family.columns.items():
    changes = np.asarray(columns["changes"])
    one = analysis.prediction_change_stress(
      changes, num_neighbours=NUM_NEIGHBOURS, confidence=place.confidence
    )
    rows = []
    for i, radius in enumerate(radii):
      value, low, high, picture_low, picture_high = (100 * float(part[i]) for part in one)
      how = "clopper-pearson over neighbours"
      name = f"stress:{unit.member}_radius_{_short(family.word, radius)}"
      count = len(changes)
      found.append(metric(place, name, value, count=count, ends=(low, high), interval=how))
      ends = {"low": low, "high": high, "picture_low": picture_low, "picture_high": picture_high}
      rows.append({"step": i, "radius": radius, "stress": value, **ends})
    curves[f"stress/{place.dataset}/{unit.member}"] = rows
  return found, curves


def _short(word: str, radius: float) -> str:
  return f"{radius:g}" if SPHERES[word]["norm"] == "l2" else f"{round(255 * radius)}/255"


def _definition(session: Session, unit: Unit) -> Any:
  del session
  attack = REFERENCES[unit.member]
  return [dict(SPHERES[unit.family]), NUM_NEIGHBOURS, attacks.PRESETS[attack] if attack else None]


STRESS = Kind(
  words=dict.fromkeys(SPHERES, tuple(REFERENCES)),
  measure=stress,
  aggregate=_aggregate,
  piece=100,
  passes=lambda unit: 1.0 + NUM_NEIGHBOURS * len(SPHERES[unit.family]["epsilons"]),
  default_examples=200,
  quick_examples=50,
  counted="neighbours of ",
  is_attack=True,
  definition=_definition,
)
