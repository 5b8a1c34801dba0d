# SPDX-License-Identifier: Apache-2.0
"""Any convolution by one in the layout that XLA:CPU is fast at.

XLA:CPU has a fast kernel for one order of axes: batch, space, channels for both sides and space,
input channels, output channels for the kernel. A convolution of another order is the same up to
transpositions around it. One of each channel by itself is written out as shifted products, since
that kernel is slow at groups.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

_MAX_TAPS = 64  # places of a kernel, up to 8x8, that a depthwise convolution is written out for


def is_fast(params: dict[str, Any], kernel_shape: tuple[int, ...]) -> bool:
  """Returns whether a convolution, given by the parameters of its equation, is fast as it is."""
  numbers = params["dimension_numbers"]
  if numbers != _fast_numbers(len(kernel_shape)) or params["batch_group_count"] > 1:
    return False
  return not (_is_cropped(params) or _is_depthwise(params, kernel_shape))


def convolve(inputs: Array, kernel: Array, *, params: dict[str, Any]) -> Array:
  """Computes any convolution by one in the fast layout.

  Args:
    inputs: of any order of axes.
    kernel: of any order of axes.
    params: those of the equation `conv_general_dilated`.

  Returns:
    The same as the equation, up to rounding.
  """
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
  cuts = [
    (min(low, 0), min(high, 0), gap - 1)
    for (low, high), gap in zip(pads, params["lhs_dilation"], strict=True)
  ]
  inputs = lax.pad(inputs, jnp.zeros((), inputs.dtype), [(0, 0, 0), *cuts, (0, 0, 0)])
  rest = tuple((max(low, 0), max(high, 0)) for low, high in pads)
  return inputs, params | {"padding": rest, "lhs_dilation": (1,) * len(pads)}


def _depthwise(inputs: Array, kernel: Array, params: dict[str, Any]) -> Array:
  """Convolves each channel by itself: a sum of shifted products, one for each place of the kernel.

  XLA:CPU convolves one group after the other, which is several times slower for small groups.
  """
  kept = params["preferred_element_type"] or inputs.dtype
  exact = jnp.promote_types(kept, jnp.float32)
  steps = params["rhs_dilation"]
  pads = [
    (low, high, gap - 1)
    for (low, high), gap in zip(params["padding"], params["lhs_dilation"], strict=True)
  ]
  padded = lax.pad(inputs, jnp.zeros((), inputs.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
  padded = jnp.repeat(padded.astype(exact), kernel.shape[-1] // inputs.shape[-1], axis=-1)
  sides, sizes = kernel.shape[:-2], padded.shape[1:-1]
  total: Any = 0
  for place in np.ndindex(*sides):
    first = [index * step for index, step in zip(place, steps, strict=True)]
    last = [
      size - (side - 1 - index) * step
      for size, side, index, step in zip(sizes, sides, place, steps, strict=True)
    ]
    window = lax.slice(
      padded, (0, *first, 0), (len(padded), *last, padded.shape[-1]),
      (1, *params["window_strides"], 1),
    )  # fmt: skip
    total += window * jnp.expand_dims(kernel[place][0].astype(exact), range(window.ndim - 1))
  return total.astype(kept)


def _channels_last(spec: tuple[int, ...]) -> tuple[int, ...]:
  return (spec[0], *spec[2:], spec[1])


def _fast_numbers(rank: int) -> lax.ConvDimensionNumbers:
  features = (0, rank - 1, *range(1, rank - 1))
  kernel = (rank - 1, rank - 2, *range(rank - 2))
  return lax.ConvDimensionNumbers(features, kernel, features)
