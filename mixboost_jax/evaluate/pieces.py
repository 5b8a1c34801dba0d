# SPDX-License-Identifier: Apache-2.0
"""Measures units piece by piece: each is kept as soon as it is done, and never measured twice."""

import concurrent.futures
import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mixboost_jax import corruptions
from mixboost_jax.evaluate import foreign
from mixboost_jax.evaluate.attacks_table import ATTACKS
from mixboost_jax.evaluate.measure import KINDS, passes, prepare
from mixboost_jax.evaluate.session import Session
from mixboost_jax.evaluate.store import VERSION, Columns, Store, digest
from mixboost_jax.evaluate.suites import Unit
from mixboost_jax.runtime import interrupt, log
from mixboost_jax.runtime.interrupt import Stopped
from mixboost_jax.runtime.progress import Progress

FILMS_VERSION = 2
"""Raised when films of the same constants become others than before."""


@dataclasses.dataclass(frozen=True)
class Piece:
  """A range of examples of one unit: the smallest thing that is kept."""

  unit: Unit
  start: int
  stop: int


def cut(session: Session, sizes: Mapping[Unit, int]) -> list[Piece]:
  """Cuts units into pieces of whole batches.

  Args:
    session: of which the batch size is used.
    sizes: unit -> number of examples.
  """
  pieces = []
  for unit, size in sizes.items():
    batch = session.scorer.batch_for(size)
    wanted = KINDS[unit.kind].piece or size
    step = -(-wanted // batch) * batch
    pieces += [Piece(unit, i, min(i + step, size)) for i in range(0, size, step)]
  return pieces


class _Names:
  """Names pieces by a hash of all that their numbers depend on."""

  def __init__(self, session: Session, network: str):
    self._session, self._network = session, network
    self._ranges: dict[tuple[str, int, int], str] = {}

  def __call__(self, piece: Piece) -> str:
    unit = piece.unit
    return digest(
      [
        VERSION,
        self._network,
        unit.label,
        piece.start,
        piece.stop,
        _definition(self._session, unit),
      ],
      self._pictures(piece),
    )

  def _pictures(self, piece: Piece) -> str:
    unit, session = piece.unit, self._session
    if unit.source == "released":
      assert session.released is not None
      return session.released.digest(unit, piece.start, piece.stop)
    place = (unit.member if unit.member in session.foreign_sets else "", piece.start, piece.stop)
    if place not in self._ranges:
      part = session.part(piece.start, piece.stop)
      arrays = (
        [session.foreign_sets[place[0]]] if place[0] else [part.images, part.labels, part.ids]
      )
      self._ranges[place] = digest(*arrays)
    return self._ranges[place]


def _definition(session: Session, unit: Unit) -> Any:
  """Returns the constants of a unit."""
  height, width, _ = session.image_shape
  table = corruptions.choose_table("auto", height=height, width=width)
  if unit.source:
    return unit.source
  if unit.kind == "corruption":
    return corruptions.parameters(unit.member, severity=unit.severity, table=table)
  if unit.kind == "sequence":
    return [FILMS_VERSION, getattr(corruptions.SEQUENCES[unit.member], table)]
  if unit.family in ATTACKS:
    return dict(ATTACKS[unit.family].options)
  if unit.kind == "ood":
    return foreign.KNOWN_PER_FOREIGN
  if unit.kind == "temperature" and session.held_out is not None:
    return digest(session.held_out.images, session.held_out.labels)
  return None


def measure(
  session: Session,
  sizes: Mapping[Unit, int],
  store: Store,
  *,
  network: str,
  label: str,
  should_stop: Callable[[], bool] | None = None,
) -> dict[Unit, Columns]:
  """Measures what is not yet in the store and returns the columns of every unit.

  Args:
    session: network and examples.
    sizes: unit -> number of examples.
    store: of finished pieces.
    network: hash of the network.
    label: first word of the progress line.
    should_stop: asked between pieces; None: see `interrupt.asking`.

  Raises:
    Stopped: if `should_stop` said so.
  """
  pieces, name = cut(session, sizes), _Names(session, network)
  names = [name(piece) for piece in pieces]
  kept = [store.read(one) for one in names]
  done = _agreed([columns is not None for columns in kept])
  if done.any():
    log.info(f"{label}: {int(done.sum())} of {len(pieces)} pieces were measured before.")
  work = [passes(piece.unit) * (piece.stop - piece.start) for piece in pieces]
  ahead = round(sum(w for w, was in zip(work, done, strict=True) if not was))
  found: dict[Unit, list[Columns]] = {unit: [] for unit in sizes}
  finished = 0.0
  with contextlib.ExitStack() as stack:
    asked = stack.enter_context(interrupt.asking(should_stop))
    bar = stack.enter_context(Progress(label, max(ahead, 1), unit="passes"))
    ahead_of = _Ahead(session, [p for p, was in zip(pieces, done, strict=True) if not was])
    stack.callback(ahead_of.close)
    for piece, one, amount, was, before in zip(pieces, names, work, done, kept, strict=True):
      if was and before is not None:
        found[piece.unit].append(before)
        continue
      if asked():
        kept_in = f"what is done is kept in {store.folder}" if store.folder else "nothing is kept"
        raise Stopped(f"{label}: stopped on request before {piece.unit.label}; {kept_in}.")
      started = time.perf_counter()
      ahead_of.reach(piece)
      columns = KINDS[piece.unit.kind].run(session, piece.unit, piece.start, piece.stop)
      found[piece.unit].append(columns)
      if log.is_primary():
        store.write(one, columns, _note(piece, time.perf_counter() - started))
      finished += amount
      bar.update(min(round(finished), round(ahead)), units=round(amount))
  return {unit: _joined(parts) for unit, parts in found.items()}


class _Ahead:
  """Compiles the programs of the next units in a thread while the current one is measured."""

  def __init__(self, session: Session, pieces: Sequence[Piece]):
    self._session = session
    self._thread = concurrent.futures.ThreadPoolExecutor(1)
    self._pieces = list(pieces)
    self._jobs: dict[tuple[Unit, int], concurrent.futures.Future] = {}

  def reach(self, piece: Piece) -> None:
    """Waits until `piece` can run, and starts on those behind it."""
    place = self._pieces.index(piece)
    for one in self._pieces[place : place + 3]:
      key = (one.unit, self._session.scorer.batch_for(one.stop - one.start))
      if key not in self._jobs:
        self._jobs[key] = self._thread.submit(prepare, self._session, *key)
    self._jobs[piece.unit, self._session.scorer.batch_for(piece.stop - piece.start)].result()

  def close(self) -> None:
    """Gives up what was not needed."""
    self._thread.shutdown(wait=True, cancel_futures=True)


def _note(piece: Piece, seconds: float) -> dict[str, Any]:
  return {
    "unit": piece.unit.label,
    "start": piece.start,
    "stop": piece.stop,
    "seconds": round(seconds, 3),
  }


def _joined(parts: Sequence[Columns]) -> Columns:
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _agreed(done: Sequence[bool]) -> np.ndarray:
  """Returns which pieces every process has: all processes must measure the same ones."""
  mine = np.asarray(done, bool)
  if jax.distributed.is_initialized() and jax.process_count() > 1:
    from jax.experimental import multihost_utils

    everyone = np.asarray(multihost_utils.process_allgather(mine), bool)
    return np.logical_and.reduce(everyone, axis=0)
  return mine
