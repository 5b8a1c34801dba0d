# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals of a proportion, in float64 on the host: plain numbers in and out."""

import math
import statistics
from typing import NamedTuple

import numpy as np

from mixboost_jax import checks


class Interval(NamedTuple):
  """Both ends belong to the interval."""

  low: float
  high: float


@checks.inputs()
def wilson(successes: int, count: int, *, confidence: float = 0.95) -> Interval:
  """Returns Wilson's score interval of a proportion: close to its nominal level on average.

  Paper: Wilson 1927, J. Am. Stat. Assoc. 22, p. 209.

  Args:
    successes: in [0, count].
    count: number of trials, >= 1.
    confidence: level in (0, 1).

  Raises:
    ValueError: if an argument is out of range.
  """
  _check(successes, count, confidence, "wilson")
  z = normal_quantile(0.5 + 0.5 * confidence)
  rate = successes / count
  shrink = 1.0 + z * z / count
  centre = (rate + z * z / (2 * count)) / shrink
  half = z / shrink * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
  low = 0.0 if successes == 0 else max(0.0, centre - half)
  high = 1.0 if successes == count else min(1.0, centre + half)
  return Interval(low, high)


@checks.inputs()
def clopper_pearson(successes: int, count: int, *, confidence: float = 0.95) -> Interval:
  """Returns the exact interval of a proportion: covers at least at its nominal level, always.

  The ends are the rates at which a binomial tail equals (1 - confidence) / 2, found by bisection of
  the summed tail.

  Paper: Clopper & Pearson 1934, Biometrika 26, p. 404.

  Args:
    successes: in [0, count].
    count: number of trials, >= 1.
    confidence: level in (0, 1).

  Raises:
    ValueError: if an argument is out of range.
  """
  _check(successes, count, confidence, "clopper_pearson")
  tail = 0.5 * (1 - confidence)
  low = 0.0 if successes == 0 else _rate_with_tail(successes, count, tail)
  mirrored = count - successes
  high = 1.0 if mirrored == 0 else 1.0 - _rate_with_tail(mirrored, count, tail)
  return Interval(low, high)


def normal_quantile(probability: float) -> float:
  """Returns the quantile of the standard normal distribution."""
  return statistics.NormalDist().inv_cdf(probability)


def _rate_with_tail(successes: int, count: int, tail: float) -> float:
  """Returns the rate p at which P(X >= successes) = tail for X ~ Binomial(count, p)."""
  log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
  wins = np.arange(successes, count + 1)
  log_ways = log_factorial[count] - log_factorial[wins] - log_factorial[count - wins]
  low, high = 0.0, 1.0
  for _ in range(60):
    rate = 0.5 * (low + high)
    upper = np.exp(log_ways + wins * math.log(rate) + (count - wins) * math.log1p(-rate)).sum()
    low, high = (low, rate) if upper > tail else (rate, high)
  return 0.5 * (low + high)


def _check(successes: int, count: int, confidence: float, place: str) -> None:
  if not 0 <= successes <= count or count < 1:
    raise ValueError(
      f"{place}: expected 0 <= successes <= count and count >= 1, got {successes} of {count}."
    )
  if not 0 < confidence < 1:
    raise ValueError(f"{place}: confidence must be in (0, 1), got {confidence}.")
