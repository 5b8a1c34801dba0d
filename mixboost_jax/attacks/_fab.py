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
from jaxtyping import Array, Bool, Float

from mixboost_jax import checks
from mixboost_jax.array_types import AnyKey, Images, Labels, PerExample, PRNGKeys
from mixboost_jax.attacks import _balls, _predictors, _stage
from mixboost_jax.attacks._balls import Epsilon

OVERSHOOT = 1.05
"""How far past the linearised boundary a step goes."""
BACKWARD = 0.9
"""Share of the perturbation that is kept once the boundary is crossed."""
MAX_BIAS = 0.1
"""Largest weight of the step seen from the clean image."""
_TINY = 1e-30


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
    difference = _balls.pick(logits, targets) - _balls.pick(logits, labels)
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
  gradients = jax.lax.map(
    lambda one: pull(jnp.broadcast_to(one, own.shape) - own)[0], jnp.eye(num_classes)
  )
  dual = jnp.stack([_dual_norm(g, norm=norm) for g in gradients], axis=1)
  gaps = logits - _balls.pick(logits, labels)[:, None]
  distances = jnp.where(own > 0, jnp.inf, jnp.abs(gaps) / (dual + 1e-12))
  nearest = jnp.argmin(distances, axis=1)
  return _balls.pick(gaps, nearest), gradients[nearest, jnp.arange(num)]


def _dual_norm(gradients: Images, *, norm: str) -> PerExample:
  if norm == "linf":
    return jnp.sum(jnp.abs(gradients), axis=(1, 2, 3))
  return jnp.sqrt(jnp.sum(gradients**2, axis=(1, 2, 3)))


def stage(logits_fn: Callable, *, norm: str, num_steps: int, targeted: bool = True) -> _stage.Stage:
  """Returns FAB as a `Stage`; `targeted` as in `fab`."""
  _balls.check_norm(norm)
  if num_steps < 1:
    raise ValueError(f"attacks.fab: num_steps must be >= 1, got {num_steps}.")
  predict = _predictors.keyed(logits_fn)

  def start(
    keys: PRNGKeys, images: Images, labels: Labels, epsilon: Epsilon, variant: _stage.Variant
  ) -> State:
    logits = predict(keys, images)
    targets = _stage.ranked_targets(logits, labels, variant.rank)
    wrong = _balls.fooled(logits, labels)
    tags = _predictors.step_keys(_predictors.step_keys(keys, variant.restart), variant.rank)
    first = _balls.random_directions(tags, images.shape[1:], norm=norm)
    radius = jnp.where(jnp.asarray(variant.restart) > 0, 0.5 * epsilon, 0.0)
    x = _balls.project(images + radius * first, images, epsilon=epsilon, norm=norm)
    distance = jnp.where(wrong, 0.0, jnp.inf)
    return State(tags, images, labels, targets, x, images, distance, wrong)

  def step(state: State, index: Array, epsilon: Epsilon) -> State:
    keys = _predictors.step_keys(state.keys, index + 1)
    if targeted:
      gap, gradient = linearise(predict, keys, state.images, state.labels, state.targets)
    else:
      gap, gradient = linearise_nearest(predict, keys, state.images, state.labels, norm=norm)
    x = cross(state.images, state.clean, gap, gradient, norm=norm)
    fooled = _balls.fooled(predict(keys, x), state.labels)
    distance = _balls.norms(x - state.clean, norm=norm)
    nearer = fooled & (distance < state.distance)
    back = state.clean + BACKWARD * (x - state.clean)
    distance = jnp.where(nearer, distance, state.distance)
    return state._replace(
      images=jnp.where(_balls.per_image(fooled), back, x),
      adversarial=jnp.where(_balls.per_image(nearer), x, state.adversarial),
      distance=distance,
      inside=distance <= epsilon,
    )

  found, result = (lambda state: state.inside), (lambda state: state.adversarial)
  return _stage.Stage(start, step, found, result, jnp.arange(num_steps), has_gradient=True)


