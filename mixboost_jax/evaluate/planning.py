# SPDX-License-Identifier: Apache-2.0
"""How many examples every unit gets, and the lines that say so."""

from collections.abc import Callable, Sequence

from mixboost_jax.evaluate import budget as budget_lib
from mixboost_jax.evaluate import detection, suites
from mixboost_jax.evaluate.budget import Group, group_of
from mixboost_jax.evaluate.session import Session
from mixboost_jax.evaluate.store import Store, digest
from mixboost_jax.evaluate.suites import Unit
from mixboost_jax.runtime import log
from mixboost_jax.runtime.results import Flag

ALL = -1
"""As `max_examples`: no limit."""
RESERVE = 0.1
"""Share of a budget that is left for intervals and the report."""


def sizes(
  session: Session,
  units: Sequence[Unit],
  suite: str,
  *,
  max_examples: int,
  budget: str,
  store: Store,
  network: str,
  spent: Callable[[], float] = lambda: 0.0,
) -> tuple[dict[Unit, int], list[Flag]]:
  """Returns the number of examples of every unit, and a note for each kind that gets a subset.

  Args:
    session: network and examples.
    units: of the suite.
    suite: its name or its words.
    max_examples: 0: the defaults of the suite; -1: all; else most examples of every unit.
    budget: a duration, or nothing.
    store: keeps the plan of a budget.
    network: hash of the network.
    spent: seconds of the budget that are gone, asked after the probe.

  Raises:
    ValueError: if `max_examples` or `budget` is wrong.
  """
  if max_examples < ALL:
    raise ValueError(f"evaluate: max_examples must be >= -1, got {max_examples}.")
  available: dict[Group, int] = {}
  for unit in units:
    most = len(session.examples)
    if unit.source == "released" and session.released is not None:
      most = session.released.count(unit)
    available[group_of(unit)] = min(most, available.get(group_of(unit), most))
  if budget:
    chosen = _planned(session, units, available, budget, store, network, spent)
  else:
    chosen = {
      group: min(most, _cap(group, suite, max_examples, most)) for group, most in available.items()
    }
  known = chosen.get(("pictures", "clean"), len(session.examples))
  counted = {unit: _own_size(session, unit, chosen[group_of(unit)], known) for unit in units}
  return counted, _notes(chosen, available, units)


def _own_size(session: Session, unit: Unit, size: int, known: int) -> int:
  if unit.kind != "ood":  # the size of an OOD set follows from how many known pictures it meets
    return size
  wanted = detection.foreign_count(min(size, known))
  return min(wanted, len(session.foreign_sets.get(unit.member, range(wanted))))


def _cap(group: Group, suite: str, max_examples: int, most: int) -> int:
  if max_examples == ALL:
    return most
  if max_examples > 0:
    return max_examples
  table = suites.QUICK_EXAMPLES if suite == "quick" else suites.DEFAULT_EXAMPLES
  return table.get(group[0], most)


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
  wanted = budget_lib.seconds(budget)
  words = [unit.label for unit in units]
  question = digest([network, wanted, words, len(session.examples), session.scorer.batch_size])
  names = {group: "/".join(group) for group in available}
  before = store.read_plan(question)
  if before is not None and set(before) == set(names.values()):
    return {group: before[name] for group, name in names.items()}
  speeds = budget_lib.probe(session, units, available)
  num_units = {group: sum(group_of(unit) == group for unit in units) for group in available}
  steps = {group: budget_lib.step_of(session, group, most) for group, most in available.items()}
  gone = spent()
  sizes = budget_lib.plan(wanted * (1 - RESERVE) - gone, speeds, num_units, available, steps)
  expected = gone + sum(
    num_units[g] * (speeds[g].compilation + speeds[g].step * -(-sizes[g] // steps[g]))
    for g in sizes
  )
  if expected > wanted:
    log.warn(
      f"budget of {budget}: even {budget_lib.STEP} pictures of everything take about "
      f"{expected:.0f} s; choose a smaller suite to stay below."
    )
  if log.is_primary():
    store.write_plan(question, {names[group]: size for group, size in sizes.items()})
  return sizes


def _notes(
  chosen: dict[Group, int], available: dict[Group, int], units: Sequence[Unit]
) -> list[Flag]:
  """Says once per kind how many examples of how many are used; prints it, too."""
  notes = []
  for group, size in chosen.items():
    if size == available[group]:
      continue
    family = group[1]
    count = sum(group_of(unit) == group for unit in units)
    of = f" in each of {count} units" if count > 1 else ""
    what = "films of " if group[0] == "sequence" else ""
    message = f"{family}: {what}{size:,} of {available[group]:,} examples{of}"
    log.info(message)
    notes.append(
      Flag("subset", "note", f"{message}.", "Set evaluate.max_examples=-1 to use all of them.")
    )
  return notes
