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
from jaxtyping import Array, Int

from mixboost_jax import checks, loops
from mixboost_jax import keys as keys_lib
from mixboost_jax.array_types import AnyKey, Images, Labels, PRNGKeys
from mixboost_jax.attacks import _balls, _predictors
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


def prepare(
  key: AnyKey, logits_fn: Callable, images: Images, labels: Labels, *, epsilon: Epsilon, caller: str
) -> tuple[PRNGKeys, int]:
  """Checks radius and labels; returns one key per example and the number of classes."""
  _balls.check_budget(epsilon=epsilon)
  each = keys_lib.per_example(key, images.shape[0])
  num_classes = num_classes_of(_predictors.keyed(logits_fn), each, images)
  checks.class_numbers(caller, "labels", labels, num_classes)
  return each, num_classes


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


def over_variants(
  stage: Stage,
  keep: Callable[[Any, Any, Array], Any],
  init: Any,
  keys: PRNGKeys,
  images: Images,
  labels: Labels,
  *,
  epsilon: Epsilon,
  restarts: int,
  num_targets: int,
) -> Any:
  """Runs every variant and folds `keep(what is kept, final state, number of the run)`."""
  if restarts < 1 or num_targets < 1:
    raise ValueError(f"attacks: expected restarts, num_targets >= 1: {restarts}, {num_targets}.")

  def one(kept: Any, index: Array) -> tuple[Any, None]:
    variant = Variant(index // num_targets, index % num_targets)
    state = stage.start(keys, images, labels, epsilon, variant)
    return keep(kept, advance(stage, state, epsilon), index), None

  indices = jnp.arange(restarts * num_targets)
  if len(indices) == 1:
    return one(init, indices[0])[0]
  return loops.scan(one, init, indices)[0]


def run(stage: Stage, keys: PRNGKeys, images: Images, labels: Labels, **options: Any) -> Images:
  """Runs every variant; for each example the first that succeeds counts, else the first."""

  def keep(kept: tuple[Array, Array], state: Any, index: Array) -> tuple[Array, Array]:
    best, done = kept
    take = (stage.found(state) & ~done) | ((index == 0) & ~done)
    best = jnp.where(_balls.per_image(take), stage.result(state), best)
    return best, done | stage.found(state)

  init = (images, jnp.zeros(images.shape[0], bool))
  return over_variants(stage, keep, init, keys, images, labels, **options)[0]


def ranked_targets(logits: Array, labels: Labels, rank: int | Int[Array, ""]) -> Labels:
  """Returns, for each example, the class of the `rank`-th largest logit besides the label's."""
  own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
  order = jnp.argsort(jnp.where(own, -jnp.inf, logits), axis=-1, descending=True)
  return jnp.take(order, rank, axis=-1)


def num_classes_of(logits_fn: Callable, keys: PRNGKeys, images: Images) -> int:
  """Returns K of `(keys, images) -> logits` without running the network."""
  shape = jax.eval_shape(logits_fn, keys, images).shape
  if len(shape) != 2 or shape[0] != images.shape[0] or shape[1] < 2:
    raise ValueError(
      f"attacks: expected logits [{images.shape[0]}, K] with K >= 2, the model gives {shape}."
    )
  return shape[1]
