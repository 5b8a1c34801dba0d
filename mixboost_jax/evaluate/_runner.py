# SPDX-License-Identifier: Apache-2.0
"""`evaluate`: any network, any labelled pictures, one list of metrics with intervals.

Units are measured piece by piece: each piece is kept as soon as it is done and never measured
twice. What a unit is and what becomes of its columns, its kind says (`_suites.KINDS`).
"""

import concurrent.futures
import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mixboost_jax import data, schema, target
from mixboost_jax import settings as settings_lib
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.evaluate import _budget, _ood, _released, _sanity, _store, _suites
from mixboost_jax.evaluate import _examples as examples_lib
from mixboost_jax.evaluate._examples import Examples, Unit
from mixboost_jax.evaluate._kind import CLEAN, Curves, Family
from mixboost_jax.evaluate._numbers import Place
from mixboost_jax.evaluate._pictures import headline
from mixboost_jax.evaluate._session import Scorer, Session, call, open_network, open_up
from mixboost_jax.evaluate._store import VERSION, Columns, Store, digest
from mixboost_jax.evaluate._suites import KINDS
from mixboost_jax.runtime import interrupt, log
from mixboost_jax.runtime import mesh as mesh_lib
from mixboost_jax.runtime.interrupt import Stopped
from mixboost_jax.runtime.log import Progress
from mixboost_jax.runtime.results import Clock, Metric, Results


def evaluate(
  logits_fn: LogitsFn,
  dataset: Any,
  suite: str = "clean",
  *,
  split: str = "test",
  batch_size: int = 500,
  max_examples: int = 0,
  budget: str = "",
  ood_dirs: Sequence[str] = (),
  released_dir: str = "",
  folder: str | os.PathLike | None = None,
  ece_bins: int = 15,
  confidence: float = 0.95,
  mesh: Mesh | None = None,
  name: str = "model",
  should_stop: Callable[[], bool] | None = None,
) -> Results:
  """Measures a network and says how sure the numbers are.

  ```python
  from mixboost_jax import evaluate, report
  results = evaluate.evaluate(logits_fn, (images, labels), suite="standard")
  report.write(results, "report.html")
  ```

  Args:
    logits_fn: `images[B, H, W, C] in [0, 1] -> logits[B, K]`, made of JAX operations. It normalises
      its input itself and does not change state.
    dataset: `data.Dataset`, `data.Split`, or (images, labels); images uint8, or float in [0, 1].
    suite: a name in `SUITES`, or words with commas between them ("clean,c:gaussian_noise,pgd").
    split: part of a `Dataset`: "test", "validation" or "train".
    batch_size: examples per compiled call; rounded up to a multiple of the number of devices. It
      changes no metric beyond rounding.
    max_examples: most examples per unit; 0: the usual number of its kind, -1: all, as for
      published tables. Every number says how many examples it has.
    budget: time to spend, such as "10min"; sizes are then planned from a short probe instead.
    ood_dirs: folders of pictures, prepared TFDS folders or `.npy` files that are out of
      distribution, for `ood`.
    released_dir: folder of published sets (`CIFAR-10-C`, ..., `imagenet-r`), used instead of
      pictures made here; `c_generated` and the like ask for the latter as well. The word `r`
      (ImageNet-R) is only read from there.
    folder: keeps every finished piece here; called again with the same network and pictures, only
      what is missing is measured.
    ece_bins: bins of the expected calibration error and the reliability diagram, >= 1.
    confidence: level of the intervals, in (0, 1).
    mesh: devices to use; all if None.
    name: what results and reports call the model.
    should_stop: asked between pieces; if it says so, `Stopped` is raised, which ends a script with
      exit code 75. If None, a first SIGTERM or Ctrl-C does that, and a second one acts at once.

  Raises:
    ValueError: if an argument or what the network returns is not as said here.
  """
  _check(confidence, ece_bins=ece_bins, batch_size=batch_size)
  clock = Clock("evaluate")
  chosen = examples_lib.from_dataset(dataset, split=split)
  session = _session(logits_fn, dataset, chosen, split, batch_size, mesh, ood_dirs)
  examples_lib.check_labels(chosen, session.num_classes)
  large = session.table == "imagenet"
  asked = _suites.expand(suite, large=large, foreign_sets=tuple(session.foreign_sets))
  published = _released.open_sets(
    released_dir,
    chosen,
    list(dict.fromkeys(unit.family for unit in asked)),
    num_classes=session.num_classes,
  )
  session = dataclasses.replace(session, released=published)
  units = _suites.replace_units(asked, published)
  network = _store.network_digest(session.scorer.apply_fn, session.variables, session.image_shape)
  kept = _store.Store(folder)
  flags = target.traced_for(session.scorer.mesh, _sanity.flags)
  warnings = flags(session, kept, network, attacked=_sanity.needed(units))
  sizes, notes = _budget.sizes(
    session,
    units,
    suite,
    max_examples=max_examples,
    budget=budget,
    store=kept,
    network=network,
    spent=clock.seconds,
  )
  columns = measure(session, sizes, kept, network=network, label=name, should_stop=should_stop)
  found, curves = aggregate(session, columns, ece_bins=ece_bins, confidence=confidence)
  return clock.results(name, found, curves, flags=(*warnings, *notes))


