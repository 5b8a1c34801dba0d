# SPDX-License-Identifier: Apache-2.0
"""The one convolution of all networks, and the pooling that goes with it.

On CPU its gradients are our own (`conv_gradients.py`), so that attacks and other loops around a
network run at full speed; on accelerators JAX's are used.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixboost_jax.models import conv_gradients
from mixboost_jax.models.conv_gradients import LAYOUT, Features, Kernel, Outputs

_forward_mode = contextvars.ContextVar("forward_mode", default=False)


@contextlib.contextmanager
def forward_mode() -> Iterator[None]:
  """Within it, networks can be traced by `jax.jvp`, `jax.jacfwd`, `jax.hessian`, `jax.linearize`.

  Reverse mode (`jax.grad`, also twice) works without it. What was compiled before keeps its rule.
  """
  token = _forward_mode.set(True)
  try:
    yield
  finally:
    _forward_mode.reset(token)


def conv2d(inputs: Features, kernel: Kernel, *, stride: int, padding: int) -> Outputs:
  """Cross-correlates `inputs` with `kernel`, as deep-learning libraries do; no bias, no groups.

  Args:
    inputs: batch, channels last.
    kernel: [height, width, input channels, output channels].
    stride: of the window, in both directions, >= 1.
    padding: zeros added on each of the four sides, smaller than the kernel.

  Raises:
    ValueError: if an option is out of range.
  """
  if stride < 1 or not 0 <= padding < min(kernel.shape[:2]):
    raise ValueError(
      f"conv2d: expected stride >= 1 and 0 <= padding < {min(kernel.shape[:2])} (side of the "
      f"kernel), got stride={stride}, padding={padding}."
    )
  if jax.default_backend() != "cpu" or _forward_mode.get():
    return _convolve(inputs, kernel, stride, padding)
  return _conv2d(inputs, kernel, stride, padding)


def _convolve(inputs: Features, kernel: Kernel, stride: int, padding: int) -> Outputs:
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    window_strides=(stride, stride),
    padding=((padding, padding), (padding, padding)),
    dimension_numbers=LAYOUT,
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv2d(inputs: Features, kernel: Kernel, stride: int, padding: int) -> Outputs:
  if conv_gradients.is_matmul(kernel.shape):
    return jnp.tensordot(inputs[:, ::stride, ::stride], kernel[0, 0], axes=1)
  return _convolve(inputs, kernel, stride, padding)


def _conv2d_fwd(
  inputs: Features, kernel: Kernel, stride: int, padding: int
) -> tuple[Outputs, tuple[Features, Kernel]]:
  return _conv2d(inputs, kernel, stride, padding), (inputs, kernel)


def _conv2d_bwd(
  stride: int, padding: int, residuals: tuple[Features, Kernel], cotangent: Outputs
) -> tuple[Features, Kernel]:
  inputs, kernel = residuals
  options = {"stride": stride, "padding": padding}
  return (
    conv_gradients.input_gradient(cotangent, kernel, inputs.shape, **options),
    conv_gradients.kernel_gradient(inputs, cotangent, kernel.shape, **options),
  )


_conv2d.defvjp(_conv2d_fwd, _conv2d_bwd)


def max_pool(
  inputs: Float[Array, "N H W C"], *, size: int, stride: int, padding: int
) -> Float[Array, "N P Q C"]:
  """Largest value of each window; the padding never wins."""
  pad = (padding, padding)
  return jax.lax.reduce_window(
    inputs,
    np.asarray(-np.inf, inputs.dtype),  # a literal: only then has this a gradient
    jax.lax.max,
    window_dimensions=(1, size, size, 1),
    window_strides=(1, stride, stride, 1),
    padding=((0, 0), pad, pad, (0, 0)),
  )


def mean_pool(inputs: Float[Array, "N H W C"]) -> Float[Array, "N C"]:
  """Mean over all positions, in float32."""
  return jnp.mean(inputs.astype(jnp.float32), axis=(1, 2))
