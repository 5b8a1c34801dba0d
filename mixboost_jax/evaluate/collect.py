# SPDX-License-Identifier: Apache-2.0
"""Columns of all units -> the metrics and curves of a results file.

Names: the clean split keeps the name of its data set; everything derived from it adds a suffix
(`-c`, `-c_bar`, `-p`, `-pgd`, `-ood-blobs`, `-temperature`, ...). Numbers on published files end in
`-released` and are never mixed with those on pictures made here.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixboost_jax import corruptions, metrics
from mixboost_jax.evaluate import aggregate, detection, suites, summary
from mixboost_jax.evaluate.examples import Examples
from mixboost_jax.evaluate.replicates import Place, metric
from mixboost_jax.evaluate.scoring import Scores
from mixboost_jax.evaluate.session import Session
from mixboost_jax.evaluate.store import Columns
from mixboost_jax.evaluate.suites import Unit
from mixboost_jax.runtime.results import Metric

Curves = dict[str, list[dict[str, Any]]]


def everything(
  session: Session,
  columns: Mapping[Unit, Columns],
  *,
  ece_bins: int,
  confidence: float,
  large: bool,
) -> tuple[list[Metric], Curves]:
  """Aggregates every family, in the order of the suite.

  Args:
    session: for the names of the data.
    columns: of every unit.
    ece_bins: of the expected calibration error.
    confidence: level of the intervals.
    large: whether the pictures take the lists of ImageNet, and numbers divided by AlexNet's.
  """
  families: dict[tuple[str, str], dict[Unit, Columns]] = {}
  for unit, values in columns.items():
    families.setdefault((unit.family, unit.source), {})[unit] = values
  clean = next((values for unit, values in columns.items() if unit.family == "clean"), None)
  found: list[Metric] = []
  curves: Curves = {}
  for (family, source), units in families.items():
    kind = next(iter(units)).kind
    place = _place(session.examples, family, kind, source, confidence)
    members = suites.members_of(family, large=large)
    if source and session.released is not None:
      members = session.released.members(family)
    if kind == "corruption":
      more, points = aggregate.corruption_family(
        place,
        units,
        members=members,
        clean_correct=None if clean is None else clean["correct"],
        reference=_alexnet_errors(members) if large and family == "c" else None,
      )
      found += more
      curves |= points
    elif kind == "sequence":
      found += aggregate.sequence_family(
        place,
        units,
        members=members,
        reference=metrics.ALEXNET_FLIP_RATES if large and family == "p" else None,
      )
    elif kind == "ood":
      found += _ood(session, place, clean, units)
    else:
      more, points = _pictures(session.examples, place, kind, next(iter(units.values())), ece_bins)
      found += more
      curves |= points
  return found, curves


def _place(examples: Examples, family: str, kind: str, source: str, confidence: float) -> Place:
  name = examples.dataset
  if family != "clean" and kind != "ood":
    name = f"{name}-{family}" + (f"-{source}" if source else "")
  made_here = kind in ("corruption", "sequence")
  origin = source or ("generated" if made_here else examples.source)
  return Place(name, examples.split, origin, confidence)


def _alexnet_errors(members: Sequence[str]) -> dict[str, float]:
  """Returns AlexNet's errors under the names of these corruptions."""
  names = corruptions.BENCHMARK_NAMES
  return {name: metrics.ALEXNET_ERRORS[names.get(name, name)] for name in members}


def _pictures(
  examples: Examples, place: Place, kind: str, columns: Columns, ece_bins: int
) -> tuple[list[Metric], Curves]:
  scores = Scores(*(columns[name] for name in Scores._fields))
  if kind in ("attack", "autoattack"):
    wrong, count = int((columns["correct"] == 0).sum()), len(columns["correct"])
    ends = metrics.wilson(wrong, count, confidence=place.confidence)
    error = metric(place, "error", 100 * wrong / count, None, count=count)
    return [_with_interval(error, 100 * ends.low, 100 * ends.high, place)], {}
  named = Examples(
    examples.images[:0],
    examples.labels[:0],
    examples.ids[:0],
    place.dataset,
    place.split,
    place.source,
  )
  found = list(summary.summarise(scores, named, ece_bins=ece_bins, confidence=place.confidence))
  if "temperature" in columns:
    values = np.unique(columns["temperature"])
    found.append(
      metric(
        place,
        "temperature",
        float(values.mean()),
        None,
        count=len(scores.nll),
        unit="",
        better="none",
      )
    )
  return found, {f"reliability/{place.dataset}": summary.reliability(scores, num_bins=ece_bins)}


def _with_interval(metric: Metric, low: float, high: float, place: Place) -> Metric:
  return dataclasses.replace(
    metric, low=low, high=high, confidence=place.confidence, interval="wilson"
  )


def _ood(
  session: Session, place: Place, clean: Columns | None, units: Mapping[Unit, Columns]
) -> list[Metric]:
  if clean is None:
    raise ValueError("evaluate: suite: 'ood' compares with the known pictures; add the word clean.")
  sets = {unit.member: values for unit, values in units.items()}
  sources = {name: "files" if name in session.foreign_sets else "synthetic" for name in sets}
  return detection.summarise(place, clean, sets, sources=sources)
