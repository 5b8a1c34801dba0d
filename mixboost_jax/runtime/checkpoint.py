# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: written in the background, complete or absent, verified before they are used.

```text
checkpoints/00001200/          a complete checkpoint: arrays by Orbax, and contents.json
checkpoints/00001500.partial*  being written, or left by a killed process; removed by the next save
checkpoints/00001500.damaged   found altered when resuming, set aside
```

A checkpoint gets its final name by one rename after its list of contents (`manifest.py`) is on the
disk. All processes of a distributed run need to see the same folder.
"""

import concurrent.futures
import logging
import math
import os
import pathlib
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from mixboost_jax.runtime import atomic, leaves, log, manifest, retention

_COMPLETE = re.compile(r"\d{8,}")
_RESERVED = ("step", "metric")


class CheckpointError(RuntimeError):
  """A checkpoint could not be written or none can be read. The message says what is intact."""


class Restored(NamedTuple):
  """What `Checkpointer.restore` returns."""

  state: Any
  metadata: dict[str, Any]
  """`step`, `metric`, and what was given to `save`."""


class Checkpointer:
  """Saves and restores a pytree of arrays in one folder."""

  def __init__(
    self,
    folder: str | os.PathLike,
    *,
    keep_last: int = 2,
    keep_best: int = 0,
    better: str = "lower",
  ):
    """Looks at nothing and creates nothing yet.

    Args:
      folder: created by the first save.
      keep_last: newest checkpoints to keep, at least 1.
      keep_best: checkpoints with the best metric to keep beside those.
      better: whether a `lower` or `higher` metric is better.
    """
    if keep_last < 1 or keep_best < 0 or better not in ("lower", "higher"):
      raise ValueError(
        "Checkpointer: expected keep_last >= 1, keep_best >= 0, better 'lower' or 'higher', got "
        f"{keep_last}, {keep_best}, {better!r}."
      )
    self._folder = pathlib.Path(folder).expanduser().absolute()
    self._keep_last, self._keep_best = keep_last, keep_best
    self._better = better
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
      state: any pytree of arrays and numbers, sharded or not. No typed keys: derive them from the
        seed.
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
    metadata = leaves.plain_json(metadata or {})
    if taken := [name for name in _RESERVED if name in metadata]:
      raise ValueError(f"Checkpointer.save: metadata may not hold {', '.join(taken)}.")
    if (steps := self.steps()) and step <= steps[-1]:
      raise ValueError(
        f"{self._folder}: holds a checkpoint of step {steps[-1]}, so step {step} cannot be added; "
        "restore it first, or choose another folder."
      )
    arrays = leaves.by_name(state)
    known = {name: leaves.describe(leaf) for name, leaf in arrays.items()}
    metric = None if metric is None or not math.isfinite(metric) else float(metric)
    contents = manifest.Manifest(step, metric, metadata, known)
    partial = self._path(step).with_name(f"{self._path(step).name}.partial")
    try:
      if log.is_primary():
        atomic.make_folder(self._folder)
        self._tidy()
      with jax.transfer_guard("allow"):
        self._orbax().save(partial, arrays)
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
    for step in self._candidates(which):
      path = self._path(step)
      try:
        contents = manifest.verify(path)
      except manifest.DamagedError as error:
        problems[step] = str(error)
        continue
      wanted = leaves.by_name(like)
      leaves.check_fit(path, contents.leaves, wanted)
      targets = {name: leaves.target(leaf) for name, leaf in wanted.items()}
      with jax.transfer_guard("allow"):
        loaded = self._orbax().restore(path, targets)
      state = jax.tree.unflatten(jax.tree.structure(like), [loaded[name] for name in wanted])
      if problems:
        log.warn(f"{self._list(problems)}; continuing from {path} instead.")
      self._damaged |= set(problems)
      if which == "newest":
        self._last_step = step
      return Restored(state, {**contents.metadata, "step": step, "metric": contents.metric})
    if problems:
      raise CheckpointError(
        f"{self._list(problems)}; no other checkpoint is left. Remove {self._folder} to start anew."
      )
    return None

  def _path(self, step: int) -> pathlib.Path:
    return self._folder / f"{step:08d}"

  def _list(self, problems: Mapping[int, str]) -> str:
    parts = [f"{self._path(step)} is damaged ({why})" for step, why in problems.items()]
    return "checkpoint " + ", ".join(parts)

  def _orbax(self) -> Any:
    if self._writer is None:
      import orbax.checkpoint as ocp

      # Orbax logs pages of tracebacks for an error that it raises as well.
      logging.getLogger("absl").addFilter(_is_not_from_orbax)
      if not isinstance(sys.unraisablehook, _AllButLateWrites):
        sys.unraisablehook = _AllButLateWrites(sys.unraisablehook)
      self._writer = ocp.StandardCheckpointer()
    return self._writer

  def _candidates(self, which: str) -> list[int]:
    newest_first = self.steps()[::-1]
    if which == "newest":
      return newest_first
    # Stable: of equal metrics the newer one, and those without a metric last.
    return sorted(newest_first, key=lambda s: retention.rank(self._path(s), better=self._better))

  def _commit(self, step: int, partial: pathlib.Path, contents: manifest.Manifest) -> None:
    """Runs in the background: waits for the arrays, lists them, gives the folder its name."""
    try:
      self._orbax().wait_until_finished()
      if log.is_primary():
        manifest.write(partial, contents)
        os.rename(partial, self._path(step))
        atomic.sync(self._folder)
    except Exception as error:
      self._last_step = None
      raise self._failure(step, partial, error) from error
    if log.is_primary():
      paths = [self._path(s) for s in self.steps()]
      retention.prune(
        paths, keep_last=self._keep_last, keep_best=self._keep_best, better=self._better
      )

  def _failure(self, step: int, partial: pathlib.Path, error: Exception) -> CheckpointError:
    if log.is_primary():
      retention.remove(partial)
    steps = [s for s in self.steps() if s != step]
    intact = f"step {steps[-1]} is intact" if steps else "there is no earlier checkpoint"
    return CheckpointError(
      f"cannot save step {step} in {self._folder}: {atomic.explain(error)}; {intact}."
    )

  def _tidy(self) -> None:
    """Removes what killed processes left and sets damaged checkpoints aside."""
    for path in self._folder.glob("*.partial*"):
      retention.remove(path)
    for step in self._damaged:
      retention.set_aside(self._path(step))
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
