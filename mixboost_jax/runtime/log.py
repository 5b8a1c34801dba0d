# SPDX-License-Identifier: Apache-2.0
"""Plain lines on stderr, spoken by one process of a run only."""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

import jax

_before_line: list[Callable[[], None]] = []
"""What a progress bar does so that a line does not land in the middle of it."""


def is_primary() -> bool:
  """Returns whether this process writes files and messages: the first one of a run.

  A process that belongs to no distributed run is always the first; asking does not initialise
  JAX's backend then.
  """
  return not jax.distributed.is_initialized() or jax.process_index() == 0


def say(text: str, *, stream: Any = None, end: str = "\n") -> None:
  """Prints to stderr, or another stream. If nobody reads it any more (`| head -1`), to nobody."""
  stream = sys.stderr if stream is None else stream
  try:
    print(text, file=stream, end=end, flush=True)
  except BrokenPipeError:
    with contextlib.suppress(OSError, ValueError):  # or whatever is flushed at the end would fail
      nobody = os.open(os.devnull, os.O_WRONLY)
      os.dup2(nobody, stream.fileno())
      os.close(nobody)


def info(message: str) -> None:
  """Prints one line."""
  if is_primary():
    for prepare_terminal in _before_line:
      prepare_terminal()
    say(message)


def warn(message: str) -> None:
  """Prints one line that begins with `warning:`."""
  info(f"warning: {message}")


def add_before_line(hook: Callable[[], None]) -> Callable[[], None]:
  """Calls `hook` before every line from now on; returns the function that undoes this."""
  _before_line.append(hook)

  def remove() -> None:
    if hook in _before_line:
      _before_line.remove(hook)

  return remove
