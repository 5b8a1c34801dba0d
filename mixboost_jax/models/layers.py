# SPDX-License-Identifier: Apache-2.0
"""Convolution and linear layers: float32 parameters, computed in the dtype of their inputs."""

import math
from typing import Literal

from flax import nnx
from jaxtyping import Array, Float

from mixboost_jax.models.conv import conv2d
from mixboost_jax.models.weights import Weights, constant


class Conv(nnx.Module):
  """Square convolution.

  Args:
    weights: source of the first weights.
    inputs: input channels.
    outputs: output channels.
    size: side of the kernel.
    stride: of the window.
    padding: zeros on each side; half the size if None.
    init: `fan_out`: N(0, 2 / (size^2 outputs)) and no bias (He et al. 2015, arXiv:1502.01852,
      Sec. 2.2, backward case); `fan_in`: U(-b, b) with b = 1 / sqrt(size^2 inputs), kernel and
      bias, which is what PyTorch layers start from.
  """

  def __init__(
    self,
    weights: Weights,
    inputs: int,
    outputs: int,
    size: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    init: Literal["fan_out", "fan_in"] = "fan_out",
  ):
    self.stride = stride
    self.padding = size // 2 if padding is None else padding
    shape = (size, size, inputs, outputs)
    if init == "fan_out":
      self.kernel = nnx.Param(weights.normal(shape, std=math.sqrt(2 / (size * size * outputs))))
      self.bias = None
    else:
      bound = 1 / math.sqrt(size * size * inputs)
      self.kernel = nnx.Param(weights.uniform(shape, bound=bound))
      self.bias = nnx.Param(weights.uniform((outputs,), bound=bound))

  def __call__(self, inputs: Float[Array, "N H W C"]) -> Float[Array, "N P Q D"]:
    """Returns the filtered batch."""
    kernel = self.kernel[...].astype(inputs.dtype)
    outputs = conv2d(inputs, kernel, stride=self.stride, padding=self.padding)
    if self.bias is None:
      return outputs
    return outputs + self.bias[...].astype(inputs.dtype)[None, None, None]


class Linear(nnx.Module):
  """Matrix product and bias; the first weights are U(-b, b), b = 1 / sqrt(inputs).

  Args:
    weights: source of the first weights.
    inputs: features in.
    outputs: features out.
    zero_bias: start the bias at 0 instead of U(-b, b).
  """

  def __init__(self, weights: Weights, inputs: int, outputs: int, *, zero_bias: bool = False):
    bound = 1 / math.sqrt(inputs)
    self.kernel = nnx.Param(weights.uniform((inputs, outputs), bound=bound))
    bias = constant((outputs,), 0.0) if zero_bias else weights.uniform((outputs,), bound=bound)
    self.bias = nnx.Param(bias)

  def __call__(self, inputs: Float[Array, "N C"]) -> Float[Array, "N D"]:
    """Returns `inputs @ kernel + bias`."""
    kernel = self.kernel[...].astype(inputs.dtype)
    return inputs @ kernel + self.bias[...].astype(inputs.dtype)[None]