def cross(images: Images, clean: Images, gap: PerExample, gradient: Images, *, norm: str) -> Images:
  """Steps onto the linearised boundary, biased towards the clean image.

  Paper: eqs. 9 to 11. The hyperplane is `gap + <gradient, x' - images> = 0`.
  """
  num = images.shape[0]
  flat, origin, normal = (a.reshape(num, -1) for a in (images, clean, gradient))
  offset = jnp.sum(normal * flat, axis=1) - gap
  moves = to_hyperplane(
    jnp.concatenate([flat, origin]),
    jnp.concatenate([normal, normal]),
    jnp.concatenate([offset, offset]),
    norm=norm,
  ).reshape(2, *images.shape)
  here, there = (jnp.maximum(_balls.norms(m, norm=norm), 1e-8) for m in moves)
  bias = _balls.per_image(jnp.clip(here / (here + there), 0.0, MAX_BIAS))
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

  ```python
  found = attacks.fab(key, logits_fn, images, labels, num_steps=10)
  robust = found.distances > 8 / 255
  ```

  Besides the arguments of `pgd`:
    epsilon: radius within which the later restarts begin; the search itself is not bounded.
    num_steps: steps of each run.
    restarts: runs per target; the first starts at the clean image.
    num_targets: likeliest wrong classes to go through if `targeted`; at most K - 1 are used.
    targeted: whether to go through single target classes (2 forward and 1 backward pass a step)
      or to cross the nearest of all boundaries (K backward passes a step).

  Returns:
    Nearest adversarial images and their distances; distance 0 for images wrong from the start.
  """
  each, num_classes = _stage.prepare(key, logits_fn, images, labels, epsilon=epsilon, caller="fab")
  num_targets = min(num_targets, num_classes - 1) if targeted else 1
  one = stage(logits_fn, norm=norm, num_steps=num_steps, targeted=targeted)

  def nearest(best: FabResult, state: State, _: Array) -> FabResult:
    nearer = _balls.per_image(state.distance < best.distances)
    distances = jnp.minimum(best.distances, state.distance)
    return FabResult(jnp.where(nearer, state.adversarial, best.images), distances)

  init = FabResult(images, jnp.full(images.shape[0], jnp.inf))
  options = {"epsilon": epsilon, "restarts": restarts, "num_targets": num_targets}
  return _stage.over_variants(one, nearest, init, each, images, labels, **options)


def to_hyperplane(
  points: Float[Array, "N D"], normals: Float[Array, "N D"], offsets: PerExample, *, norm: str
) -> Float[Array, "N D"]:
  """Returns the shortest `d` with `<normals, points + d> = offsets` that stays in the box [0, 1].

  Every coordinate moves in the direction that helps, by `min(t * rate_i, room_i)`, where `room_i`
  is its distance to the wall; the progress is a concave, piecewise linear function of t whose root
  Newton's method finds from the left in a few steps, without sorting its kinks.

  Paper: Croce & Hein 2020 (FAB), arXiv:1907.02044, eq. 6 and Sec. 2.2.

  A zero row of `normals` gives a zero displacement; where the box does not meet the hyperplane, the
  one that comes closest is returned.
  """
  _balls.check_norm(norm)
  scale = jnp.maximum(jnp.max(jnp.abs(normals), axis=1, keepdims=True), _TINY)
  normals = normals / scale
  change = offsets / scale[:, 0] - jnp.sum(normals * points, axis=1)
  weight = jnp.abs(normals)
  direction = jnp.sign(normals) * jnp.sign(change)[:, None]
  room = jnp.where(direction > 0, 1 - points, jnp.where(direction < 0, points, 0.0))
  rate = jnp.ones_like(weight) if norm == "linf" else weight
  kinks = jnp.where(weight > 0, room / jnp.maximum(rate, _TINY), 0.0)
  extent = _root(kinks, weight * rate, weight * room, jnp.abs(change))
  return direction * jnp.minimum(extent[:, None] * rate, room)


def _root(kinks: Float[Array, "N D"], gains: Array, full: Array, wanted: PerExample) -> PerExample:
  """Returns the least t with `sum_i min(gains_i * t, full_i) = wanted`; the last kink if none.

  A Newton step solves the linear piece that t lies on. It never passes the root, and the root is
  found once the step ends on the piece it began on. A row that is done stays as it is, so its
  result does not depend on the others.
  """
  last = jnp.max(kinks, axis=1)

  def solve(carry: tuple) -> tuple:
    extent, num_open, done = carry
    is_open = kinks > extent[:, None]
    before = jnp.sum(jnp.where(is_open, 0.0, full), axis=1)
    slope = jnp.sum(jnp.where(is_open, gains, 0.0), axis=1)
    ahead = jnp.minimum((wanted - before) / jnp.maximum(slope, _TINY), last)
    ahead = jnp.where(done, extent, ahead)
    left = jnp.sum(kinks > ahead[:, None], axis=1)
    return ahead, left, done | (left >= num_open) | (left == 0)

  start = jnp.sum(kinks > 0, axis=1)
  init = (jnp.zeros_like(wanted), start, start == 0)
  extent, _, _ = jax.lax.while_loop(lambda carry: ~jnp.all(carry[2]), solve, init)
  return extent
