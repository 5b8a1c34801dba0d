# SPDX-License-Identifier: Apache-2.0
"""Times a measurement and puts its numbers into a results file."""

import datetime
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mixboost_jax.runtime import environment
from mixboost_jax.runtime.results import Flag, Metric, Results


class Clock:
  """Runs from its creation."""

  def __init__(self, part: str):
    """Starts; `part` is what the results call the seconds."""
    self._part = part
    self._started, self._begin = datetime.datetime.now(datetime.UTC), time.perf_counter()

  def seconds(self) -> float:
    """Returns the time since the creation."""
    return time.perf_counter() - self._begin

  def results(
    self,
    name: str,
    metrics: Sequence[Metric],
    curves: Mapping[str, Any],
    *,
    flags: Sequence[Flag] = (),
  ) -> Results:
    """Returns the results of a measurement that knows nothing of configs and command lines."""
    return Results(
      name=name,
      settings={},
      config_hash="",
      environment=environment.describe(),
      command="",
      started=self._started.isoformat(timespec="seconds"),
      seconds={self._part: self.seconds()},
      metrics=tuple(metrics),
      curves=dict(curves),
      samples={},
      flags=tuple(flags),
    )
