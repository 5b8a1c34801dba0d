# SPDX-License-Identifier: Apache-2.0
"""The threat model: a norm ball around each image, inside the pixel box [0, 1]."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from mixboost_jax import checks
from mixboost_jax.array_types import Images, PerExample, PRNGKeys, Scalar

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
  """Returns the norm of each perturbation, in pixel units of [0, 1]."""
  check_norm(norm)
  flat = delta.reshape(delta.shape[0], -1)
  if norm == "linf":
    return jnp.max(jnp.abs(flat), axis=1)
  return jnp.sqrt(jnp.sum(flat**2, axis=1))


@checks.inputs(values="never")
def project_linf(images: Images, centers: Images, *, epsilon: Epsilon) -> Images:
  """Moves each image into the cube of half-width `epsilon` around its centre, then into [0, 1]."""
  return jnp.clip(jnp.clip(images, centers - epsilon, centers + epsilon), 0.0, 1.0)


@checks.inputs(values="never")
def project_l2(images: Images, centers: Images, *, epsilon: Epsilon) -> Images:
  """Moves each image into the ball of radius `epsilon` around its centre, then into [0, 1].

  Clipping moves towards the centre, so the result is in the ball as well.
  """
  delta = images - centers
  scale = jnp.minimum(1.0, epsilon / jnp.maximum(norms(delta, norm="l2"), _TINY))
  return jnp.clip(centers + delta * per_image(scale), 0.0, 1.0)


PROJECTIONS = {"linf": project_linf, "l2": project_l2}


@checks.inputs(values="never")
def project(images: Images, centers: Images, *, epsilon: Epsilon, norm: str) -> Images:
  """Returns the feasible image; `centers` are the clean images, in [0, 1].

  Raises:
    ValueError: if the norm is unknown.
  """
  check_norm(norm)
  return PROJECTIONS[norm](images, centers, epsilon=epsilon)


def steepest(gradients: Images, *, norm: str) -> Images:
  """Returns the direction of unit norm with the largest inner product; 0 for a zero gradient."""
  check_norm(norm)
  if norm == "linf":
    return jnp.sign(gradients)
  return gradients / per_image(jnp.maximum(norms(gradients, norm="l2"), _TINY))


def random_directions(keys: PRNGKeys, shape: Sequence[int], *, norm: str) -> Images:
  """Draws one point per key uniformly from the unit ball of the norm.

  Args:
    keys: one per example.
    shape: of one image.
    norm: "linf" or "l2".
  """
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
  """Returns by how much the worst image leaves its ball or the box; <= 0 if none does."""
  outside = jnp.max(norms(images - centers, norm=norm)) - epsilon
  return jnp.maximum(outside, jnp.maximum(jnp.max(images) - 1.0, -jnp.min(images)))
