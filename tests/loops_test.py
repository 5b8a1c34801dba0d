# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import loops


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("length", [1, 5, loops.MAX_UNROLL + 3])
def test_scan_equals_a_python_loop(backend, length):
  def body(carry, x):
    carry = jnp.sin(carry) + x
    return carry, carry * 2

  xs = jnp.linspace(0, 1, length)
  carry, expected = jnp.float32(0.3), []
  for x in xs:
    carry, y = body(carry, x)
    expected.append(y)
  last, ys = loops.scan(body, jnp.float32(0.3), xs, backend=backend)
  np.testing.assert_allclose(last, carry, rtol=1e-6)
  np.testing.assert_allclose(ys, jnp.stack(expected), rtol=1e-6)


def test_repeat_passes_the_step_number():
  assert int(loops.repeat(lambda i, total: total + i, jnp.int32(0), 6)) == 15
  assert int(loops.repeat(lambda i, total: total + 1, jnp.int32(3), 0)) == 3


def whiles(fn, *args):
  return jax.jit(fn).lower(*args).as_text().count("stablehlo.while")


def test_a_gradient_loop_has_no_while_on_cpu_and_one_on_accelerators():
  def run(backend, has_gradient=True):
    return lambda x: loops.repeat(
      lambda _, c: jnp.tanh(c), x, 8, backend=backend, has_gradient=has_gradient
    )

  x = jnp.ones(3)
  assert whiles(run("cpu"), x) == 0
  assert whiles(run("gpu"), x) == 1
  assert whiles(run("cpu", has_gradient=False), x) == 1


def test_long_loops_are_unrolled_in_groups():
  assert loops.unroll_factor(1000, backend="cpu") == loops.MAX_UNROLL
  assert loops.unroll_factor(3, backend="cpu") == 3
  assert loops.unroll_factor(1000, backend="tpu") == 1
