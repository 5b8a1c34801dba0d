# SPDX-License-Identifier: Apache-2.0
"""The one place that decides how a loop around a network is compiled.

On CPU, XLA is fast at convolutions of one layout. Others, such as those of gradients that JAX
derives, it brings to that layout outside loops but not inside a `while` body, where they run up to
a hundred times slower (`benchmarks/loops.py`). So the body of a loop is rewritten first
(`rewrite.py`), whoever wrote the network; on accelerators nothing is changed. Every attack,
estimator and multi-step training call goes through `scan`, `repeat` or `map_rows`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mixboost_jax import rewrite, target

Carry = TypeVar("Carry")


def scan(
  body: Callable[[Carry, Any], tuple[Carry, Any]],
  init: Carry,
  xs: Any = None,
  *,
  length: int | None = None,
  differentiated: bool = False,
  backend: str | None = None,
) -> tuple[Carry, Any]:
  """`jax.lax.scan`, with the convolutions of the body in the layout that the backend is fast at.

  Args:
    body: `(carry, x) -> (carry, y)`; it may differentiate a network.
    init: first carry.
    xs: as `length`, see `jax.lax.scan`.
    length: number of iterations if `xs` is None.
    differentiated: whether the caller differentiates through the loop (reverse mode only).
    backend: platform name; `target.platform()` if None.
  """
  if (backend or target.platform()) == "cpu":
    body = rewrite.fast_on_cpu(body, differentiated=differentiated)
  return jax.lax.scan(body, init, xs, length=length)


def repeat(
  body: Callable[[Any, Carry], Carry],
  init: Carry,
  num_steps: int | Int[Array, ""],
  *,
  backend: str | None = None,
) -> Carry:
  """Applies `carry = body(i, carry)` for `i` in `range(num_steps)`; options as of `scan`.

  The number of steps may be traced; then the loop cannot be differentiated.
  """
  if (backend or target.platform()) == "cpu":
    body = rewrite.fast_on_cpu(body)
  return jax.lax.fori_loop(0, num_steps, body, init)


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
    max_rows: rows per call; by default 128 on CPU (1,024 if differentiated, since several chunks
      are recomputed) and 4,096 on accelerators.
    has_gradient: whether the caller differentiates `fn`.
    backend: platform name; `target.platform()` if None.
  """
  if max_rows is None:
    on_cpu = (backend or target.platform()) == "cpu"
    max_rows = (1024 if has_gradient else 128) if on_cpu else 4096
  if num_rows < 1 or max_rows < 1:
    raise ValueError(f"loops.map_rows: expected positive counts, got {num_rows=}, {max_rows=}.")
  num_chunks = -(-num_rows // max_rows)
  if num_chunks == 1:
    return fn(jnp.arange(num_rows))
  size = -(-num_rows // num_chunks)
  rows = jnp.minimum(jnp.arange(num_chunks * size), num_rows - 1).reshape(num_chunks, size)
  body = jax.checkpoint(fn) if has_gradient else fn

  def step(carry: Any, chunk: Any) -> tuple[Any, Any]:
    return carry, body(chunk)

  _, chunks = scan(step, 0, rows, differentiated=has_gradient, backend=backend)
  return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_rows], chunks)
