# SPDX-License-Identifier: Apache-2.0
"""What `--job=interactions` compares: pictures before and after an attack, outliers and others."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import data, interactions
from mixboost_jax.array_types import LogitsFn, PRNGKey
from mixboost_jax.data import outliers
from mixboost_jax.interactions import Strength
from mixboost_jax.jobs import interaction_games as games
from mixboost_jax.jobs.interaction_games import Pictures
from mixboost_jax.jobs.prepared import Run
from mixboost_jax.runtime import log

Measure = Callable[[Pictures], dict[str, Any]]
DROP_WIDTH = 0.5
"""The true logit falls by `attack_drop` to `attack_drop` + this."""


def under_attack(
  root: PRNGKey, item: Run, logits_fn: LogitsFn, pictures: Pictures
) -> dict[str, Any]:
  """Returns Delta J^(m) of the pictures on which the comparable attack reached its goal.

  Clean and attacked pictures are measured with the same pairs and contexts.
  """
  chosen = item.settings.interactions
  pair_key, attack_key, context_key = jax.random.split(root, 3)
  attacked, reached = (
    np.asarray(found)
    for found in jax.jit(_attack, static_argnums=4)(
      attack_key, logits_fn, jnp.asarray(pictures.images), jnp.asarray(pictures.labels), chosen
    )
  )
  found = {"reached": int(reached.sum()), "count": len(reached)}
  if not reached.any():
    log.warn(
      f"{item.settings.name}: the attack reached its goal on none of {len(reached)} pictures; for "
      "Delta J raise config.interactions.attack_steps or lower config.interactions.attack_drop."
    )
    return {**found, "rows": []}
  pairs = interactions.sample_pairs(
    pair_key, games.population_of(item.settings), num_pairs=chosen.pairs_per_image
  )
  orders = games.orders_of(item.settings)
  utilities = []
  for number in np.flatnonzero(reached):
    clean, after = (
      interactions.multi_order(
        jax.random.fold_in(context_key, int(number)),
        games.game_of(item, logits_fn, images[number], pictures.labels[number], grid=chosen.grid),
        orders=orders,
        pairs=pairs,
        num_contexts=chosen.contexts,
        chunk_size=chosen.chunk_size,
      ).mean
      for images in (pictures.images, attacked)
    )
    utility = interactions.attacking_utility(clean, after, orders=orders, n=chosen.grid**2)
    utilities.append(np.asarray(utility, np.float64))
  rows = interactions.utility_rows(
    np.stack(utilities),
    orders=orders,
    num_players=chosen.grid**2,
    confidence=item.settings.evaluate.confidence,
  )
  return {**found, "rows": rows}


def _attack(key: PRNGKey, logits_fn: LogitsFn, images: Any, labels: Any, chosen: Any) -> Any:
  return interactions.comparable_attack(
    key,
    logits_fn,
    images,
    labels,
    epsilon=chosen.attack_epsilon,
    step_size=chosen.attack_step_size,
    num_steps=chosen.attack_steps,
    drop=(chosen.attack_drop, chosen.attack_drop + DROP_WIDTH),
  )


def of_outliers(item: Run, logits_fn: LogitsFn, measure: Measure) -> list[dict[str, Any]]:
  """Returns Delta I_avg^(m) and Delta P^(m) of the planted outliers against other pictures.

  Both kinds are training pictures that the network classifies as labelled; outliers that it has not
  learned say nothing of what it learns them by.

  Args:
    item: the run; `data.outliers` says how many were planted.
    logits_fn: the trained network.
    measure: `pictures -> Strength.to_json(full=True)`.
  """
  split, wanted = item.dataset.train, item.settings.data.outliers
  rows = outliers.rows(len(split), num=wanted)
  is_outlier = np.isin(np.arange(len(split)), rows)
  found = []
  for kind in (is_outlier, ~is_outlier):
    some = np.flatnonzero(kind)[: games.MAX_SEARCHED]
    part = data.Split(split.images[some], split.labels[some], split.ids[some])
    right = games.classified(item, logits_fn, part)
    if not len(right):
      log.warn(
        f"{item.settings.name}: the network gets none of {len(some)} "
        f"{'outliers' if kind is is_outlier else 'other training pictures'} as labelled; "
        "Delta I_avg is left out. Train it longer."
      )
      return []
    chosen = right[games.in_turn(part.labels[right], item.settings.interactions.num_images)]
    images = part.images[chosen].astype(np.float32) / 255
    found.append(Strength.from_json(measure(Pictures(images, part.labels[chosen], some[chosen]))))
  return interactions.outlier_rows(*found, confidence=item.settings.evaluate.confidence)
