# SPDX-License-Identifier: Apache-2.0
"""The shape that the attacks of AutoAttack share, so that one driver can stop, repack and go on.

A stage is one start followed by a fixed schedule of steps. Every leaf of its state has the examples
as leading axis and no step looks across examples: rows can be taken out, reordered and put back
between steps without changing any result.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from mixboost_jax import loops
from mixboost_jax.array_types import Images, Labels, PRNGKeys
from mixboost_jax.attacks import _balls
from mixboost_jax.attacks._balls import Epsilon


class Variant(NamedTuple):
  """Which run of a stage: `restart` 0, 1, ... and the rank of the target class (0 = likeliest)."""

  restart: int | Int[Array, ""]
  rank: int | Int[Array, ""]


class Stage(NamedTuple):
  """One attack.

  Attributes:
    start: `(keys, images, labels, epsilon, variant) -> state`.
    step: `(state, x, epsilon) -> state`, `x` being one row of `schedule`.
    found: `state -> bool[N]`, whether an adversarial image inside the ball is known.
    result: `state -> images`, that image, or the best attempt.
    schedule: leaves with the steps as leading axis.
    has_gradient: whether a step differentiates the network, so that it costs several queries.
  """

  start: Callable[..., Any]
  step: Callable[..., Any]
  found: Callable[[Any], Array]
  result: Callable[[Any], Array]
  schedule: Any
  has_gradient: bool

  @property
  def num_steps(self) -> int:
    """Length of the schedule."""
    return len(jax.tree.leaves(self.schedule)[0])


def advance(
  stage: Stage,
  state: Any,
  epsilon: Epsilon,
  *,
  begin: int | Int[Array, ""] = 0,
  num_steps: int | Int[Array, ""] | None = None,
) -> Any:
  """Runs the steps `begin`, `begin + 1`, ... of the schedule; all of them by default."""

  def step(index: Array, state: Any) -> Any:
    row = jax.tree.map(lambda leaf: leaf[begin + index], stage.schedule)
    return stage.step(state, row, epsilon)

  return loops.repeat(step, state, stage.num_steps if num_steps is None else num_steps)


def run(
  stage: Stage,
  keys: PRNGKeys,
  images: Images,
  labels: Labels,
  *,
  epsilon: Epsilon,
  restarts: int = 1,
  num_targets: int = 1,
) -> tuple[Images, Bool[Array, " N"]]:
  """Runs every variant; for each example the first that succeeds counts, else the first.

  Args:
    stage: what to run.
    keys: one per example.
    images: clean images in [0, 1].
    labels: true labels.
    epsilon: radius of the ball.
    restarts: independent starts, >= 1.
    num_targets: ranks of target classes to go through, >= 1.

  Returns:
    The images and whether each is known to be adversarial.
  """
  if restarts < 1 or num_targets < 1:
    raise ValueError(f"attacks: expected restarts, num_targets >= 1: {restarts}, {num_targets}.")

  def one(carry: Any, index: Array) -> tuple[Any, None]:
    kept, done = carry
    variant = Variant(index // num_targets, index % num_targets)
    state = stage.start(keys, images, labels, epsilon, variant)
    state = advance(stage, state, epsilon)
    take = (stage.found(state) & ~done) | ((index == 0) & ~done)
    kept = jnp.where(_balls.per_image(take), stage.result(state), kept)
    return (kept, done | stage.found(state)), None

  init = (images, jnp.zeros(images.shape[0], bool))
  return over_variants(one, init, jnp.arange(restarts * num_targets))


def over_variants(one: Callable, init: Any, indices: Int[Array, " V"]) -> Any:
  """Scans `one` over the runs of a stage."""
  if len(indices) == 1:
    return one(init, indices[0])[0]
  return loops.scan(one, init, indices)[0]


def ranked_targets(logits: Array, labels: Labels, rank: int | Int[Array, ""]) -> Labels:
  """Returns, for each example, the class of the `rank`-th largest logit besides the label's."""
  own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
  order = jnp.argsort(jnp.where(own, -jnp.inf, logits), axis=-1, descending=True)
  return jnp.take(order, rank, axis=-1)


def num_classes_of(logits_fn: Callable, keys: PRNGKeys, images: Images) -> int:
  """Returns K without running the network.

  Args:
    logits_fn: `(keys, images) -> logits`.
    keys: one per example.
    images: any batch.

  Raises:
    ValueError: if there are fewer than two classes or the output is not `[N, K]`.
  """
  shape = jax.eval_shape(logits_fn, keys, images).shape
  if len(shape) != 2 or shape[0] != images.shape[0] or shape[1] < 2:
    raise ValueError(
      f"attacks: expected logits [{images.shape[0]}, K] with K >= 2, the model gives {shape}."
    )
  return shape[1]
