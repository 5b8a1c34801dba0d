# SPDX-License-Identifier: Apache-2.0
"""Our convolution gradients against those that JAX derives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax.models import conv

CASES = [
  (side, stride, padding, height)
  for side in (1, 2, 3, 5)
  for stride in (1, 2, 3)
  for padding in {0, side // 2, side - 1}
  for height in (7, 8)
]


def arrays(side, height):
  key_x, key_w = jax.random.split(jax.random.key(0))
  x = jax.random.normal(key_x, (2, height, height + 1, 3))
  return x, jax.random.normal(key_w, (side, side, 3, 4))


@pytest.mark.parametrize(("side", "stride", "padding", "height"), CASES)
def test_value_and_gradients(side, stride, padding, height):
  x, w = arrays(side, height)

  def total(x, w):
    return jnp.sin(conv.conv2d(x, w, stride=stride, padding=padding)).sum()

  value, gradients = jax.value_and_grad(total, (0, 1))(x, w)
  with conv.forward_mode():
    expected, expected_gradients = jax.value_and_grad(total, (0, 1))(x, w)
  np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
  for ours, theirs in zip(gradients, expected_gradients, strict=True):
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_second_derivatives_by_reverse_mode():
  x, w = arrays(3, 7)

  def penalty(x, w):
    inner = jax.grad(lambda x: jnp.sin(conv.conv2d(x, w, stride=2, padding=1)).sum())(x)
    return jnp.square(inner).sum()

  ours = jax.grad(penalty, (0, 1))(x, w)
  with conv.forward_mode():
    theirs = jax.grad(penalty, (0, 1))(x, w)
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_forward_mode_needs_its_switch():
  x, w = arrays(3, 7)

  def run(x):
    return conv.conv2d(x, w, stride=1, padding=1)

  with pytest.raises(TypeError, match="forward-mode"):
    jax.jvp(run, (x,), (x,))
  with conv.forward_mode():
    value, tangent = jax.jvp(run, (x,), (x,))
  np.testing.assert_allclose(tangent, value, rtol=1e-5)  # linear


def test_gradient_loops_stay_in_the_fast_layout():
  """No convolution of a differentiated loop body may leave NHWC, HWIO (see loops.py)."""
  x, w = arrays(3, 8)

  def jaxpr():
    def step(x, _):  # made anew: JAX remembers what it traced for a function
      gradient = jax.grad(lambda x: jnp.sin(conv.conv2d(x, w, stride=2, padding=1)).sum())(x)
      return x - 0.1 * gradient, None

    return str(jax.make_jaxpr(lambda x: jax.lax.scan(step, x, length=3))(x))

  fast, derived = "rhs_spec=(3, 2, 0, 1)", "rhs_spec="
  ours = jaxpr()
  assert ours.count(fast) == ours.count(derived) > 0
  with conv.forward_mode():
    theirs = jaxpr()
  assert theirs.count(fast) < theirs.count(derived)


def test_bad_options():
  x, w = arrays(3, 7)
  with pytest.raises(ValueError, match="padding=3"):
    conv.conv2d(x, w, stride=1, padding=3)
  with pytest.raises(ValueError, match="stride=0"):
    conv.conv2d(x, w, stride=0, padding=1)
