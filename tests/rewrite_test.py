# SPDX-License-Identifier: Apache-2.0
"""A rewritten function is the same function, and all its convolutions have the fast layout."""

import re
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, PartitionSpec

from mixboost_jax import models, rewrite
from mixboost_jax.rewrite import fast_on_cpu

LAYOUTS = {
  "NHWC": ("NHWC", "HWIO", "NHWC"),
  "NCHW": ("NCHW", "OIHW", "NCHW"),
  "odd": ("HNCW", "IHOW", "CWNH"),
}
CASES = {
  "same stride 2": {"strides": (2, 2)},
  "stride per axis": {"strides": (1, 3), "padding": ((0, 2), (1, 0))},
  "channels first": {"layout": "NCHW", "strides": (2, 1)},
  "any order": {"layout": "odd"},
  "even kernel": {"side": 4, "strides": (2, 2)},
  "pixel": {"side": 1, "strides": (2, 2), "padding": "VALID"},
  "dilated": {"rhs_dilation": (2, 1)},
  "transposed": {"lhs_dilation": (2, 2), "padding": ((2, 1), (1, 2))},
  "grouped": {"groups": 2, "strides": (2, 2)},
  "depthwise": {"groups": 4, "layout": "NCHW"},
  "depthwise with two kernels": {"groups": 4, "strides": (2, 2), "out": 8},
}


def convolution(
  *, layout="NHWC", side=3, strides=(1, 1), padding="SAME", groups=1, out=4, **dilations
):
  """Returns a convolution with its inputs and kernel."""
  sizes = {"N": 2, "H": 8, "W": 7, "C": 4}
  kernel_sizes = {"H": side, "W": side, "I": 4 // groups, "O": out}
  numbers = LAYOUTS[layout]
  key_x, key_w = jax.random.split(jax.random.key(0))
  x = jax.random.normal(key_x, [sizes[axis] for axis in numbers[0]])
  w = 0.3 * jax.random.normal(key_w, [kernel_sizes[axis] for axis in numbers[1]])

  def convolve(x, w):
    return jax.lax.conv_general_dilated(
      x, w, strides, padding,
      dimension_numbers=numbers, feature_group_count=groups, **dilations,
    )  # fmt: skip

  return convolve, x, w


def orders(fn, *arguments):
  """Returns the orders of the kernel's axes, and whether examples are grouped, that a trace has."""
  text = str(jax.make_jaxpr(fn)(*arguments))
  grouped = re.findall(r"batch_group_count=(?!1\b)\d+", text)
  return {*re.findall(r"rhs_spec=(\(.*?\))", text), *grouped}


FAST = {"(3, 2, 0, 1)"}


def gradients(convolve):
  def total(x, w):
    out = convolve(x, w)
    return jnp.sum(jnp.sin(out)), out

  return jax.value_and_grad(total, (0, 1), has_aux=True)


def assert_equal(ours, theirs):
  def check(a, b):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=1e-4, atol=1e-4)

  jax.tree.map(check, ours, theirs)


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients(case):
  convolve, x, w = convolution(**CASES[case])
  inside = gradients(convolve)
  around = gradients(fast_on_cpu(convolve, differentiated=True))
  assert orders(fast_on_cpu(inside), x, w) == orders(around, x, w) == FAST
  expected = jax.jit(inside)(x, w)
  assert_equal(jax.jit(fast_on_cpu(inside))(x, w), expected)
  assert_equal(jax.jit(around)(x, w), expected)


def test_derived_gradients_are_not_fast_by_themselves():
  convolve, x, w = convolution(groups=2)
  assert orders(gradients(convolve), x, w) > FAST | {"batch_group_count=2"}


@pytest.mark.parametrize("groups", [1, 4])
def test_cropping(groups):
  """XLA:CPU reads beyond the input where padding is negative: openxla/xla#48713."""
  cropped, x, w = convolution(groups=groups, padding=((-1, 1), (0, -1)))
  padded, _, _ = convolution(groups=groups, padding=((0, 1), (0, 0)))
  assert_equal(fast_on_cpu(cropped)(x, w), padded(x[:, 1:, :-1], w))


def test_one_and_three_dimensions_and_types():
  x = jax.random.normal(jax.random.key(0), (2, 3, 9))
  w = jax.random.normal(jax.random.key(1), (4, 3, 3))

  def line(x, w):
    return jax.lax.conv(x, w, (2,), "SAME")

  def space(x, w):
    return jax.lax.conv(x[..., None, None], w[..., None, None], (2, 1, 1), "SAME")

  for fn in (line, space):
    assert_equal(fast_on_cpu(gradients(fn))(x, w), gradients(fn)(x, w))
  half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (x, w))
  assert_equal(fast_on_cpu(line)(*half), line(*half))
  whole = jax.tree.map(lambda a: a.astype(jnp.int32), (x, w))
  assert_equal(fast_on_cpu(line, differentiated=True)(*whole), line(*whole))


