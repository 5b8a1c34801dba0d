# SPDX-License-Identifier: Apache-2.0
"""Stopping politely: a signal asks for what is finished to be saved, and to leave.

`EXIT_PREEMPTED` tells a scheduler that the same command, run again, continues the run (75 is
`EX_TEMPFAIL` of sysexits.h: "temporary failure, try again").
"""

import contextlib
import os
import signal
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from mixboost_jax.runtime import log

EXIT_PREEMPTED = 75
SIGNALS = (signal.SIGTERM, signal.SIGINT)
_KEPT = "stopped on request; what is finished is kept."


class Stopped(SystemExit):
  """Work was left on request; the message says what is kept.

  Nobody takes it for a failure by `except Exception`, and uncaught it ends a script with exit code
  `EXIT_PREEMPTED`.
  """

  def __init__(self, message: str):
    super().__init__(message)
    self.code = EXIT_PREEMPTED


class StopRequest:
  """While active, the first SIGTERM or SIGINT only sets `requested`; a second one acts as usual.

  The end of the time that is given, if any, sets it as well.
  """

  def __init__(self, *, seconds: float = 0.0) -> None:
    self._seconds = seconds
    self.requested = False
    """Whether a signal has arrived, or the time is over."""
    self.signal_name = ""
    """Which one, e.g. `SIGTERM`."""
    self._before: dict[signal.Signals, Any] = {}
    self._alarm_before: Any = signal.SIG_DFL
    self._raises = False

  def __enter__(self) -> "StopRequest":
    # Python allows handlers in the main thread only; elsewhere signals stay as they are.
    if threading.current_thread() is threading.main_thread():
      for number in SIGNALS:
        self._before[number] = signal.signal(number, self._handle)
      if self._seconds:
        self._alarm_before = signal.signal(signal.SIGALRM, self._handle)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
    return self

  def __exit__(self, *_: Any) -> None:
    self._restore()
    if self._seconds and threading.current_thread() is threading.main_thread():
      signal.setitimer(signal.ITIMER_REAL, 0)
      signal.signal(signal.SIGALRM, self._alarm_before or signal.SIG_DFL)

  def _restore(self) -> None:
    for number, handler in self._before.items():
      # None: the handler was not set from Python, so it cannot be put back but by the default.
      signal.signal(number, signal.SIG_DFL if handler is None else handler)
    self._before.clear()

  @contextlib.contextmanager
  def raising(self) -> Iterator[None]:
    """Within it a signal raises `Stopped` as well: for long work that never asks `requested`.

    Raises:
      Stopped: also at once if a signal arrived before, and at the end if one got lost.
    """
    self._raises = True
    try:
      if self.requested:
        raise Stopped(_KEPT)
      yield
      if self.requested:  # some callbacks of libraries swallow what is raised in them
        raise Stopped(_KEPT)
    finally:
      self._raises = False

  def agreed(self) -> bool:
    """Returns whether any process of a distributed run was asked to stop.

    All processes must call it at the same step. With one process it is `requested`.
    """
    if jax.distributed.is_initialized() and jax.process_count() > 1:
      from jax.experimental import multihost_utils

      with jax.transfer_guard("allow"):
        asked = multihost_utils.process_allgather(np.asarray(self.requested))
      return bool(np.any(asked))
    return self.requested

  def _handle(self, number: int, frame: types.FrameType | None) -> None:
    del frame
    self.requested = True
    self.signal_name = signal.Signals(number).name
    message = "\nthe time is over: saving and leaving.\n"
    if number != signal.SIGALRM:
      self._restore()
      message = f"\n{self.signal_name}: saving and leaving; once more to leave at once.\n"
    if log.is_primary():
      # Not print: the signal may have arrived in the middle of one, which cannot be entered twice.
      with contextlib.suppress(OSError):
        os.write(2, message.encode())
    if self._raises:
      raise Stopped(_KEPT)


@contextlib.contextmanager
def asking(should_stop: Callable[[], bool] | None) -> Iterator[Callable[[], bool]]:
  """Yields `should_stop`; if it is None, one that a first signal answers, as for `StopRequest`."""
  if should_stop is not None:
    yield should_stop
    return
  with StopRequest() as stop:
    try:
      yield stop.agreed
    except Stopped as stopped:  # uncaught it ends the process without a word
      log.info(str(stopped))
      raise
