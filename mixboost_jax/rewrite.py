# SPDX-License-Identifier: Apache-2.0
"""Rewrites any function so that XLA:CPU runs its convolutions and poolings fast, also in loops.

The function is traced. Each equation of the program, in inner programs too, that is slow on CPU is
exchanged for a call of its equivalent (`conv_layout.py`, `pool_gradient.py`); everything else stays
as it was traced.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array

from mixboost_jax import conv_layout, pool_gradient

_CONVOLUTION, _POOL, _POOL_GRADIENT = (
  "conv_general_dilated",
  "reduce_window_max",
  "select_and_scatter_add",
)
_EXCHANGED = (_CONVOLUTION, _POOL, _POOL_GRADIENT)
_TYPES = (jnp.float32, jnp.float16, jnp.bfloat16)  # others have no fast kernel


def fast_on_cpu(fn: Callable, *, differentiated: bool = False) -> Callable:
  """Returns a function equal to `fn` that is fast on CPU, also inside loops.

  Gradients that `fn` takes itself are part of its program and rewritten with it.

  Args:
    fn: any traceable function of arrays; it may close over others.
    differentiated: whether the caller differentiates the result. Convolutions and poolings then
      get a rule for reverse mode, which makes their gradients fast too; forward mode is not
      possible.

  Returns:
    A function of the same positional arguments.
  """

  @functools.wraps(fn)
  def run(*arguments: Any) -> Any:
    program, shapes = jax.make_jaxpr(fn, return_shape=True)(*arguments)
    rewritten = _rewrite(program, differentiated)
    leaves = core.jaxpr_as_fun(rewritten)(*jax.tree.leaves(arguments))
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)

  return run


def _rewrite(value: Any, differentiated: bool) -> Any:
  """Rewrites a program, or all that a parameter of an equation holds; the same object if none."""
  if isinstance(value, core.Jaxpr):  # from JAX 0.11 on closed programs too, so it goes first
    equations = [_rewrite_equation(equation, differentiated) for equation in value.eqns]
    changed = _differ(equations, value.eqns)
    return value.replace(eqns=equations) if changed else value
  if isinstance(value, core.ClosedJaxpr):
    inner = _rewrite(value.jaxpr, differentiated)
    return value if inner is value.jaxpr else value.replace(jaxpr=inner)
  if type(value) is tuple:
    parts = tuple(_rewrite(part, differentiated) for part in value)
    return parts if _differ(parts, value) else value
  return value


def _rewrite_equation(equation: Any, differentiated: bool) -> Any:
  name = equation.primitive.name
  equivalent = _equivalent(equation, differentiated)
  if equivalent is not None:
    return _exchange(equation, equivalent)
  if name.startswith(("custom_jvp_call", "custom_vjp_call")):
    differentiated = False  # by a rule of its own, not by what is inside
  params = {name: _rewrite(value, differentiated) for name, value in equation.params.items()}
  changed = _differ(params.values(), equation.params.values())
  return equation.replace(params=params) if changed else equation


def _equivalent(equation: Any, differentiated: bool) -> Callable[..., Array] | None:
  """Returns the function that an equation is exchanged for, or None if it stays."""
  name, params = equation.primitive.name, equation.params
  if name not in _EXCHANGED or equation.outvars[0].aval.dtype not in _TYPES:
    return None
  function = None
  if name == _CONVOLUTION and not conv_layout.is_fast(params, equation.invars[1].aval.shape):
    function = functools.partial(conv_layout.convolve, params=params)
  if name == _POOL_GRADIENT and pool_gradient.is_covered(params):
    return functools.partial(pool_gradient.scatter_to_maxima, params=params)
  if differentiated and name != _POOL_GRADIENT:
    original = functools.partial(equation.primitive.bind, **params)
    return _with_fast_gradients(original if function is None else function, original)
  return function


def _differ(new: Any, old: Any) -> bool:
  return any(a is not b for a, b in zip(new, old, strict=True))


def _exchange(equation: Any, equivalent: Callable[..., Array]) -> Any:
  """Returns the call of a function in place of an equation."""
  avals = [variable.aval for variable in equation.invars]
  (call,) = jax.make_jaxpr(jax.jit(equivalent))(*avals).eqns
  return call.replace(
    invars=equation.invars,
    outvars=equation.outvars,
    source_info=equation.source_info,
    ctx=equation.ctx,
  )


def _with_fast_gradients(function: Callable, original: Callable) -> Callable[..., Array]:
  """Gives a function the gradients that JAX derives from its original, rewritten."""

  def pull(arguments: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
    return jax.vjp(original, *arguments)[1](cotangent)

  with_rule = jax.custom_vjp(function)
  with_rule.defvjp(lambda *arguments: (function(*arguments), arguments), fast_on_cpu(pull))
  return with_rule