def test_precision_and_type_of_the_result_are_kept():
  x, w = jnp.ones((1, 3, 5, 5), jnp.bfloat16), jnp.ones((4, 3, 3, 3), jnp.bfloat16)

  def convolve(x, w):
    return jax.lax.conv_general_dilated(
      x, w, (1, 1), "SAME", precision="highest", preferred_element_type=jnp.float32
    )

  text = str(jax.make_jaxpr(fast_on_cpu(convolve))(x, w))
  assert "preferred_element_type=float32" in text
  assert "HIGHEST" in text
  assert_equal(fast_on_cpu(convolve)(x, w), convolve(x, w))


class Linen(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.gelu(nn.Conv(8, (3, 3), strides=2)(x))
    x = nn.relu(nn.remat(nn.Conv)(8, (3, 3), feature_group_count=8)(x))
    x = nn.max_pool(x, (2, 2), (2, 2))
    x = nn.ConvTranspose(4, (2, 2), strides=(2, 2))(x)
    return nn.Dense(5)(nn.avg_pool(x, (2, 2)).mean((1, 2)))


class Nnx(nnx.Module):
  def __init__(self):
    rngs = nnx.Rngs(0)
    self.conv = nnx.Conv(3, 8, (3, 3), strides=2, padding="SAME", rngs=rngs)
    self.dense = nnx.Linear(8, 5, rngs=rngs)

  def __call__(self, x):
    return self.dense(nnx.relu(self.conv(x)).mean((1, 2)))


def networks():
  linen = Linen()
  variables = linen.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
  yield partial(linen.apply, variables)
  graph, state = nnx.split(Nnx())
  yield lambda x: nnx.merge(graph, state)(x)
  yield models.logits_fn(
    models.create("tiny-cnn", num_classes=5, image_size=8, key=jax.random.key(0))
  )


@pytest.mark.parametrize("index", range(3))
def test_networks(index):
  network = list(networks())[index]
  x = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3))

  def slope(network):
    return jax.jit(jax.grad(lambda x: jax.nn.logsumexp(network(x), axis=-1).sum()))

  expected = slope(network)(x)
  assert float(jnp.abs(expected).max()) > 1e-4
  assert_equal(slope(fast_on_cpu(network, differentiated=True))(x), expected)
  assert_equal(jax.jit(fast_on_cpu(slope(network)))(x), expected)
  assert orders(fast_on_cpu(slope(network)), x) == FAST


POOLS = {
  "apart": ((2, 2), (2, 2), "VALID"),
  "overlapping": ((3, 3), (2, 1), "SAME"),
  "gaps": ((1, 2), (2, 3), ((0, 1), (1, 0))),
}


@pytest.mark.parametrize("kind", POOLS)
def test_gradient_of_max_pooling(kind):
  x = jax.random.randint(jax.random.key(0), (2, 9, 8, 3), 0, 4).astype(jnp.float32)  # ties

  def slope(pool):
    return jax.value_and_grad(
      lambda x: jnp.sum(jnp.sin(jnp.arange(3.0)[None, None, None] + pool(x)))
    )

  def pool(x):
    return nn.max_pool(x, *POOLS[kind])

  for fast in (fast_on_cpu(slope(pool)), slope(fast_on_cpu(pool, differentiated=True))):
    assert "select_and_scatter_add" not in str(jax.make_jaxpr(fast)(x))
    assert_equal(jax.jit(fast)(x), jax.jit(slope(pool))(x))


def nested(kind):
  """Returns the gradient of a slow convolution inside an inner program."""
  convolve, x, w = convolution(layout="NCHW")
  grow = {
    "jit": jax.jit(convolve),
    "remat": jax.checkpoint(convolve),
    "scan": lambda x, w: jax.lax.scan(lambda c, _: (convolve(c, w), None), x, length=2)[0],
    "cond": lambda x, w: jax.lax.cond(x.sum() > 0, convolve, lambda x, w: 2 * x, x, w),
    "while": lambda x, w: jax.lax.fori_loop(0, 2, lambda i, x: convolve(x, w), x),
    "vmap": lambda x, w: jax.vmap(convolve, (0, None))(x[None], w)[0],
    "kernels": lambda x, w: jax.vmap(convolve)(jnp.stack([x, 2 * x]), jnp.stack([w, -w]))[1],
  }[kind]
  return grow, x, w


@pytest.mark.parametrize("kind", ["jit", "remat", "scan", "cond", "while", "vmap", "kernels"])
def test_inner_programs(kind):
  grow, x, w = nested(kind)
  fn = gradients(grow) if kind != "while" else grow
  assert_equal(fast_on_cpu(fn)(x, w), fn(x, w))
  assert orders(fn, x, w) != FAST
  assert orders(fast_on_cpu(fn), x, w) == FAST


