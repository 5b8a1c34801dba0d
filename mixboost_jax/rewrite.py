# SPDX-License-Identifier: Apache-2.0
"""Rewrites any function: convolutions and poolings fast on XLA:CPU, other gradients.

The function is traced. Each equation of the program, in inner programs too, that is slow on CPU is
exchanged for a call of its equivalent; everything else stays as it was traced. In the same way
rounding is exchanged for a call that passes gradients, and a marked residual branch for one that
shrinks them.

XLA:CPU convolves fast in one order of axes: batch, space, channels for both sides and space, input
channels, output channels for the kernel. A convolution of another order is the same up to
transpositions around it. One of each channel by itself is written out as shifted products, since
that kernel is slow at groups, and the gradient of max-pooling goes without XLA's slow
select-and-scatter.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core
from jaxtyping import Array

from mixboost_jax import checks

_CONVOLUTION, _POOL, _POOL_GRADIENT = _EXCHANGED = (
  "conv_general_dilated",
  "reduce_window_max",
  "select_and_scatter_add",
)
_ROUNDING, _CAST = ("round", "floor", "ceil"), "convert_element_type"
RESIDUAL = "residual_branch"
"""What `mark_residual` calls the output of a residual branch."""
_NAME = "name"  # the primitive of `jax.ad_checkpoint.checkpoint_name`, an identity
_TYPES = (jnp.float32, jnp.float16, jnp.bfloat16)  # others have no fast kernel
_MAX_TAPS = 64  # places of a kernel, up to 8x8, that a depthwise convolution is written out for
_MAX_PLACES = 64  # of a window, up to 8x8, that are written out


def fast_on_cpu(fn: Callable, *, differentiated: bool = False) -> Callable:
  """Returns a function equal to `fn` that is fast on CPU, also inside loops.

  Gradients that `fn` takes itself are part of its program and rewritten with it.

  Args:
    fn: any traceable function of arrays; it may close over others.
    differentiated: whether the caller differentiates the result. Convolutions and poolings then
      get a rule for reverse mode, which makes their gradients fast too; forward mode is not
      possible.
  """
  return _rewritten(fn, functools.partial(_fast, differentiated=differentiated))


@checks.inputs()
def straight_through(fn: Callable) -> Callable:
  """Returns a function of the values of `fn` that lets the gradient pass through rounding.

  Rounding (`round`, `floor`, `ceil`, a cast to integers and back) has no gradient; here it counts
  as the identity, wherever in the program it stands. A rule of its own that a part of `fn` brings
  along (`jax.custom_vjp`) stays.

  Paper: Athalye et al. 2018, arXiv:1802.00420, Sec. 4.1 (BPDA with the identity).

  `fn` is any traceable function of arrays; it may close over others.

  ```python
  quantized_fn = attacks.straight_through(lambda x: logits_fn(jnp.round(x * 7) / 7))
  assert jax.grad(lambda x: quantized_fn(x).sum())(images).any()  # 0 everywhere without it
  ```
  """
  return _rewritten(fn, _passing)


def rounds(fn: Callable, *arguments: Any) -> bool:
  """Returns whether `straight_through` changes `fn` for arguments of these shapes."""
  program = jax.make_jaxpr(fn)(*arguments)
  return _rewrite(program, _passing) is not program


def mark_residual(branch: Array) -> Array:
  """Returns the output of a residual branch, marked for `decay_residuals`; the identity otherwise.

  Any network may do so: `shortcut + jax.ad_checkpoint.checkpoint_name(branch, "residual_branch")`.
  """
  return checkpoint_name(branch, RESIDUAL)


@checks.inputs()
def decay_residuals(fn: Callable, *, decay: float) -> Callable:
  """Returns a function of the values of `fn` whose gradient through residual branches is scaled.

  With z_(i+1) = z_i + f_i(z_i) the gradient is that of the product of `decay` f_i' + 1. `fn` marks
  its branches by `mark_residual`.

  Paper: Wu et al. 2020, arXiv:2002.05990 (skip gradient method; `decay` is its gamma).
  """
  return _rewritten(fn, functools.partial(_decayed, decay=decay))


def has_residuals(fn: Callable, *arguments: Any) -> bool:
  """Returns whether `fn` marks residual branches for arguments of these shapes."""
  program = jax.make_jaxpr(fn)(*arguments)
  return _rewrite(program, functools.partial(_decayed, decay=0.0)) is not program


_Exchange = tuple[Callable[..., Array], list[Any]]
"""What stands in for an equation: a function of some variables of its program."""
_Choose = Callable[[Any, Mapping[Any, Any], bool], _Exchange | None]
"""`(equation, which equation made each variable, whether inside a rule of its own)`."""


def _rewritten(fn: Callable, choose: _Choose) -> Callable:
  @functools.wraps(fn)
  def run(*arguments: Any) -> Any:
    program, shapes = jax.make_jaxpr(fn, return_shape=True)(*arguments)
    leaves = core.jaxpr_as_fun(_rewrite(program, choose))(*jax.tree.leaves(arguments))
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)

  return run


def _rewrite(value: Any, choose: _Choose, has_rule: bool = False) -> Any:
  """Rewrites a program, or all that a parameter of an equation holds; the same object if none."""
  if isinstance(value, core.Jaxpr):  # from JAX 0.11 on closed programs too, so it goes first
    makers = {variable: made for made in value.eqns for variable in made.outvars}
    equations = [_rewrite_equation(one, choose, makers, has_rule) for one in value.eqns]
    return value.replace(eqns=equations) if _differ(equations, value.eqns) else value
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
    return _exchange(equation, *exchange)
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
  return None if function is None else (function, equation.invars)


def _passing(equation: Any, makers: Mapping[Any, Any], has_rule: bool) -> _Exchange | None:
  """Chooses what has the same value and passes the gradient."""
  name, operands = equation.primitive.name, equation.invars
  if has_rule or not jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.floating):
    return None
  if name in _ROUNDING:
    return _as_identity(functools.partial(equation.primitive.bind, **equation.params)), operands
  made = None if isinstance(operands[0], core.Literal) else makers.get(operands[0])
  if name != _CAST or made is None or made.primitive.name != _CAST:
    return None
  before, between, after = made.invars[0].aval, operands[0].aval, equation.outvars[0].aval
  is_kept = before.dtype == after.dtype and jnp.issubdtype(before.dtype, jnp.floating)
  if not is_kept or not jnp.issubdtype(between.dtype, jnp.integer):
    return None
  return _as_identity(lambda x: x.astype(between.dtype).astype(after.dtype)), made.invars


def _decayed(
  equation: Any, makers: Mapping[Any, Any], has_rule: bool, *, decay: float
) -> _Exchange | None:
  """Chooses the marked residual branches."""
  del makers
  if has_rule or equation.primitive.name != _NAME or equation.params["name"] != RESIDUAL:
    return None
  return _with_slope(decay), equation.invars


def _with_slope(slope: float) -> Callable[[Array], Array]:
  """Returns the identity with another derivative."""
  scaled = jax.custom_jvp(lambda x: x)
  scaled.defjvp(lambda primals, tangents: (primals[0], slope * tangents[0]))
  return scaled


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
  if name == _CONVOLUTION and not is_fast(params, equation.invars[1].aval.shape):
    function = functools.partial(convolve, params=params)
  if name == _POOL_GRADIENT and is_covered(params):
    return functools.partial(scatter_to_maxima, params=params)
  if differentiated and name != _POOL_GRADIENT:
    original = functools.partial(equation.primitive.bind, **params)
    return _with_fast_gradients(original if function is None else function, original)
  return function


def _differ(new: Any, old: Any) -> bool:
  return any(a is not b for a, b in zip(new, old, strict=True))


def _exchange(equation: Any, function: Callable[..., Array], operands: list[Any]) -> Any:
  """Returns the call of a function in place of an equation."""
  (call,) = jax.make_jaxpr(jax.jit(function))(*(variable.aval for variable in operands)).eqns
  kept = {"source_info": equation.source_info, "ctx": equation.ctx}
  return call.replace(invars=operands, outvars=equation.outvars, **kept)


def _with_fast_gradients(function: Callable, original: Callable) -> Callable[..., Array]:
  """Gives a function the gradients that JAX derives from its original, rewritten."""

  def pull(arguments: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
    return jax.vjp(original, *arguments)[1](cotangent)

  with_rule = jax.custom_vjp(function)
  with_rule.defvjp(lambda *arguments: (function(*arguments), arguments), fast_on_cpu(pull))
  return with_rule


def is_fast(params: dict[str, Any], kernel_shape: tuple[int, ...]) -> bool:
  """Returns whether a convolution, given by the parameters of its equation, is fast as it is."""
  numbers = params["dimension_numbers"]
  if numbers != _fast_numbers(len(kernel_shape)) or params["batch_group_count"] > 1:
    return False
  return not (_is_cropped(params) or _is_depthwise(params, kernel_shape))


def convolve(inputs: Array, kernel: Array, *, params: dict[str, Any]) -> Array:
  """Computes what the equation `conv_general_dilated` does, up to rounding, in the fast layout."""
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
  if _is_cropped(params):
    inputs, params = _crop(inputs, params)
  if _is_depthwise(params, kernel.shape):
    out = _depthwise(inputs, kernel, params)
  else:
    out = lax.conv_general_dilated_p.bind(inputs, kernel, **params)
  return out.transpose([int(axis) for axis in np.argsort(_channels_last(numbers.out_spec))])


def _is_depthwise(params: dict[str, Any], kernel_shape: tuple[int, ...]) -> bool:
  *sides, per_group, _ = kernel_shape
  return per_group == 1 < params["feature_group_count"] and math.prod(sides) <= _MAX_TAPS


def _is_cropped(params: dict[str, Any]) -> bool:
  return any(pad < 0 for pads in params["padding"] for pad in pads)


def _crop(inputs: Array, params: dict[str, Any]) -> tuple[Array, dict[str, Any]]:
  """Cuts negative padding off; the fast kernel reads beyond its input there (openxla/xla#48713)."""
  pads = params["padding"]
  cuts = [(min(low, 0), min(high, 0)) for low, high in pads]
  rest = tuple((max(low, 0), max(high, 0)) for low, high in pads)
  inputs = _pad(inputs, cuts, params["lhs_dilation"])
  return inputs, params | {"padding": rest, "lhs_dilation": (1,) * len(pads)}


def _pad(inputs: Array, pads: Any, dilation: tuple[int, ...]) -> Array:
  spaces = [(low, high, gap - 1) for (low, high), gap in zip(pads, dilation, strict=True)]
  return lax.pad(inputs, jnp.zeros((), inputs.dtype), [(0, 0, 0), *spaces, (0, 0, 0)])


def _depthwise(inputs: Array, kernel: Array, params: dict[str, Any]) -> Array:
  """Convolves each channel by itself: a sum of shifted products, one for each place of the kernel.

  XLA:CPU convolves one group after the other, which is several times slower for small groups.
  """
  kept = params["preferred_element_type"] or inputs.dtype
  exact = jnp.promote_types(kept, jnp.float32)
  steps = params["rhs_dilation"]
  padded = _pad(inputs, params["padding"], params["lhs_dilation"])
  padded = jnp.repeat(padded.astype(exact), kernel.shape[-1] // inputs.shape[-1], axis=-1)
  sides, sizes = kernel.shape[:-2], padded.shape[1:-1]
  total: Any = 0
  for tap in np.ndindex(*sides):
    first = [index * step for index, step in zip(tap, steps, strict=True)]
    last = [
      size - (side - 1 - index) * step
      for size, side, index, step in zip(sizes, sides, tap, steps, strict=True)
    ]
    window = lax.slice(
      padded, (0, *first, 0), (len(padded), *last, padded.shape[-1]),
      (1, *params["window_strides"], 1),
    )  # fmt: skip
    total += window * jnp.expand_dims(kernel[tap][0].astype(exact), range(window.ndim - 1))
  return total.astype(kept)


def _channels_last(spec: tuple[int, ...]) -> tuple[int, ...]:
  return (spec[0], *spec[2:], spec[1])


def _fast_numbers(rank: int) -> lax.ConvDimensionNumbers:
  features = (0, rank - 1, *range(1, rank - 1))
  kernel = (rank - 1, rank - 2, *range(rank - 2))
  return lax.ConvDimensionNumbers(features, kernel, features)


def is_covered(params: dict[str, Any]) -> bool:
  """Returns whether `select_and_scatter_add` of these parameters is that of a small maximum."""
  return params["select_prim"] is lax.ge_p and math.prod(params["window_dimensions"]) <= _MAX_PLACES


def scatter_to_maxima(source: Array, operand: Array, *, params: dict[str, Any]) -> Array:
  """Computes what the equation `select_and_scatter_add` does, one place after the other.

  Each entry of `source`, the gradients, goes to the first maximum of its window of `operand`.
  """
  strides, pads = params["window_strides"], params["padding"]
  lowest, zero = jnp.array(-jnp.inf, operand.dtype), jnp.zeros((), source.dtype)
  padded = lax.pad(operand, lowest, [(low, high, 0) for low, high in pads])

  def seen_from(offset: tuple[int, ...]) -> Array:
    axes = zip(offset, source.shape, strides, strict=True)
    return lax.slice(padded, offset, [p + (num - 1) * s + 1 for p, num, s in axes], strides)

  def spread(values: Array, offset: tuple[int, ...]) -> Array:
    axes = zip(offset, values.shape, strides, operand.shape, pads, strict=True)
    edges = [(p - low, size + low - p - (n - 1) * s - 1, s - 1) for p, n, s, size, (low, _) in axes]
    return lax.pad(values, zero, edges)

  offsets = list(np.ndindex(*params["window_dimensions"]))
  largest = seen_from(offsets[0])
  for offset in offsets[1:]:
    largest = jnp.maximum(largest, seen_from(offset))
  taken, total = jnp.zeros(source.shape, bool), jnp.zeros(operand.shape, source.dtype)
  for offset in offsets:
    wins = (seen_from(offset) == largest) & ~taken
    taken |= wins
    total += spread(jnp.where(wins, source, zero), offset)
  return total
