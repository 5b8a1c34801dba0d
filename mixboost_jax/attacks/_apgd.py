# SPDX-License-Identifier: Apache-2.0
"""Auto-PGD: projected gradient ascent whose step size follows its own progress.

Paper: Croce & Hein 2020, arXiv:2003.01690, Alg. 1 and Sec. 3.

Symbols: eta -> step_size, alpha -> INERTIA, rho -> MIN_INCREASE_RATE, w_j -> checkpoints.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from mixboost_jax import checks
from mixboost_jax.array_types import AnyKey, Images, Labels, PerExample, PRNGKeys
from mixboost_jax.attacks import _balls, _pgd, _predictors, _stage
from mixboost_jax.attacks._balls import Epsilon

INERTIA = 0.75
"""Weight of the new step against the previous direction (1 on the first step)."""
MIN_INCREASE_RATE = 0.75
"""A step size stays if the loss rose in more than this share of the steps since the last review."""
LOSSES = ("ce", "dlr", "dlr-targeted", "ce-targeted", "margin")

_START, _PREDICT = 0, 1


class Check(NamedTuple):
  """One row of the schedule: the step, whether it ends in a review, steps since the last one."""

  index: Int[Array, "..."]
  is_check: Bool[Array, "..."]
  interval: Int[Array, "..."]


class State(NamedTuple):
  """Everything an example carries along; see `Stage`."""

  keys: PRNGKeys
  clean: Images
  labels: Labels
  targets: Labels
  images: Images
  previous: Images
  gradient: Images
  value: PerExample
  best: Images
  best_gradient: Images
  best_value: PerExample
  adversarial: Images
  fooled: Bool[Array, " N"]
  step_size: PerExample
  increases: Int[Array, " N"]
  checked_value: PerExample
  was_reduced: Bool[Array, " N"]


def checkpoints(num_steps: int) -> Check:
  """Returns when the step size is reviewed: after 22 % of the steps, then ever more often.

  The intervals are 22 %, 19 %, 16 %, ... of `num_steps`, not below 6 %: for 100 steps the reviews
  follow steps 22, 41, 57, 70, 80, 87, 93, 99.
  """
  interval, smallest, decrease = (max(int(p * num_steps), 1) for p in (0.22, 0.06, 0.03))
  is_check, intervals, since = [], [], 0
  for _ in range(num_steps):
    since += 1
    is_check.append(since == interval)
    intervals.append(interval)
    if since == interval:
      since, interval = 0, max(interval - decrease, smallest)
  return Check(
    jnp.arange(num_steps), jnp.asarray(is_check, bool), jnp.asarray(intervals, jnp.int32)
  )


def objective(loss: str, labels: Labels, targets: Labels) -> Callable:
  """Returns `logits -> value[N]` for a name of `LOSSES`; see `_balls` for few classes."""
  if loss == "dlr-targeted":
    return lambda z: _balls.targeted_difference_of_logits_ratio(z, labels, targets)
  if loss == "ce-targeted":
    return lambda z: -_balls.cross_entropy(z, targets)
  return _balls.objective(loss, labels, targeted=False)


def move(state: State, *, inertia: float | Array, epsilon: Epsilon, norm: str) -> Images:
  """Returns the next iterate: a projected gradient step, blended with the previous direction."""
  direction = _balls.steepest(state.gradient, norm=norm)
  ahead = state.images + _balls.per_image(state.step_size) * direction
  ahead = _balls.project(ahead, state.clean, epsilon=epsilon, norm=norm)
  blended = (
    state.images
    + inertia * (ahead - state.images)
    + (1 - inertia) * (state.images - state.previous)
  )
  return _balls.project(blended, state.clean, epsilon=epsilon, norm=norm)


def review(state: State, check: Check) -> State:
  """Halves the step size, and goes back to the best point, where progress has stalled.

  Paper: conditions 1 and 2 of Sec. 3.
  """
  stalled = state.increases <= MIN_INCREASE_RATE * check.interval
  stalled |= ~state.was_reduced & (state.checked_value >= state.best_value)
  reduce = stalled & check.is_check
  spread = _balls.per_image(reduce)
  return state._replace(
    step_size=jnp.where(reduce, state.step_size / 2, state.step_size),
    images=jnp.where(spread, state.best, state.images),
    gradient=jnp.where(spread, state.best_gradient, state.gradient),
    increases=jnp.where(check.is_check, 0, state.increases),
    was_reduced=jnp.where(check.is_check, stalled, state.was_reduced),
    checked_value=jnp.where(check.is_check, state.best_value, state.checked_value),
  )


def stage(logits_fn: Callable, *, norm: str, loss: str, num_steps: int) -> _stage.Stage:
  """Returns Auto-PGD as a `Stage`; `loss` is one of `LOSSES`."""
  _balls.check_norm(norm)
  if loss not in LOSSES or num_steps < 1:
    raise ValueError(
      f"attacks.apgd: loss must be one of {', '.join(LOSSES)} and num_steps >= 1, "
      f"got {loss!r}, {num_steps}."
    )
  predict = _predictors.keyed(logits_fn)

  def look(keys: PRNGKeys, x: Images, labels: Labels, targets: Labels) -> tuple:
    value, logits, gradient = _pgd.value_and_gradient(
      predict, objective(loss, labels, targets), keys, x
    )
    return value, _balls.fooled(logits, labels), gradient

  def start(
    keys: PRNGKeys, images: Images, labels: Labels, epsilon: Epsilon, variant: _stage.Variant
  ) -> State:
    targets = labels
    if loss.endswith("targeted"):
      targets = _stage.ranked_targets(predict(keys, images), labels, variant.rank)
    tags = _predictors.step_keys(_predictors.step_keys(keys, variant.restart), variant.rank)
    x = _first_iterate(_predictors.step_keys(tags, _START), images, epsilon=epsilon, norm=norm)
    tags = _predictors.step_keys(tags, _PREDICT)
    value, fooled, gradient = look(_predictors.step_keys(tags, 0), x, labels, targets)
    num = images.shape[0]
    return State(
      tags, images, labels, targets, x, x, gradient, value, x, gradient, value, x, fooled,
      jnp.full(num, 2.0) * epsilon, jnp.zeros(num, jnp.int32), value, jnp.ones(num, bool),
    )  # fmt: skip

  def step(state: State, check: Check, epsilon: Epsilon) -> State:
    inertia = jnp.where(check.index == 0, 1.0, INERTIA)
    x = move(state, inertia=inertia, epsilon=epsilon, norm=norm)
    keys = _predictors.step_keys(state.keys, check.index + 1)
    value, fooled, gradient = look(keys, x, state.labels, state.targets)
    better = value > state.best_value
    state = state._replace(
      images=x,
      previous=state.images,
      gradient=gradient,
      value=value,
      best=jnp.where(_balls.per_image(better), x, state.best),
      best_gradient=jnp.where(_balls.per_image(better), gradient, state.best_gradient),
      best_value=jnp.maximum(value, state.best_value),
      adversarial=jnp.where(_balls.per_image(fooled), x, state.adversarial),
      fooled=state.fooled | fooled,
      increases=state.increases + (value > state.value),
    )
    return review(state, check)

  def result(state: State) -> Images:
    return jnp.where(_balls.per_image(state.fooled), state.adversarial, state.best)

  return _stage.Stage(
    start, step, lambda state: state.fooled, result, checkpoints(num_steps), has_gradient=True
  )


def _first_iterate(keys: PRNGKeys, images: Images, *, epsilon: Epsilon, norm: str) -> Images:
  """Starts on the sphere: a random direction scaled to the radius, clipped to [0, 1]."""
  direction = _balls.random_directions(keys, images.shape[1:], norm=norm)
  size = _balls.per_image(jnp.maximum(_balls.norms(direction, norm=norm), 1e-12))
  return _balls.project(images + epsilon * direction / size, images, epsilon=epsilon, norm=norm)


@checks.inputs(values="always")
def apgd(
  key: AnyKey,
  logits_fn: Callable,
  images: Images,
  labels: Labels,
  *,
  epsilon: Epsilon,
  norm: str = "linf",
  loss: str = "ce",
  num_steps: int = 100,
  restarts: int = 1,
  num_targets: int = 9,
) -> Images:
  """Runs Auto-PGD.

  Paper: Croce & Hein 2020, arXiv:2003.01690, Alg. 1; "dlr-targeted" is APGD-T of Sec. 6.

  Deviation: the count of increases at the first review compares with the loss of the start; the
  authors' code compares with an unset entry (zero).

  ```python
  adversarial = attacks.apgd(key, logits_fn, images, labels, epsilon=8 / 255, num_steps=20)
  ```

  Besides the arguments of `pgd`:
    loss: "ce", "dlr", "margin", or "dlr-targeted" and "ce-targeted", which go through the
      likeliest wrong classes. Few classes: see `_balls` (K = 2, 3).
    num_steps: gradient steps of each run.
    restarts: independent starts.
    num_targets: target classes of the targeted losses, at most K - 1 are used.

  Returns:
    An adversarial image where one was found, else the image of highest loss.
  """
  each, num_classes = _stage.prepare(key, logits_fn, images, labels, epsilon=epsilon, caller="apgd")
  targets = min(num_targets, num_classes - 1) if loss.endswith("targeted") else 1
  one = stage(logits_fn, norm=norm, loss=loss, num_steps=num_steps)
  return _stage.run(
    one, each, images, labels, epsilon=epsilon, restarts=restarts, num_targets=targets
  )
