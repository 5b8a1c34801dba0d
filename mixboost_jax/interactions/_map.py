# SPDX-License-Identifier: Apache-2.0
"""What one picture shows: a map of I(i, j) around one patch."""

from collections.abc import Sequence

import numpy as np

from mixboost_jax import checks
from mixboost_jax.array_types import PRNGKey
from mixboost_jax.interactions._game import Game, values_of_singles
from mixboost_jax.interactions._multi_order import Estimate, multi_order, orders_of

MAP_RATIOS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Orders that stand for all in a map."""


@checks.inputs()
def strongest_player(game: Game, *, chunk_size: int = 256) -> int:
  """Returns the player whose gain alone and whose loss from the full set are largest together.

  ```python
  second = interactions.table_game(jnp.array([0.0, 0.0, 1.0, 1.0]))  # only player 1 counts
  assert interactions.strongest_player(second) == 1
  ```
  """
  n = game.num_players
  alone, without = np.asarray(values_of_singles(game, chunk_size=chunk_size))
  return int(np.argmax(np.abs(alone[:n] - alone[n]) + np.abs(without[n] - without[:n])))


@checks.inputs()
def interaction_map(
  key: PRNGKey,
  game: Game,
  player: int,
  *,
  ratios: Sequence[float] = MAP_RATIOS,
  num_contexts: int = 16,
  chunk_size: int = 256,
) -> Estimate:
  """Estimates the Shapley interaction index I(i, j) of `player` i with every other; 0 at j = i.

  The index is the mean of I^(m) over all orders (Deng et al. 2022, arXiv:2111.06236, Sec. 2); here
  the mean of a few orders, fractions of n - 2, by the trapezoid rule.

  ```python
  game = interactions.image_game(logits_fn, images[0], labels[0], grid=4)
  found = interactions.interaction_map(key, game, interactions.strongest_player(game))
  over_picture = found.mean.reshape(4, 4)
  ```

  Args:
    key: draws the contexts.
    game: of one picture (`image_game`), or any other.
    player: `strongest_player`, say.
    ratios: the orders, as fractions of n - 2.
    num_contexts: sets of other players per pair and order; four evaluations each.
    chunk_size: evaluations per call of the network; bounds memory.

  Returns:
    `mean` and `stderr` with one number per player: cells row by row, so `mean.reshape(grid, grid)`
    lies over the picture.
  """
  n = game.num_players
  if not 0 <= player < n:
    raise ValueError(f"interaction_map: player must be in [0, {n - 1}], got {player}.")
  others = np.delete(np.arange(n), player)
  orders = orders_of(n, ratios=ratios)
  pairs = np.stack([np.full(n - 1, player), others], 1)
  found = multi_order(
    key, game, orders=orders, pairs=pairs, num_contexts=num_contexts, chunk_size=chunk_size
  )
  weights = np.ones(len(orders))
  if len(orders) > 1:
    steps = np.diff(np.asarray(orders, float))
    weights = (np.append(steps, 0) + np.insert(steps, 0, 0)) / (2 * steps.sum())
  mean, error = np.zeros(n), np.zeros(n)
  mean[others] = weights @ np.asarray(found.mean, np.float64)
  error[others] = np.sqrt(weights**2 @ np.nan_to_num(np.asarray(found.stderr, np.float64)) ** 2)
  return Estimate(mean, error, found.evaluations)