def _check(confidence: float, **at_least_one: int) -> None:
  if not 0 < confidence < 1:
    raise ValueError(f"evaluate: confidence must be in (0, 1), got {confidence}.")
  for option, value in at_least_one.items():
    if value < 1:
      raise ValueError(f"evaluate: {option} must be >= 1, got {value}.")


def _session(
  logits_fn: LogitsFn,
  dataset: Any,
  chosen: Examples,
  split: str,
  batch_size: int,
  mesh: Mesh | None,
  ood_dirs: Sequence[str],
) -> Session:
  height, width, channels = chosen.images.shape[1:]
  mesh = mesh_lib.create() if mesh is None else mesh
  rounded = -(-min(batch_size, len(chosen)) // mesh.size) * mesh.size
  network = open_network(logits_fn, (rounded, height, width, channels), mesh)
  held_out = None
  if isinstance(dataset, data.Dataset) and dataset.validation is not None and split == "test":
    held_out = examples_lib.from_dataset(dataset, split="validation")
  foreign_sets = _ood.read_sets(ood_dirs, image_shape=(height, width, channels), limit=len(chosen))
  return Session(
    network.scorer,
    network.placed,
    chosen,
    foreign_sets,
    held_out,
    programs=network.programs,
  )


def run(
  logits_fn: LogitsFn,
  dataset: Any,
  settings: schema.Settings,
  *,
  mesh: Mesh | None = None,
  folder: str | os.PathLike | None = None,
  should_stop: Callable[[], bool] | None = None,
) -> Results:
  """`evaluate` as the config says; the results carry the config and its hash.

  Args:
    logits_fn: as for `evaluate`.
    dataset: as for `evaluate`.
    settings: of which `evaluate` and `name` are used, and all are recorded.
    mesh: devices to use; all if None.
    folder: as for `evaluate`.
    should_stop: as for `evaluate`.

  Raises:
    ValueError: as for `evaluate`.
  """
  results = evaluate(
    logits_fn,
    dataset,
    folder=folder,
    mesh=mesh,
    name=settings.name,
    should_stop=should_stop,
    **dataclasses.asdict(settings.evaluate),
  )
  return dataclasses.replace(
    results, settings=settings.to_json(), config_hash=settings_lib.config_hash(settings)
  )


def make_monitor(
  dataset: Any, *, split: str, batch_size: int = 500, mesh: Mesh | None = None
) -> Callable[[LogitsFn], dict[str, float]]:
  """Returns a function to watch a network with while it trains.

  Called with a `jax.tree_util.Partial` over the parameters it compiles once, not once per call.

  Args:
    dataset: as for `evaluate`.
    split: part of a `Dataset`.
    batch_size: examples per compiled call.
    mesh: devices to use; all if None.

  Returns:
    `logits_fn -> {"clean_error": in %, "nll": in nats}`.

  Raises:
    ValueError: as for `evaluate`.
  """
  chosen = examples_lib.from_dataset(dataset, split=split)
  mesh = mesh_lib.create() if mesh is None else mesh
  rounded = -(-min(batch_size, len(chosen)) // mesh.size) * mesh.size
  shape = (rounded, *chosen.images.shape[1:])
  shared = Scorer(call, batch_size=rounded, mesh=mesh)

  def monitor(logits_fn: LogitsFn) -> dict[str, float]:
    apply_fn, variables = open_up(logits_fn, shape)
    if apply_fn is call:
      return headline(shared(variables, chosen))
    scorer = Scorer(apply_fn, batch_size=rounded, mesh=mesh)
    return headline(scorer(variables, chosen))

  return monitor


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
    definition = unit.source or KINDS[unit.kind].definition(self._session, unit)
    parts = [VERSION, self._network, unit.label, piece.start, piece.stop, definition]
    return digest(parts, self._pictures(piece))

  def _pictures(self, piece: Piece) -> str:
    unit, session, kind = piece.unit, self._session, KINDS[piece.unit.kind]
    if unit.source:
      assert session.released is not None
      assert kind.published is not None
      return digest(*kind.published(session.released, unit, piece.start, piece.stop))
    own = kind.own_pictures(session, unit)
    place = ("" if own is None else unit.member, piece.start, piece.stop)
    if place not in self._ranges:
      part = session.part(piece.start, piece.stop)
      arrays = (part.images, part.labels, part.ids) if own is None else (own,)
      self._ranges[place] = digest(*arrays)
    return self._ranges[place]


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
  work = [
    KINDS[piece.unit.kind].passes(piece.unit) * (piece.stop - piece.start) for piece in pieces
  ]
  ahead = round(sum(w for w, was in zip(work, done, strict=True) if not was))
  found: dict[Unit, list[Columns]] = {unit: [] for unit in sizes}
  finished = 0.0
  with contextlib.ExitStack() as stack:
    stack.enter_context(target.compiling_for(session.scorer.mesh))
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
      columns = KINDS[piece.unit.kind].measure(session, piece.unit, piece.start, piece.stop)
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
        prepare = target.traced_for(self._session.scorer.mesh, KINDS[one.unit.kind].prepare)
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


def aggregate(
  session: Session, columns: Mapping[Unit, Columns], *, ece_bins: int, confidence: float
) -> tuple[list[Metric], Curves]:
  """Turns the columns of all units into metrics and curves, in the order of the suite.

  The clean split keeps the name of its data set; everything derived from it adds a suffix (`-c`,
  `-c_bar`, `-p`, `-pgd`, `-ood-blobs`, ...). Numbers on published files end in `-released` and are
  never mixed with those on pictures made here.

  Args:
    session: for the names of the data.
    columns: of every unit.
    ece_bins: of the expected calibration error.
    confidence: level of the intervals.
  """
  families: dict[tuple[str, str], dict[Unit, Columns]] = {}
  for unit, values in columns.items():
    families.setdefault((unit.family, unit.source), {})[unit] = values
  clean = next((values for unit, values in columns.items() if unit.family == CLEAN), None)
  known = _suites.words(large=session.table == "imagenet")
  examples = session.examples
  found: list[Metric] = []
  curves: Curves = {}
  for (word, source), units in families.items():
    kind, members = KINDS[known[word].kind], known[word].members
    if source and session.released is not None:
      members = session.released.members(word)
    name = examples.dataset + kind.suffix(word) + (f"-{source}" if source else "")
    origin = source or ("generated" if kind.published else examples.source)
    place = Place(name, examples.split, origin, confidence)
    more, points = kind.aggregate(Family(word, units, members, place, clean, session, ece_bins))
    found += more
    curves |= points
  return found, curves
