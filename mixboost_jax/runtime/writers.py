# SPDX-License-Identifier: Apache-2.0
"""Metrics of a run on disk: JSON lines always, TensorBoard events where tensorboardX is installed.

The methods are those of `clu.metric_writers`, whose own writers need TensorFlow.
"""

import errno
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mixboost_jax import files
from mixboost_jax.runtime import log

Record = dict[str, Any]
"""`{"step": int, name: number or None, ...}`; None stands for a number that is not finite."""


class MetricWriter:
  """Appends records; when a run resumes, those after the restored step are dropped first.

  Only the first process of a distributed run writes.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    *,
    tensorboard: str | os.PathLike | None = None,
    last_step: int = 0,
  ):
    """Opens the files; `tensorboard` is the folder of the event files, None writes none.

    Records after `last_step`, from which the run continues, are of steps that will be repeated.

    Raises:
      WriteError: if the file cannot be written.
    """
    self._path = pathlib.Path(path)
    self._events: Any = None
    self._file: Any = None
    if not log.is_primary():
      return
    files.make_folder(self._path.parent)
    _drop_after(self._path, last_step)
    try:
      self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115, closed by close()
    except OSError as error:
      raise files.write_error(self._path, error) from error
    if tensorboard is not None:
      self._events = _event_writer(pathlib.Path(tensorboard), last_step)

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Writes one record of Python, NumPy or JAX numbers; on return it survives a kill.

    Raises:
      ValueError: if a name is `step` or a value is not one number.
      WriteError: if the disk is full.
    """
    # Fetched on purpose and in one go: the training loop forbids transfers by accident.
    fetched = jax.device_get(dict(scalars))
    numbers = {name: _number(name, value) for name, value in fetched.items()}
    if self._file is None:
      return
    finite = {name: v if math.isfinite(v) else None for name, v in numbers.items()}
    line = json.dumps({"step": int(step), **finite}, allow_nan=False).encode() + b"\n"
    try:
      if self._file.write(line) < len(line):  # the start fitted, the rest did not
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
      raise files.write_error(self._path, error) from error
    if self._events is not None:
      for name, value in numbers.items():
        self._events.add_scalar(name, value, global_step=int(step))

  def close(self) -> None:
    """Closes all files."""
    if self._file is not None:
      self._file.close()
      self._file = None
    if self._events is not None:
      self._events.close()
      self._events = None

  def __enter__(self) -> "MetricWriter":
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()


def read(path: str | os.PathLike) -> list[Record]:
  """Returns all whole records of a file in their order; a line cut short by a kill is skipped."""
  try:
    lines = pathlib.Path(path).read_bytes().split(b"\n")
  except FileNotFoundError:
    return []
  return [record for line in lines if (record := _parse(line)) is not None]


def curve(records: list[Record], prefix: str = "") -> list[Record]:
  """Returns the points of one curve of a results file: of names with the prefix, without it."""
  points = []
  for record in records:
    found = {k.removeprefix(prefix): v for k, v in record.items() if k.startswith(prefix)}
    if found.keys() - {"step"}:
      points.append({**found, "step": record["step"]})
  return points


def _number(name: str, value: Any) -> float:
  if name == "step":
    raise ValueError("MetricWriter: a metric cannot be called 'step'.")
  if np.ndim(value) != 0:
    raise ValueError(
      f"MetricWriter: {name}: expected one number, got an array of shape {np.shape(value)}."
    )
  return float(value)


def _parse(line: bytes) -> Record | None:
  try:
    record = files.parse_json(line)
  except ValueError:
    return None
  return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None


def _drop_after(path: pathlib.Path, last_step: int) -> None:
  """Rewrites the file at once without later records and without a cut line."""
  try:
    content = path.read_bytes()
  except FileNotFoundError:
    return
  except OSError as error:
    raise files.write_error(path, error) from error
  kept = [
    line + b"\n"
    for line in content.split(b"\n")
    if (record := _parse(line)) is not None and record["step"] <= last_step
  ]
  if (new := b"".join(kept)) != content:
    files.write_bytes(path, new)


def _event_writer(folder: pathlib.Path, last_step: int) -> Any:
  try:
    import tensorboardX
  except ImportError:
    log.warn(
      "no TensorBoard files: tensorboardX is not installed; install it, or set "
      "config.runtime.tensorboard=False. metrics.jsonl is written all the same."
    )
    return None
  files.make_folder(folder)
  # TensorBoard hides what an earlier process wrote from purge_step on.
  purge = last_step + 1 if any(folder.iterdir()) else None
  return tensorboardX.SummaryWriter(str(folder), purge_step=purge)
