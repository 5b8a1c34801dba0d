# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import loops, models


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("has_gradient", [True, False])
@pytest.mark.parametrize("length", [1, 5, loops.MAX_UNROLL + 3])
def test_scan_equals_a_python_loop(backend, has_gradient, length):
  def body(carry, x):
    carry = jnp.sin(carry) + x
    return carry, carry * 2

  xs = jnp.linspace(0, 1, length)
  carry, expected = jnp.float32(0.3), []
  for x in xs:
    carry, y = body(carry, x)
    expected.append(y)
  last, ys = loops.scan(body, jnp.float32(0.3), xs, backend=backend, has_gradient=has_gradient)
  np.testing.assert_allclose(last, carry, rtol=1e-6)
  np.testing.assert_allclose(ys, jnp.stack(expected), rtol=1e-6)


def test_repeat_passes_the_step_number():
  assert int(loops.repeat(lambda i, total: total + i, jnp.int32(0), 6)) == 15
  assert int(loops.repeat(lambda i, total: total + 1, jnp.int32(3), 0)) == 3


def descend(logits_fn, *, backend, steps=4):
  """Gradient descent on pictures: a loop around the gradient of a network."""

  def body(_, x):
    return x - 0.1 * jax.grad(lambda x: logits_fn(x).sum())(x)

  return lambda x: loops.repeat(body, x, steps, backend=backend)


def stranger(x):
  kernel = jnp.ones((3, 3, 3, 4)) * 0.1
  x = jax.lax.conv_general_dilated(
    x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  return jnp.tanh(x).mean((1, 2))


def whiles(fn, x):
  return jax.jit(fn).lower(x).as_text().count("stablehlo.while")


def test_the_gradient_of_a_foreign_network_is_copied_out_on_cpu_only():
  x = jnp.ones((2, 8, 8, 3))
  assert whiles(descend(stranger, backend="cpu"), x) == 0
  assert whiles(descend(stranger, backend="gpu"), x) == 1
  assert whiles(descend(stranger, backend="cpu", steps=loops.MAX_UNROLL * 2), x) == 1


def test_built_in_networks_and_forward_passes_stay_in_the_loop(key):
  x = jnp.ones((2, 32, 32, 3))
  ours = models.logits_fn(models.create("wrn-10-1", num_classes=10, key=key))
  assert whiles(descend(ours, backend="cpu"), x) == 1
  assert not loops.has_slow_convolution(lambda x: stranger(x), x)


def test_convolutions_inside_inner_programs_are_found():
  x = jnp.ones((2, 8, 8, 3))
  gradient = jax.grad(lambda x: stranger(x).sum())
  assert loops.has_slow_convolution(gradient, x)
  assert loops.has_slow_convolution(jax.jit(gradient), x)
  assert loops.has_slow_convolution(
    lambda x: jax.lax.cond(x.sum() > 0, gradient, lambda x: x, x), x
  )


def test_a_loop_that_is_differentiated_from_outside(key):
  x = jnp.ones((2, 32, 32, 3))
  ours = models.logits_fn(models.create("wrn-10-1", num_classes=10, key=key))
  assert loops.has_slow_convolution(stranger, x, differentiated=True)
  assert not loops.has_slow_convolution(ours, x, differentiated=True)

  def mean_over_rows(fn):
    def total(x):
      draws = loops.map_rows(lambda rows: fn(x)[:1] * rows[:, None], 6, max_rows=2, backend="cpu")
      return draws.sum()

    return jax.grad(total)

  assert whiles(mean_over_rows(stranger), x) == 0
  assert whiles(mean_over_rows(ours), x) > 0


@pytest.mark.parametrize("max_rows", [1, 3, 4, 100, None])
def test_map_rows_in_any_pieces(max_rows):
  out = loops.map_rows(lambda rows: {"square": rows**2}, 7, max_rows=max_rows)
  np.testing.assert_array_equal(out["square"], np.arange(7) ** 2)
  with pytest.raises(ValueError, match="positive counts"):
    loops.map_rows(lambda rows: rows, 0)
