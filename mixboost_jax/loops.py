# SPDX-License-Identifier: Apache-2.0
"""The one place that decides how a loop around a network is compiled.

On CPU, XLA is fast at convolutions of one layout (NHWC input, HWIO kernel). Others, such as those
of gradients that JAX derives, are rewritten to it outside loops but not inside a `while` body,
where they run more than ten times slower (`benchmarks/loops.py`). The built-in networks keep to
the fast layout (`models/conv_gradients.py`) and are looped over as they are; a body with a slow
convolution, as any other network's gradient has, is copied out instead. On accelerators nothing of
this matters. Every attack, estimator and multi-step training call goes through `scan` or `repeat`.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Carry = TypeVar("Carry")

MAX_UNROLL = 16
"""Longest slow body copied out in full on CPU; longer loops are unrolled in groups of this size."""

_FAST_SPECS = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
"""NHWC, HWIO, NHWC in the terms of `ConvDimensionNumbers`."""


def scan(
  body: Callable[[Carry, Any], tuple[Carry, Any]],
  init: Carry,
  xs: Any = None,
  *,
  length: int | None = None,
  has_gradient: bool = True,
  backend: str | None = None,
) -> tuple[Carry, Any]:
  """`jax.lax.scan`, copied out where a rolled loop would be slow.

  Args:
    body: `(carry, x) -> (carry, y)`.
    init: first carry.
    xs: leaves with a leading axis, or None with `length`.
    length: number of iterations if `xs` is None.
    has_gradient: whether `body` differentiates a network. If so it is traced once more, to see
      whether it holds a slow convolution.
    backend: platform name; the default backend if None.

  Returns:
    Last carry and the stacked `y`.
  """
  if length is None:
    length = len(jax.tree.leaves(xs)[0])
  unroll = 1
  if length > 1 and (backend or jax.default_backend()) == "cpu":
    first = jax.tree.map(lambda x: jax.eval_shape(lambda v: v[0], x), xs)
    if has_gradient and has_slow_convolution(body, init, first):
      unroll = min(length, MAX_UNROLL)
  return jax.lax.scan(body, init, xs, length=length, unroll=unroll)


def repeat(
  body: Callable[[Any, Carry], Carry],
  init: Carry,
  num_steps: int,
  *,
  has_gradient: bool = True,
  backend: str | None = None,
) -> Carry:
  """Applies `carry = body(i, carry)` for `i` in `range(num_steps)`; options as of `scan`."""
  steps = jnp.arange(num_steps)
  return scan(
    lambda carry, i: (body(i, carry), None), init, steps, has_gradient=has_gradient, backend=backend
  )[0]


def has_slow_convolution(body: Callable[..., Any], *arguments: Any) -> bool:
  """Returns whether `body` contains a convolution that XLA:CPU runs slowly inside a loop."""
  traced = jax.make_jaxpr(body)(*arguments)
  return any(_is_slow(equation) for equation in _equations(traced.jaxpr))


def _is_slow(equation: Any) -> bool:
  if equation.primitive.name != "conv_general_dilated":
    return False
  found, parameters = equation.params["dimension_numbers"], equation.params
  grouped = parameters["feature_group_count"] > 1 or parameters["batch_group_count"] > 1
  return grouped or (found.lhs_spec, found.rhs_spec, found.out_spec) != _FAST_SPECS


def _equations(jaxpr: Any) -> Iterator[Any]:
  """Walks through all equations, those of inner programs included."""
  for equation in jaxpr.eqns:
    yield equation
    for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
      if _is_program(inner):
        yield from _equations(getattr(inner, "jaxpr", inner))


def _is_program(value: Any) -> bool:
  return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")
