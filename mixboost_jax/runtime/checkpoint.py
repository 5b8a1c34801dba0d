# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: written in the background, complete or absent, verified before they are used.

```text
checkpoints/00001200/          a complete checkpoint: arrays by Orbax, and contents.json
checkpoints/00001500.partial*  being written, or left by a killed process; removed by the next save
checkpoints/00001500.damaged   found altered when resuming, set aside
```

A checkpoint gets its final name by one rename after its list of contents is on the disk. That list
is written last and finds damage before anything is loaded: size and SHA-256 of every file, shape
and type of every array, the caller's metadata, and a digest over all of that. All processes of a
distributed run need to see the same folder.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import logging
import math
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from mixboost_jax import files
from mixboost_jax.runtime import log

FILE_NAME = "contents.json"
_VERSION = 1
_COMPLETE = re.compile(r"\d{8,}")


class DamagedError(ValueError):
  """A checkpoint is not what was written; the message says which file and how."""


class CheckpointError(RuntimeError):
  """A checkpoint could not be written or none can be read. The message says what is intact."""


class Restored(NamedTuple):
  """What `Checkpointer.restore` returns."""

  state: Any
  metadata: dict[str, Any]
  """`step`, `metric`, and what was given to `save`."""


@dataclasses.dataclass(frozen=True)
class Manifest:
  """What a checkpoint holds."""

  step: int
  metric: float | None
  metadata: Mapping[str, Any]
  leaves: Mapping[str, str]
  """Name -> type and shape, e.g. `float32[3,3,16,16]`."""


