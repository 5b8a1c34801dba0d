# SPDX-License-Identifier: Apache-2.0
"""Measured parts of a long job in one JSON file, so that a stopped job goes on where it was."""

import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

from mixboost_jax import files
from mixboost_jax.runtime import atomic, log
from mixboost_jax.runtime.interrupt import Stopped


class Parts:
  """Parts by name, kept for one identity: another config or checkpoint starts afresh."""

  def __init__(
    self,
    path: pathlib.Path | None,
    *,
    identity: Any = None,
    should_stop: Callable[[], bool] = lambda: False,
  ):
    """Reads what an earlier process left.

    Args:
      path: the file; None keeps the parts in memory only.
      identity: JSON; parts measured for another one are not used.
      should_stop: asked before every part that is missing.
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
        atomic.write_json(self._path, {"identity": self._identity, "parts": self._parts})
    return self._parts[name]

  def remove(self) -> None:
    """Deletes the file: the job is done."""
    if self._path is not None:
      self._path.unlink(missing_ok=True)
