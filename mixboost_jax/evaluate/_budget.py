# SPDX-License-Identifier: Apache-2.0
"""How many examples a time budget pays for, from the measured speed of every kind of unit."""

import collections
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mixboost_jax.evaluate._examples import Unit
from mixboost_jax.evaluate._kind import CLEAN, STEP
from mixboost_jax.evaluate._released import SOURCE
from mixboost_jax.evaluate._session import Session
from mixboost_jax.evaluate._store import Store, digest
from mixboost_jax.evaluate._suites import KINDS
from mixboost_jax.runtime import log
from mixboost_jax.runtime.results import Flag

_UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*")
Group = tuple[str, str]
"""(kind, family): units that cost the same and get the same number of examples."""
ALL = -1
"""As `max_examples`: no limit."""
RESERVE = 0.1
"""Share of a budget that is left for intervals and the report."""


class Speed(NamedTuple):
  """Seconds before the first step of every unit of a group, and those of one step."""

  compilation: float
  step: float


def seconds(budget: str) -> float:
  """Reads `90s`, `10min`, `1.5h`, or a number of seconds; raises a ValueError otherwise."""
  match = _DURATION.fullmatch(budget)
  if not match or match[2] not in _UNITS or float(match[1]) <= 0:
    raise ValueError(f"budget: expected a duration such as '90s', '10min' or '2h', got {budget!r}.")
  return float(match[1]) * _UNITS[match[2]]


def problem(budget: str) -> str | None:
  """Returns what is wrong with a budget, or None; an empty one means no limit.

  ```python
  assert evaluate.budget_problem("10min") is None
  print(evaluate.budget_problem("ten minutes"))
  ```
  """
  try:
    if budget:
      seconds(budget)
  except ValueError as error:
    return str(error).removeprefix("budget: ")
  return None


def group_of(unit: Unit) -> Group:
  """Returns the group whose size a unit shares."""
  return unit.kind, unit.family


def step_of(session: Session, group: Group, most: int) -> int:
  """Returns the examples (or films) of the smallest part that a group is planned in."""
  return min(session.scorer.rounded(KINDS[group[0]].step), session.scorer.batch_for(most))


def probe(session: Session, units: Sequence[Unit], most: Mapping[Group, int]) -> dict[Group, Speed]:
  """Measures the first unit of every group on one step: once to compile, once for the time."""
  speeds: dict[Group, Speed] = {}
  for unit in units:
    group = group_of(unit)
    if group in speeds:
      continue
    run, count = KINDS[unit.kind].measure, min(step_of(session, group, most[group]), most[group])
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

  Compilation is paid first. What is left of `budget` seconds is shared equally between groups; a
  group that needs less than its share leaves the rest to the others. Every group gets at least one
  step. `most` are the examples of a group if time did not matter, `steps` those of one step.
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


def sizes(
  session: Session,
  units: Sequence[Unit],
  suite: str,
  *,
  max_examples: int,
  max_clean: int,
  max_films: int,
  budget: str,
  store: Store,
  network: str,
  spent: Callable[[], float] = lambda: 0.0,
) -> tuple[dict[Unit, int], list[Flag]]:
  """Returns the number of examples of every unit, and a note for each kind that gets a subset.

  Arguments as of `evaluate`; the store keeps the plan of a budget, of which `spent` says, asked
  after the probe, how many seconds are gone.
  """
  limits = {"max_examples": max_examples, "max_clean": max_clean}
  for name, value in limits.items():
    if value < ALL:
      raise ValueError(f"evaluate: {name} must be >= -1, got {value}.")
  available: dict[Group, int] = {}
  for unit in units:
    most = len(session.examples)
    if unit.source == SOURCE and session.released is not None:
      most = KINDS[unit.kind].num_published(session.released, unit)
    available[group_of(unit)] = min(most, available.get(group_of(unit), most))
  if budget:
    chosen = _planned(session, units, available, budget, store, network, spent)
  else:
    chosen = {}
    for group, most in available.items():
      kind = KINDS[group[0]]
      usual = kind.quick_examples if suite == "quick" else kind.default_examples
      own = max_clean if group[1] == CLEAN else max_films if kind.counted else 0
      wanted = own or max_examples or usual or ALL
      chosen[group] = most if wanted == ALL else min(most, wanted)
  num_clean = next((chosen[g] for g in chosen if g[1] == CLEAN), len(session.examples))
  counted = {
    unit: KINDS[unit.kind].count(session, unit, chosen[group_of(unit)], num_clean) for unit in units
  }
  return counted, _notes(chosen, available, units)


def _planned(
  session: Session,
  units: Sequence[Unit],
  available: dict[Group, int],
  budget: str,
  store: Store,
  network: str,
  spent: Callable[[], float],
) -> dict[Group, int]:
  """Returns the sizes of an earlier plan for the same question, or probes and plans."""
  wanted = seconds(budget)
  words = [unit.label for unit in units]
  question = digest([network, wanted, words, len(session.examples), session.scorer.batch_size])
  names = {group: "/".join(group) for group in available}
  before = store.read_plan(question) or {}
  if set(before) == set(names.values()):
    return {group: before[name] for group, name in names.items()}
  speeds = probe(session, units, available)
  num_units = collections.Counter(map(group_of, units))
  steps = {group: step_of(session, group, most) for group, most in available.items()}
  gone = spent()
  sizes = plan(wanted * (1 - RESERVE) - gone, speeds, num_units, available, steps)
  expected = gone + sum(
    num_units[g] * (speeds[g].compilation + speeds[g].step * -(-sizes[g] // steps[g]))
    for g in sizes
  )
  if expected > wanted:
    log.warn(
      f"budget of {budget}: even {STEP} pictures of everything take about "
      f"{expected:.0f} s; choose a smaller suite to stay below."
    )
  if log.is_primary():
    store.write_plan(question, {names[group]: size for group, size in sizes.items()})
  return sizes


def _notes(
  chosen: dict[Group, int], available: dict[Group, int], units: Sequence[Unit]
) -> list[Flag]:
  """Says once per kind how many examples of how many are used; prints it, too."""
  notes, num_units = [], collections.Counter(map(group_of, units))
  for group, size in chosen.items():
    if size == available[group]:
      continue
    (kind, family), count = group, num_units[group]
    of = f" in each of {count} units" if count > 1 else ""
    message = f"{family}: {KINDS[kind].counted}{size:,} of {available[group]:,} examples{of}"
    log.info(message)
    notes.append(
      Flag("subset", "note", f"{message}.", "Set evaluate.max_examples=-1 to use all of them.")
    )
  return notes