class Checkpointer:
  """Saves and restores a pytree of arrays in one folder."""

  def __init__(
    self,
    folder: str | os.PathLike,
    *,
    keep_last: int = 2,
    keep_best: int = 0,
  ):
    """Looks at nothing and creates nothing yet.

    Kept are the newest `keep_last` and, beside those, the `keep_best` with the lowest metric.
    """
    if keep_last < 1 or keep_best < 0:
      raise ValueError(
        "Checkpointer: expected keep_last >= 1 and keep_best >= 0, got "
        f"{keep_last} and {keep_best}."
      )
    self._folder = pathlib.Path(folder).expanduser().absolute()
    self._keep_last, self._keep_best = keep_last, keep_best
    self._last_step: int | None = None  # saved or restored by this object
    self._damaged: set[int] = set()
    self._pending: concurrent.futures.Future[None] | None = None
    self._worker = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
    self._writer: Any = None

  def steps(self) -> list[int]:
    """Returns the steps of all complete checkpoints, oldest first."""
    try:
      names = os.listdir(self._folder)
    except (FileNotFoundError, NotADirectoryError):
      return []
    found = {int(name) for name in names if _COMPLETE.fullmatch(name)}
    found = {step for step in found if f"{step:08d}" in names}
    return sorted(found - self._damaged)

  def save(
    self,
    step: int,
    state: Any,
    *,
    metric: float | None = None,
    metadata: Mapping[str, Any] | None = None,
  ) -> None:
    """Copies `state` and returns; the copy is written while training goes on.

    The buffers of `state` may be donated right after. Saving the step that was just saved or
    restored does nothing. Waits for the save before.

    Args:
      step: larger than that of every checkpoint in the folder.
      state: a pytree of arrays and numbers, sharded or not; no typed keys.
      metric: to keep the best by; None or NaN is never the best.
      metadata: JSON, handed back by `restore`.

    Raises:
      CheckpointError: if this or the previous save failed (full disk, ...); earlier checkpoints
        are intact.
      ValueError: if `step` is not new or `state` holds what cannot be saved.
    """
    self.wait()
    if step == self._last_step:
      return
    try:
      plain = json.loads(json.dumps(dict(metadata or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
      raise ValueError(f"Checkpointer.save: metadata is not JSON: {error}.") from error
    if taken := {"step", "metric"} & plain.keys():
      raise ValueError(f"Checkpointer.save: metadata may not hold {', '.join(sorted(taken))}.")
    if (steps := self.steps()) and step <= steps[-1]:
      raise ValueError(
        f"{self._folder}: holds a checkpoint of step {steps[-1]}, so step {step} cannot be added; "
        "restore it first, or choose another folder."
      )
    arrays = by_name(state)
    known = {name: describe(leaf) for name, leaf in arrays.items()}
    metric = None if metric is None or not math.isfinite(metric) else float(metric)
    contents = Manifest(step, metric, plain, known)
    partial = self._path(step).with_name(f"{self._path(step).name}.partial")
    try:
      if log.is_primary():
        files.make_folder(self._folder)
        self._tidy()
      with jax.transfer_guard("allow"):
        self._orbax().save(partial, {name: _one_copy(leaf) for name, leaf in arrays.items()})
    except Exception as error:
      raise self._failure(step, partial, error) from error
    self._last_step = step
    self._pending = self._worker.submit(self._commit, step, partial, contents)

  def wait(self) -> None:
    """Returns when everything saved so far is complete on the disk.

    Raises:
      CheckpointError: if the last save failed.
    """
    pending, self._pending = self._pending, None
    if pending is None:
      return
    failure = pending.exception()
    if jax.distributed.is_initialized():
      # Only the first process knows when the checkpoint is complete, so all wait for all.
      with jax.transfer_guard("allow"):
        fine = multihost_utils.process_allgather(np.asarray(failure is None))
      if failure is None and not np.all(fine):
        failure = CheckpointError(f"another process could not save to {self._folder}.")
    if failure is not None:
      raise failure

  def close(self) -> None:
    """Waits and frees the threads.

    Raises:
      CheckpointError: if the last save failed.
    """
    try:
      self.wait()
    finally:
      self._worker.shutdown()
      if self._writer is not None:
        self._writer.close()
        self._writer = None
        logging.getLogger("absl").removeFilter(_is_not_from_orbax)

  def __enter__(self) -> "Checkpointer":
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()

  def restore(self, like: Any, *, which: str = "newest") -> Restored | None:
    """Loads the newest (or best) checkpoint that is intact, bit for bit.

    A damaged one is skipped with one warning that names it and its replacement; it is set aside,
    not deleted, by the next save.

    Args:
      like: a tree of arrays or `jax.ShapeDtypeStruct` with the shapes, types and shardings to
        restore to; these need not be the shardings or the number of devices of the save. Leaves
        without a sharding go to the first device.
      which: `newest` or `best` (checkpoints with a metric; the newest if none has one).

    Returns:
      State and metadata, or None if there is no checkpoint.

    Raises:
      ValueError: if the arrays of the checkpoint are not those of `like`.
      CheckpointError: if there are checkpoints but none is intact.
    """
    if which not in ("newest", "best"):
      raise ValueError(f"Checkpointer.restore: which is 'newest' or 'best', got {which!r}.")
    self.wait()
    problems: dict[int, str] = {}
    newest_first = self.steps()[::-1]
    if which == "best":  # of equal metrics the newer one, and those without a metric last
      newest_first.sort(key=lambda step: rank(self._path(step)))
    for step in newest_first:
      path = self._path(step)
      try:
        contents = verify(path)
      except DamagedError as error:
        problems[step] = f"{path} is damaged ({error})"
        continue
      wanted = by_name(like)
      check_fit(path, contents.leaves, wanted)
      targets = {name: target(leaf) for name, leaf in wanted.items()}
      with jax.transfer_guard("allow"):
        loaded = self._orbax().restore(path, targets)
      state = jax.tree.unflatten(jax.tree.structure(like), [loaded[name] for name in wanted])
      if problems:
        log.warn(f"checkpoint {', '.join(problems.values())}; continuing from {path} instead.")
      self._damaged |= set(problems)
      if which == "newest":
        self._last_step = step
      return Restored(state, {**contents.metadata, "step": step, "metric": contents.metric})
    if problems:
      raise CheckpointError(
        f"checkpoint {', '.join(problems.values())}; no other checkpoint is left. Remove "
        f"{self._folder} to start anew."
      )
    return None

  def _path(self, step: int) -> pathlib.Path:
    return self._folder / f"{step:08d}"

  def _orbax(self) -> Any:
    if self._writer is None:
      import orbax.checkpoint as ocp

      # Orbax logs pages of tracebacks for an error that it raises as well.
      logging.getLogger("absl").addFilter(_is_not_from_orbax)
      if not isinstance(sys.unraisablehook, _AllButLateWrites):
        sys.unraisablehook = _AllButLateWrites(sys.unraisablehook)
      self._writer = ocp.StandardCheckpointer()
    return self._writer

  def _commit(self, step: int, partial: pathlib.Path, contents: Manifest) -> None:
    """Runs in the background: waits for the arrays, lists them, gives the folder its name."""
    try:
      self._orbax().wait_until_finished()
      if log.is_primary():
        write(partial, contents)
        os.rename(partial, self._path(step))
        files.sync(self._folder)
    except Exception as error:
      self._last_step = None
      raise self._failure(step, partial, error) from error
    if log.is_primary():
      paths = [self._path(s) for s in self.steps()]
      prune(paths, keep_last=self._keep_last, keep_best=self._keep_best)

  def _failure(self, step: int, partial: pathlib.Path, error: Exception) -> CheckpointError:
    if log.is_primary():
      remove(partial)
    steps = [s for s in self.steps() if s != step]
    intact = f"step {steps[-1]} is intact" if steps else "there is no earlier checkpoint"
    return CheckpointError(
      f"cannot save step {step} in {self._folder}: {files.explain(error)}; {intact}."
    )

  def _tidy(self) -> None:
    """Removes what killed processes left and sets damaged checkpoints aside."""
    for path in self._folder.glob("*.partial*"):
      remove(path)
    for step in self._damaged:
      set_aside(self._path(step))
    self._damaged.clear()


class _AllButLateWrites(NamedTuple):
  """Leaves out what threads of TensorStore report after Orbax has given a failed save up.

  It stays in place, as such threads may outlive the checkpointer.
  """

  before: Callable[[Any], Any]

  def __call__(self, unraisable: Any) -> None:
    if str(unraisable.exc_value) != "Event loop is closed":
      self.before(unraisable)


def _is_not_from_orbax(record: logging.LogRecord) -> bool:
  return "orbax" not in pathlib.PurePath(record.pathname).parts


def write(folder: pathlib.Path, manifest: Manifest) -> None:
  """Adds the list of contents to a folder whose other files are complete.

  Raises:
    WriteError: if the disk is full or not writable.
  """
  found = {
    path.relative_to(folder).as_posix(): [path.stat().st_size, _checksum(path)]
    for path in sorted(folder.rglob("*"))
    if path.is_file() and path.name != FILE_NAME
  }
  tree = {"version": _VERSION, **dataclasses.asdict(manifest), "files": found}
  files.write_json(folder / FILE_NAME, tree | {"digest": _digest(tree)})


def read(folder: pathlib.Path) -> Manifest:
  """Reads the list alone, without looking at the files.

  Raises:
    DamagedError: if it is missing, unreadable or altered.
  """
  return _manifest(_read(folder), folder)


def verify(folder: pathlib.Path) -> Manifest:
  """Compares every file with the list.

  Raises:
    DamagedError: naming the first file that is missing, truncated or altered.
  """
  tree = _read(folder)
  # All sizes first: truncation is found without reading gigabytes.
  for name, (size, _) in tree["files"].items():
    path = folder / name
    found = path.stat().st_size if path.is_file() else None
    if found is None:
      raise DamagedError(f"{name} is missing")
    if found != size:
      raise DamagedError(f"{name} has {found} of {size} bytes")
  for name, (_, checksum) in tree["files"].items():
    if _checksum(folder / name) != checksum:
      raise DamagedError(f"{name} was altered (its checksum differs)")
  return _manifest(tree, folder)


def _read(folder: pathlib.Path) -> dict[str, Any]:
  try:
    tree = files.read_json(folder / FILE_NAME)
  except FileNotFoundError:
    raise DamagedError(f"{FILE_NAME} is missing") from None
  except (OSError, ValueError) as error:
    raise DamagedError(f"{FILE_NAME} cannot be read ({error})") from error
  if not isinstance(tree, dict) or tree.pop("digest", None) != _digest(tree):
    raise DamagedError(f"{FILE_NAME} was altered (its checksum differs)")
  if tree.get("version") != _VERSION:
    raise DamagedError(f"{FILE_NAME} is of version {tree.get('version')}, expected {_VERSION}")
  if wrong := [name for name, fits in _FIELDS.items() if name not in tree or not fits(tree[name])]:
    raise DamagedError(f"{FILE_NAME} lacks {', '.join(wrong)} as this version writes them")
  return tree


def _maps(value: Any, fits: Callable[[Any], bool]) -> bool:
  return isinstance(value, dict) and all(map(fits, value.values()))


_FIELDS: Mapping[str, Callable[[Any], bool]] = {
  "step": lambda value: type(value) is int,
  "metric": lambda value: isinstance(value, int | float | None),
  "metadata": lambda value: isinstance(value, dict),
  "leaves": lambda value: _maps(value, lambda leaf: isinstance(leaf, str)),
  "files": lambda value: _maps(
    value, lambda e: isinstance(e, list) and [*map(type, e)] == [int, str]
  ),
}
"""What a list of contents must hold."""


def _manifest(tree: Mapping[str, Any], folder: pathlib.Path) -> Manifest:
  if folder.name.isdecimal() and int(folder.name) != tree["step"]:
    raise DamagedError(f"it is of step {tree['step']}: the folder was renamed or copied")
  return Manifest(**{field.name: tree[field.name] for field in dataclasses.fields(Manifest)})


def _digest(tree: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _checksum(path: pathlib.Path) -> str:
  try:
    with open(path, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  except OSError as error:
    raise DamagedError(f"{path.name} cannot be read ({error.strerror})") from error


def rank(checkpoint: pathlib.Path) -> float:
  """Returns the metric, infinite without one.

  Minus infinity if it cannot be read: it may have been the best one.
  """
  try:
    metric = read(checkpoint).metric
  except DamagedError:
    return -math.inf
  return math.inf if metric is None else metric


def prune(checkpoints: Iterable[pathlib.Path], *, keep_last: int, keep_best: int) -> None:
  """Removes all (given oldest first) but the newest and the best; of equal ones the newer stays."""
  newest_first = list(checkpoints)[::-1]
  ranks = {path: rank(path) for path in newest_first}
  ranked = sorted((p for p in newest_first if math.isfinite(ranks[p])), key=ranks.__getitem__)
  kept = {*newest_first[:keep_last], *ranked[:keep_best]}
  for path in newest_first:
    if path not in kept:
      dying = path.with_name(f"{path.name}.partial-old")
      try:
        os.rename(path, dying)  # from here on nobody takes it for a checkpoint
      except OSError as error:
        log.warn(f"cannot remove the old checkpoint {path}: {error.strerror}.")
      else:
        remove(dying)


def remove(path: pathlib.Path) -> None:
  """Removes a folder and Orbax's temporary versions of it, as far as possible."""
  for found in [path, *path.parent.glob(f"{path.name}.orbax*")]:
    shutil.rmtree(found, ignore_errors=True)


def set_aside(path: pathlib.Path) -> None:
  """Renames a damaged checkpoint, so that it is neither used nor in the way nor lost."""
  aside, count = path.with_name(f"{path.name}.damaged"), 1
  while aside.exists():
    aside, count = path.with_name(f"{path.name}.damaged{count}"), count + 1
  if path.exists():
    os.rename(path, aside)


def by_name(tree: Any) -> dict[str, Any]:
  """Returns the leaves by readable unique names: no class of the tree needs to be stored."""
  named: dict[str, Any] = {}
  for path, leaf in jax.tree.leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator=".") or "value"
    while name in named:
      name += "_"
    named[name] = leaf
  return named


def describe(leaf: Any) -> str:
  """Returns type and shape, e.g. `float32[3,3,16,16]`, or `int` for a plain number.

  Raises:
    ValueError: if the leaf cannot be stored.
  """
  if hasattr(leaf, "dtype") and hasattr(leaf, "shape"):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      raise ValueError("Checkpointer: typed keys are not stored; derive them from the seed.")
    return f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"
  if isinstance(leaf, bool | int | float):
    return type(leaf).__name__
  raise ValueError(f"Checkpointer: expected arrays and numbers, got {type(leaf).__name__}.")


def _one_copy(leaf: Any) -> Any:
  """Of equal copies on the devices of one process, returns one.

  Orbax would cut them into a part per device to write these side by side, which compiles a program
  per shape; it pays where the parts lie on different machines.
  """
  if jax.process_count() == 1 and isinstance(leaf, jax.Array) and leaf.is_fully_replicated:
    return leaf.addressable_data(0)
  return leaf


def target(leaf: Any) -> Any:
  """Returns the description of a leaf that is to be restored, with the devices it goes to."""
  if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
  return leaf


def check_fit(path: pathlib.Path, stored: Mapping[str, str], wanted: Mapping[str, Any]) -> None:
  """Compares what a checkpoint holds with what is wanted.

  Raises:
    ValueError: listing the arrays that differ.
  """
  asked = {name: describe(leaf) for name, leaf in wanted.items()}
  wrong = [
    f"{name}: {stored.get(name, 'absent')} stored, {asked.get(name, 'absent')} wanted"
    for name in [*asked, *(name for name in stored if name not in asked)]
    if stored.get(name) != asked.get(name)
  ]
  if wrong:
    more = f"\n  - and {len(wrong) - 8} more" if len(wrong) > 8 else ""
    raise ValueError(
      f"checkpoint {path} holds other arrays than this run:\n  - " + "\n  - ".join(wrong[:8]) + more
    )
