# SPDX-License-Identifier: Apache-2.0
"""The public protocol for J^(m), as the reference that `estimate_strength` is measured against."""

from collections.abc import Sequence

import jax
import numpy as np

from mixboost_jax import checks
from mixboost_jax.array_types import PRNGKey
from mixboost_jax.interactions._game import Game, check_games
from mixboost_jax.interactions._multi_order import FEATURES, pair_features
from mixboost_jax.interactions._pairs import PairPopulation, sample_pairs
from mixboost_jax.interactions._strength import Strength


@checks.inputs()
def paper_strength(
  key: PRNGKey,
  games: Sequence[Game],
  population: PairPopulation,
  *,
  orders: Sequence[int],
  num_pairs: int = 200,
  num_contexts: int = 100,
  chunk_size: int = 256,
) -> Strength:
  """Estimates the same by the public protocol: independent pairs, many contexts, plain |mean|.

  Paper: Deng et al. 2022, arXiv:2111.06236, and its public code; its mean of |I| is biased upwards
  by the noise of the contexts. `evaluations` counts 4 per pair, context and order, as the public
  code spends them (orders 0 and n - 2 included; here they are evaluated once).

  Args:
    key: consumed.
    games: one per picture.
    population: pairs to average over; a pair is not drawn twice.
    orders: increasing.
    num_pairs: pairs per picture.
    num_contexts: contexts per pair and order.
    chunk_size: evaluations per call of the network.
  """
  check_games(games, int(population.pairs.max()))
  orders = tuple(orders)
  means, covariance = [], np.zeros((len(FEATURES) * len(orders),) * 2)
  for x, game in enumerate(games):
    pair_key, context_key = jax.random.split(jax.random.fold_in(key, x))
    table = np.asarray(
      pair_features(
        context_key,
        game,
        sample_pairs(pair_key, population, num_pairs=num_pairs),
        orders=orders,
        num_contexts=num_contexts,
        block=1,
        debias="none",
        chunk_size=chunk_size,
      ),
      np.float64,
    )
    means.append(table.mean(-1))
    if num_pairs > 1:
      covariance += np.cov(table.reshape(-1, num_pairs)) / num_pairs / len(games) ** 2
  return Strength(
    orders=orders,
    num_players=games[0].num_players,
    per_game=np.stack(means),
    covariance=covariance.reshape(len(FEATURES), len(orders), len(FEATURES), len(orders)),
    evaluations=4 * num_pairs * num_contexts * len(orders) * len(games),
    num_pairs=num_pairs * len(games),
    num_contexts=num_contexts,
  )
