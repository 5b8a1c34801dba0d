# SPDX-License-Identifier: Apache-2.0
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import loops


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("length", [1, 5])
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


def slow_convolutions(fn, x):
  """Returns how many convolutions of the traced program are not in the fast layout."""
  return len(re.findall(r"rhs_spec=(?!\(3, 2, 0, 1\))", str(jax.make_jaxpr(fn)(x))))


@pytest.mark.parametrize("length", [1, 40])
def test_the_gradient_of_a_foreign_network_is_rewritten_on_cpu_only(length):
  x = jnp.ones((2, 8, 8, 3))
  ours, plain = (descend(stranger, backend=name, steps=length) for name in ("cpu", "gpu"))
  assert whiles(ours, x) == whiles(plain, x) == 1
  assert slow_convolutions(plain, x) == 1
  assert slow_convolutions(ours, x) == 0
  np.testing.assert_allclose(ours(x), plain(x), rtol=1e-5)


def test_a_loop_that_is_differentiated_from_outside():
  x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))

  def mean_over_rows(backend):
    def total(x):
      draws = loops.map_rows(
        lambda rows: stranger(x)[:1] * rows[:, None], 6, max_rows=2, backend=backend
      )
      return draws.sum()

    return jax.grad(total)

  ours, plain = mean_over_rows("cpu"), mean_over_rows("gpu")
  assert slow_convolutions(plain, x) > 0
  assert slow_convolutions(ours, x) == 0
  np.testing.assert_allclose(ours(x), plain(x), rtol=1e-5)


def test_a_carry_of_no_fixed_type_is_promoted_as_in_jax():
  last, _ = loops.scan(lambda c, x: (c * x, None), 1.0, jnp.ones(3, jnp.float16), backend="cpu")
  assert (
    last.dtype == jax.lax.scan(lambda c, x: (c * x, None), 1.0, jnp.ones(3, jnp.float16))[0].dtype
  )


@pytest.mark.parametrize("max_rows", [1, 3, 4, 100, None])
def test_map_rows_in_any_pieces(max_rows):
  out = loops.map_rows(lambda rows: {"square": rows**2}, 7, max_rows=max_rows)
  np.testing.assert_array_equal(out["square"], np.arange(7) ** 2)
  with pytest.raises(ValueError, match="positive counts"):
    loops.map_rows(lambda rows: rows, 0)
