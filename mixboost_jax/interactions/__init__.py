# SPDX-License-Identifier: Apache-2.0
"""Game-theoretic interactions of any JAX network, exact where possible, cheap where not.

The curve J^(m) of any function of images (and of an NNX model by `models.logits_fn(model)`):

>>> import jax
>>> from mixboost_jax import interactions
>>> def logits_fn(images):  # [N, H, W, C] -> [N, classes]
...   left, right = images[:, :, :4].mean((2, 3)), images[:, :, 4:].mean((2, 3))
...   return 50 * jax.numpy.stack([(left * right).mean(1), left.mean(1) ** 2], axis=1)
>>> images = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
>>> games = [interactions.image_game(logits_fn, image, 0, grid=4, fill=0.0) for image in images]
>>> curve = interactions.estimate_strength(
...   jax.random.key(1), games, interactions.neighbour_population(4),
...   orders=interactions.orders_of(16), num_pairs=16)
>>> curve.orders, round(float(curve.relative.mean()), 3), curve.relative_stderr.shape
((0, 1, 2, 4, 5, 7, 8, 9, 11, 12, 13, 14), 1.0, (12,))

`curve.relative` is J^(m), `curve.relative_stderr` its standard error. Small games are exact:

>>> small = interactions.image_game(logits_fn, images[0], 0, grid=3, fill=0.0)
>>> interactions.exact.multi_order(small).shape  # [m, i, j]
(8, 9, 9)

Everywhere `key` is consumed, and `chunk_size` evaluations are one call of the game: it bounds the
memory and does not change a result.
"""

from mixboost_jax.interactions import _baselines as baselines
from mixboost_jax.interactions import _dropout as dropout
from mixboost_jax.interactions import _exact as exact
from mixboost_jax.interactions import _trees as multivariate
from mixboost_jax.interactions._and_or import (
  AndOr,
  and_or,
  cell_labels,
  faithfulness,
  faithfulness_rows,
  pattern_rows,
  reconstruct,
  rectangle,
)
from mixboost_jax.interactions._attack import (
  attacking_utility,
  average_interaction,
  comparable_attack,
  disentanglement,
  mean_interaction,
  perturbation_game,
  positive_ratio,
  relative_strength,
  under_attack,
)
from mixboost_jax.interactions._baselines import baseline_loss, learn_baseline
from mixboost_jax.interactions._game import (
  REWARDS,
  Fill,
  Game,
  coalitions_of,
  feature_game,
  fill_image,
  image_game,
  table_game,
  token_game,
)
from mixboost_jax.interactions._map import interaction_map, strongest_player
from mixboost_jax.interactions._multi_order import (
  PAPER_RATIOS,
  Estimate,
  MultiOrder,
  multi_order,
  orders_of,
  to_json,
)
from mixboost_jax.interactions._pairs import (
  PairPopulation,
  grid_population,
  neighbour_population,
  sample_pairs,
  uniform_population,
  window_population,
)
from mixboost_jax.interactions._proxy import ProxySearch, proxy, search
from mixboost_jax.interactions._rows import (
  change_rows,
  curve_rows,
  measures,
  outlier_rows,
  utility_rows,
)
from mixboost_jax.interactions._shapley import shapley
from mixboost_jax.interactions._strength import Strength, estimate_strength
from mixboost_jax.interactions._trees import (
  PartitionExtremes,
  Tree,
  partition_extremes,
  patch_tree,
  tree,
  tree_rows,
)
from mixboost_jax.losses import group_differences, interaction_loss

__all__ = [
  "PAPER_RATIOS",
  "REWARDS",
  "AndOr",
  "Estimate",
  "Fill",
  "Game",
  "MultiOrder",
  "PairPopulation",
  "PartitionExtremes",
  "ProxySearch",
  "Strength",
  "Tree",
  "and_or",
  "attacking_utility",
  "average_interaction",
  "baseline_loss",
  "baselines",
  "cell_labels",
  "change_rows",
  "coalitions_of",
  "comparable_attack",
  "curve_rows",
  "disentanglement",
  "dropout",
  "estimate_strength",
  "exact",
  "faithfulness",
  "faithfulness_rows",
  "feature_game",
  "fill_image",
  "grid_population",
  "group_differences",
  "image_game",
  "interaction_loss",
  "interaction_map",
  "learn_baseline",
  "mean_interaction",
  "measures",
  "multi_order",
  "multivariate",
  "neighbour_population",
  "orders_of",
  "outlier_rows",
  "partition_extremes",
  "patch_tree",
  "pattern_rows",
  "perturbation_game",
  "positive_ratio",
  "proxy",
  "reconstruct",
  "rectangle",
  "relative_strength",
  "sample_pairs",
  "search",
  "shapley",
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


def __dir__() -> list[str]:
  return __all__
