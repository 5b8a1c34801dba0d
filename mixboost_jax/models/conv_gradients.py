# SPDX-License-Identifier: Apache-2.0
"""Both gradients of a convolution, written as convolutions in the layout that XLA:CPU is fast at.

XLA:CPU has a fast kernel for one layout only (NHWC input, HWIO kernel). The gradients that JAX
derives use others; outside loops a compiler pass rewrites them, inside `lax.scan` and
`lax.fori_loop` they run several times slower (`benchmarks/loops.py`). The loops of this library
rewrite any network (`rewrite.py`); these gradients are fast in anybody's loops.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Features = Float[Array, "N H W C"]
Kernel = Float[Array, "R S C D"]
Outputs = Float[Array, "N P Q D"]
Pads = tuple[tuple[int, int], ...]

LAYOUT = ("NHWC", "HWIO", "NHWC")


def is_matmul(kernel_shape: tuple[int, ...]) -> bool:
  """Returns whether the kernel covers one pixel."""
  return kernel_shape[0] == kernel_shape[1] == 1


def _gradient_pads(
  sizes: tuple[int, ...], sides: tuple[int, ...], outs: tuple[int, ...], stride: int, padding: int
) -> Pads:
  """Pads of the transposed convolution, so that its output has the size of the input."""
  return tuple(
    (side - 1 - padding, size - ((out - 1) * stride + 1) + padding)
    for size, side, out in zip(sizes, sides, outs, strict=True)
  )


def input_gradient(
  cotangent: Outputs,
  kernel: Kernel,
  input_shape: tuple[int, ...],
  *,
  stride: int,
  padding: int,
) -> Features:
  """Gradient of `conv2d` for its inputs, as one forward convolution with the flipped kernel.

  Args:
    cotangent: gradient for the output.
    kernel: HWIO weights.
    input_shape: shape of the inputs.
    stride: of the forward convolution.
    padding: of the forward convolution.

  Returns:
    Array of shape `input_shape`.
  """
  if is_matmul(kernel.shape):
    small = jnp.tensordot(cotangent, kernel[0, 0].T, axes=1)
    if stride == 1:
      return small
    gaps = [
      (0, size - ((out - 1) * stride + 1), stride - 1)
      for size, out in zip(input_shape[1:3], cotangent.shape[1:3], strict=True)
    ]
    return lax.pad(small, jnp.zeros((), small.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])
  flipped = lax.rev(kernel, (0, 1)).swapaxes(2, 3)
  pads = _gradient_pads(input_shape[1:3], kernel.shape[:2], cotangent.shape[1:3], stride, padding)
  return lax.conv_general_dilated(
    cotangent,
    flipped,
    (1, 1),
    pads,
    lhs_dilation=(stride, stride),
    dimension_numbers=LAYOUT,
  )


def kernel_gradient(
  inputs: Features,
  cotangent: Outputs,
  kernel_shape: tuple[int, ...],
  *,
  stride: int,
  padding: int,
) -> Kernel:
  """Gradient of `conv2d` for its kernel.

  The roles of the axes are exchanged by hand: input channels become the batch, the batch becomes
  the channels, and the cotangent becomes the (large) kernel, so the sum over examples and positions
  is one convolution in the fast layout.

  Args:
    inputs: NHWC inputs of the forward convolution.
    cotangent: gradient for the output.
    kernel_shape: shape of the kernel.
    stride: of the forward convolution.
    padding: of the forward convolution.

  Returns:
    Array of shape `kernel_shape`.
  """
  if is_matmul(kernel_shape):
    rows = inputs[:, ::stride, ::stride].reshape(-1, kernel_shape[2])
    return (rows.T @ cotangent.reshape(-1, kernel_shape[3])).reshape(kernel_shape)
  pads = tuple(
    (padding, (out - 1) * stride + side - size - padding)
    for size, side, out in zip(
      inputs.shape[1:3], kernel_shape[:2], cotangent.shape[1:3], strict=True
    )
  )
  gradient = lax.conv_general_dilated(
    inputs.transpose(3, 1, 2, 0),
    cotangent.transpose(1, 2, 0, 3),
    (1, 1),
    pads,
    rhs_dilation=(stride, stride),
    dimension_numbers=LAYOUT,
  )
  return gradient.transpose(1, 2, 0, 3)
