# SPDX-License-Identifier: Apache-2.0
"""The one place that decides how a loop around a network is compiled.

On CPU, XLA lowers the gradient of a convolution inside a `while` body through a generic path that
is tens of times slower than the same convolution outside (see `benchmarks/`); on accelerators a
rolled loop runs at full speed and compiles once. Every attack, estimator and multi-step training
call therefore goes through `scan` or `repeat` of this module instead of `jax.lax`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Carry = TypeVar("Carry")

MAX_UNROLL = 16
"""Longest loop body copied out in full on CPU; longer loops are unrolled in groups of this size."""


def unroll_factor(length: int, *, has_gradient: bool = True, backend: str | None = None) -> int:
  """Returns how many iterations to copy out per turn of a compiled loop.

  Args:
    length: number of iterations.
    has_gradient: whether the body differentiates a convolution. A forward pass is fast in a loop.
    backend: platform name; the default backend if None.
  """
  if length < 1:
    return 1
  if (backend or jax.default_backend()) != "cpu" or not has_gradient:
    return 1
  return min(length, MAX_UNROLL)


def scan(
  body: Callable[[Carry, Any], tuple[Carry, Any]],
  init: Carry,
  xs: Any = None,
  *,
  length: int | None = None,
  has_gradient: bool = True,
  backend: str | None = None,
) -> tuple[Carry, Any]:
  """`jax.lax.scan`, unrolled where a rolled loop would be slow.

  Args:
    body: `(carry, x) -> (carry, y)`.
    init: first carry.
    xs: leaves with a leading axis, or None with `length`.
    length: number of iterations if `xs` is None.
    has_gradient: whether `body` differentiates a convolution.
    backend: platform name; the default backend if None.

  Returns:
    Last carry and the stacked `y`.
  """
  if length is None:
    length = len(jax.tree.leaves(xs)[0])
  unroll = unroll_factor(length, has_gradient=has_gradient, backend=backend)
  return jax.lax.scan(body, init, xs, length=length, unroll=unroll)


def repeat(
  body: Callable[[Any, Carry], Carry],
  init: Carry,
  num_steps: int,
  *,
  has_gradient: bool = True,
  backend: str | None = None,
) -> Carry:
  """Applies `carry = body(i, carry)` for `i` in `range(num_steps)`."""
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
    lambda carry, chunk: (carry, body(chunk)), 0, rows, has_gradient=has_gradient, backend=backend
  )
  return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_rows], chunks)
