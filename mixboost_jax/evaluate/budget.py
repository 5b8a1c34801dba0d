# SPDX-License-Identifier: Apache-2.0
"""How many examples a time budget pays for, from the measured speed of every kind of unit."""

import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mixboost_jax.evaluate.measure import FRAMES, KINDS
from mixboost_jax.evaluate.session import Session
from mixboost_jax.evaluate.suites import Unit

_UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*")
Group = tuple[str, str]
"""(kind, family): units that cost the same and get the same number of examples."""
STEP = 100
"""Passes of the network (examples, or frames of films) by which sizes are planned."""


class Speed(NamedTuple):
  """What one group of units costs."""

  compilation: float
  """Seconds before the first step of every unit."""
  step: float
  """Seconds of one step."""


def seconds(budget: str) -> float:
  """Reads `90s`, `10min`, `1.5h`, or a number of seconds.

  Raises:
    ValueError: if it is none of these or not positive.
  """
  match = _DURATION.fullmatch(budget)
  if not match or match[2] not in _UNITS or float(match[1]) <= 0:
    raise ValueError(f"budget: expected a duration such as '90s', '10min' or '2h', got {budget!r}.")
  return float(match[1]) * _UNITS[match[2]]


def problem(budget: str) -> str | None:
  """Returns what is wrong with a budget, or None; an empty one means no limit."""
  try:
    return None if not budget else (seconds(budget), None)[1]
  except ValueError as error:
    return str(error).removeprefix("budget: ")


def group_of(unit: Unit) -> Group:
  """Returns the group whose size a unit shares."""
  return unit.kind, unit.family


def step_of(session: Session, group: Group, most: int) -> int:
  """Returns the examples (or films) of the smallest part that a group is planned in."""
  kind = group[0]
  if kind == "autoattack":  # compiled for pieces of one size, whatever is in them
    return session.scorer.batch_for(min(most, KINDS[kind].piece))
  wanted = max(STEP // FRAMES, 1) if kind == "sequence" else STEP
  return min(session.scorer.rounded(wanted), session.scorer.batch_for(most))


def probe(session: Session, units: Sequence[Unit], most: Mapping[Group, int]) -> dict[Group, Speed]:
  """Measures the first unit of every group on one step: once to compile, once for the time."""
  speeds: dict[Group, Speed] = {}
  for unit in units:
    group = group_of(unit)
    if group in speeds:
      continue
    run, count = KINDS[unit.kind].run, min(step_of(session, group, most[group]), most[group])
    started = time.perf_counter()
    run(session, unit, 0, count)
    middle = time.perf_counter()
    run(session, unit, 0, count)
    once = time.perf_counter() - middle
    speeds[group] = Speed(max(middle - started - once, 0.0), once)
  return speeds


def plan(
  budget: float,
  speeds: Mapping[Group, Speed],
  num_units: Mapping[Group, int],
  most: Mapping[Group, int],
  steps: Mapping[Group, int],
) -> dict[Group, int]:
  """Returns the number of examples of each group.

  Compilation is paid first. What is left is shared equally between groups; a group that needs less
  than its share leaves the rest to the others. Every group gets at least one step.

  Args:
    budget: seconds.
    speeds: from `probe`.
    num_units: units in each group.
    most: examples in each group if time did not matter.
    steps: examples per step in each group.
  """
  left = budget - sum(speeds[g].compilation * num_units[g] for g in speeds)
  per_step = {g: max(speeds[g].step * num_units[g], 1e-9) for g in speeds}
  needed = {g: math.ceil(most[g] / steps[g]) for g in speeds}
  sizes: dict[Group, int] = {}
  waiting = sorted(speeds, key=lambda g: (per_step[g] * needed[g], g))
  for i, group in enumerate(waiting):
    share = max(left, 0.0) / (len(waiting) - i)
    count = min(needed[group], max(int(share / per_step[group]), 1))
    left -= count * per_step[group]
    sizes[group] = min(count * steps[group], most[group])
  return sizes
