# SPDX-License-Identifier: Apache-2.0
"""Game-theoretic interactions of any JAX network, exact where possible, cheap where not."""

from mixboost_jax.interactions import exact, multivariate
from mixboost_jax.interactions.estimate import MultiOrder, to_json
from mixboost_jax.interactions.game import Game, coalitions_of, table_game
from mixboost_jax.interactions.multivariate import (
  PartitionExtremes,
  Tree,
  partition_extremes,
  tree,
)
from mixboost_jax.interactions.pairs import (
  PairPopulation,
  grid_population,
  neighbour_population,
  sample_pairs,
  uniform_population,
  window_population,
)
from mixboost_jax.interactions.pairwise import PAPER_RATIOS, multi_order, orders_of
from mixboost_jax.interactions.shared import multi_order_sets

__all__ = [
  "PAPER_RATIOS",
  "Game",
  "MultiOrder",
  "PairPopulation",
  "PartitionExtremes",
  "Tree",
  "coalitions_of",
  "exact",
  "grid_population",
  "multi_order",
  "multi_order_sets",
  "multivariate",
  "neighbour_population",
  "orders_of",
  "partition_extremes",
  "sample_pairs",
  "table_game",
  "to_json",
  "tree",
  "uniform_population",
  "window_population",
]
