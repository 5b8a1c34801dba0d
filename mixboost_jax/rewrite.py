# SPDX-License-Identifier: Apache-2.0
"""Rewrites any function: convolutions and poolings fast on XLA:CPU, gradients through rounding.

The function is traced. Each equation of the program, in inner programs too, that is slow on CPU is
exchanged for a call of its equivalent (`conv_layout.py`, `pool_gradient.py`); everything else stays
as it was traced. In the same way rounding is exchanged for a call that passes gradients.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
_ROUNDING, _CAST = ("round", "floor", "ceil"), "convert_element_type"
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
    rewritten = _rewrite(program, functools.partial(_fast, differentiated=differentiated))
    leaves = core.jaxpr_as_fun(rewritten)(*jax.tree.leaves(arguments))
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)

  return run


def straight_through(fn: Callable) -> Callable:
  """Returns a function of the values of `fn` that lets the gradient pass through rounding.

  Rounding (`round`, `floor`, `ceil`, a cast to integers and back) has no gradient; here it counts
  as the identity, wherever in the program it stands. A rule of its own that a part of `fn` brings
  along (`jax.custom_vjp`) stays.

  Paper: Athalye et al. 2018, arXiv:1802.00420, Sec. 4.1 (BPDA with the identity).

  Args:
    fn: any traceable function of arrays; it may close over others.

  Returns:
    A function of the same positional arguments.
  """

  @functools.wraps(fn)
  def run(*arguments: Any) -> Any:
    program, shapes = jax.make_jaxpr(fn, return_shape=True)(*arguments)
    rewritten = _rewrite(program, _passing)
    leaves = core.jaxpr_as_fun(rewritten)(*jax.tree.leaves(arguments))
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)

  return run


def rounds(fn: Callable, *arguments: Any) -> bool:
  """Returns whether `straight_through` changes `fn` for arguments of these shapes."""
  program = jax.make_jaxpr(fn)(*arguments)
  return _rewrite(program, _passing) is not program


class _Exchange(NamedTuple):
  """What stands in for an equation: a function of some variables of its program."""

  function: Callable[..., Array]
  operands: list[Any]


_Choose = Callable[[Any, Mapping[Any, Any], bool], _Exchange | None]
"""`(equation, which equation made each variable, whether inside a rule of its own)`."""


def _rewrite(value: Any, choose: _Choose, has_rule: bool = False) -> Any:
  """Rewrites a program, or all that a parameter of an equation holds; the same object if none."""
  if isinstance(value, core.Jaxpr):  # from JAX 0.11 on closed programs too, so it goes first
    makers = {variable: made for made in value.eqns for variable in made.outvars}
    equations = [_rewrite_equation(one, choose, makers, has_rule) for one in value.eqns]
    changed = _differ(equations, value.eqns)
    return value.replace(eqns=equations) if changed else value
  if isinstance(value, core.ClosedJaxpr):
    inner = _rewrite(value.jaxpr, choose, has_rule)
    return value if inner is value.jaxpr else value.replace(jaxpr=inner)
  if type(value) is tuple:
    parts = tuple(_rewrite(part, choose, has_rule) for part in value)
    return parts if _differ(parts, value) else value
  return value


def _rewrite_equation(
  equation: Any, choose: _Choose, makers: Mapping[Any, Any], has_rule: bool
) -> Any:
  exchange = choose(equation, makers, has_rule)
  if exchange is not None:
    return _exchange(equation, exchange)
  has_rule |= equation.primitive.name.startswith(("custom_jvp_call", "custom_vjp_call"))
  params = {name: _rewrite(value, choose, has_rule) for name, value in equation.params.items()}
  changed = _differ(params.values(), equation.params.values())
  return equation.replace(params=params) if changed else equation


def _fast(
  equation: Any, makers: Mapping[Any, Any], has_rule: bool, *, differentiated: bool
) -> _Exchange | None:
  """Chooses what is faster; what has a rule of its own is not differentiated by what is inside."""
  del makers
  function = _equivalent(equation, differentiated and not has_rule)
  return None if function is None else _Exchange(function, equation.invars)


def _passing(equation: Any, makers: Mapping[Any, Any], has_rule: bool) -> _Exchange | None:
  """Chooses what has the same value and passes the gradient."""
  name, operands = equation.primitive.name, equation.invars
  if has_rule or not jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.floating):
    return None
  if name in _ROUNDING:
    return _Exchange(
      _as_identity(functools.partial(equation.primitive.bind, **equation.params)), operands
    )
  made = None if isinstance(operands[0], core.Literal) else makers.get(operands[0])
  if name != _CAST or made is None or made.primitive.name != _CAST:
    return None
  before, between, after = made.invars[0].aval, operands[0].aval, equation.outvars[0].aval
  if not jnp.issubdtype(before.dtype, jnp.floating) or before.dtype != after.dtype:
    return None
  if not jnp.issubdtype(between.dtype, jnp.integer):
    return None
  return _Exchange(_as_identity(lambda x: x.astype(between.dtype).astype(after.dtype)), made.invars)


def _as_identity(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
  """Gives a function the derivative of the identity."""
  passing = jax.custom_jvp(function)
  passing.defjvp(lambda primals, tangents: (function(*primals), tangents[0]))
  return passing


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


def _exchange(equation: Any, exchange: _Exchange) -> Any:
  """Returns the call of a function in place of an equation."""
  avals = [variable.aval for variable in exchange.operands]
  (call,) = jax.make_jaxpr(jax.jit(exchange.function))(*avals).eqns
  return call.replace(
    invars=exchange.operands,
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
