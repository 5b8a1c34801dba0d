# SPDX-License-Identifier: Apache-2.0
"""Projected gradient ascent inside a norm ball, and its one-step and momentum relatives."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mixboost_jax import checks, loops
from mixboost_jax import keys as keys_lib
from mixboost_jax.array_types import AnyKey, Images, Labels, PerExample, PRNGKeys
from mixboost_jax.attacks import _balls, _predictors
from mixboost_jax.attacks._balls import Epsilon

_START, _PREDICT = 0, 1  # sub-streams of an example's key


class _Search(NamedTuple):
  images: Images
  velocity: Images
  best: Images
  best_fooled: Array
  best_value: PerExample


def value_and_gradient(
  predict: Callable, objective: Callable, keys: PRNGKeys, images: Images
) -> tuple[PerExample, Array, Images]:
  """Returns the objective of each example, its logits, and the gradient in the images."""

  def total(x: Array) -> tuple[Array, tuple[Array, Array]]:
    logits = predict(keys, x)
    values = objective(logits)
    return jnp.sum(values), (values, logits)

  gradient, (values, logits) = jax.grad(total, has_aux=True)(images)
  return values, logits, gradient


def accumulate(velocity: Images, gradients: Images, *, momentum: float) -> Images:
  """Adds the gradient, scaled to unit L1 norm, to the decayed velocity.

  Paper: Dong et al. 2018, arXiv:1710.06081, eq. 6. The floor 1e-6 keeps zero gradients at zero.
  """
  if not momentum:
    return gradients
  size = jnp.sum(jnp.abs(gradients), axis=(1, 2, 3))
  return momentum * velocity + gradients / _balls.per_image(jnp.maximum(size, 1e-6))


def starting_points(
  keys: PRNGKeys, images: Images, *, epsilon: Epsilon, norm: str, clip: bool
) -> Images:
  """Draws a start uniformly from each ball, moved into [0, 1] if `clip`."""
  start = images + epsilon * _balls.random_directions(keys, images.shape[1:], norm=norm)
  return jnp.clip(start, 0.0, 1.0) if clip else start


@checks.inputs(values="always")
def pgd(
  key: AnyKey,
  logits_fn: Callable,
  images: Images,
  labels: Labels,
  *,
  epsilon: Epsilon,
  step_size: Epsilon,
  num_steps: int,
  norm: str = "linf",
  targeted: bool = False,
  loss: str | Callable = "ce",
  restarts: int = 1,
  random_start: bool = True,
  clip_start: bool = True,
  momentum: float = 0.0,
  keep: str = "last",
) -> Images:
  """Searches for adversarial images by projected gradient ascent.

  Paper: Madry et al. 2018, arXiv:1706.06083; Mixup Inference (Pang et al. 2020, arXiv:1909.11515)
  eq. 18. An example's result depends on its own key only, not on the batch around it.

  ```python
  adversarial = attacks.pgd(
    key, logits_fn, images, labels, epsilon=8 / 255, step_size=2 / 255, num_steps=10
  )
  ```

  Args:
    key: one key, or one per example.
    logits_fn: `images -> logits`, or `(key, images) -> logits` if random: it then gets fresh keys
      at every step.
    images: clean images in [0, 1].
    labels: true labels; the wanted labels if `targeted`.
    epsilon: radius of the ball, in pixel units of [0, 1].
    step_size: length of a step in the same norm and units.
    num_steps: gradient steps, >= 0.
    norm: "linf" (sign of the gradient) or "l2" (unit gradient).
    targeted: whether to approach `labels` instead of leaving them.
    loss: "ce", "margin", "dlr", or `(logits, labels) -> value[N]`.
    restarts: independent starts; the best end point of each example is kept.
    random_start: whether to start at a uniform point of the ball; otherwise at the image.
    clip_start: whether that point is clipped to [0, 1] before the first step (always so where
      `keep` is "best").
    momentum: decay of the accumulated gradient (0 = plain PGD).
    keep: "last" iterate, or the "best": a fooling one first, then the largest loss.

  Returns:
    Images in the ball and in [0, 1].
  """
  _balls.check_norm(norm)
  _balls.check_budget(epsilon=epsilon, step_size=step_size, num_steps=num_steps)
  if restarts < 1 or keep not in ("last", "best"):
    raise ValueError(
      f"attacks.pgd: expected restarts >= 1 and keep 'last' or 'best', got {restarts}, {keep!r}."
    )
  each = keys_lib.per_example(key, images.shape[0])
  start_keys = _predictors.step_keys(each, _START)
  step_keys = _predictors.step_keys(each, _PREDICT)
  predict = _predictors.keyed(logits_fn)
  objective = _balls.objective(loss, labels, targeted=targeted)
  clip = clip_start or keep == "best"

  def begin(restart: Array) -> Images:
    if not random_start:
      return images
    keys = _predictors.step_keys(start_keys, restart)
    return starting_points(keys, images, epsilon=epsilon, norm=norm, clip=clip)

  def ascend(index: Array, x: Array, velocity: Array) -> tuple[Array, Array, Array, Array]:
    """Returns the next x, the velocity, and the value and the logits of x."""
    keys = _predictors.step_keys(step_keys, index)
    values, logits, gradient = value_and_gradient(predict, objective, keys, x)
    velocity = accumulate(velocity, gradient, momentum=momentum)
    moved = x + step_size * _balls.steepest(velocity, norm=norm)
    return _balls.project(moved, images, epsilon=epsilon, norm=norm), velocity, values, logits

  if restarts == 1 and keep == "last":
    start = (begin(jnp.int32(0)), jnp.zeros_like(images))
    found, _ = loops.repeat(lambda i, carry: ascend(i, *carry)[:2], start, num_steps)
  else:
    wins = functools.partial(_balls.fooled, labels=labels, targeted=targeted)
    found = _search(ascend, begin, wins, images, num_steps, restarts, keep)
  return _balls.project(found, images, epsilon=epsilon, norm=norm)


def _search(
  ascend: Callable,
  begin: Callable,
  wins: Callable,
  images: Images,
  num_steps: int,
  restarts: int,
  keep: str,
) -> Images:
  """Returns the best iterate of each example: a fooling one first, then the largest loss.

  A restart has `num_steps + 1` turns: every iterate is scored, the last one is not moved on.
  """

  def turn(index: Array, state: _Search) -> _Search:
    position = index % (num_steps + 1)
    x = jnp.where(position == 0, begin(index // (num_steps + 1)), state.images)
    velocity = jnp.where(position == 0, 0.0, state.velocity)
    moved, velocity, value, logits = ascend(index, x, velocity)
    won = wins(logits)
    better = (won & ~state.best_fooled) | ((won == state.best_fooled) & (value > state.best_value))
    better &= (position == num_steps) | (keep == "best")
    return _Search(
      images=moved,
      velocity=velocity,
      best=jnp.where(_balls.per_image(better), x, state.best),
      best_fooled=jnp.where(better, won, state.best_fooled),
      best_value=jnp.where(better, value, state.best_value),
    )

  num = images.shape[0]
  state = _Search(
    images, jnp.zeros_like(images), images, jnp.zeros(num, bool), jnp.full(num, -jnp.inf)
  )
  return loops.repeat(turn, state, restarts * (num_steps + 1)).best


@checks.inputs(values="always")
def fgsm(
  key: AnyKey,
  logits_fn: Callable,
  images: Images,
  labels: Labels,
  *,
  epsilon: Epsilon,
  norm: str = "linf",
  targeted: bool = False,
  loss: str | Callable = "ce",
  random_start: bool = False,
  step_size: Epsilon | None = None,
) -> Images:
  """Takes one step from the image, or from a random point of the ball.

  Paper: Goodfellow et al. 2015, arXiv:1412.6572; the random start with `step_size = 1.25 epsilon`
  is Wong et al. 2020, arXiv:2001.03994.

  ```python
  adversarial = attacks.fgsm(key, logits_fn, images, labels, epsilon=8 / 255)
  ```

  Besides the arguments of `pgd`:
    key: one key, or one per example (used by the start and by random predictors).
    step_size: length of the step; `epsilon` if None.
  """
  return pgd(
    key,
    logits_fn,
    images,
    labels,
    epsilon=epsilon,
    step_size=epsilon if step_size is None else step_size,
    num_steps=1,
    norm=norm,
    targeted=targeted,
    loss=loss,
    random_start=random_start,
  )


@checks.inputs(values="always")
def momentum_pgd(
  key: AnyKey,
  logits_fn: Callable,
  images: Images,
  labels: Labels,
  *,
  epsilon: Epsilon,
  num_steps: int = 10,
  momentum: float = 1.0,
  **options: Any,
) -> Images:
  """Runs `pgd` with momentum: step `epsilon / num_steps`, no random start.

  Paper: Dong et al. 2018, arXiv:1710.06081, Alg. 1 (MI-FGSM).

  ```python
  adversarial = attacks.momentum_pgd(key, logits_fn, images, labels, epsilon=8 / 255)
  ```
  """
  if num_steps < 1:
    raise ValueError(f"attacks.momentum_pgd: num_steps must be >= 1, got {num_steps}.")
  options = {"random_start": False, "step_size": epsilon / num_steps, **options}
  options |= {"epsilon": epsilon, "num_steps": num_steps, "momentum": momentum}
  return pgd(key, logits_fn, images, labels, **options)


_MIXUP_INFERENCE = {"norm": "linf", "epsilon": 8 / 255, "step_size": 2 / 255, "random_start": True}
_JKU = {"norm": "l2", "random_start": False, "keep": "best"}

PRESETS: dict[str, dict[str, Any]] = {
  # Hendrycks et al. 2022 (PixMix), and MixBoost's column "PGD error": true labels, last iterate,
  # a start that is not clipped to [0, 1] before the first step.
  "pixmix": {
    "norm": "linf",
    "epsilon": 2 / 255,
    "step_size": 0.5 / 255,
    "num_steps": 20,
    "random_start": True,
    "clip_start": False,
  },
  # Pang et al. 2020, Tables 2 and 3.
  "mixup-inference-10": {**_MIXUP_INFERENCE, "num_steps": 10},
  "mixup-inference-50": {**_MIXUP_INFERENCE, "num_steps": 50},
  "mixup-inference-200": {**_MIXUP_INFERENCE, "num_steps": 200},
  "mixup-inference-10-targeted": {**_MIXUP_INFERENCE, "num_steps": 10, "targeted": True},
  "mixup-inference-50-targeted": {**_MIXUP_INFERENCE, "num_steps": 50, "targeted": True},
  "mixup-inference-200-targeted": {**_MIXUP_INFERENCE, "num_steps": 200, "targeted": True},
  # Risk under attack of the JKU lecture: step epsilon / 5, best iterate, no random start.
  "jku-0.25-10": {**_JKU, "epsilon": 0.25, "step_size": 0.05, "num_steps": 10},
  "jku-0.25-100": {**_JKU, "epsilon": 0.25, "step_size": 0.05, "num_steps": 100},
  "jku-0.5-10": {**_JKU, "epsilon": 0.5, "step_size": 0.1, "num_steps": 10},
  "jku-0.5-100": {**_JKU, "epsilon": 0.5, "step_size": 0.1, "num_steps": 100},
  # Tramer et al. 2020 against Mixup Inference: steps of 1/255 where pixels span [-1, 1].
  "tramer-2020": {
    "norm": "linf",
    "epsilon": 8 / 255,
    "step_size": 0.5 / 255,
    "num_steps": 50,
    "random_start": True,
  },
}
"""The attacks of the papers, as keywords of `pgd`. The untargeted ones of Mixup Inference take the
model's own clean prediction as label (`predicted_labels`), the targeted ones a uniformly drawn
wrong class (`random_targets`)."""
