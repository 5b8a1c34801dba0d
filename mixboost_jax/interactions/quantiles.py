# SPDX-License-Identifier: Apache-2.0
"""Quantiles of Student's t distribution, without SciPy."""

import math


def _upper_tail(t: float, degrees: int) -> float:
  """P(T > t) for t >= 0 and whole degrees of freedom, by the finite sums of Abramowitz & Stegun.

  Paper: Abramowitz and Stegun 1964, 26.7.3 (odd) and 26.7.4 (even).
  """
  theta = math.atan(t / math.sqrt(degrees))
  sine, cosine = math.sin(theta), math.cos(theta)
  term, total = (cosine, cosine) if degrees % 2 else (1.0, 1.0)
  for k in range(degrees % 2 + 1, degrees - 1, 2):
    term *= cosine * cosine * k / (k + 1)
    total += term
  if degrees == 1:
    total = 0.0
  inside = 2 / math.pi * (theta + sine * total) if degrees % 2 else sine * total
  return (1 - inside) / 2


def student_quantile(probability: float, *, degrees: int) -> float:
  """Returns t with P(T <= t) = `probability`.

  Args:
    probability: in [0.5, 1).
    degrees: degrees of freedom, at least 1.

  Raises:
    ValueError: outside these ranges.
  """
  if degrees < 1 or not 0.5 <= probability < 1:
    raise ValueError(
      f"student_quantile: expected degrees >= 1 and probability in [0.5, 1), got {degrees} and "
      f"{probability}; an interval needs at least two independent blocks of contexts."
    )
  low, high = 0.0, 1.0
  while _upper_tail(high, degrees) > 1 - probability:
    high *= 2
  for _ in range(60):
    middle = (low + high) / 2
    low, high = (middle, high) if _upper_tail(middle, degrees) > 1 - probability else (low, middle)
  return (low + high) / 2
