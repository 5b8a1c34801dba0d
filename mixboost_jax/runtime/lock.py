# SPDX-License-Identifier: Apache-2.0
"""A lock file that keeps two processes from writing into one folder.

The file names the process that holds it. A lock whose process is gone is taken over: on the same
machine that is known at once, for another machine (a shared disk, a restarted job) the holder
touches the file now and then, and long silence means that it is gone.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import socket
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from mixboost_jax.runtime import atomic, log

TOUCH_SECONDS = 20.0
SILENT_SECONDS = 120.0


class FolderLock:
  """Holds `<folder>/.lock` from `acquire` to `release`."""

  FILE_NAME = ".lock"

  def __init__(self, folder: str | os.PathLike):
    self._folder = pathlib.Path(folder)
    self._path = self._folder / self.FILE_NAME
    self._stop = threading.Event()
    self._held = False

  def acquire(self) -> None:
    """Takes the lock.

    Raises:
      RuntimeError: if another process holds it.
      WriteError: if the file cannot be written.
    """
    with _one_at_a_time(self._folder):
      if self._path.exists():
        holder = _read(self._path)
        reason = self._why_stale(holder)
        if reason is None:
          where = "" if holder.get("machine") == _machine() else " on another machine"
          raise RuntimeError(
            f"{self._folder}: in use by process {holder.get('pid')}{where}; wait for it, choose "
            f"another --workdir, or remove {self._path} if it is gone for sure."
          )
        log.info(f"{self._folder}: taking over from process {holder.get('pid')}: {reason}.")
      atomic.write_json(self._path, _identity(os.getpid()))
    self._held = True
    threading.Thread(target=self._touch, name="workdir-lock", daemon=True).start()

  def release(self) -> None:
    """Gives the lock back; harmless if it is not held."""
    self._stop.set()
    if self._held and _read(self._path) == _identity(os.getpid()):
      self._path.unlink(missing_ok=True)
    self._held = False

  def _touch(self) -> None:
    while not self._stop.wait(TOUCH_SECONDS):
      with contextlib.suppress(OSError):
        os.utime(self._path)

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
    return now - self._path.stat().st_mtime


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


def _read(path: pathlib.Path) -> dict[str, Any]:
  try:
    tree = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError):
    return {}
  return tree if isinstance(tree, dict) else {}


@contextlib.contextmanager
def _one_at_a_time(folder: pathlib.Path) -> Iterator[None]:
  """Lets one process of this machine at a time look at the lock file and take it."""
  try:
    import fcntl
  except ImportError:  # not a POSIX system: the short race stays
    yield
    return
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):  # some network disks cannot lock
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)
