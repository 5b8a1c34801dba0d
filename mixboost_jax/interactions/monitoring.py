# SPDX-License-Identifier: Apache-2.0
"""J^(m) and M of a network in training, within a stated share of the time."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mixboost_jax.array_types import Images, Labels, LogitsFn, PRNGKey
from mixboost_jax.interactions.curve import estimate_strength
from mixboost_jax.interactions.image import Fill, image_game
from mixboost_jax.interactions.pairs import neighbour_population
from mixboost_jax.interactions.pairwise import PAPER_RATIOS, orders_of
from mixboost_jax.interactions.proxies import proxy


@dataclasses.dataclass(frozen=True)
class Budget:
  """How much of the time a monitor may take.

  Attributes:
    share: largest fraction of the elapsed time, 0.05 by default.
  """

  share: float = 0.05

  def allows(self, *, spent: float, cost: float, elapsed: float) -> bool:
    """Whether one more call keeps the share.

    Args:
      spent: seconds spent in the monitor so far, without compilation.
      cost: seconds of the last call (0 before the first).
      elapsed: seconds since training began.
    """
    return spent + cost <= self.share * (elapsed + cost)


def monitor(
  key: PRNGKey,
  logits_fn: LogitsFn,
  images: Images,
  labels: Labels,
  *,
  grid: int = 16,
  ratios: Sequence[float] = PAPER_RATIOS,
  num_pairs: int = 16,
  num_contexts: int = 8,
  stride: int = 2,
  reward: str = "modified",
  fill: Fill = 0.5,
  chunk_size: int = 256,
) -> dict[str, Any]:
  """Measures J^(m), its standard error and M(0.2, 0.2, 0.8) on a few fixed pictures.

  Cost: about `4 * num_contexts * 11 * num_pairs` network evaluations per picture at 13 orders.

  Args:
    key: the same key at every call compares the same pairs and contexts over time.
    logits_fn: evaluation mode; as a `jax.tree_util.Partial(apply, params)` it compiles once for the
      whole training.
    images: values in [0, 1]; pictures the network already classifies well say most.
    labels: true classes.
    grid: cells per side.
    ratios: orders as fractions of n - 2.
    num_pairs: pairs per picture.
    num_contexts: contexts per pair and order.
    stride: reach of the neighbourhood of a pair.
    reward: see `image_game`.
    fill: see `image_game`.
    chunk_size: evaluations per call of the network.

  Returns:
    Plain numbers and lists: `Strength.to_json()` and `proxy`.
  """
  games = [
    image_game(logits_fn, image, label, grid=grid, reward=reward, fill=fill)
    for image, label in zip(images, labels, strict=True)
  ]
  num_players = grid * grid
  orders = orders_of(num_players, ratios=ratios)
  result = estimate_strength(
    key,
    games,
    neighbour_population(grid, stride=stride),
    orders=orders,
    num_pairs=num_pairs,
    num_contexts=num_contexts,
    pilot_pairs=0,
    chunk_size=chunk_size,
  )
  measure = float(np.asarray(proxy(result.relative, orders, num_players=num_players)))
  return {**result.to_json(), "proxy": measure}