def test_rules_of_others_are_kept():
  @jax.custom_vjp
  def doubled(x, w):
    return convolution(layout="NCHW")[0](x, w)

  doubled.defvjp(lambda x, w: (doubled(x, w), (x, w)), lambda kept, _: (2 * kept[0], 0 * kept[1]))
  _, x, w = convolution(layout="NCHW")
  for differentiated in (True, False):
    fn = fast_on_cpu(doubled, differentiated=differentiated)
    assert orders(fn, x, w) == FAST
    assert_equal(jax.grad(lambda x, fn=fn: fn(x, w).sum())(x), 2 * x)


def test_under_transformations(key):
  convolve, x, w = convolution(layout="NCHW")
  fast = fast_on_cpu(convolve, differentiated=True)
  many = jnp.stack([x, -x])
  assert_equal(jax.vmap(fast, (0, None))(many, w), jax.vmap(convolve, (0, None))(many, w))
  assert_equal(jax.jacrev(fast, 1)(x, w), jax.jacrev(convolve, 1)(x, w))
  tangents = jax.jvp(fast_on_cpu(convolve), (x, w), (w.sum() * x, w))
  assert_equal(tangents, jax.jvp(convolve, (x, w), (w.sum() * x, w)))

  def noisy(key, x):  # closes over the kernel, takes a key
    return convolve(x + jax.random.normal(key, x.shape), w)

  assert_equal(jax.jit(fast_on_cpu(noisy))(key, x), noisy(key, x))
  assert_equal(jax.grad(lambda w: fast_on_cpu(lambda x: convolve(x, w))(x).sum())(w),
               jax.grad(lambda w: convolve(x, w).sum())(w))  # fmt: skip


@pytest.mark.parametrize("check", [True, False])
def test_sharded(check):
  convolve, x, w = convolution(layout="NCHW")
  mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
  rows, whole = PartitionSpec("data"), PartitionSpec()

  def run(fn):
    specs = {"in_specs": (rows, whole), "out_specs": ((whole, rows), (rows, whole))}

    def local(x, w):
      (value, out), (slope, total) = gradients(fn)(x, w)
      add = jax.lax.psum if check is False else (lambda v, _: v)
      return (jax.lax.psum(value, "data"), out), (slope, add(total, "data"))

    return jax.jit(jax.shard_map(local, mesh=mesh, check_vma=check, **specs))(x, w)

  expected = gradients(convolve)(x, w)
  assert_equal(run(fast_on_cpu(convolve)), expected)
  assert_equal(run(fast_on_cpu(convolve, differentiated=True)), expected)
  inside = jax.shard_map(
    fast_on_cpu(convolve), mesh=mesh, in_specs=(rows, whole), out_specs=rows, check_vma=check
  )
  assert orders(fast_on_cpu(inside), x, w) == FAST


def test_a_program_without_convolutions_is_left_alone():
  program = jax.make_jaxpr(lambda x: jax.jit(jnp.sin)(x))(1.0)
  assert rewrite._rewrite(program, partial(rewrite._fast, differentiated=True)) is program


@pytest.mark.parametrize("case", CASES)
def test_what_is_fast_is_left_alone(case):
  convolve, x, w = convolution(**CASES[case])
  program = jax.make_jaxpr(fast_on_cpu(gradients(convolve)))(x, w)
  assert rewrite._rewrite(program, partial(rewrite._fast, differentiated=False)) is program


ROUNDING = {
  "round": lambda x: jnp.round(x * 15) / 15,
  "floor": lambda x: jnp.floor(x * 15) / 15,
  "cast": lambda x: (x * 255).astype(jnp.uint8).astype(jnp.float32) / 255,
  "loop": lambda x: jax.lax.map(lambda row: jnp.round(row * 15) / 15, x),
  "jit": jax.jit(lambda x: jnp.ceil(x * 15) / 15),
}


@pytest.mark.parametrize("name", sorted(ROUNDING))
def test_gradients_pass_straight_through_rounding(name, key):
  fn = ROUNDING[name]
  x = jax.random.uniform(key, (3, 4))
  passing = rewrite.straight_through(fn)
  assert rewrite.rounds(fn, x)
  np.testing.assert_array_equal(passing(x), fn(x))
  assert not jax.grad(lambda x: fn(x).sum())(x).any()
  through = jax.jit(jax.grad(lambda x: (passing(x) ** 2).sum()))(x)
  np.testing.assert_allclose(through, 2 * fn(x), rtol=1e-6)


def test_smooth_functions_and_indices_are_left_alone(key):
  x = jax.random.uniform(key, (5,))
  assert not rewrite.rounds(jnp.tanh, x)
  # Integers that never were pictures, and what a rule of its own stands for.
  assert not rewrite.rounds(lambda x: x * jnp.arange(5).astype(jnp.float32), x)
  np.testing.assert_array_equal(
    jax.grad(lambda x: rewrite.straight_through(jnp.tanh)(x).sum())(x),
    jax.grad(lambda x: jnp.tanh(x).sum())(x),
  )
