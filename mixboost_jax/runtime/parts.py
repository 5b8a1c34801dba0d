# SPDX-License-Identifier: Apache-2.0
"""Measured parts of a long job in one JSON file, so that a stopped job goes on where it was."""

import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

from mixboost_jax import files
from mixboost_jax.runtime import atomic, log


class Parts:
  """Parts by name, kept for one identity: another config or checkpoint starts afresh."""

  def __init__(self, path: pathlib.Path | None, *, identity: Any = None):
    """Reads what an earlier process left.

    Args:
      path: the file; None keeps the parts in memory only.
      identity: JSON; parts measured for another one are not used.
    """
    text = json.dumps(identity, sort_keys=True)
    self._path, self._identity = path, hashlib.sha256(text.encode()).hexdigest()
    self._parts: dict[str, Any] = {}
    if path is not None and path.exists():
      try:
        tree = files.read_json(path)
      except (OSError, ValueError):
        tree = {}
      if isinstance(tree, dict) and tree.get("identity") == self._identity:
        self._parts = tree.get("parts", {})

  def get(self, name: str, measure: Callable[[], Any]) -> Any:
    """Returns a part; measures and saves it if it is missing. It must be JSON."""
    if name not in self._parts:
      self._parts[name] = measure()
      if self._path is not None and log.is_primary():
        atomic.write_json(self._path, {"identity": self._identity, "parts": self._parts})
    return self._parts[name]

  def remove(self) -> None:
    """Deletes the file: the job is done."""
    if self._path is not None:
      self._path.unlink(missing_ok=True)
