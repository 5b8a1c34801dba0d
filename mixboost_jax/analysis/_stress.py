# SPDX-License-Identifier: Apache-2.0
"""Prediction-change stress: how often the label differs on a small sphere around a picture.

Paper: Eghbal-zadeh 2020, "On the Inductive Biases in Data Augmentation and Adversarial
Robustness" (lecture), slides "Stress Analysis": with y_ij drawn from the sphere of radius epsilon
around x'_i, stress = 1/s sum_i 1/n sum_j 1[f(x'_i) != f(y_ij)].

Symbols: s -> pictures, n -> `num_neighbours`, x' -> `images`, u -> a direction of unit norm,
y = x' + epsilon u. Neighbours are not clipped to [0, 1]: they stay on the sphere.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mixboost_jax import checks, loops, metrics
from mixboost_jax import keys as keys_lib
from mixboost_jax.array_types import AnyKey, Images, LogitsFn, PRNGKeys

NORMS = ("l2", "linf")


class Stress(NamedTuple):
  """Stress of a set of pictures at every radius, with two intervals.

  Attributes:
    value: shares in [0, 1].
    low: lower ends for these very pictures, whose neighbours alone are random: exact binomial.
      The pictures differ in their rates; a sum of such draws varies less than a binomial one of
      the same mean (Hoeffding 1956, Ann. Math. Stat. 27, p. 713), so they hold at least their
      level.
    high: upper ends.
    picture_low: lower ends if the pictures are a sample of more: by Student's t over pictures, and
      never above `low`.
    picture_high: upper ends.
  """

  value: Float[np.ndarray, " E"]
  low: Float[np.ndarray, " E"]
  high: Float[np.ndarray, " E"]
  picture_low: Float[np.ndarray, " E"]
  picture_high: Float[np.ndarray, " E"]


@checks.inputs()
def sphere_directions(key: AnyKey, images: Images, *, norm: str = "l2") -> Images:
  """Draws one direction of unit norm per picture, uniformly on the surface of the unit ball.

  `linf`: one entry, any, is -1 or 1, and the others are uniform in [-1, 1].

  ```python
  neighbours = images + 0.5 * analysis.sphere_directions(key, images)
  assert jnp.allclose(jnp.sum((neighbours - images) ** 2, axis=(1, 2, 3)), 0.25, rtol=1e-4)
  ```

  Args:
    key: one key, or one per picture.
    images: pictures, of which only the shape matters.
    norm: "l2" or "linf".
  """
  if norm not in NORMS:
    raise ValueError(f"analysis: norm must be one of {', '.join(NORMS)}, got {norm!r}.")
  shape = images.shape[1:]

  def on_ball(each: Array) -> Array:
    normal = jax.random.normal(each, shape)
    return normal / jnp.sqrt(jnp.sum(normal**2))

  def on_cube(each: Array) -> Array:
    key_rest, key_face, key_side = jax.random.split(each, 3)
    flat = jax.random.uniform(key_rest, shape, minval=-1.0, maxval=1.0).reshape(-1)
    face = jax.random.randint(key_face, (), 0, flat.size)
    side = jnp.where(jax.random.bernoulli(key_side), 1.0, -1.0)
    return flat.at[face].set(side).reshape(shape)

  each = keys_lib.per_example(key, len(images))
  return jax.vmap(on_ball if norm == "l2" else on_cube)(each)


@checks.inputs(values="never")
def prediction_changes(
  key: AnyKey,
  logits_fn: LogitsFn,
  images: Images,
  *,
  epsilons: Sequence[float],
  num_neighbours: int,
  norm: str = "l2",
) -> Int[Array, "N E"]:
  """Counts the neighbours of each picture that get another label than the picture.

  The directions of a picture are the same at every radius, scaled, and hang on its own key alone.

  ```python
  options = {"epsilons": (0.1, 1.0), "num_neighbours": 10}
  changes = analysis.prediction_changes(key, logits_fn, images, **options)  # [8, 2]
  ```

  Args:
    key: one key, or one per picture.
    logits_fn: images -> logits.
    images: reference points: clean pictures, or what an attack made of them.
    epsilons: radii of the spheres, in pixel units of [0, 1].
    num_neighbours: directions per picture, >= 1.
    norm: "l2" or "linf".

  Returns:
    For each picture and radius a number in 0 .. `num_neighbours`.
  """
  if num_neighbours < 1 or not epsilons or min(epsilons) < 0:
    raise ValueError(
      "analysis.prediction_changes: expected num_neighbours >= 1 and one or more radii >= 0, got "
      f"{num_neighbours} and {tuple(epsilons)}."
    )
  each = keys_lib.per_example(key, len(images))
  radii = jnp.asarray(epsilons, jnp.float32)
  labels = jnp.argmax(logits_fn(images), axis=-1)

  def at_one_radius(
    directions: Images, radius: Float[Array, ""]
  ) -> tuple[Images, Int[Array, " N"]]:
    found = jnp.argmax(logits_fn(images + radius * directions), axis=-1)
    return directions, (found != labels).astype(jnp.int32)

  def one_neighbour(index: Array, counts: Int[Array, "E N"]) -> Int[Array, "E N"]:
    directions = sphere_directions(_folded(each, index), images, norm=norm)
    return counts + loops.scan(at_one_radius, directions, radii)[1]

  start = jnp.zeros((len(radii), len(images)), jnp.int32)
  return loops.repeat(one_neighbour, start, num_neighbours).T


@checks.inputs()
def prediction_change_stress(
  changes: Int[np.ndarray, "N E"], *, num_neighbours: int, confidence: float = 0.95
) -> Stress:
  """Sums `prediction_changes` up.

  ```python
  changes = np.array([[0, 5], [1, 7]])  # two pictures, two radii
  stress = analysis.prediction_change_stress(changes, num_neighbours=10)
  assert np.allclose(stress.value, [0.05, 0.6])
  ```

  Args:
    changes: counts, from `prediction_changes`; those of several batches one below the other.
    num_neighbours: that each count is of.
    confidence: level of the intervals, in (0, 1).

  Raises:
    ValueError: if a count is larger than `num_neighbours`.
  """
  num = len(changes)
  if not num or changes.max() > num_neighbours or changes.min() < 0:
    raise ValueError(
      f"analysis.prediction_change_stress: expected counts in 0 .. {num_neighbours} of at least "
      f"one picture, got {changes.shape} of {changes.min(initial=0)} .. {changes.max(initial=0)}."
    )
  totals = [int(column.sum(dtype=np.int64)) for column in changes.T]
  ends = np.array(
    [metrics.clopper_pearson(t, num * num_neighbours, confidence=confidence) for t in totals]
  )
  rates = changes / num_neighbours
  low, high = ends.T
  picture_low, picture_high = low, high
  if num > 1:
    stderr = rates.std(axis=0, ddof=1) / num**0.5
    between = metrics.student_interval(rates.mean(0), stderr, count=num, confidence=confidence)
    picture_low = np.clip(between[0], 0.0, low)
    picture_high = np.clip(between[1], high, 1.0)
  return Stress(rates.mean(axis=0), low, high, picture_low, picture_high)


def _folded(each: PRNGKeys, index: Int[Array, ""]) -> PRNGKeys:
  return jax.vmap(jax.random.fold_in, in_axes=(0, None))(each, index)
