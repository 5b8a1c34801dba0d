# SPDX-License-Identifier: Apache-2.0
"""How many pairs each picture and stratum gets, and which.

Between-pair variance dominates the error of E|I|: at the public setting (100 contexts per pair) the
noise of one pair is far below the spread over pairs. So pairs are spread over strata and over the
picture, and the budget goes where |I| varies.

Paper: Neyman 1934 (allocation); Madow 1949 (systematic sampling with unequal probabilities).
"""

import numpy as np
from jaxtyping import Float, Int

from mixboost_jax.interactions.pairs import PairPopulation

MIN_PAIRS = 2
"""Draws of every stratum of every picture: the least that shows a spread."""


def systematic_pairs(
  population: PairPopulation, stratum: int, *, count: int, start: float
) -> Int[np.ndarray, " count"]:
  """Picks `count` pairs of a stratum at even steps of cumulative probability.

  A pair is picked count * weight / total times on average (unbiased for any order of the pairs).
  The population lists pairs by position, so the draws spread over the picture.

  Args:
    population: pairs and weights.
    stratum: which one.
    count: number of draws; a pair may be drawn twice if `count` is large.
    start: uniform in [0, 1).
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

  Args:
    population: strata.
    spread: standard deviation over pairs in a pilot run. It is noisy, so it is replaced by the
      product of a factor per game and one per stratum.
    num_pairs: mean number of pairs per game.
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
