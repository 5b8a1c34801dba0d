# SPDX-License-Identifier: Apache-2.0
"""An attack that lowers every network's true logit by the same amount, so utilities compare."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mixboost_jax import checks, loops
from mixboost_jax.array_types import Images, Labels, LogitsFn, PRNGKey

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

  Args:
    key: consumed.
    logits_fn: network in evaluation mode.
    images: values in [0, 1].
    labels: true classes.
    epsilon: largest change of a pixel.
    step_size: first step, in pixel units.
    num_steps: most steps.
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
