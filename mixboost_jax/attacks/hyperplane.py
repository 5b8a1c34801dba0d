# SPDX-License-Identifier: Apache-2.0
"""The shortest way from a point to a hyperplane without leaving the box [0, 1].

Minimise ||d|| subject to <w, x + d> = b and 0 <= x + d <= 1. Every coordinate moves in the
direction that helps, by `min(t * rate_i, room_i)`, where `room_i` is its distance to the wall; the
progress is a concave, piecewise linear function of t whose root Newton's method finds from the left
in a few steps, without sorting its kinks.
"""

import jax
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
