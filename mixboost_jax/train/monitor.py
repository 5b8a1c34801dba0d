# SPDX-License-Identifier: Apache-2.0
"""When a monitor may run while a network trains, so that it takes a stated share of the time."""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from mixboost_jax.array_types import LogitsFn

Measure = Callable[[LogitsFn], Mapping[str, float]]


class SpacedMonitor:
  """Calls `measure` at fixed distances in steps, far enough apart for its share of the time.

  The first call measures twice: once to compile, once for the clock. From its cost and the time of
  a step follows the distance; it is kept in `state`, so a resumed run goes on at the same steps.
  A distance never shrinks; it grows if the calls become dearer.
  """

  def __init__(
    self,
    measure: Measure,
    *,
    every_steps: int,
    share: float,
    state: Mapping[str, Any] | None = None,
    agree: Callable[[int], int] = lambda steps: steps,
    clock: Callable[[], float] = time.perf_counter,
  ):
    """Nothing is measured yet.

    Args:
      measure: network in evaluation mode -> numbers to log.
      every_steps: wanted distance; the distance is a multiple of it.
      share: largest share of the time, compilation left out.
      state: `state()` of an earlier part of the run.
      agree: makes all processes of a distributed run use one distance.
      clock: seconds.
    """
    stored = dict(state or {})
    self._measure, self._every, self._share = measure, every_steps, share
    self._agree, self._clock = agree, clock
    self._spacing = int(stored.get("spacing", every_steps))
    self._next = int(stored.get("next", every_steps))
    self._spent, self._calls = float(stored.get("spent", 0.0)), int(stored.get("calls", 0))
    self._before = float(stored.get("elapsed", 0.0))
    self._started = clock()
    self._compiled = False
    self._tick: tuple[int, float] | None = None
    self._per_step: deque[float] = deque(maxlen=64)

  def state(self) -> dict[str, float]:
    """Returns what a resumed run needs, for the metadata of a checkpoint."""
    return {
      "spacing": self._spacing,
      "next": self._next,
      "spent": self._spent,
      "calls": self._calls,
      "elapsed": self._elapsed(),
    }

  def steps_left(self, step: int) -> int:
    """Returns the steps from `step` to the next call, at least 1."""
    return max(1, self._next - step)

  def due(self, step: int) -> bool:
    """Takes note of the time, after each dispatch of steps, and tells whether to call now."""
    now = self._clock()
    if self._tick is not None and step > self._tick[0]:
      self._per_step.append((now - self._tick[1]) / (step - self._tick[0]))
    self._tick = (step, now)
    return step >= self._next

  def pause(self) -> None:
    """Forgets the last tick: what follows (an evaluation, say) is not the time of a step."""
    self._tick = None

  def __call__(self, step: int, logits_fn: LogitsFn) -> dict[str, float]:
    """Measures, and decides on the next call."""
    compiling = self._clock()
    if not self._compiled:
      self._measure(logits_fn)
      self._compiled = True
    began = self._clock()
    self._started += began - compiling  # compilation is no part of the time shared
    values = dict(self._measure(logits_fn))
    cost = self._clock() - began
    self._spent += cost
    self._calls += 1
    self._spacing, wait = self._needed()
    self._next = step + self._agree(max(self._spacing, wait))
    self.pause()
    share = self._spent / max(self._elapsed(), 1e-9)
    return {**values, "seconds": cost, "share_of_time": share, "spacing_steps": self._next - step}

  def _needed(self) -> tuple[int, int]:
    """Returns the distance that suits the mean cost, and one that pays off what was overspent."""
    if not self._per_step:
      return self._spacing, 0

    def steps(seconds: float) -> int:
      count = seconds / max(statistics.median(self._per_step), 1e-9)
      return max(1, math.ceil(count / self._every - 1e-6)) * self._every

    steady = steps(self._spent / self._calls * (1 - self._share) / self._share)
    return max(self._spacing, steady), steps(self._spent / self._share - self._elapsed())

  def _elapsed(self) -> float:
    return self._before + self._clock() - self._started
