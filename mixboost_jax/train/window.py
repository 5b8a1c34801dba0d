# SPDX-License-Identifier: Apache-2.0
"""Training metrics between two log lines, as plain numbers that survive a restart."""

import math
from collections.abc import Mapping

import numpy as np

LAST = ("learning_rate",)
"""Metrics of which the last value is logged; all others are averaged with `clu.metrics`."""


class NonFiniteError(RuntimeError):
  """Training produced NaN or infinity."""

  def __init__(self, step: int, name: str, value: float):
    super().__init__(
      f"step {step}: metric {name!r} is {value}. Nothing after the last checkpoint was kept; "
      "lower config.optimizer.learning_rate, set config.optimizer.clip_norm, or (with bfloat16) "
      "try config.model.compute_dtype='float32'."
    )
    self.step = step


class Window:
  """Collects one row of metrics per step until it is drained into a log line."""

  def __init__(self, rows: Mapping[str, list[float]] | None = None):
    self.rows: dict[str, list[float]] = {k: list(v) for k, v in (rows or {}).items()}

  def add(self, step: int, metrics: Mapping[str, np.ndarray | np.generic]) -> None:
    """Adds the metrics of one step, or of several steps that end at `step` (stacked).

    Raises:
      NonFiniteError: naming the first step and metric that is not finite.
    """
    columns = {name: np.atleast_1d(np.asarray(value)) for name, value in metrics.items()}
    num = len(next(iter(columns.values())))
    for i in range(num):
      for name, column in columns.items():
        if not math.isfinite(column[i]):
          raise NonFiniteError(step - num + 1 + i, name, float(column[i]))
    for name, column in columns.items():
      self.rows.setdefault(name, []).extend(float(v) for v in column)

  def drain(self) -> dict[str, float]:
    """Returns the mean (or last) value of every metric and forgets the rows."""
    import jax.numpy as jnp
    from clu import metrics as clu_metrics

    out = {}
    for name, values in self.rows.items():
      kind = clu_metrics.LastValue if name in LAST else clu_metrics.Average
      rows = jnp.asarray(values[-1] if name in LAST else values, jnp.float32)
      out[name] = float(kind.from_model_output(rows).compute())
    self.rows = {}
    return out
