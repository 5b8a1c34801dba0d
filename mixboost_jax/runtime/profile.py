# SPDX-License-Identifier: Apache-2.0
"""The training step as it runs: whether it is compiled again, and where its time goes.

`Recompilations` listens to JAX; in steady state it counts 0. `StepProfiler` records a few steps
once, after the first log line, as a trace for TensorBoard or Perfetto and as a table of operations.
"""

import collections
import contextlib
import pathlib
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax

from mixboost_jax import files
from mixboost_jax.runtime import log

TABLE_FILE = "operations.txt"
NUM_LISTED = 40
"""Rows of the table; what is left is one more."""
NUM_SAID = 8
"""Rows that the log shows."""
_COMPILED = "/jax/core/compile/backend_compile_duration"
_ORIGIN = re.compile(r'^\s*(?:ROOT )?%?([\w.\-]+) = .*op_name="([^"]*)"', re.MULTILINE)


class Recompilations:
  """Counts how often programs are compiled, or loaded from disk, again after their first call.

  Only what happens inside `during` counts, and only in its thread.
  """

  def __init__(self):
    self._known: set[str] = set()
    self._thread, self._count = 0, 0

  def __enter__(self) -> "Recompilations":
    jax.monitoring.register_event_duration_secs_listener(self._listen)
    return self

  def __exit__(self, *_: Any) -> None:
    jax.monitoring.unregister_event_duration_listener(self._listen)

  def _listen(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
    del duration_secs, kwargs
    if event == _COMPILED and threading.get_ident() == self._thread:
      self._count += 1

  @contextlib.contextmanager
  def during(self, program: str) -> Iterator[None]:
    """Surrounds a call of a program, by name; its first call may compile."""
    before, self._thread = self._count, threading.get_ident()
    try:
      yield
    finally:
      self._thread = 0
      if program not in self._known:
        self._known.add(program)
        self._count = before

  def drain(self) -> int:
    """Returns the number since the last call."""
    count, self._count = self._count, 0
    return count


class Operation(NamedTuple):
  """What one operation of a compiled program took, over all devices and their threads."""

  name: str
  program: str
  calls: int
  seconds: float
  """Of its own: without the operations that it runs."""


class StepProfiler:
  """Records some steps of a run; a `train.Monitor` that logs no numbers.

  They begin after the first log line of this process, when everything is compiled, or so that they
  end with the run if it is shorter. Only the first process of a distributed run records.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    *,
    count: int,
    first_step: int,
    num_steps: int,
    settle: int,
    text: Callable[[], str] = str,
  ):
    """Nothing is recorded yet.

    Args:
      folder: of the trace and the table.
      count: of the steps.
      first_step: from which this process trains; one more compiles.
      num_steps: of the run.
      settle: steps that are left alone, if there are as many.
      text: of the compiled step, which tells where operations come from.
    """
    self._folder, self._text = folder, text
    self._start = max(first_step + 1, min(first_step + settle, num_steps - count))
    self._stop = min(self._start + count, num_steps)
    self._last, self._recording = num_steps, False

  def steps_left(self, step: int) -> int:
    """Returns the steps to the next call, at least 1."""
    ahead = (at - step for at in (self._start, self._stop, self._last) if at > step)
    return next(ahead, 1)

  def due(self, step: int) -> bool:
    """Tells whether recording begins or ends after this step."""
    return self._start < self._stop and step in (self._start, self._stop)

  def pause(self) -> None:
    """Does nothing: other work shows in the trace as what it is."""

  def __call__(self, step: int, logits_fn: Any) -> Mapping[str, float]:
    """Begins to record, or ends and writes; the step before has finished by now."""
    del logits_fn
    if not log.is_primary():
      return {}
    if step == self._start:
      options = jax.profiler.ProfileOptions()
      options.python_tracer_level = 0  # it would slow the steps down
      place = str(files.make_folder(self._folder))
      jax.profiler.start_trace(place, profiler_options=options)
      self._recording = True
    elif self._recording:
      self.close()
      self._write(step - self._start)
    return {}

  def close(self) -> None:
    """Stops recording."""
    if self._recording:
      self._recording = False
      jax.profiler.stop_trace()

  def __enter__(self) -> "StepProfiler":
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()

  def _write(self, steps: int) -> None:
    found = operations(read_trace(self._folder))
    rows = table(found, steps=steps, origins=dict(_ORIGIN.findall(self._text())))
    path = self._folder / TABLE_FILE
    files.write_text(path, "\n".join(rows) + "\n")
    log.info("\n".join(rows[: 2 + NUM_SAID]))
    log.info(f"profile of {steps} step(s) up to step {self._stop}: {path}, the trace beside it.")


def read_trace(folder: pathlib.Path) -> Any:
  """Returns the newest trace below a folder, as `jax.profiler.ProfileData`.

  Raises:
    ValueError: if there is none.
  """
  traces = sorted(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime_ns)
  if not traces:
    raise ValueError(f"{folder}: no trace (*.xplane.pb) was written; profile the steps again.")
  return jax.profiler.ProfileData.from_file(str(traces[-1]))


def operations(trace: Any) -> list[Operation]:
  """Returns the operations of compiled programs in a trace, those that took longest first.

  Args:
    trace: planes (devices, or the host) of lines (threads, streams) of events.
  """
  with warnings.catch_warnings():
    # jaxlib 0.12 warns of a type of its own at first use, and aborts if warnings are errors.
    warnings.simplefilter("ignore", DeprecationWarning)
    return _operations(list(trace.planes))


def _operations(planes: list[Any]) -> list[Operation]:
  devices = [plane for plane in planes if plane.name.startswith("/device:")]
  calls: collections.Counter[tuple[str, str]] = collections.Counter()
  nanoseconds: collections.Counter[tuple[str, str]] = collections.Counter()
  for plane in devices or planes:
    for line in plane.lines:
      for name, own in _own_times(line):
        calls[name] += 1
        nanoseconds[name] += own
  found = [Operation(*name, calls[name], nanoseconds[name] / 1e9) for name in calls]
  return sorted(found, key=lambda one: -one.seconds)


def _own_times(line: Any) -> Iterable[tuple[tuple[str, str], int]]:
  """Returns (operation, program) and own time in ns of the events of a line, which may nest."""
  events = []
  for event in line.events:
    stats = {name: value for name, value in event.stats if name in ("hlo_op", "hlo_module")}
    if "hlo_op" in stats or line.name == "XLA Ops":
      name = str(stats.get("hlo_op") or event.name.partition(" = ")[0].removeprefix("%"))
      start = int(event.start_ns)
      names = (name, str(stats.get("hlo_module", "")))
      events.append((start, -int(event.duration_ns), names))
  own: list[int] = []
  around: list[tuple[int, int]] = []  # (place in `own`, end) of the events that are not over
  events.sort(key=lambda event: event[:2])
  for start, minus, _ in events:
    while around and around[-1][1] <= start:
      around.pop()
    if around:
      own[around[-1][0]] += minus
    around.append((len(own), start - minus))
    own.append(-minus)
  return [(names, time) for (_, _, names), time in zip(events, own, strict=True)]


def table(
  found: list[Operation], *, steps: int, origins: Mapping[str, str] | None = None
) -> list[str]:
  """Returns lines of text: share of the time, milliseconds and calls per step, and where from.

  Args:
    found: from `operations`.
    steps: that were recorded.
    origins: operation -> what of the program it stands for.
  """
  total = sum(one.seconds for one in found) or 1.0
  rows = [
    f"{len(found)} operations, {1e3 * total / steps:.3f} ms per step, over all devices and threads",
    f"{'share':>7}{'ms/step':>11}{'calls/step':>12}  operation",
  ]
  left = found[NUM_LISTED:]
  shown = found[:NUM_LISTED]
  if left:
    rest = Operation(
      f"{len(left)} others", "", sum(o.calls for o in left), sum(o.seconds for o in left)
    )
    shown = [*shown, rest]
  for one in shown:
    origin = (origins or {}).get(one.name, "")
    numbers = f"{one.seconds / total:>7.1%}{1e3 * one.seconds / steps:>11.3f}"
    words = f"{one.name}  {origin or one.program}".rstrip()
    rows.append(f"{numbers}{one.calls / steps:>12g}  {words}")
  return rows
