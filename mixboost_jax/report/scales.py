# SPDX-License-Identifier: Apache-2.0
"""From data to places on paper: round tick marks and straight lines."""

import dataclasses
import math
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Scale:
  """A linear map from [low, high] to [start, stop] in SVG units."""

  low: float
  high: float
  start: float
  stop: float

  def __call__(self, value: float) -> float:
    """Returns the place of a value."""
    share = (value - self.low) / (self.high - self.low)
    return self.start + share * (self.stop - self.start)


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
  """Returns about `count` round numbers in [low, high]."""
  if not high > low:
    return [low]
  raw = (high - low) / max(1, count)
  power = 10.0 ** math.floor(math.log10(raw))
  step = power * min((m for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9)), default=10)
  first = math.ceil(low / step - 1e-9)
  last = math.floor(high / step + 1e-9)
  return [i * step for i in range(first, last + 1)]


def bounds(values: Iterable[float], *, include: float | None = None) -> tuple[float, float]:
  """Returns limits around the finite values with a little room; never an empty range.

  Args:
    values: may hold numbers that are not finite.
    include: a number that must be inside (0 for quantities that cannot be negative).
  """
  finite = [value for value in values if math.isfinite(value)]
  if include is not None:
    finite.append(include)
  if not finite:
    return 0.0, 1.0
  low, high = min(finite), max(finite)
  room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
  bottom = low if include is not None and low == include else low - room
  return bottom, high + room


def label(value: float, step: float) -> str:
  """Writes a tick with as many decimals as its step needs."""
  if value == 0:
    return "0"
  if abs(value) >= 10_000 and step >= 1000:
    return f"{value / 1000:g}k"
  if abs(step) < 1e-3:
    return f"{value:.3g}"
  decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 3
  return f"{value:,.{decimals}f}".replace("-", "\u2212")


def thin(points: list[tuple[float, float]], *, limit: int = 400) -> list[tuple[float, float]]:
  """Keeps at most about `limit` points, the last one among them."""
  stride = max(1, math.ceil(len(points) / limit))
  kept = points[::stride]
  return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]
