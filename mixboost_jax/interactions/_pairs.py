# SPDX-License-Identifier: Apache-2.0
"""Which pairs of players an average runs over, with which weights.

A population lists its pairs with their probabilities, so that the protocol of the paper, stratified
draws and the sum over all pairs all estimate the same number.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mixboost_jax import checks
from mixboost_jax.array_types import PRNGKey


@dataclasses.dataclass(frozen=True)
class PairPopulation:
  """Unordered pairs (i < j), their probabilities, and a stratum each.

  Attributes:
    pairs: players i < j.
    weights: probabilities; they add up to one.
    strata: numbers 0 .. num_strata - 1 of like pairs (equal distance, say).
  """

  pairs: Int[np.ndarray, "P 2"]
  weights: Float[np.ndarray, " P"]
  strata: Int[np.ndarray, " P"]

  @property
  def num_strata(self) -> int:
    """Number of strata."""
    return int(self.strata.max()) + 1

  @property
  def stratum_weights(self) -> Float[np.ndarray, " strata"]:
    """Probability of each stratum."""
    return np.bincount(self.strata, self.weights, self.num_strata)


@checks.inputs()
def uniform_population(num_players: int) -> PairPopulation:
  """All pairs alike, in one stratum.

  ```python
  population = interactions.uniform_population(5)
  assert len(population.pairs) == 10
  ```
  """
  if num_players < 2:
    raise ValueError(f"uniform_population: num_players must be >= 2, got {num_players}.")
  pairs = np.array(list(itertools.combinations(range(num_players), 2)))
  return PairPopulation(pairs, np.full(len(pairs), 1 / len(pairs)), np.zeros(len(pairs), int))


@checks.inputs()
def grid_population(grid: int) -> PairPopulation:
  """All pairs of cells alike, as strata of distance: interactions fade with it.

  Strata: larger coordinate difference 1, 2, 3, 4, 5-6, 7-9, 10 and more cells (as far as the grid
  reaches). Cell (row, column) is player `row * grid + column`.

  ```python
  population = interactions.grid_population(4)
  assert len(population.pairs) == 120 and population.num_strata == 3
  ```
  """
  if grid < 2:
    raise ValueError(f"grid_population: grid must be >= 2 cells per side, got {grid}.")
  base = uniform_population(grid * grid)
  cells = np.stack(np.divmod(base.pairs, grid), -1)
  distance = np.abs(cells[:, 0] - cells[:, 1]).max(-1)
  labels = np.searchsorted([1, 2, 3, 4, 6, 9], distance)
  return dataclasses.replace(base, strata=np.unique(labels, return_inverse=True)[1])


@checks.inputs()
def neighbour_population(grid: int, *, stride: int = 2) -> PairPopulation:
  """Pairs as the public protocol draws them: i uniform, j in a window around it, clamped.

  Paper: Deng et al. 2022, arXiv:2111.06236, and its public code: j = i + an offset drawn from the
  `(2 stride + 1)**2 - 1` neighbours; coordinates beyond the grid are clamped to it, which favours
  the border; pairs of a cell with itself are rejected. Strata are offsets up to symmetry.

  ```python
  population = interactions.neighbour_population(16)
  assert [16, 17] in population.pairs.tolist() and [16, 19] not in population.pairs.tolist()
  ```
  """
  if grid < 2 or stride < 1:
    raise ValueError(f"neighbour_population: expected grid >= 2 and stride >= 1: {grid}, {stride}.")
  cells = np.stack(np.divmod(np.arange(grid * grid), grid), 1)
  reach = range(-stride, stride + 1)
  offsets = np.array([o for o in itertools.product(reach, reach) if o != (0, 0)])
  partner = np.clip(cells[:, None] + offsets[None], 0, grid - 1) @ np.array([grid, 1])
  first = np.broadcast_to(np.arange(grid * grid)[:, None], partner.shape)
  low, high = np.minimum(first, partner).ravel(), np.maximum(first, partner).ravel()
  keep = low != high
  codes, counts = np.unique(low[keep] * grid * grid + high[keep], return_counts=True)
  pairs = np.stack(np.divmod(codes, grid * grid), 1)
  steps = np.sort(np.abs(cells[pairs[:, 0]] - cells[pairs[:, 1]]), 1)
  strata = np.unique(steps @ np.array([1, stride + 1]), return_inverse=True)[1]
  return PairPopulation(pairs, counts / counts.sum(), strata)


@checks.inputs()
def window_population(grid: int, *, stride: int = 2) -> PairPopulation:
  """All pairs of cells at most `stride` apart in both coordinates, all alike.

  ```python
  population = interactions.window_population(16, stride=1)
  assert [0, 17] in population.pairs.tolist()  # a cell touches another by its corner
  ```
  """
  population = neighbour_population(grid, stride=stride)
  return dataclasses.replace(
    population, weights=np.full(len(population.pairs), 1 / len(population.pairs))
  )


@checks.inputs()
def sample_pairs(
  key: PRNGKey, population: PairPopulation, *, num_pairs: int, replace: bool = False
) -> Int[Array, "P 2"]:
  """Draws pairs by their weights.

  Without replacement, a repeated pair is rejected and drawn again, as in the public protocol.

  ```python
  pairs = interactions.sample_pairs(key, interactions.neighbour_population(16), num_pairs=10)
  ```
  """
  total = len(population.pairs)
  if num_pairs > total and not replace:
    raise ValueError(f"sample_pairs: {num_pairs} pairs wanted, the population has {total}.")
  logits = jnp.log(jnp.asarray(population.weights))
  if replace:
    index = jax.random.categorical(key, logits, shape=(num_pairs,))
  else:  # successive draws without replacement are the largest perturbed logits
    index = jax.lax.top_k(logits + jax.random.gumbel(key, (total,)), num_pairs)[1]
  return jnp.asarray(population.pairs)[index]
