# SPDX-License-Identifier: Apache-2.0
"""The one place that decides how a loop around a network is compiled.

On CPU, XLA is fast at convolutions of one layout (NHWC input, HWIO kernel). Others, such as those
of gradients that JAX derives, are rewritten to it outside loops but not inside a `while` body,
where they run several times slower (`benchmarks/loops.py`). The built-in networks keep to
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
  differentiated: bool = False,
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
    differentiated: whether the caller differentiates through the loop.
    backend: platform name; the default backend if None.

  Returns:
    Last carry and the stacked `y`.
  """
  if length is None:
    length = len(jax.tree.leaves(xs)[0])
  unroll = 1
  if length > 1 and (backend or jax.default_backend()) == "cpu":
    first = jax.tree.map(lambda x: jax.eval_shape(lambda v: v[0], x), xs)
    wanted = has_gradient or differentiated
    if wanted and has_slow_convolution(body, init, first, differentiated=differentiated):
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


def map_rows(
  fn: Callable[[Any], Any],
  num_rows: int,
  *,
  max_rows: int | None = None,
  has_gradient: bool = True,
  backend: str | None = None,
) -> Any:
  """Evaluates `fn(rows)` for `rows = arange(num_rows)`, at most `max_rows` of them at a time.

  Memory stays bounded however many draws an estimator asks for; under differentiation each chunk
  is recomputed in the backward pass instead of kept.

  Args:
    fn: `int[R] -> leaves with leading axis R`; row `i` of a leaf depends on `rows[i]` only.
    num_rows: number of rows, >= 1.
    max_rows: rows per call; by default 128 on CPU (1,024 if differentiated, where a loop would be
      copied out) and 4,096 on accelerators.
    has_gradient: whether the caller differentiates `fn`.
    backend: platform name; the default backend if None.

  Returns:
    The leaves with leading axis `num_rows`.
  """
  if max_rows is None:
    on_cpu = (backend or jax.default_backend()) == "cpu"
    max_rows = (1024 if has_gradient else 128) if on_cpu else 4096
  if num_rows < 1 or max_rows < 1:
    raise ValueError(f"loops.map_rows: expected positive counts, got {num_rows=}, {max_rows=}.")
  num_chunks = -(-num_rows // max_rows)
  if num_chunks == 1:
    return fn(jnp.arange(num_rows))
  size = -(-num_rows // num_chunks)
  rows = jnp.minimum(jnp.arange(num_chunks * size), num_rows - 1).reshape(num_chunks, size)
  body = jax.checkpoint(fn) if has_gradient else fn
  _, chunks = scan(
    lambda carry, chunk: (carry, body(chunk)),
    0,
    rows,
    has_gradient=False,
    differentiated=has_gradient,
    backend=backend,
  )
  return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_rows], chunks)


def has_slow_convolution(
  body: Callable[..., Any], *arguments: Any, differentiated: bool = False
) -> bool:
  """Returns whether `body` contains a convolution that XLA:CPU runs slowly inside a loop.

  Args:
    body: any function.
    *arguments: its arguments, or their shapes.
    differentiated: also count convolutions whose gradient would be slow: those for which JAX, not
      `models/conv.py`, derives it.
  """
  traced = jax.make_jaxpr(body)(*arguments)
  return any(
    equation.primitive.name == "conv_general_dilated" and (derived or _is_slow(equation))
    for equation, derived in _equations(traced.jaxpr, differentiated)
  )


def _is_slow(equation: Any) -> bool:
  found, parameters = equation.params["dimension_numbers"], equation.params
  grouped = parameters["feature_group_count"] > 1 or parameters["batch_group_count"] > 1
  return grouped or (found.lhs_spec, found.rhs_spec, found.out_spec) != _FAST_SPECS


def _equations(jaxpr: Any, derived: bool) -> Iterator[tuple[Any, bool]]:
  """Walks through all equations; the flag says whether JAX derives what it differentiates there."""
  for equation in jaxpr.eqns:
    yield equation, derived
    own_rule = equation.primitive.name.startswith("custom_vjp_call")
    for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
      if _is_program(inner):
        yield from _equations(getattr(inner, "jaxpr", inner), derived and not own_rule)


def _is_program(value: Any) -> bool:
  return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")
