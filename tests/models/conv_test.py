# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax.models.conv import conv2d, max_pool, mean_pool


def naive_conv(inputs, kernel, stride, padding):
  """Sum over the taps of the kernel of shifted, strided inputs."""
  side = kernel.shape[0]
  padded = np.pad(inputs, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
  rows = (padded.shape[1] - side) // stride + 1
  cols = (padded.shape[2] - side) // stride + 1
  total = np.zeros((len(inputs), rows, cols, kernel.shape[3]))
  for i in range(side):
    for j in range(side):
      part = padded[:, i : i + stride * rows : stride, j : j + stride * cols : stride]
      total += part[:, :rows, :cols] @ kernel[i, j]
  return total


@pytest.mark.parametrize(
  ("size", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 2, 0), (7, 2, 3), (5, 1, 2), (3, 1, 0)]
)
@pytest.mark.parametrize("side", [8, 9])
def test_conv2d_is_the_sum_over_taps(size, stride, padding, side):
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(2, side, side + 1, 3)).astype(np.float32)
  kernel = rng.normal(size=(size, size, 3, 5)).astype(np.float32)
  outputs = conv2d(jnp.asarray(inputs), jnp.asarray(kernel), stride=stride, padding=padding)
  np.testing.assert_allclose(outputs, naive_conv(inputs, kernel, stride, padding), atol=1e-4)


def test_max_pool_by_hand():
  values = -jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)
  pooled = max_pool(values, size=3, stride=2, padding=1)
  np.testing.assert_array_equal(pooled[0, :, :, 0], [[-1, -2], [-5, -6]])
  gradient = jax.grad(lambda x: jnp.sum(max_pool(x, size=3, stride=2, padding=1)))(values)
  assert gradient[0, :2, :2, 0].sum() == gradient.sum() == 4


def test_mean_pool_accumulates_in_float32():
  pooled = mean_pool(jnp.full((1, 64, 64, 2), 1.01, jnp.bfloat16))
  assert pooled.dtype == jnp.float32
  np.testing.assert_allclose(pooled, float(jnp.bfloat16(1.01)), rtol=1e-5)
