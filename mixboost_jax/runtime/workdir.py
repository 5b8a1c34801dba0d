# SPDX-License-Identifier: Apache-2.0
"""The folder of one run: created, recognised, refused, and locked against a second process.

```text
config.json    resolved settings, their hash, versions: what the folder is a run of
metrics.jsonl  tensorboard/  checkpoints/  samples/*.png  results.json
.lock          the process that is writing here
```
"""

import dataclasses
import os
import pathlib
import shutil
import types
from collections.abc import Callable, Mapping
from typing import Any

from mixboost_jax import files
from mixboost_jax import settings as settings_lib
from mixboost_jax.runtime import atomic, log
from mixboost_jax.runtime.lock import FolderLock
from mixboost_jax.schema import Settings

CONFIG_VERSION = 1
CONFIG_FILE = "config.json"


class WorkdirError(ValueError):
  """The folder cannot be used for this run. Nothing in it was touched."""


@dataclasses.dataclass(frozen=True)
class Workdir:
  """An open run folder. Leave it (`with`, or `close()`) to release its lock."""

  path: pathlib.Path
  resumed: bool
  """Whether the folder already held this run."""
  lock: FolderLock | None = None

  @property
  def config(self) -> pathlib.Path:
    """The resolved settings."""
    return self.path / CONFIG_FILE

  @property
  def metrics(self) -> pathlib.Path:
    """One JSON record per line."""
    return self.path / "metrics.jsonl"

  @property
  def checkpoints(self) -> pathlib.Path:
    """Folder of the checkpoints."""
    return self.path / "checkpoints"

  @property
  def tensorboard(self) -> pathlib.Path:
    """Folder of the event files."""
    return self.path / "tensorboard"

  @property
  def samples(self) -> pathlib.Path:
    """Folder of the picture strips."""
    return self.path / "samples"

  @property
  def results(self) -> pathlib.Path:
    """The results file."""
    return self.path / "results.json"

  def close(self) -> None:
    """Lets other processes write here."""
    if self.lock is not None:
      self.lock.release()

  def __enter__(self) -> "Workdir":
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: types.TracebackType | None,
  ) -> None:
    self.close()


def open_run(
  folder: str | os.PathLike,
  settings: Settings,
  *,
  versions: Mapping[str, str] | None = None,
  should_stop: Callable[[], bool] = lambda: False,
) -> Workdir:
  """Creates the folder of a run, or opens it to resume the same run.

  Only the first process of a distributed run writes and locks.

  Args:
    folder: created with its parents if it is missing.
    settings: the run; those parts that do not shape training may differ when resuming, and options
      that the version which made the folder did not have must be left out.
    versions: kept beside the settings, `environment.versions()`.
    should_stop: asked while it waits for the lock of a process that another machine ran.

  Returns:
    The open folder; `resumed` tells whether it already held this run.

  Raises:
    WorkdirError: if the folder holds a run of another config with a checkpoint or a result (the
      message lists what differs), something that is not a run, or is in use by another process.
    WriteError: if it cannot be created or written.
  """
  path = pathlib.Path(folder).expanduser()
  versions = dict(versions or {})
  if not log.is_primary():
    return Workdir(path, resumed=(path / CONFIG_FILE).exists())
  _check(path, settings)  # before anything is created
  atomic.make_folder(path)
  lock = FolderLock(path)
  try:
    lock.acquire(should_stop=should_stop)
  except RuntimeError as error:
    raise WorkdirError(str(error)) from None
  try:
    resumed = _check(path, settings)  # again: now nobody else writes here
    for leftover in path.glob(f"{atomic.TEMPORARY_PREFIX}*"):
      leftover.unlink(missing_ok=True)
    if not resumed:
      _clear(path)
      atomic.write_json(path / CONFIG_FILE, config_tree(settings, versions))
    else:
      _tell_what_differs(path, versions)
  except BaseException:
    lock.release()
    raise
  return Workdir(path, resumed=resumed, lock=lock)


def config_tree(settings: Settings, versions: Mapping[str, str]) -> dict[str, Any]:
  """Returns the content of `config.json`."""
  return {
    "config_version": CONFIG_VERSION,
    "config_hash": settings_lib.config_hash(settings),
    "settings": settings.to_json(),
    "versions": dict(versions),
  }


