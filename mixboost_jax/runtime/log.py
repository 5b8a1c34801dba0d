# SPDX-License-Identifier: Apache-2.0
"""Plain lines on stderr (stdout in a notebook), spoken by one process only, and progress bars."""

import collections
import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

BAR_UPDATES_PER_SECOND = 8.0
LINES_PER_SECOND = 0.1
_RATE_SECONDS = 20.0
"""The rate shown is that of the last so many seconds."""

_before_line: list[Callable[[], None]] = []
"""What a progress bar does so that a line does not land in the middle of it."""


def is_primary() -> bool:
  """Returns whether this process writes files and messages: the first one of a run.

  A process that belongs to no distributed run is always the first; asking does not initialise
  JAX's backend then.
  """
  return not jax.distributed.is_initialized() or jax.process_index() == 0


def is_notebook(stream: Any) -> bool:
  """Returns whether a notebook shows what is written to a stream."""
  return type(stream).__module__.startswith("ipykernel")


def _usual_stream() -> Any:
  """Returns stderr, but stdout in a notebook, which shows stderr as if all of it were errors."""
  return sys.stdout if is_notebook(sys.stderr) else sys.stderr


def say(text: str, *, stream: Any = None, end: str = "\n") -> None:
  """Prints to stderr, or another stream. If nobody reads it any more (`| head -1`), to nobody."""
  stream = _usual_stream() if stream is None else stream
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
    for wipe in list(_before_line):
      wipe()
    say(message)


def warn(message: str) -> None:
  """Prints one line that begins with `warning:`."""
  info(f"warning: {message}")


def format_duration(seconds: float) -> str:
  """Returns e.g. `8 s`, `3 min 5 s`, `2 h 7 min`, `4 days 3 h`; `?` if it is unknown."""
  if not math.isfinite(seconds) or seconds < 0:
    return "?"
  whole = round(seconds)
  if whole < 60:
    return f"{whole} s"
  if whole < 3600:
    return f"{whole // 60} min {whole % 60} s"
  if whole < 86400:
    return f"{whole // 3600} h {whole % 3600 // 60} min"
  days = whole // 86400
  return f"{days} day{'s' * (days > 1)} {whole % 86400 // 3600} h"


def format_number(value: float) -> str:
  """Returns three or four digits that can be read at a glance, e.g. `0.0123`, `45.6`, `1.2e-05`."""
  if not math.isfinite(value):
    return str(value)
  size = abs(value)
  if size != 0 and (size < 1e-3 or size >= 1e5):
    return f"{value:.1e}"
  if size >= 1000:
    return f"{value:.0f}"
  return f"{value:#.3g}" if size < 100 else f"{value:.1f}"


def format_rate(per_second: float, unit: str) -> str:
  """Returns e.g. `45.6 images per second`, `5.00 attacks per minute`; empty if it is unknown."""
  if not math.isfinite(per_second) or per_second <= 0:
    return ""
  shown = f"{per_second:,.0f}" if per_second >= 1000 else format_number(per_second)
  if per_second < 0.2:
    return f"{format_number(60 * per_second)} {unit} per minute"
  return f"{shown} {unit} per second"


def format_line(
  label: str,
  step: int,
  num_steps: int,
  *,
  rate: float = math.nan,
  seconds_left: float = math.nan,
  metrics: Mapping[str, float] | None = None,
  unit: str = "images",
  bar_width: int = 0,
  phase: str = "",
) -> str:
  """Returns e.g. `train  120/500  24%  812 images per second  loss 1.23  2 min 5 s left`.

  A `phase`, such as `compiling`, stands in the place of the time left while that is not known.
  """
  digits = len(str(num_steps))
  fraction = step / num_steps if num_steps else 1.0
  filled = "#" * int(min(max(fraction, 0.0), 1.0) * bar_width)
  parts = [label, f"[{filled:.<{bar_width}}]" if bar_width else ""]
  parts += [f"{step:{digits}d}/{num_steps}", f"{100 * fraction:3.0f}%", format_rate(rate, unit)]
  parts += [f"{name} {format_number(value)}" for name, value in (metrics or {}).items()]
  if phase:
    parts.append(phase)
  if step < num_steps and not (phase and math.isnan(seconds_left)):
    parts.append(f"{format_duration(seconds_left)} left")
  return "  ".join(part for part in parts if part)


