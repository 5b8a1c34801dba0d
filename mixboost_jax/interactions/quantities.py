# SPDX-License-Identifier: Apache-2.0
"""Numbers that the papers read off multi-order interactions.

Symbols (Deng et al. 2022, arXiv:2111.06236; Cheng et al. 2021, arXiv:2106.10938; Ren et al. 2021,
arXiv:2111.03536): E_x E_ij |I^(m)| -> `strength`, J^(m) = F^(m) -> `relative_strength`,
D^(m) -> `disentanglement`, Delta J^(m) -> `attacking_utility`.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixboost_jax.interactions.exact import efficiency_weights
from mixboost_jax.interactions.game import Game

Curve = Float[Array, " M"]


def relative_strength(strength: Float[Array, "*b M"]) -> Float[Array, "*b M"]:
  """Returns J^(m) = F^(m): the strength of an order over the mean of the sampled orders.

  Paper: Deng et al. 2022, arXiv:2111.06236, eq. 3; also MixBoost, Sec. III-C.

  Args:
    strength: E_x E_ij |I^(m)| of each sampled order; its mean over orders becomes 1.
  """
  return strength / strength.mean(-1, keepdims=True)


def strength_change(noisy: Curve, clean: Curve) -> Curve:
  """Returns Delta F^(m) = |F^(m) with noise - F^(m)| from the two strengths.

  Paper: Cheng et al. 2021, arXiv:2106.10938: large where the encoding is flexible.
  """
  return jnp.abs(relative_strength(noisy) - relative_strength(clean))


def average_interaction(interactions: Float[Array, "X M P"]) -> Curve:
  """Returns I_avg^(m) = E_x E_ij I^(m)(i, j | x)."""
  return interactions.mean((0, 2))


def positive_ratio(interactions: Float[Array, "X M P"]) -> Curve:
  """Returns P^(m) = E max(I^(m), 0) / E |I^(m)|: a ratio of expectations; NaN where all are 0.

  The differences of I_avg and P between outliers and normal samples show what outliers rely on:
  they are positive for m > 0.8 n in Cheng et al. 2021, arXiv:2106.10938.
  """
  return jnp.maximum(interactions, 0).mean((0, 2)) / jnp.abs(interactions).mean((0, 2))


def disentanglement(differences: Float[Array, "X M P T"], *, form: str = "ratios") -> Curve:
  """Returns D^(m), how far Delta v keeps one sign over contexts: 1 if always, near 0 if never.

  Paper: Ren et al. 2021, arXiv:2111.03536, Sec. 3.
  Deviation: the slides divide |I^(m)| by a sum over contexts; sum over sum is meant. Of these
  contexts alone: a few that stand for many give too large a value, by .05 to .1 for 8 contexts;
  `Strength.disentanglement` is corrected for it.

  Args:
    differences: Delta v of pictures, orders, pairs and contexts.
    form: "ratios" is the mean over pairs of |sum| / sum of absolute values (the definition; a pair
      that never interacts counts as 0); "means" is the ratio of means of the public code.
  """
  total, spread = jnp.abs(differences.mean(-1)), jnp.abs(differences).mean(-1)
  if form == "ratios":
    return jnp.where(spread > 0, total / jnp.where(spread > 0, spread, 1.0), 0.0).mean((0, 2))
  if form == "means":
    return total.mean((0, 2)) / spread.mean((0, 2))
  raise ValueError(f"disentanglement: form must be 'ratios' or 'means', got {form!r}.")


def attacking_utility(
  clean: Float[Array, "M P"], attacked: Float[Array, "M P"], *, orders: tuple[int, ...], n: int
) -> Float[Array, "M P"]:
  """Returns Delta J^(m)(i, j) = (n-1-m) / (n (n-1)) * (I^(m)(x) - I^(m)(x attacked)).

  Paper: Ren et al. 2021, arXiv:2111.03536, eq. 3. Summed over ordered pairs and all orders, and
  with the change of phi^(0), it gives v(N | x) - v(N | x attacked).

  Args:
    clean: I^(m)(i, j) of the clean picture.
    attacked: the same pairs and orders on the attacked picture.
    orders: the orders m.
    n: number of players.
  """
  weights = jnp.asarray(efficiency_weights(n)[np.array(orders)], clean.dtype)
  return weights[:, None] * (clean - attacked)


def under_attack(
  attack: Callable[[Array, Array], Array],
  images: Float[Array, "N H W C"],
  labels: Array,
  game_of: Callable[[Array, Array], Game],
) -> list[tuple[Game, Game]]:
  """Returns each picture's game before and after an attack, for `attacking_utility`.

  Args:
    attack: `(images, labels) -> attacked images` (a comparable one lowers the true class's logit
      by the same amount for every network: `comparable_attack`).
    images: values in [0, 1].
    labels: true classes.
    game_of: `(image, label) -> Game`, for instance a partial `image_game`.
  """
  attacked = attack(images, labels)
  return [
    (game_of(clean, label), game_of(after, label))
    for clean, after, label in zip(images, attacked, labels, strict=True)
  ]
