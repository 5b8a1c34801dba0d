# SPDX-License-Identifier: Apache-2.0
"""The folder of one run: created, recognised, refused, and locked against a second process.

```text
config.json    resolved settings, their hash, versions: what the folder is a run of
parameters.txt  metrics.jsonl  tensorboard/  checkpoints/  samples/  results.json
.lock          the process that is writing here
```

A lock whose process is gone is taken over. On the same machine that is known at once; for another
machine (a shared disk, a restarted job) the holder touches the file now and then, and long silence
means that it is gone. So whoever finds the lock of another machine waits for the next touch or the
end of the silence.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping
from typing import Any

from mixboost_jax import files
from mixboost_jax import settings as settings_lib
from mixboost_jax.runtime import log, peers
from mixboost_jax.runtime.interrupt import Stopped
from mixboost_jax.schema import Settings

CONFIG_VERSION = 1
CONFIG_FILE = "config.json"
RESULTS_FILE = "results.json"
TOUCH_SECONDS = 20.0
SILENT_SECONDS = 120.0
LOOK_SECONDS = 1.0


class WorkdirError(ValueError):
  """The folder cannot be used for this run. Nothing in it was touched."""


class InUseError(WorkdirError):
  """Another process works in the folder."""


class FolderLock:
  """Holds `<folder>/.lock` from `acquire` to `release`."""

  FILE_NAME = ".lock"

  def __init__(self, folder: str | os.PathLike):
    self._folder = pathlib.Path(folder)
    self._path = self._folder / self.FILE_NAME
    self._stop = threading.Event()
    self._held = False

  def acquire(self, *, should_stop: Callable[[], bool] = lambda: False) -> None:
    """Takes the lock; waits at most `SILENT_SECONDS` for a sign of life from another machine.

    Raises:
      RuntimeError: if another process holds it.
      Stopped: if `should_stop` said so while it waited.
      WriteError: if the file cannot be written.
    """
    touched: float | None = None
    while not self._taken(touched):
      if touched is None:
        touched = self._touched()
        log.info(
          f"{self._folder}: locked by a process on another machine; waiting up to "
          f"{max(SILENT_SECONDS - self._seconds_silent(), 0):.0f} s for a sign of life from it."
        )
      if should_stop():
        raise Stopped(f"{self._folder}: stopped on request, nothing was begun.")
      self._stop.wait(LOOK_SECONDS)
    self._held = True
    peers.on_sudden_end.append(self.release)
    threading.Thread(target=self._touch, name="workdir-lock", daemon=True).start()

  def _taken(self, touched: float | None) -> bool:
    """Takes the lock unless a process of another machine may hold it, last touched at `touched`."""
    with files.alone(self._folder):
      if self._path.exists():
        holder = self._holder()
        reason = self._why_stale(holder)
        if reason is None:
          here = holder.get("machine") == _machine()
          if not here and touched in (None, self._touched()):
            return False
          raise RuntimeError(
            f"{self._folder}: in use by process {holder.get('pid')}"
            f"{'' if here else ' on another machine'}; wait for it, choose another --workdir, or "
            f"remove {self._path} if it is gone for sure."
          )
        log.info(f"{self._folder}: taking over from process {holder.get('pid')}: {reason}.")
      files.write_json(self._path, _identity(os.getpid()))
    return True

  def release(self) -> None:
    """Gives the lock back; harmless if it is not held."""
    self._stop.set()
    if self.release in peers.on_sudden_end:
      peers.on_sudden_end.remove(self.release)
    if self._held and self._holder() == _identity(os.getpid()):
      self._path.unlink(missing_ok=True)
    self._held = False

  def _touch(self) -> None:
    while not self._stop.wait(TOUCH_SECONDS):
      with contextlib.suppress(OSError):
        os.utime(self._path)

  def _holder(self) -> dict[str, Any]:
    try:
      tree = files.read_json(self._path)
    except (OSError, ValueError):
      return {}
    return tree if isinstance(tree, dict) else {}

  def _why_stale(self, holder: dict[str, Any]) -> str | None:
    if holder.get("machine") == _machine():
      pid = holder.get("pid")
      if isinstance(pid, int) and _identity(pid) == holder and _is_alive(pid):
        return None
      return "it has ended"
    silent = self._seconds_silent()
    if silent > SILENT_SECONDS:
      return f"it has been silent for {silent:.0f} s"
    return None if holder else "its lock file is damaged"

  def _seconds_silent(self) -> float:
    # The clock of the file system itself: those of two machines may disagree.
    with tempfile.TemporaryFile(dir=self._folder) as probe:
      now = os.fstat(probe.fileno()).st_mtime
    return now - self._touched()

  def _touched(self) -> float:
    try:
      return self._path.stat().st_mtime
    except FileNotFoundError:  # given back in this moment
      return 0.0


def _identity(pid: int) -> dict[str, Any]:
  """Returns what tells a process from all others, past ones with the same number included."""
  return {"pid": pid, "started": _start_time(pid), "machine": _machine()}


def _start_time(pid: int) -> str:
  try:
    # Field 22 of stat(5), counted after the name, which may hold spaces and parentheses.
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[19]
  except (OSError, IndexError):
    return ""


def _is_alive(pid: int) -> bool:
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    return True
  return True


def _machine() -> str:
  """Returns a digest that differs between machines and between their boots; it names nobody."""
  try:
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()
  except OSError:
    boot = ""
  return hashlib.sha256(f"{socket.gethostname()}{boot}".encode()).hexdigest()[:12]


class Workdir:
  """An open run folder and the places in it; `close()`, or the end of `with`, releases its lock."""

  def __init__(self, path: pathlib.Path, *, resumed: bool, lock: FolderLock | None = None):
    """`resumed` tells whether the folder already held this run."""
    self.path, self.resumed, self.lock = path, resumed, lock
    self.config = path / CONFIG_FILE
    self.metrics = path / "metrics.jsonl"
    self.checkpoints = path / "checkpoints"
    self.tensorboard = path / "tensorboard"
    self.samples = path / "samples"
    self.profile = path / "profile"
    self.results = path / RESULTS_FILE

  def close(self) -> None:
    """Lets other processes write here."""
    if self.lock is not None:
      self.lock.release()

  def __enter__(self) -> "Workdir":
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()


def open_run(
  folder: str | os.PathLike,
  settings: Settings,
  *,
  versions: Mapping[str, str] | None = None,
  should_stop: Callable[[], bool] = lambda: False,
) -> Workdir:
  """Creates the folder of a run, or opens it to resume the same run.

  Only the first process of a distributed run writes and locks. Settings that do not shape training
  may differ when resuming; options that the version which made the folder did not have must be left
  out.

  Args:
    folder: created with its parents if it is missing.
    settings: the run.
    versions: kept beside the settings, `environment.versions()`.
    should_stop: asked while it waits for the lock of a process that another machine ran.

  Raises:
    WorkdirError: if the folder holds a run of another config with a checkpoint or a result (the
      message lists what differs), or something that is not a run.
    InUseError: if another process works there.
    WriteError: if it cannot be created or written.
  """
  path = pathlib.Path(folder).expanduser()
  versions = dict(versions or {})
  if not log.is_primary():
    return Workdir(path, resumed=(path / CONFIG_FILE).exists())
  _check(path, settings)  # before anything is created
  files.make_folder(path)
  lock = FolderLock(path)
  try:
    lock.acquire(should_stop=should_stop)
  except RuntimeError as error:
    raise InUseError(str(error)) from None
  try:
    resumed = _check(path, settings)  # again: now nobody else writes here
    for leftover in path.glob(f"{files.TEMPORARY_PREFIX}*"):
      leftover.unlink(missing_ok=True)
    if not resumed:
      _clear(path)
      tree = {
        "config_version": CONFIG_VERSION,
        "config_hash": settings_lib.config_hash(settings),
        "settings": settings.to_json(),
        "versions": versions,
      }
      files.write_json(path / CONFIG_FILE, tree)
    else:
      _tell_what_differs(path, versions)
  except BaseException:
    lock.release()
    raise
  return Workdir(path, resumed=resumed, lock=lock)


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
  except (OSError, ValueError) as error:
    raise WorkdirError(f"{path}: cannot be read ({error}); choose another --workdir.") from error
  if not isinstance(tree, dict) or not isinstance(tree.get("settings"), dict):
    raise WorkdirError(f"{path}: not the config of a run; choose another --workdir.")
  version = tree.get("config_version")
  if isinstance(version, bool) or version != CONFIG_VERSION:
    raise WorkdirError(
      f"{path}: config version {version!r}, but this version of mixboost_jax reads "
      f"{CONFIG_VERSION}; choose another --workdir."
    )
  return tree


def _check(path: pathlib.Path, settings: Settings) -> bool:
  """Returns whether the folder holds this run (True) or nothing (False)."""
  if not files.is_text(str(path)):
    raise WorkdirError(f"{str(path)!r}: not a UTF-8 name; choose another --workdir.")
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
  own = (FolderLock.FILE_NAME, files.TEMPORARY_PREFIX)
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
  files = ("influence.json", "interactions.json", "audit.json", "gan.json", "report.html")
  results = {RESULTS_FILE, *files}
  kept = (found for found in path.glob("checkpoints/[0-9]*") if ".partial" not in found.name)
  return not results & set(os.listdir(path)) and not any(kept)


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
  old = before.get("versions", {})
  changed = {name for name in old.keys() & versions.keys() if old[name] != versions[name]}
  if notes := [f"{name} {old[name]} -> {versions[name]}" for name in sorted(changed)]:
    log.info(f"{path}: resuming with other versions, rounding may differ: {', '.join(notes)}")


class Parts:
  """Measured parts of a long job in one JSON file, so that a stopped job goes on where it was.

  They are kept for one identity: another config or checkpoint starts afresh.
  """

  def __init__(
    self,
    path: pathlib.Path | None,
    *,
    identity: Any = None,
    should_stop: Callable[[], bool] = lambda: False,
  ):
    """Reads what an earlier process left in `path`; None keeps the parts in memory only.

    Parts of another `identity` (JSON) are not used; `should_stop` is asked before each new part.
    """
    self._should_stop = should_stop
    text = json.dumps(identity, sort_keys=True)
    self._path, self._identity = path, hashlib.sha256(text.encode()).hexdigest()
    self._parts: dict[str, Any] = {}
    if path is not None and path.exists():
      try:
        tree = files.read_json(path)
      except (OSError, ValueError):
        tree = {}
      kept = tree.get("parts") if isinstance(tree, dict) else None
      if isinstance(kept, dict) and tree.get("identity") == self._identity:
        self._parts = kept

  def get(self, name: str, measure: Callable[[], Any]) -> Any:
    """Returns a part; measures and saves it if it is missing. It must be JSON.

    Raises:
      Stopped: before a part, if it is asked for.
    """
    if name not in self._parts:
      if self._should_stop():
        raise Stopped(f"stopped on request before {name}; what is finished is kept.")
      self._parts[name] = measure()
      if self._path is not None and log.is_primary():
        files.write_json(self._path, {"identity": self._identity, "parts": self._parts})
    return self._parts[name]

  def remove(self) -> None:
    """Deletes the file: the job is done."""
    if self._path is not None:
      self._path.unlink(missing_ok=True)
