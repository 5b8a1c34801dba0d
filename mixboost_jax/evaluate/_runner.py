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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mixboost_jax import data, schema, target
from mixboost_jax import settings as settings_lib
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.evaluate import _budget, _ood, _released, _sanity, _store, _suites
from mixboost_jax.evaluate import _examples as examples_lib
from mixboost_jax.evaluate._examples import Unit
from mixboost_jax.evaluate._kind import CLEAN, Curves, Family, Place
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
  views: str = "one",
  batch_size: int = 500,
  max_examples: int = 0,
  max_clean: int = 0,
  max_films: int = 0,
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
  results = evaluate.evaluate(logits_fn, (images, labels), suite="clean")
  report.write(results, "report.html")
  ```

  Args:
    logits_fn: `images[B, H, W, C] in [0, 1] -> logits[B, K]`, made of JAX operations. It normalises
      its input itself and does not change state.
    dataset: (images, labels), images uint8, or float in [0, 1]; the name ("cifar10") or place
      ("~/pictures") of a set; `data.Dataset` or `data.Split`.
    suite: a name in `SUITES`, or words with commas between them ("clean,c:gaussian_noise,pgd").
    split: part of a `Dataset`: "test", "validation" or "train".
    views: of each picture that a prediction averages, see `multi_view`.
    batch_size: examples per compiled call; rounded up to a multiple of the number of devices. It
      changes no metric beyond rounding.
    max_examples: most examples per unit; 0: the usual number of its kind, -1: all, as for
      published tables. Every number says how many examples it has.
    max_clean: the same for the clean pictures alone; 0: as `max_examples`.
    max_films: the same for the films of -P, each of which is 31 pictures; 0: as `max_examples`.
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
  if not 0 < confidence < 1:
    raise ValueError(f"evaluate: confidence must be in (0, 1), got {confidence}.")
  for option, value in {"ece_bins": ece_bins, "batch_size": batch_size}.items():
    if value < 1:
      raise ValueError(f"evaluate: {option} must be >= 1, got {value}.")
  clock = Clock("evaluate")
  dataset = examples_lib.opened(dataset)
  chosen = examples_lib.from_dataset(dataset, split=split)
  shape, mesh = chosen.images.shape[1:], mesh_lib.create() if mesh is None else mesh
  rounded = -(-min(batch_size, len(chosen)) // mesh.size) * mesh.size
  opened = open_network(logits_fn, (rounded, *shape), mesh, views=views)
  held_out = None
  if isinstance(dataset, data.Dataset) and dataset.validation is not None and split == "test":
    held_out = examples_lib.from_dataset(dataset, split="validation")
  foreign = _ood.read_sets(ood_dirs, image_shape=shape, limit=len(chosen))
  session = Session(
    opened.scorer, opened.placed, chosen, foreign, held_out, programs=opened.programs
  )
  num_classes = session.num_classes
  examples_lib.check_labels(chosen, num_classes)
  large = session.table == "imagenet"
  asked = _suites.expand(suite, large=large, foreign_sets=tuple(foreign))
  families = list(dict.fromkeys(unit.family for unit in asked))
  published = _released.open_sets(released_dir, chosen, families, num_classes=num_classes)
  session = dataclasses.replace(session, released=published)
  units = _suites.replace_units(asked, published)
  network = _store.network_digest(session.scorer.apply_fn, session.variables, shape)
  kept = _store.Store(folder)
  check = target.traced_for(session.scorer.mesh, _sanity.check)
  warnings, radii = check(session, kept, network, attacked=_sanity.needed(units))
  for flag in warnings:
    log.info(str(flag))
  sizes, notes = _budget.sizes(
    session,
    units,
    suite,
    max_examples=max_examples,
    max_clean=max_clean,
    max_films=max_films,
    budget=budget,
    store=kept,
    network=network,
    spent=clock.seconds,
  )
  columns = measure(session, sizes, kept, network=network, label=name, should_stop=should_stop)
  found, curves = aggregate(session, columns, ece_bins=ece_bins, confidence=confidence)
  return clock.results(name, found, curves | radii, flags=(*warnings, *notes))


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

  ```python
  from mixboost_jax import schema
  results = evaluate.run(logits_fn, (images, labels), schema.Settings(name="linear"))
  ```
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
  """Returns `logits_fn -> {"clean_error": in %, "nll": in nats}`, to watch a network with.

  Called with a `jax.tree_util.Partial` over the parameters it compiles once, not once per call.
  Arguments as of `evaluate`.

  ```python
  monitor = evaluate.make_monitor((images, labels), split="test")
  assert monitor(logits_fn)["clean_error"] == 0  # these labels are its predictions
  ```
  """
  chosen = examples_lib.from_dataset(dataset, split=split)
  shared = Scorer(call, batch_size=min(batch_size, len(chosen)), mesh=mesh)
  shape = (shared.batch_size, *chosen.images.shape[1:])

  def monitor(logits_fn: LogitsFn) -> dict[str, float]:
    apply_fn, variables = open_up(logits_fn, shape)
    scorer = shared
    if apply_fn is not call:
      scorer = Scorer(apply_fn, batch_size=shared.batch_size, mesh=shared.mesh)
    return headline(scorer(variables, chosen))

  return monitor


@dataclasses.dataclass(frozen=True)
class Piece:
  """A range of examples of one unit: the smallest thing that is kept."""

  unit: Unit
  start: int
  stop: int


def cut(session: Session, sizes: Mapping[Unit, int]) -> list[Piece]:
  """Cuts units of so many examples into pieces of whole batches."""
  pieces = []
  for unit, size in sizes.items():
    batch = session.scorer.batch_for(size)
    wanted = KINDS[unit.kind].piece or size
    step = -(-wanted // batch) * batch
    pieces += [Piece(unit, i, min(i + step, size)) for i in range(0, size, step)]
  return pieces


def names_of(session: Session, network: str, pieces: Sequence[Piece]) -> list[str]:
  """Names pieces by a hash of all that their numbers depend on."""
  ranges: dict[tuple[str, int, int], str] = {}

  def pictures(piece: Piece) -> str:
    unit, kind = piece.unit, KINDS[piece.unit.kind]
    if unit.source:
      assert session.released is not None
      assert kind.published is not None
      return digest(*kind.published(session.released, unit, piece.start, piece.stop))
    own = kind.own_pictures(session, unit)
    place = ("" if own is None else unit.member, piece.start, piece.stop)
    if place not in ranges:
      part = session.part(piece.start, piece.stop)
      arrays = (part.images, part.labels, part.ids) if own is None else (own,)
      ranges[place] = digest(*arrays)
    return ranges[place]

  found = []
  for piece in pieces:
    unit = piece.unit
    definition = unit.source or KINDS[unit.kind].definition(session, unit)
    parts = [VERSION, network, unit.label, piece.start, piece.stop, definition]
    found.append(digest(parts, pictures(piece)))
  return found


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

  `network` is its hash, `label` the first word of the progress line.

  Raises:
    Stopped: if `should_stop` said so.
  """
  pieces = cut(session, sizes)
  names = names_of(session, network, pieces)
  kept = [store.read(one) for one in names]
  done = _agreed([columns is not None for columns in kept])
  if done.any():
    log.info(f"{label}: {int(done.sum())} of {len(pieces)} pieces were measured before.")
  missing = [piece for piece, was in zip(pieces, done, strict=True) if not was]
  ahead = round(sum(map(_work, missing)))
  found: dict[Unit, list[Columns]] = {unit: [] for unit in sizes}
  finished = 0.0
  with contextlib.ExitStack() as stack:
    stack.enter_context(target.compiling_for(session.scorer.mesh))
    asked = stack.enter_context(interrupt.asking(should_stop))
    bar = stack.enter_context(Progress(label, max(ahead, 1), unit="forward passes"))
    reach = stack.enter_context(_compiling_ahead(session, missing, bar))
    for piece, one, was, before in zip(pieces, names, done, kept, strict=True):
      if was and before is not None:
        found[piece.unit].append(before)
        continue
      if asked():
        kept_in = f"what is done is kept in {store.folder}" if store.folder else "nothing is kept"
        raise Stopped(f"{label}: stopped on request before {piece.unit.label}; {kept_in}.")
      started = time.perf_counter()
      reach(piece)
      columns = KINDS[piece.unit.kind].measure(session, piece.unit, piece.start, piece.stop)
      found[piece.unit].append(columns)
      if log.is_primary():
        took = round(time.perf_counter() - started, 3)
        note = {"unit": piece.unit.label, "start": piece.start, "stop": piece.stop}
        store.write(one, columns, {**note, "seconds": took})
      finished += _work(piece)
      bar.update(min(round(finished), ahead), units=round(_work(piece)))
  return {
    unit: {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for unit, parts in found.items()
  }


def _work(piece: Piece) -> float:
  """Returns about how many passes of the network a piece takes."""
  return KINDS[piece.unit.kind].passes(piece.unit) * (piece.stop - piece.start)


@contextlib.contextmanager
def _compiling_ahead(
  session: Session, pieces: Sequence[Piece], bar: Progress
) -> Iterator[Callable[[Piece], None]]:
  """Yields a function that waits until a piece can run; a thread compiles those behind it."""
  thread = concurrent.futures.ThreadPoolExecutor(1)
  jobs: dict[tuple[Unit, int], concurrent.futures.Future] = {}
  programs = [(p.unit, session.scorer.batch_for(p.stop - p.start)) for p in pieces]
  reached = set()

  def reach(piece: Piece) -> None:
    place = pieces.index(piece)
    keys = programs[place : place + 3]
    if keys[0] not in reached:
      reached.add(keys[0])
      bar.compiling(more=len(set(programs)) - len(reached))
    for key in keys:
      if key not in jobs:
        prepare = target.traced_for(session.scorer.mesh, KINDS[key[0].kind].prepare)
        jobs[key] = thread.submit(prepare, session, *key)
    jobs[keys[0]].result()
    bar.ready()

  try:
    yield reach
  finally:
    thread.shutdown(wait=True, cancel_futures=True)


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
