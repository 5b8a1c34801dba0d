# SPDX-License-Identifier: Apache-2.0
"""FAB: looks for the nearest image on the other side of the decision boundary.

Paper: Croce & Hein 2020, arXiv:1907.02044, Alg. 1; the targeted form is FAB-T of arXiv:2003.01690.

Symbols: eta -> OVERSHOOT, beta -> BACKWARD, alpha_max -> MAX_BIAS, x_orig -> clean,
x^(i) -> images.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from mixboost_jax import checks
from mixboost_jax import keys as keys_lib
from mixboost_jax.array_types import AnyKey, Images, Labels, PerExample, PRNGKeys
from mixboost_jax.attacks import hyperplane, objectives, predictors, projections, staged
from mixboost_jax.attacks.projections import Epsilon

OVERSHOOT = 1.05
"""How far past the linearised boundary a step goes."""
BACKWARD = 0.9
"""Share of the perturbation that is kept once the boundary is crossed."""
MAX_BIAS = 0.1
"""Largest weight of the step seen from the clean image."""


class State(NamedTuple):
  """Everything an example carries along; see `Stage`."""

  keys: PRNGKeys
  clean: Images
  labels: Labels
  targets: Labels
  images: Images
  adversarial: Images
  distance: PerExample
  inside: Bool[Array, " N"]


class FabResult(NamedTuple):
  """What `fab` returns.

  Attributes:
    images: the nearest adversarial image found; the clean one where none was.
    distances: its norm; infinite where none was found.
  """

  images: Images
  distances: PerExample


def linearise(
  predict: Callable, keys: PRNGKeys, images: Images, labels: Labels, targets: Labels
) -> tuple[PerExample, Images]:
  """Returns `z_t - z_y` and its gradient."""

  def gap(x: Array) -> tuple[Array, Array]:
    logits = predict(keys, x)
    difference = objectives.pick(logits, targets) - objectives.pick(logits, labels)
    return jnp.sum(difference), difference

  gradient, difference = jax.grad(gap, has_aux=True)(images)
  return difference, gradient


def linearise_nearest(
  predict: Callable, keys: PRNGKeys, images: Images, labels: Labels, *, norm: str
) -> tuple[PerExample, Images]:
  """Returns the same for the class whose linearised boundary is nearest (K backward passes)."""
  logits, pull = jax.vjp(lambda x: predict(keys, x), images)
  num, num_classes = logits.shape
  own = jax.nn.one_hot(labels, num_classes)
  others = jnp.eye(num_classes)

  def one(target: Array) -> Array:
    return pull(jnp.broadcast_to(target, (num, num_classes)) - own)[0]

  gradients = jax.lax.map(one, others)
  dual = jnp.stack([_dual_norm(g, norm=norm) for g in gradients], axis=1)
  gaps = logits - objectives.pick(logits, labels)[:, None]
  distances = jnp.where(own > 0, jnp.inf, jnp.abs(gaps) / (dual + 1e-12))
  nearest = jnp.argmin(distances, axis=1)
  return objectives.pick(gaps, nearest), gradients[nearest, jnp.arange(num)]


def _dual_norm(gradients: Images, *, norm: str) -> PerExample:
  if norm == "linf":
    return jnp.sum(jnp.abs(gradients), axis=(1, 2, 3))
  return jnp.sqrt(jnp.sum(gradients**2, axis=(1, 2, 3)))


def stage(logits_fn: Callable, *, norm: str, num_steps: int, targeted: bool = True) -> staged.Stage:
  """Returns FAB as a `Stage`.

  Args:
    logits_fn: as in `pgd`.
    norm: "linf" or "l2".
    num_steps: >= 1.
    targeted: whether to cross the boundary of one target class per run, or the nearest of all.

  Raises:
    ValueError: if an argument is out of range.
  """
  projections.check_norm(norm)
  if num_steps < 1:
    raise ValueError(f"attacks.fab: num_steps must be >= 1, got {num_steps}.")
  predict = predictors.keyed(logits_fn)

  def start(
    keys: PRNGKeys, images: Images, labels: Labels, epsilon: Epsilon, variant: staged.Variant
  ) -> State:
    logits = predict(keys, images)
    targets = staged.ranked_targets(logits, labels, variant.rank)
    wrong = objectives.fooled(logits, labels)
    tags = predictors.step_keys(predictors.step_keys(keys, variant.restart), variant.rank)
    first = projections.random_directions(tags, images.shape[1:], norm=norm)
    radius = jnp.where(jnp.asarray(variant.restart) > 0, 0.5 * epsilon, 0.0)
    x = projections.project(images + radius * first, images, epsilon=epsilon, norm=norm)
    distance = jnp.where(wrong, 0.0, jnp.inf)
    return State(tags, images, labels, targets, x, images, distance, wrong)

  def step(state: State, index: Array, epsilon: Epsilon) -> State:
    keys = predictors.step_keys(state.keys, index + 1)
    if targeted:
      gap, gradient = linearise(predict, keys, state.images, state.labels, state.targets)
    else:
      gap, gradient = linearise_nearest(predict, keys, state.images, state.labels, norm=norm)
    x = cross(state.images, state.clean, gap, gradient, norm=norm)
    fooled = objectives.fooled(predict(keys, x), state.labels)
    distance = projections.norms(x - state.clean, norm=norm)
    nearer = fooled & (distance < state.distance)
    back = state.clean + BACKWARD * (x - state.clean)
    distance = jnp.where(nearer, distance, state.distance)
    return state._replace(
      images=jnp.where(projections.per_image(fooled), back, x),
      adversarial=jnp.where(projections.per_image(nearer), x, state.adversarial),
      distance=distance,
      inside=distance <= epsilon,
    )

  return staged.Stage(
    start,
    step,
    lambda state: state.inside,
    lambda state: state.adversarial,
    jnp.arange(num_steps),
    has_gradient=True,
  )


def cross(images: Images, clean: Images, gap: PerExample, gradient: Images, *, norm: str) -> Images:
  """Steps onto the linearised boundary, biased towards the clean image.

  Paper: eqs. 9 to 11. The hyperplane is `gap + <gradient, x' - images> = 0`.
  """
  num = images.shape[0]
  flat, origin, normal = (a.reshape(num, -1) for a in (images, clean, gradient))
  offset = jnp.sum(normal * flat, axis=1) - gap
  moves = hyperplane.to_hyperplane(
    jnp.concatenate([flat, origin]),
    jnp.concatenate([normal, normal]),
    jnp.concatenate([offset, offset]),
    norm=norm,
  ).reshape(2, *images.shape)
  here, there = (jnp.maximum(projections.norms(m, norm=norm), 1e-8) for m in moves)
  bias = projections.per_image(jnp.clip(here / (here + there), 0.0, MAX_BIAS))
  ahead = (1 - bias) * (images + OVERSHOOT * moves[0]) + bias * (clean + OVERSHOOT * moves[1])
  return jnp.clip(ahead, 0.0, 1.0)


@checks.inputs(values="always")
def fab(
  key: AnyKey,
  logits_fn: Callable,
  images: Images,
  labels: Labels,
  *,
  norm: str = "linf",
  epsilon: Epsilon = 0.3,
  num_steps: int = 100,
  restarts: int = 1,
  num_targets: int = 9,
  targeted: bool = True,
) -> FabResult:
  """Estimates the distance of each image to the decision boundary.

  Paper: Croce & Hein 2020, arXiv:1907.02044 and (FAB-T) arXiv:2003.01690.

  Args:
    key: one key, or one per example (used from the second restart on).
    logits_fn: as in `pgd`.
    images: clean images in [0, 1].
    labels: true labels.
    norm: "linf" or "l2".
    epsilon: radius within which the later restarts begin; the search itself is not bounded.
    num_steps: steps of each run.
    restarts: runs per target; the first starts at the clean image.
    num_targets: likeliest wrong classes to go through if `targeted`; at most K - 1 are used.
    targeted: whether to go through single target classes (2 forward and 1 backward pass a step)
      or to cross the nearest of all boundaries (K backward passes a step).

  Returns:
    Nearest adversarial images and their distances; distance 0 for images wrong from the start.

  Raises:
    ValueError: if an argument is out of range or the model has fewer than two classes.
  """
  projections.check_budget(epsilon=epsilon)
  each = keys_lib.per_example(key, images.shape[0])
  num_classes = staged.num_classes_of(predictors.keyed(logits_fn), each, images)
  checks.class_numbers("fab", "labels", labels, num_classes)
  num_targets = min(num_targets, num_classes - 1) if targeted else 1
  if restarts < 1 or num_targets < 1:
    raise ValueError(
      f"attacks.fab: expected restarts, num_targets >= 1: {restarts}, {num_targets}."
    )
  one = stage(logits_fn, norm=norm, num_steps=num_steps, targeted=targeted)

  def nearest(best: FabResult, index: Array) -> tuple[FabResult, None]:
    variant = staged.Variant(index // num_targets, index % num_targets)
    state = one.start(each, images, labels, epsilon, variant)
    state = staged.advance(one, state, epsilon)
    nearer = projections.per_image(state.distance < best.distances)
    distances = jnp.minimum(best.distances, state.distance)
    return FabResult(jnp.where(nearer, state.adversarial, best.images), distances), None

  init = FabResult(images, jnp.full(images.shape[0], jnp.inf))
  return staged.over_variants(nearest, init, jnp.arange(restarts * num_targets))
