# SPDX-License-Identifier: Apache-2.0
"""Interactions between the units of an adversarial perturbation.

Symbols (Wang et al. 2021, arXiv:2010.04055): delta_S -> the perturbation kept on the cells S,
v(S) -> the margin of the attack, E_{a,b} I_ab -> `mean_interaction`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mixboost_jax import checks
from mixboost_jax.array_types import Image, LogitsFn
from mixboost_jax.interactions.game import Coalitions, Game, Values, map_chunks
from mixboost_jax.interactions.image import grid_labels


@dataclasses.dataclass(frozen=True)
class _Margin:
  """Margin of the strongest wrong class on the picture with part of its perturbation."""

  logits_fn: LogitsFn

  def __call__(
    self, coalitions: Coalitions, image: Array, perturbation: Array, players: Array, label: Array
  ) -> Values:
    kept = coalitions[:, players][..., None]
    logits = self.logits_fn(image[None] + jnp.where(kept, perturbation[None], 0.0))
    wrong = jnp.where((jnp.arange(logits.shape[1]) == label)[None], -jnp.inf, logits)
    return wrong.max(1) - logits[:, label]


@checks.inputs()
def perturbation_game(
  logits_fn: LogitsFn,
  image: Image,
  perturbation: Float[Array, "H W C"],
  label: int | Int[Array, ""],
  *,
  grid: int = 16,
) -> Game:
  """Makes the game whose players are the cells of a perturbation.

  Paper: Wang et al. 2021, arXiv:2010.04055, Sec. 3: v(S) = max_{y' != y} z_y'(x + delta_S) - z_y.

  Args:
    logits_fn: network in evaluation mode.
    image: the clean picture.
    perturbation: what the attack adds; absent cells add nothing.
    label: true class.
    grid: cells per side.
  """
  height, width, _ = image.shape
  players = jnp.asarray(grid_labels(height, width, grid=grid))
  return Game(grid * grid, _Margin(logits_fn), (image, perturbation, players, jnp.asarray(label)))


@checks.inputs()
def mean_interaction(game: Game, *, chunk_size: int = 256) -> Float[Array, ""]:
  """Returns the mean of the Shapley interaction index over all pairs, exactly, from 2 n + 2 values.

  Paper: Wang et al. 2021, arXiv:2010.04055: E_{a,b} I_ab =
  E_a [v(N) - v(N without a) - v(a) + v(empty)] / (n - 1).

  Args:
    game: any game with at least 2 players.
    chunk_size: evaluations per call of the game.
  """
  n = game.num_players

  def values(rows: Int[Array, " C"]) -> Values:
    # Row r < n + 1: players {r}, nobody for r = n; above, the complement.
    single = rows % (n + 1)
    present = (jnp.arange(n)[None] == single[:, None]) ^ (rows >= n + 1)[:, None]
    return game.values(present)

  table = jax.jit(lambda: map_chunks(values, 2 * (n + 1), chunk_size=chunk_size))().reshape(
    2, n + 1
  )
  return (table[1, n] - table[1, :n].mean() - table[0, :n].mean() + table[0, n]) / (n - 1)
