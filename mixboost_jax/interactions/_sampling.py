# SPDX-License-Identifier: Apache-2.0
"""Means over systematic samples of pairs, corrected by orders whose means are known better.

A pair with a strong interaction at order 0 or n - 2 tends to have strong ones at other orders too.
The two ends are cheap, so their means come from many pairs; where the few pairs of the other orders
happen to be weak at the ends, their means are raised accordingly.

Paper: Cochran 1977, Sampling Techniques, Sec. 12.6 (regression in double sampling); Wolter 2007,
Introduction to Variance Estimation, Sec. 8.2 (successive differences).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mixboost_jax.interactions._pairs import PairPopulation

Features = Float[np.ndarray, "F _ _"]
Cells = Sequence[Sequence[Features]]
"""Features of the drawn pairs of each game and stratum, in the order of the draw."""


def systematic_covariance(cell: Features) -> Float[np.ndarray, "F M F M"]:
  """Covariance of the mean of evenly spaced draws, from differences of successive draws."""
  shape, count = cell.shape[:2], cell.shape[-1]
  steps = np.diff(cell.reshape(-1, count), axis=1)
  return (steps @ steps.T / (2 * count * (count - 1))).reshape(*shape, *shape)


def total_covariance(
  cells: Cells, weights: Float[np.ndarray, " H"]
) -> Float[np.ndarray, "F M F M"]:
  """Covariance of the mean over games of the stratified means."""
  terms = [
    (weight / len(cells)) ** 2 * systematic_covariance(cell)
    for row in cells
    for weight, cell in zip(weights, row, strict=True)
  ]
  return np.sum(terms, axis=0)


class Regression(NamedTuple):
  """What the ends tell of each order: one regression for all games and strata, per feature.

  Attributes:
    weights: probability of each stratum.
    columns: positions of the ends among the orders.
    slopes: any fixed value leaves means unbiased.
  """

  weights: Float[np.ndarray, " H"]
  columns: list[int]
  slopes: Float[np.ndarray, "F E M"]

  @classmethod
  def fit(cls, cells: Cells, weights: Float[np.ndarray, " H"], columns: list[int]) -> "Regression":
    """Fits the slopes to features of all orders."""
    covariance = total_covariance(cells, weights)
    result = np.zeros((covariance.shape[0], len(columns), covariance.shape[1]))
    for feature in range(len(result)):
      table = covariance[feature, :, feature]
      known = table[np.ix_(columns, columns)]
      result[feature] = np.linalg.lstsq(known, table[columns], rcond=1e-8)[0]
    return cls(weights, columns, result)

  def residual(self, cell: Features) -> Features:
    """What the ends do not explain of a pair's features."""
    return cell - np.einsum("kem,ken->kmn", self.slopes, cell[:, self.columns])

  def adjusted_mean(
    self, cells: Cells, ends: Cells
  ) -> tuple[Float[np.ndarray, "X F M"], Float[np.ndarray, "F M F M"]]:
    """Mean of each game, corrected by the ends, and the covariance of its mean over games.

    The features of all orders (`cells`) are of few pairs, those of the ends of many.
    """
    slopes, rest = self.slopes, [[self.residual(cell) for cell in row] for row in cells]
    means = np.stack(
      [
        sum(
          weight * (own.mean(-1) + np.einsum("kem,ke->km", slopes, known.mean(-1)))
          for weight, own, known in zip(self.weights, own_row, known_row, strict=True)
        )
        for own_row, known_row in zip(rest, ends, strict=True)
      ]
    )
    covariance = total_covariance(rest, self.weights)
    if self.columns:
      known = total_covariance(ends, self.weights)
      covariance = covariance + np.einsum("kem,kelf,lfn->kmln", slopes, known, slopes)
    return means, covariance

  def curve_spread(self, cells: Cells) -> Float[np.ndarray, "X H"]:
    """How much a pair's contribution to the curve J varies, in each game and stratum."""
    stratified = [
      sum(weight * cell[0].mean(1) for weight, cell in zip(self.weights, row, strict=True))
      for row in cells
    ]
    curve = np.mean(stratified, axis=0)
    relative = curve / curve.mean() if curve.mean() else np.ones_like(curve)

    def spread(cell: Features) -> float:
      own = self.residual(cell)[0]
      return float(np.sqrt((own - relative[:, None] * own.mean(0)).var(1, ddof=1).mean()))

    return np.array([[spread(cell) for cell in row] for row in cells])


