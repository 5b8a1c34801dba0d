# SPDX-License-Identifier: Apache-2.0
"""Rewrites any function so that its convolutions have the layout that XLA:CPU is fast at.

XLA:CPU has a fast kernel for one order of axes: batch, space, channels for both sides and space,
input channels, output channels for the kernel. A convolution of another order is the same up to
transpositions around it. The function is traced, and each such equation of the program, in inner
programs too, is exchanged for a call of its equivalent; everything else stays as it was traced.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core
from jaxtyping import Array

_CONVOLUTION = "conv_general_dilated"
_FAST_TYPES = (jnp.float32, jnp.float16, jnp.bfloat16)  # others have no fast kernel


def in_fast_layout(fn: Callable, *, differentiated: bool = False) -> Callable:
  """Returns a function equal to `fn` whose convolutions are fast on CPU, also inside loops.

  Gradients that `fn` takes itself are part of its program and rewritten with it.

  Args:
    fn: any traceable function of arrays; it may close over others.
    differentiated: whether the caller differentiates the result. Its convolutions then get a rule
      for reverse mode, by which their gradients are in the fast layout too; forward mode is not
      possible.
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
  if isinstance(value, core.ClosedJaxpr):
    inner = _rewrite(value.jaxpr, differentiated)
    return value if inner is value.jaxpr else value.replace(jaxpr=inner)
  if isinstance(value, core.Jaxpr):
    equations = [_rewrite_equation(equation, differentiated) for equation in value.eqns]
    changed = _differ(equations, value.eqns)
    return value.replace(eqns=equations) if changed else value
  if type(value) is tuple:
    parts = tuple(_rewrite(part, differentiated) for part in value)
    return parts if _differ(parts, value) else value
  return value


def _rewrite_equation(equation: Any, differentiated: bool) -> Any:
  name = equation.primitive.name
  if name == _CONVOLUTION and equation.outvars[0].aval.dtype in _FAST_TYPES:
    fast = not differentiated and _has_fast_layout(equation.params)
    return equation if fast else _exchange(equation, differentiated)
  if name.startswith(("custom_jvp_call", "custom_vjp_call")):
    differentiated = False  # by a rule of its own, not by what is inside
  params = {name: _rewrite(value, differentiated) for name, value in equation.params.items()}
  changed = _differ(params.values(), equation.params.values())
  return equation.replace(params=params) if changed else equation


def _differ(new: Any, old: Any) -> bool:
  return any(a is not b for a, b in zip(new, old, strict=True))


def _exchange(equation: Any, differentiated: bool) -> Any:
  """Returns the call of an equivalent function in place of a convolution."""
  convolution = functools.partial(_convolve, params=equation.params)
  if differentiated:
    convolution = _with_fast_gradients(convolution, equation)
  avals = [variable.aval for variable in equation.invars]
  (call,) = jax.make_jaxpr(jax.jit(convolution))(*avals).eqns
  return call.replace(
    invars=equation.invars,
    outvars=equation.outvars,
    source_info=equation.source_info,
    ctx=equation.ctx,
  )


def _with_fast_gradients(convolution: Callable, equation: Any) -> Callable:
  """Gives a convolution the gradients that JAX derives from the equation, rewritten."""
  original = functools.partial(equation.primitive.bind, **equation.params)

  def pull(inputs: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
    return jax.vjp(original, inputs, kernel)[1](cotangent)

  with_rule = jax.custom_vjp(convolution)
  with_rule.defvjp(
    lambda inputs, kernel: (convolution(inputs, kernel), (inputs, kernel)),
    lambda kept, cotangent: in_fast_layout(pull)(*kept, cotangent),
  )
  return with_rule


def _convolve(inputs: Array, kernel: Array, *, params: dict[str, Any]) -> Array:
  """Computes a convolution of any order of axes by one in the fast layout."""
  numbers = params["dimension_numbers"]
  inputs = inputs.transpose(_channels_last(numbers.lhs_spec))
  kernel = kernel.transpose((*numbers.rhs_spec[2:], numbers.rhs_spec[1], numbers.rhs_spec[0]))
  params = params | {"dimension_numbers": _fast_numbers(inputs.ndim)}
  groups = params["batch_group_count"]
  if groups > 1:  # groups of examples are as good as groups of channels
    num, *sizes, channels = inputs.shape
    inputs = jnp.moveaxis(inputs.reshape(groups, num // groups, *sizes, channels), 0, -2)
    inputs = inputs.reshape(num // groups, *sizes, groups * channels)
    params |= {"batch_group_count": 1, "feature_group_count": groups}
  out = lax.conv_general_dilated_p.bind(inputs, kernel, **params)
  return out.transpose([int(axis) for axis in np.argsort(_channels_last(numbers.out_spec))])


def _channels_last(spec: tuple[int, ...]) -> tuple[int, ...]:
  return (spec[0], *spec[2:], spec[1])


def _fast_numbers(rank: int) -> lax.ConvDimensionNumbers:
  features = (0, rank - 1, *range(1, rank - 1))
  kernel = (rank - 1, rank - 2, *range(rank - 2))
  return lax.ConvDimensionNumbers(features, kernel, features)


def _has_fast_layout(params: dict[str, Any]) -> bool:
  numbers = params["dimension_numbers"]
  return params["batch_group_count"] == 1 and numbers == _fast_numbers(len(numbers.lhs_spec))
