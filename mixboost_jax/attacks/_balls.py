# SPDX-License-Identifier: Apache-2.0
"""The threat model: a norm ball around each image in the box [0, 1], and what attacks maximise.

Symbols: z -> logits, y -> label, t -> target, z_(i) -> i-th largest logit. An objective has one
value per example; larger is worse for the defender.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from mixboost_jax import checks, registry
from mixboost_jax.array_types import Images, Labels, Logits, PerExample, PRNGKeys, Scalar

NORMS = ("linf", "l2")
Epsilon = float | Scalar
_TINY = 1e-12


def check_norm(norm: str) -> None:
  """Raises a `ValueError` unless the norm is known."""
  if norm not in NORMS:
    raise ValueError(f"attacks: norm must be one of {', '.join(NORMS)}, got {norm!r}.")


def check_budget(**values: object) -> None:
  """Raises a `ValueError` for a negative number; traced values pass."""
  for name, value in values.items():
    if isinstance(value, int | float) and not value >= 0:
      raise ValueError(f"attacks: {name} must be >= 0, got {value}.")


def per_image(values: Shaped[Array, " N"]) -> Shaped[Array, "N 1 1 1"]:
  """Adds the axes that let one value per example meet a batch of images."""
  return values[:, None, None, None]


@checks.inputs(values="never")
def norms(delta: Images, *, norm: str) -> PerExample:
  """Returns the norm of each perturbation, in pixel units of [0, 1].

  ```python
  adversarial = attacks.fgsm(key, logits_fn, images, labels, epsilon=8 / 255)
  assert jnp.allclose(attacks.norms(adversarial - images, norm="linf"), 8 / 255)
  ```
  """
  check_norm(norm)
  flat = delta.reshape(delta.shape[0], -1)
  if norm == "linf":
    return jnp.max(jnp.abs(flat), axis=1)
  return jnp.sqrt(jnp.sum(flat**2, axis=1))


@checks.inputs(values="never")
def project_linf(images: Images, centers: Images, *, epsilon: Epsilon) -> Images:
  """Moves each image into the cube of half-width `epsilon` around its centre, then into [0, 1].

  ```python
  noisy = images + 0.1 * jax.random.normal(key, images.shape)
  nearby = attacks.project_linf(noisy, images, epsilon=8 / 255)
  assert (attacks.norms(nearby - images, norm="linf") < 8 / 255 + 1e-6).all()
  ```
  """
  return jnp.clip(jnp.clip(images, centers - epsilon, centers + epsilon), 0.0, 1.0)


@checks.inputs(values="never")
def project_l2(images: Images, centers: Images, *, epsilon: Epsilon) -> Images:
  """Moves each image into the ball of radius `epsilon` around its centre, then into [0, 1].

  Clipping moves towards the centre, so the result is in the ball as well.

  ```python
  noisy = images + 0.1 * jax.random.normal(key, images.shape)
  nearby = attacks.project_l2(noisy, images, epsilon=0.5)
  assert (attacks.norms(nearby - images, norm="l2") < 0.5 + 1e-5).all()
  ```
  """
  delta = images - centers
  scale = jnp.minimum(1.0, epsilon / jnp.maximum(norms(delta, norm="l2"), _TINY))
  return jnp.clip(centers + delta * per_image(scale), 0.0, 1.0)


@checks.inputs(values="never")
def project(images: Images, centers: Images, *, epsilon: Epsilon, norm: str) -> Images:
  """Returns the feasible image; `centers` are the clean images, in [0, 1].

  ```python
  noisy = images + 0.1 * jax.random.normal(key, images.shape)
  nearby = attacks.project(noisy, images, epsilon=0.5, norm="l2")
  ```
  """
  check_norm(norm)
  function = project_linf if norm == "linf" else project_l2
  return function(images, centers, epsilon=epsilon)


def steepest(gradients: Images, *, norm: str) -> Images:
  """Returns the direction of unit norm with the largest inner product; 0 for a zero gradient."""
  check_norm(norm)
  if norm == "linf":
    return jnp.sign(gradients)
  return gradients / per_image(jnp.maximum(norms(gradients, norm="l2"), _TINY))


def random_directions(keys: PRNGKeys, shape: Sequence[int], *, norm: str) -> Images:
  """Draws one point per key, of the shape of one image, uniformly from the unit ball."""
  check_norm(norm)
  shape = tuple(shape)
  if norm == "linf":
    return jax.vmap(lambda key: jax.random.uniform(key, shape, minval=-1.0, maxval=1.0))(keys)

  def draw(key: Array) -> Array:
    key_direction, key_radius = jax.random.split(key)
    direction = jax.random.normal(key_direction, shape)
    radius = jax.random.uniform(key_radius) ** (1.0 / direction.size)
    return direction * (radius / jnp.sqrt(jnp.sum(direction**2)))

  return jax.vmap(draw)(keys)


@checks.inputs(values="never")
def largest_violation(images: Images, centers: Images, *, epsilon: Epsilon, norm: str) -> Scalar:
  """Returns by how much the worst image leaves its ball or the box; <= 0 if none does.

  ```python
  adversarial = attacks.fgsm(key, logits_fn, images, labels, epsilon=8 / 255)
  assert attacks.largest_violation(adversarial, images, epsilon=8 / 255, norm="linf") < 1e-6
  ```
  """
  outside = jnp.max(norms(images - centers, norm=norm)) - epsilon
  return jnp.maximum(outside, jnp.maximum(jnp.max(images) - 1.0, -jnp.min(images)))


def pick(logits: Logits, labels: Labels) -> PerExample:
  """Returns the logit of each label."""
  checks.class_numbers("attacks", "labels", labels, logits.shape[-1])
  return jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]


def largest_other(logits: Logits, labels: Labels) -> PerExample:
  """Returns the largest logit among the classes other than the label."""
  own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
  return jnp.max(jnp.where(own, -jnp.inf, logits), axis=-1)


def cross_entropy(logits: Logits, labels: Labels) -> PerExample:
  """Returns `-log softmax(z)_y`."""
  return -pick(jax.nn.log_softmax(logits), labels)


def margin(logits: Logits, labels: Labels) -> PerExample:
  """Returns `max_{j != y} z_j - z_y`, positive where the prediction is wrong.

  Paper: Carlini & Wagner 2017, arXiv:1608.04644, f_6.
  """
  return largest_other(logits, labels) - pick(logits, labels)


def difference_of_logits_ratio(logits: Logits, labels: Labels) -> PerExample:
  """Returns `-(z_y - max_{j != y} z_j) / (z_(1) - z_(3))`, blind to shift and scale of z.

  Paper: Croce & Hein 2020, arXiv:2003.01690, eq. 6.

  Deviation: with two classes there is no z_(3) and the ratio with z_(2) would be constant, so the
  margin alone is returned.
  """
  if logits.shape[-1] < 3:
    return margin(logits, labels)
  ordered = jnp.sort(logits, axis=-1)
  return margin(logits, labels) / (ordered[:, -1] - ordered[:, -3] + _TINY)


def targeted_difference_of_logits_ratio(
  logits: Logits, labels: Labels, targets: Labels
) -> PerExample:
  """Returns `-(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2)`.

  Paper: Croce & Hein 2020, arXiv:2003.01690, eq. 7.

  Deviation: with three classes the denominator is `z_(1) - z_(3)`, with two it is 1.
  """
  gap, num_classes = pick(logits, targets) - pick(logits, labels), logits.shape[-1]
  if num_classes < 3:
    return gap
  ordered = jnp.sort(logits, axis=-1)
  low = ordered[:, -3] if num_classes == 3 else 0.5 * (ordered[:, -3] + ordered[:, -4])
  return gap / (ordered[:, -1] - low + _TINY)


OBJECTIVES: dict[str, Callable] = {
  "ce": cross_entropy,
  "margin": margin,
  "dlr": difference_of_logits_ratio,
}


def objective(loss: str | Callable, labels: Labels, *, targeted: bool) -> Callable:
  """Returns `logits -> value[N]`, to be maximised: the loss, negated if `targeted`."""
  if isinstance(loss, str):
    known = registry.lookup(OBJECTIVES, loss, field="attacks: loss")
    return objective(known, labels, targeted=targeted)
  sign = -1.0 if targeted else 1.0
  return lambda logits: sign * loss(logits, labels)


@checks.inputs(values="always")
def fooled(logits: Logits, labels: Labels, *, targeted: bool = False) -> jax.Array:
  """Returns whether the attack reached its aim: another label, or the target.

  ```python
  adversarial = attacks.fgsm(key, logits_fn, images, labels, epsilon=8 / 255)
  success_rate = attacks.fooled(logits_fn(adversarial), labels).mean()
  ```
  """
  hit = jnp.argmax(logits, axis=-1) == labels
  return hit if targeted else ~hit