def read_config(folder: str | os.PathLike) -> dict[str, Any]:
  """Reads `config.json` of a run folder.

  Raises:
    WorkdirError: if there is none, or it is damaged.
  """
  path = pathlib.Path(folder) / CONFIG_FILE
  try:
    tree = files.read_json(path)
  except FileNotFoundError:
    raise WorkdirError(f"{folder}: not a run folder, it has no {CONFIG_FILE}.") from None
  except (OSError, ValueError, RecursionError) as error:
    raise WorkdirError(f"{path}: cannot be read ({error}); choose another --workdir.") from error
  if not isinstance(tree, dict) or not isinstance(tree.get("settings"), dict):
    raise WorkdirError(f"{path}: not the config of a run; choose another --workdir.")
  version = tree.get("config_version")
  if isinstance(version, bool) or version != CONFIG_VERSION:
    raise WorkdirError(
      f"{path}: config version {tree.get('config_version')!r}, but this version of mixboost_jax "
      f"reads {CONFIG_VERSION}; choose another --workdir."
    )
  return tree


def _check(path: pathlib.Path, settings: Settings) -> bool:
  """Returns whether the folder holds this run (True) or nothing (False)."""
  try:
    str(path).encode()
  except UnicodeEncodeError:
    raise WorkdirError(f"{str(path)!r}: not a UTF-8 name; choose another --workdir.") from None
  try:
    names = sorted(os.listdir(path))
  except FileNotFoundError:
    return False
  except NotADirectoryError:
    raise WorkdirError(
      f"{path}: the path leads through a file, not a folder; choose another --workdir."
    ) from None
  except OSError as error:
    raise WorkdirError(f"{path}: {error.strerror}; choose another --workdir.") from error
  own = (FolderLock.FILE_NAME, atomic.TEMPORARY_PREFIX)
  names = [name for name in names if not name.startswith(own)]
  if not names:
    return False
  if CONFIG_FILE not in names:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    raise WorkdirError(
      f"{path}: not empty and not a run folder (it holds {shown}, but no {CONFIG_FILE}); "
      "choose another --workdir."
    )
  changes = settings_lib.difference(read_config(path)["settings"], settings.to_json())
  if changes and _holds_nothing(path):
    return False  # a run that failed before it had anything to show does not claim the folder
  if changes:
    raise WorkdirError(
      f"{path}: holds a run of another config; choose another --workdir, or undo (run -> now):\n"
      + "\n".join(f"  - {change}" for change in changes)
    )
  return True


def _holds_nothing(path: pathlib.Path) -> bool:
  """Returns whether a run was begun here, but nothing is left that could be resumed or read."""
  names = set(os.listdir(path))
  results = {"results.json", "interactions.json", "audit.json", "report.html"} & names
  kept = [place for place in path.glob("checkpoints/[0-9]*") if ".partial" not in place.name]
  return not results and not kept


def _clear(path: pathlib.Path) -> None:
  """Removes what a run that came to nothing has left, before another config begins here."""
  if (path / CONFIG_FILE).exists():
    log.info(f"{path}: began as a run of another config and holds no checkpoint; starting anew.")
  for name in (CONFIG_FILE, "metrics.jsonl"):
    (path / name).unlink(missing_ok=True)
  for name in ("checkpoints", "evaluation", "samples", "tensorboard"):
    shutil.rmtree(path / name, ignore_errors=True)


def _tell_what_differs(path: pathlib.Path, versions: Mapping[str, str]) -> None:
  """Logs what a folder that is opened again does not share with this version."""
  before = read_config(path)
  if options := settings_lib.unrecorded(before["settings"]):
    log.info(
      f"{path}: not recorded by the version that made this run, taken as {', '.join(options)}"
    )
  if notes := _version_notes(before, versions):
    log.info(f"{path}: resuming with other versions, rounding may differ: {', '.join(notes)}")


def _version_notes(before: Mapping[str, Any], versions: Mapping[str, str]) -> list[str]:
  old = before.get("versions", {})
  return [
    f"{name} {old[name]} -> {new}"
    for name, new in sorted(versions.items())
    if name in old and old[name] != new
  ]
