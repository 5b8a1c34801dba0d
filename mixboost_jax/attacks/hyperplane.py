# SPDX-License-Identifier: Apache-2.0
"""The shortest way from a point to a hyperplane without leaving the box [0, 1].

Minimise ||d|| subject to <w, x + d> = b and 0 <= x + d <= 1. Every coordinate moves in the
direction that helps, by `min(t * rate_i, room_i)`, where `room_i` is its distance to the wall; the
progress is a concave, piecewise linear function of t whose root is found by sorting its kinks.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mixboost_jax.array_types import PerExample
from mixboost_jax.attacks import projections

_TINY = 1e-30


def to_hyperplane(
  points: Float[Array, "N D"],
  normals: Float[Array, "N D"],
  offsets: PerExample,
  *,
  norm: str,
) -> Float[Array, "N D"]:
  """Returns the displacement `d` of least norm with `<normals, points + d> = offsets`.

  Paper: Croce & Hein 2020 (FAB), arXiv:1907.02044, eq. 6 and Sec. 2.2.

  Args:
    points: in [0, 1].
    normals: w; a zero row gives a zero displacement.
    offsets: b.
    norm: "linf" or "l2".

  Returns:
    The displacement; where the box does not meet the hyperplane, the one that comes closest.
  """
  projections.check_norm(norm)
  scale = jnp.maximum(jnp.max(jnp.abs(normals), axis=1, keepdims=True), _TINY)
  normals = normals / scale
  change = offsets / scale[:, 0] - jnp.sum(normals * points, axis=1)
  weight = jnp.abs(normals)
  direction = jnp.sign(normals) * jnp.sign(change)[:, None]
  room = jnp.where(direction > 0, 1 - points, jnp.where(direction < 0, points, 0.0))
  rate = jnp.ones_like(weight) if norm == "linf" else weight
  kinks = jnp.where(weight > 0, room / jnp.maximum(rate, _TINY), 0.0)
  extent = _root(kinks, gains=weight * rate, full=weight * room, wanted=jnp.abs(change))
  return direction * jnp.minimum(extent[:, None] * rate, room)


def _root(
  kinks: Float[Array, "N D"],
  *,
  gains: Float[Array, "N D"],
  full: Float[Array, "N D"],
  wanted: PerExample,
) -> PerExample:
  """Returns the least t with `sum_i min(gains_i * t, full_i) = wanted`; the last kink if none."""
  order = jnp.argsort(kinks, axis=1)
  kinks = jnp.take_along_axis(kinks, order, axis=1)
  gains = jnp.take_along_axis(gains, order, axis=1)
  full = jnp.take_along_axis(full, order, axis=1)
  done = jnp.cumsum(full, axis=1)
  open_gains = jnp.cumsum(gains[:, ::-1], axis=1)[:, ::-1]  # of this coordinate and all later ones
  progress = done + kinks * (open_gains - gains)  # at each kink
  reached = progress >= wanted[:, None]
  first = jnp.argmax(reached, axis=1)[:, None]
  before = jnp.take_along_axis(done - full, first, axis=1)[:, 0]
  slope = jnp.take_along_axis(open_gains, first, axis=1)[:, 0]
  extent = (wanted - before) / jnp.maximum(slope, _TINY)
  return jnp.where(jnp.any(reached, axis=1), extent, kinks[:, -1])
