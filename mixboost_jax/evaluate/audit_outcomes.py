# SPDX-License-Identifier: Apache-2.0
"""What attacks did to a defense: outcomes, the worst of them, and the metrics made of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mixboost_jax import metrics
from mixboost_jax.evaluate.examples import Examples
from mixboost_jax.runtime.results import Metric

PREFIX = "audit"
"""First part of the names of metrics and curves: `audit/DEFENSE/ATTACK`."""
CLEAN, WORST, CLAIM = "clean", "worst-case", "claim"


class Outcome(NamedTuple):
  """What one attack did to one defense.

  Attributes:
    images: float32[N, H, W, C], inside the ball.
    correct: bool[redraws, N], whether each draw of the defense classifies each image correctly.
  """

  images: np.ndarray
  correct: np.ndarray

  @property
  def accuracy(self) -> float:
    """Mean over images and draws, in [0, 1]."""
    return float(self.correct.mean(dtype=np.float64))


def pick_worst(outcomes: Sequence[Outcome]) -> Outcome:
  """Returns, for each example, the image (and its draws) that fooled the most draws.

  Of equals the attack with the lower accuracy over all examples is taken: a clean image that two
  draws happen to get wrong says less than an attacked one.
  """
  outcomes = sorted(outcomes, key=lambda outcome: outcome.accuracy)
  rates = np.stack([outcome.correct.mean(axis=0) for outcome in outcomes])
  chosen, columns = rates.argmin(axis=0), np.arange(rates.shape[1])
  return Outcome(
    np.stack([outcome.images for outcome in outcomes])[chosen, columns],
    np.stack([outcome.correct for outcome in outcomes])[chosen, :, columns].T,
  )


def claim_of(outcomes: Mapping[str, Outcome]) -> str:
  """Returns the word of the lowest accuracy: what may be claimed, and what reached it."""
  return min(outcomes, key=lambda word: outcomes[word].accuracy)


def interval_of(outcome: Outcome, *, confidence: float) -> tuple[float, float]:
  """Returns Wilson's interval of the accuracy in %, with one trial per image.

  The mean over several draws of an image varies less than a single trial, so the interval is rather
  too wide than too narrow.
  """
  count, value = outcome.correct.shape[1], outcome.accuracy
  ends = metrics.wilson(round(value * count), count, confidence=confidence)
  return 100 * min(ends.low, value), 100 * max(ends.high, value)


def metrics_of(
  label: str, outcomes: Mapping[str, Outcome], pictures: Examples, *, confidence: float
) -> Iterator[Metric]:
  """Yields every accuracy in %."""
  lowest = claim_of(outcomes)
  for word, outcome in [*outcomes.items(), (CLAIM, outcomes[lowest])]:
    low, high = interval_of(outcome, confidence=confidence)
    yield Metric(
      name=f"{PREFIX}/{label}/{word}",
      value=100 * outcome.accuracy,
      low=low,
      high=high,
      confidence=confidence,
      interval="wilson",
      count=outcome.correct.shape[1],
      unit="%",
      better="higher",
      dataset=pictures.dataset,
      split=pictures.split,
      source=pictures.source,
    )


def redraws_of(outcome: Outcome) -> list[dict[str, float | int]]:
  """Returns the accuracy in % of every single draw of the defense, as points of a curve."""
  rates = outcome.correct.mean(axis=1, dtype=np.float64)
  return [{"step": i, "accuracy": 100 * float(rate)} for i, rate in enumerate(rates)]


def numbers_of(tree: Mapping[str, Any]) -> dict[str, float]:
  """Keeps what a point of a curve can hold."""
  return {k: +v for k, v in tree.items() if isinstance(v, int | float)}