# How many pairs each picture and stratum gets, and which.
#
# Between-pair variance dominates the error of E|I|: at the public setting (100 contexts per pair)
# the noise of one pair is far below the spread over pairs. So pairs are spread over strata and over
# the picture, and the budget goes where |I| varies.
#
# Paper: Neyman 1934 (allocation); Madow 1949 (systematic sampling with unequal probabilities).

MIN_PAIRS = 2
"""Draws of every stratum of every picture: the least that shows a spread."""


def systematic_pairs(
  population: PairPopulation, stratum: int, *, count: int, start: float
) -> Int[np.ndarray, " count"]:
  """Picks `count` pairs of a stratum at even steps of cumulative probability.

  A pair is picked count * weight / total times on average (unbiased for any order of the pairs).
  The population lists pairs by position, so the draws spread over the picture. `start` is uniform
  in [0, 1); a pair may be drawn twice if `count` is large.
  """
  rows = np.flatnonzero(population.strata == stratum)
  cumulative = np.cumsum(population.weights[rows])
  points = (np.arange(count) + start) / count * cumulative[-1]
  return rows[np.minimum(np.searchsorted(cumulative, points, side="right"), len(rows) - 1)]


def proportional(
  population: PairPopulation, *, num_games: int, num_pairs: int
) -> Float[np.ndarray, "X H"]:
  """Pairs per game and stratum in proportion to probability; `num_pairs` per game."""
  return np.tile(num_pairs * population.stratum_weights, (num_games, 1))


def neyman(
  population: PairPopulation, spread: Float[np.ndarray, "X H"], *, num_pairs: int
) -> Float[np.ndarray, "X H"]:
  """Pairs per game and stratum in proportion to probability times spread.

  `spread`, the standard deviation over pairs in a pilot run, is noisy, so it is replaced by the
  product of a factor per game and one per stratum. `num_pairs` is the mean per game.
  """
  weights = population.stratum_weights
  total = np.sqrt(np.mean(spread**2))
  if not total:
    return proportional(population, num_games=len(spread), num_pairs=num_pairs)
  per_stratum = np.sqrt(np.mean(spread**2, axis=0))
  per_game = np.sqrt((spread**2) @ weights / (np.mean(spread**2, axis=0) @ weights))
  product = np.maximum(per_game[:, None], 0.1) * np.maximum(per_stratum, 0.02 * total)[None]
  ideal = product * weights[None]
  return len(spread) * num_pairs * ideal / ideal.sum()


def whole_batches(ideal: Float[np.ndarray, "X H"], *, batch: int) -> Int[np.ndarray, "X H"]:
  """Rounds an allocation so that each game's pairs fill batches of one size.

  Every cell keeps at least `MIN_PAIRS`; the total of a game is rounded to the nearest batch.
  """
  counts = np.maximum(np.floor(ideal).astype(int), MIN_PAIRS)
  for game, wanted in enumerate(ideal.sum(1)):
    target = max(round(wanted / batch), -(-MIN_PAIRS * ideal.shape[1] // batch)) * batch
    while counts[game].sum() != target:
      step = 1 if counts[game].sum() < target else -1
      lack = (ideal[game] - counts[game]) * step
      lack[(counts[game] <= MIN_PAIRS) & (step < 0)] = -np.inf
      counts[game, int(lack.argmax())] += step
  return counts
