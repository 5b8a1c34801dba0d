# SPDX-License-Identifier: Apache-2.0
"""Runs a policy whose steps come from a constant table."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mixboost_jax.array_types import Images, PRNGKeys
from mixboost_jax.augment.apply import apply_steps
from mixboost_jax.augment.steps import Op, Steps, ops_of
from mixboost_jax.image.quantize import from_levels, to_levels

Draw = Callable[..., Steps]


def run_table(
  each: PRNGKeys, images: Images, table: Any, draw: Draw, *, fill: Any, formulation: str
) -> Images:
  """Draws steps of `table` with `draw(each, table) -> Steps[N, S]` and applies them.

  `table` is constant: Steps, or a tuple whose first member is. Compiled as one program per
  policy, also where the caller does not compile.
  """
  return _run(
    each,
    images,
    table,
    jnp.asarray(fill, jnp.float32),
    draw=_frozen(draw),
    ops=ops_of(table if isinstance(table, Steps) else table[0]),
    formulation=formulation,
  )


@functools.partial(jax.jit, static_argnames=("draw", "ops", "formulation"))
def _run(
  each: PRNGKeys,
  images: Images,
  table: Any,
  fill: jax.Array,
  *,
  draw: Any,
  ops: tuple[Op, ...],
  formulation: str,
) -> Images:
  function, keywords = draw
  steps = function(each, table, **dict(keywords))
  value = to_levels(jnp.broadcast_to(fill, images.shape[-1:]))
  levels = apply_steps(
    to_levels(images), steps, ops=ops, interpolation="nearest", fill=value, formulation=formulation
  )
  return from_levels(levels)


def index(u: jax.Array, size: int) -> jax.Array:
  """Turns uniform numbers in [0, 1) into uniform integers below `size`."""
  return jnp.minimum((u * size).astype(jnp.int32), size - 1)


def _frozen(draw: Draw) -> tuple[Any, tuple[tuple[str, Any], ...]]:
  """Makes a partial hashable by value, so that equal policies share one compiled program."""
  if isinstance(draw, functools.partial):
    return draw.func, tuple(sorted(draw.keywords.items()))
  return draw, ()
