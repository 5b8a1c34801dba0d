# SPDX-License-Identifier: Apache-2.0
"""What attacks do to interactions, and what the papers read off multi-order ones.

Symbols (Deng et al. 2022, arXiv:2111.06236; Cheng et al. 2021, arXiv:2106.10938; Ren et al. 2021,
arXiv:2111.03536): E_x E_ij |I^(m)| -> `strength`, J^(m) = F^(m) -> `relative_strength`,
D^(m) -> `disentanglement`, Delta J^(m) -> `attacking_utility`.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax import checks, loops
from mixboost_jax.array_types import Image, Images, Labels, LogitsFn, PRNGKey
from mixboost_jax.interactions._exact import efficiency_weights
from mixboost_jax.interactions._game import Game, feature_game, grid_labels, values_of_singles

SMALLEST_STEP = 1e-6


@checks.inputs(values="always")
def comparable_attack(
  key: PRNGKey,
  logits_fn: LogitsFn,
  images: Images,
  labels: Labels,
  *,
  epsilon: float = 32 / 255,
  step_size: float = 2 / 255,
  num_steps: int = 100,
  drop: tuple[float, float] = (8.0, 8.5),
) -> tuple[Images, Bool[Array, " N"]]:
  """Signed-gradient ascent that stops once the true logit has fallen by `drop` and the class flips.

  Paper: Ren et al. 2021, arXiv:2111.03536, as in its public code: start at x + 0.001 N(0, 1); a
  step that overshoots is taken back and halved, and given up below 1e-6.

  ```python
  attacked, reached = interactions.comparable_attack(key, logits_fn, images, labels, num_steps=20)
  ```

  Besides the arguments of `attacks.pgd`:
    step_size: first step, in pixel units.
    drop: wanted fall of the true class's logit, (smallest, largest).

  Returns:
    Attacked images, and whether each reached the wanted fall.
  """
  rows = jnp.arange(images.shape[0])
  start = jnp.clip(images + 1e-3 * jax.random.normal(key, images.shape), 0, 1)
  logits = logits_fn(images)
  checks.class_numbers("comparable_attack", "labels", labels, logits.shape[-1])
  before = logits[rows, labels]
  low, high = drop

  def loss(x: Images) -> Float[Array, ""]:
    return -jax.nn.log_softmax(logits_fn(x))[rows, labels].sum()

  def body(_: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    x, step, reached = carry
    moved = x + step[:, None, None, None] * jnp.sign(jax.grad(loss)(x))
    moved = jnp.clip(jnp.clip(moved, images - epsilon, images + epsilon), 0, 1)
    logits = logits_fn(moved)
    fall, flipped = before - logits[rows, labels], logits.argmax(1) != labels
    over = flipped & (fall > high)
    active = ~reached & (step >= SMALLEST_STEP)
    take = active & ~over
    x = jnp.where(take[:, None, None, None], moved, x)
    step = jnp.where(active & over, step / 2, step)
    return x, step, reached | (take & flipped & (fall >= low))

  steps = jnp.full(images.shape[0], step_size)
  state = (start, steps, jnp.zeros(images.shape[0], bool))
  attacked, _, reached = loops.repeat(body, state, num_steps)
  return attacked, reached


# Numbers that the papers read off multi-order interactions.

Curve = Float[Array, " M"]


@checks.inputs()
def relative_strength(strength: Float[Array, "*b M"]) -> Float[Array, "*b M"]:
  """Returns J^(m) = F^(m): the strength E_x E_ij |I^(m)| over its mean over the sampled orders.

  Paper: Deng et al. 2022, arXiv:2111.06236, eq. 3; also MixBoost, Sec. III-C.

  ```python
  strength = jnp.array([1.0, 2.0, 3.0])  # of three orders
  assert interactions.relative_strength(strength).tolist() == [0.5, 1.0, 1.5]
  ```
  """
  return strength / strength.mean(-1, keepdims=True)


@checks.inputs()
def average_interaction(interactions: Float[Array, "X M P"]) -> Curve:
  """Returns I_avg^(m) = E_x E_ij I^(m)(i, j | x).

  ```python
  pairs = np.array([[0, 1], [2, 4]])
  found = interactions.multi_order(key, game, orders=(0, 1, 3), pairs=pairs, num_contexts=8)
  average = interactions.average_interaction(found.mean[None])  # of one picture
  ```
  """
  return interactions.mean((0, 2))


@checks.inputs()
def positive_ratio(interactions: Float[Array, "X M P"]) -> Curve:
  """Returns P^(m) = E max(I^(m), 0) / E |I^(m)|: a ratio of expectations; NaN where all are 0.

  The differences of I_avg and P between outliers and normal samples show what outliers rely on:
  they are positive for m > 0.8 n in Cheng et al. 2021, arXiv:2106.10938.

  ```python
  found = jnp.array([[[3.0, -1.0]]])  # one picture, one order, two pairs
  assert interactions.positive_ratio(found).tolist() == [0.75]
  ```
  """
  return jnp.maximum(interactions, 0).mean((0, 2)) / jnp.abs(interactions).mean((0, 2))


@checks.inputs()
def disentanglement(
  differences: Float[Array, "X M P T"], *, form: Literal["ratios", "means"] = "ratios"
) -> Curve:
  """Returns D^(m), how far Delta v keeps one sign over contexts: 1 if always, near 0 if never.

  Paper: Ren et al. 2021, arXiv:2111.03536, Sec. 3.
  Deviation: the slides divide |I^(m)| by a sum over contexts; sum over sum is meant. Of these
  contexts alone: a few that stand for many give too large a value, by .05 to .1 for 8 contexts;
  `Strength.disentanglement` is corrected for it.

  "ratios" is the mean over pairs of |sum| / sum of absolute values (the definition; a pair that
  never interacts counts as 0), "means" the ratio of means of the public code.

  ```python
  differences = jnp.array([[[[1.0, 1.0], [1.0, -1.0]]]])  # two pairs of two contexts
  assert interactions.disentanglement(differences).tolist() == [0.5]  # one pair keeps its sign
  ```
  """
  total, spread = jnp.abs(differences.mean(-1)), jnp.abs(differences).mean(-1)
  if form == "means":
    return total.mean((0, 2)) / spread.mean((0, 2))
  return jnp.where(spread > 0, total / jnp.where(spread > 0, spread, 1.0), 0.0).mean((0, 2))


@checks.inputs()
def attacking_utility(
  clean: Float[Array, "M P"], attacked: Float[Array, "M P"], *, orders: tuple[int, ...], n: int
) -> Float[Array, "M P"]:
  """Returns Delta J^(m)(i, j) = (n-1-m) / (n (n-1)) * (I^(m)(x) - I^(m)(x attacked)).

  Paper: Ren et al. 2021, arXiv:2111.03536, eq. 3. Summed over ordered pairs and all orders, and
  with the change of phi^(0), it gives v(N | x) - v(N | x attacked).

  ```python
  clean, attacked = jnp.array([[2.0], [1.0]]), jnp.array([[0.5], [1.0]])  # two orders, one pair
  utility = interactions.attacking_utility(clean, attacked, orders=(0, 3), n=5)
  assert utility[1, 0] == 0  # the attack has left order 3 as it was
  ```
  """
  weights = jnp.asarray(efficiency_weights(n)[np.array(orders)], clean.dtype)
  return weights[:, None] * (clean - attacked)


@checks.inputs()
def under_attack(
  attack: Callable[[Array, Array], Array],
  images: Float[Array, "N H W C"],
  labels: Array,
  game_of: Callable[[Array, Array], Game],
) -> list[tuple[Game, Game]]:
  """Returns each picture's game before and after an attack, for `attacking_utility`.

  The attack is `(images, labels) -> attacked images`; `comparable_attack` lowers the true class's
  logit by the same amount for every network.

  ```python
  attack = lambda x, y: attacks.fgsm(key, logits_fn, x, y, epsilon=8 / 255)
  game_of = lambda x, y: interactions.image_game(logits_fn, x, y, grid=4)
  clean, attacked = interactions.under_attack(attack, images, labels, game_of)[0]
  ```
  """
  attacked = attack(images, labels)
  return [
    (game_of(clean, label), game_of(after, label))
    for clean, after, label in zip(images, attacked, labels, strict=True)
  ]


# Interactions between the units of an adversarial perturbation.
#
# Symbols (Wang et al. 2021, arXiv:2010.04055): delta_S -> the perturbation kept on the cells S,
# v(S) -> the margin of the attack, E_{a,b} I_ab -> `mean_interaction`.


@checks.inputs()
def perturbation_game(
  logits_fn: LogitsFn,
  image: Image,
  perturbation: Float[Array, "H W C"],
  label: int | Int[Array, ""],
  *,
  grid: int = 16,
) -> Game:
  """Makes the game whose players are the `grid` x `grid` cells of a perturbation.

  Paper: Wang et al. 2021, arXiv:2010.04055, Sec. 3: v(S) = max_{y' != y} z_y'(x + delta_S) - z_y.

  ```python
  change = attacks.fgsm(key, logits_fn, images, labels, epsilon=8 / 255) - images
  game = interactions.perturbation_game(logits_fn, images[0], change[0], labels[0], grid=4)
  ```
  """
  height, width, _ = image.shape
  players, attacked = grid_labels(height, width, grid=grid)[..., None], image + perturbation
  return feature_game(
    logits_fn, attacked, label, players, num_players=grid * grid, reward="margin", fill=image
  )


@checks.inputs()
def mean_interaction(game: Game, *, chunk_size: int = 256) -> Float[Array, ""]:
  """Returns the mean of the Shapley interaction index over all pairs, exactly, from 2 n + 2 values.

  Paper: Wang et al. 2021, arXiv:2010.04055: E_{a,b} I_ab =
  E_a [v(N) - v(N without a) - v(a) + v(empty)] / (n - 1).

  ```python
  every = interactions.exact.shapley_interaction(game)  # [i, j], 0 where i = j
  assert np.isclose(interactions.mean_interaction(game), every.sum() / (5 * 4), atol=1e-5)
  ```
  """
  n = game.num_players
  alone, without = values_of_singles(game, chunk_size=chunk_size)
  return (without[n] - without[:n].mean() - alone[:n].mean() + alone[n]) / (n - 1)
