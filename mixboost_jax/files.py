# SPDX-License-Identifier: Apache-2.0
"""Reads files that somebody else may have made: never a pipe, never without a limit."""

import json
import os
import stat
from typing import Any, BinaryIO

MAX_JSON_BYTES = 2**28
"""No results file, config or list of contents is near this size."""
MAX_JSON_LEVELS = 50
"""Nor near this depth, which all code that walks through them can bear."""


def open_regular(path: str | os.PathLike) -> BinaryIO:
  """Opens a file for reading; a pipe or a device is refused instead of waited for.

  Raises:
    OSError: as `open` does.
    ValueError: if it is no regular file.
  """
  descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
  if not stat.S_ISREG(os.fstat(descriptor).st_mode):
    os.close(descriptor)
    raise ValueError("expected a regular file, got a folder, pipe or device")
  return os.fdopen(descriptor, "rb")


def read_bytes(path: str | os.PathLike, *, limit: int) -> bytes:
  """Returns the content of a regular file.

  Args:
    path: the file.
    limit: largest size in bytes.

  Raises:
    OSError: as `open` does.
    ValueError: if it is no regular file, or larger; it is not read then.
  """
  with open_regular(path) as file:
    size = os.fstat(file.fileno()).st_size
    if size > limit:
      raise ValueError(f"expected at most {limit} bytes, got {size}")
    return file.read(limit + 1)[:limit]


def read_json(path: str | os.PathLike) -> Any:
  """Returns the content of a JSON file.

  Raises:
    OSError: as `open` does.
    ValueError: if it is not a regular file, too large, or not JSON.
  """
  return parse_json(read_bytes(path, limit=MAX_JSON_BYTES))


def parse_json(raw: str | bytes | bytearray) -> Any:
  """Returns what JSON says, as `json.loads` does.

  Raises:
    ValueError: if it is not JSON in UTF-8, or its lists and mappings lie too deep in each other.
  """
  wrong = f"expected at most {MAX_JSON_LEVELS} lists or mappings in each other, got more"
  try:
    tree = json.loads(raw)
  except RecursionError:
    raise ValueError(wrong) from None
  level = [tree]
  for _ in range(MAX_JSON_LEVELS + 1):
    level = [
      child
      for node in level
      if isinstance(node, dict | list)
      for child in (node.values() if isinstance(node, dict) else node)
    ]
    if not level:
      return tree
  raise ValueError(wrong)


def reason(error: BaseException) -> str:
  """Returns the first line of an error, or its name if it says nothing, without a full stop."""
  text = getattr(error, "strerror", None) or str(error)
  return text.partition("\n")[0].rstrip(".: ") or type(error).__name__


def is_text(value: str) -> bool:
  """Whether a string can be written as UTF-8; names of files and JSON may hold half characters."""
  try:
    value.encode()
  except UnicodeEncodeError:
    return False
  return True