class Progress:
  """Shows a loop of known length: a line that rewrites itself on a screen, a few lines in a file.

  Updates may come as often as they like; they are shown at most `BAR_UPDATES_PER_SECOND` times a
  second on a terminal or in a notebook and `LINES_PER_SECOND` times elsewhere, and the last one in
  any case. Only the first process speaks.
  """

  def __init__(
    self,
    label: str,
    num_steps: int,
    *,
    first_step: int = 0,
    unit: str = "images",
    stream: Any = None,
    clock: Callable[[], float] = time.monotonic,
    updates_per_second: float | None = None,
  ):
    """Prints nothing yet.

    Args:
      label: first word of every line.
      num_steps: step at which the loop ends.
      first_step: step from which it is resumed.
      unit: of what the rate counts.
      stream: a text file; if None stderr, or stdout in a notebook.
      clock: in seconds.
      updates_per_second: by the kind of stream if None.
    """
    self._stream = _usual_stream() if stream is None else stream
    self._label, self._num_steps, self._unit, self._clock = label, num_steps, unit, clock
    terminal = bool(getattr(self._stream, "isatty", lambda: False)())
    self._terminal = terminal or is_notebook(self._stream)
    usual = BAR_UPDATES_PER_SECOND if self._terminal else LINES_PER_SECOND
    self._interval = 1 / (updates_per_second or usual)
    self._speaks = is_primary()
    self._started = clock()
    self._shown_at = -math.inf
    self._shown_length = 0
    self._last_text = ""
    self._done = 0
    self._unseen: tuple[int, Mapping[str, Any]] | None = None
    self._compiling_since: float | None = None
    self._compiled: list[float] = []
    self._to_compile = 0
    # (time, step, units done), oldest first
    self._history = collections.deque([(self._started, first_step, 0)])
    if self._terminal:
      _before_line.append(self._clear)

  def update(
    self,
    step: int,
    *,
    units: int = 0,
    metrics: Mapping[str, Any] | None = None,
    force: bool = False,
  ) -> None:
    """Takes note of a finished step and shows it if it is time to, or with `force`.

    `units` (images, say) were processed since the update before. JAX arrays among `metrics` are
    waited for only when they are shown.
    """
    first = self._compiling_since is not None
    self.ready()
    now = self._clock()
    self._done += units
    if first:  # it says when this was dispatched, not how long it takes
      self._history.clear()
    self._history.append((now, step, self._done))
    while len(self._history) > 2 and now - self._history[0][0] > _RATE_SECONDS:
      self._history.popleft()
    self._unseen = (step, metrics or {})
    if self._speaks and (force or now - self._shown_at >= self._interval):
      self._show(now, *self._unseen)

  def compiling(self, *, more: int = 0) -> None:
    """Says that a program is being compiled, until `ready` or the next update.

    That time does not count for the rate; the time left includes that of `more` programs to come.
    """
    self.ready()
    self._compiling_since, self._to_compile = self._clock(), more
    if self._speaks and (self._terminal or not self._compiled):
      self._show(self._compiling_since, self._history[-1][1], {})

  def ready(self) -> None:
    """Ends what `compiling` began; harmless otherwise."""
    if self._compiling_since is not None:
      spent = self._clock() - self._compiling_since
      self._compiling_since = None
      self._compiled.append(spent)
      moved = [(time + spent, step, done) for time, step, done in self._history]
      self._history = collections.deque(moved)

  def close(self) -> None:
    """Shows the last update and ends the line."""
    if self._speaks and self._unseen:
      self._show(self._clock(), *self._unseen)
    if self._clear in _before_line:
      _before_line.remove(self._clear)
    if self._terminal and self._shown_length:
      say("", stream=self._stream)
      self._shown_length = 0

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()

  def _show(self, now: float, step: int, metrics: Mapping[str, Any]) -> None:
    then, old_step, old_done = self._history[0]
    elapsed = max(now - then, 1e-9)
    steps_per_second = (step - old_step) / elapsed
    left = (self._num_steps - step) / steps_per_second if steps_per_second else math.nan
    if self._compiled:
      left += self._to_compile * sum(self._compiled) / len(self._compiled)
    text = format_line(
      self._label,
      step,
      self._num_steps,
      rate=(self._done - old_done) / elapsed,
      seconds_left=left,
      metrics={name: float(value) for name, value in jax.device_get(dict(metrics)).items()},
      unit=self._unit,
      bar_width=24 if self._terminal else 0,
      phase="" if self._compiling_since is None else "compiling",
    )
    self._unseen = None
    if text == self._last_text:
      return
    self._last_text, self._shown_at = text, now
    if not self._terminal:
      say(text, stream=self._stream)
      return
    text = text[: shutil.get_terminal_size().columns - 1]  # a wrapped line cannot be rewritten
    say("\r" + text.ljust(self._shown_length), end="", stream=self._stream)
    self._shown_length = len(text)

  def _clear(self) -> None:
    """Wipes the bar so that a message can take its line; the next update draws it again."""
    if self._shown_length:
      say("\r" + " " * self._shown_length + "\r", end="", stream=self._stream)
      self._shown_length, self._last_text, self._shown_at = 0, "", -math.inf
