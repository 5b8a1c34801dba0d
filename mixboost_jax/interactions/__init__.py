# SPDX-License-Identifier: Apache-2.0
"""Game-theoretic interactions of any JAX network, exact where possible, cheap where not."""

from mixboost_jax.interactions import baselines, dropout, exact, functions, multivariate
from mixboost_jax.interactions.baselines import baseline_loss, learn_baseline
from mixboost_jax.interactions.comparable import comparable_attack
from mixboost_jax.interactions.contrasts import outlier_rows, utility_rows
from mixboost_jax.interactions.curve import estimate_strength
from mixboost_jax.interactions.estimate import MultiOrder, to_json
from mixboost_jax.interactions.game import Game, coalitions_of, table_game
from mixboost_jax.interactions.image import feature_game, fill_image, image_game, token_game
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
from mixboost_jax.interactions.paper import paper_strength
from mixboost_jax.interactions.permutations import ShapleyEstimate, shapley
from mixboost_jax.interactions.perturbation import mean_interaction, perturbation_game
from mixboost_jax.interactions.portrait import (
  interaction_map,
  patch_tree,
  strongest_player,
  tree_rows,
)
from mixboost_jax.interactions.proxies import ProxySearch, proxy, search
from mixboost_jax.interactions.quantities import (
  attacking_utility,
  average_interaction,
  disentanglement,
  positive_ratio,
  relative_strength,
  strength_change,
  under_attack,
)
from mixboost_jax.interactions.reduction import group_differences, interaction_loss
from mixboost_jax.interactions.rewards import REWARDS
from mixboost_jax.interactions.shared import multi_order_sets
from mixboost_jax.interactions.spacing import SpacedMonitor
from mixboost_jax.interactions.strength import Strength
from mixboost_jax.interactions.summary import Estimate, curve_rows, measures, permutation_p

__all__ = [
  "PAPER_RATIOS",
  "REWARDS",
  "Estimate",
  "Game",
  "MultiOrder",
  "PairPopulation",
  "PartitionExtremes",
  "ProxySearch",
  "ShapleyEstimate",
  "SpacedMonitor",
  "Strength",
  "Tree",
  "attacking_utility",
  "average_interaction",
  "baseline_loss",
  "baselines",
  "coalitions_of",
  "comparable_attack",
  "curve_rows",
  "disentanglement",
  "dropout",
  "estimate_strength",
  "exact",
  "feature_game",
  "fill_image",
  "functions",
  "grid_population",
  "group_differences",
  "image_game",
  "interaction_loss",
  "interaction_map",
  "learn_baseline",
  "mean_interaction",
  "measures",
  "multi_order",
  "multi_order_sets",
  "multivariate",
  "neighbour_population",
  "orders_of",
  "outlier_rows",
  "paper_strength",
  "partition_extremes",
  "patch_tree",
  "permutation_p",
  "perturbation_game",
  "positive_ratio",
  "proxy",
  "relative_strength",
  "sample_pairs",
  "search",
  "shapley",
  "strength_change",
  "strongest_player",
  "table_game",
  "to_json",
  "token_game",
  "tree",
  "tree_rows",
  "under_attack",
  "uniform_population",
  "utility_rows",
  "window_population",
]
