# SPDX-License-Identifier: Apache-2.0

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mixboost_jax import loops, target
from mixboost_jax.models import layers
from mixboost_jax.models.layers import (
  BatchNorm,
  Mode,
  conv2d,
  dropout,
  max_pool,
  mean_pool,
  seeds_of,
)
from mixboost_jax.models.weights import RandomWeights


def train_mode(num_views=1, batchnorm_views="clean"):
  return Mode(True, num_views, batchnorm_views, None)


EVALUATE = Mode(False, 1, "clean", None)


@pytest.fixture
def two_views():
  """Six examples; the second view is darker and flatter, as a masked picture is."""
  rng = np.random.default_rng(1)
  clean = rng.normal(1.5, 2.0, (6, 4, 4, 3))
  return jnp.asarray(clean, jnp.float32), jnp.asarray(0.3 * clean - 1, jnp.float32)


def interleaved(first, second):
  return jnp.stack([first, second], axis=1).reshape(-1, *first.shape[1:])


def layer():
  norm = BatchNorm(3)
  norm.scale[...] = jnp.asarray([0.5, 1.0, 2.0])
  norm.bias[...] = jnp.asarray([0.0, -1.0, 3.0])
  return norm


def running(norm):
  return np.asarray(norm.mean[...]), np.asarray(norm.var[...])


def test_hand_worked_batch():
  norm = BatchNorm(1)
  values = jnp.asarray([1.0, 3.0, 5.0, 7.0]).reshape(2, 2, 1, 1)  # mean 4, variance 5 or 20/3
  outputs = norm(values, train_mode())
  np.testing.assert_allclose(outputs.ravel(), np.asarray([-3, -1, 1, 3]) / 5**0.5, rtol=1e-5)
  np.testing.assert_allclose(norm.mean[...], [0.4], rtol=1e-6)
  np.testing.assert_allclose(norm.var[...], [0.9 + 0.1 * 20 / 3], rtol=1e-6)


def test_evaluation_uses_the_running_statistics_and_keeps_them():
  norm = layer()
  norm.mean[...] = jnp.asarray([1.0, 2.0, 3.0])
  norm.var[...] = jnp.asarray([4.0, 1.0, 0.25])
  inputs = jnp.full((2, 1, 1, 3), 3.0)
  expected = [0.5 * 2 / 2, 1 * 1 / 1 - 1, 0 + 3]
  np.testing.assert_allclose(norm(inputs, EVALUATE)[1, 0, 0], expected, atol=1e-4)
  np.testing.assert_array_equal(norm.mean[...], [1.0, 2.0, 3.0])


@pytest.mark.parametrize("views", ["clean", "both"])
def test_fused_views_equal_separate_forwards(two_views, views):
  clean, masked = two_views
  fused, separate = layer(), layer()
  outputs = fused(interleaved(clean, masked), train_mode(2, views))
  clean_outputs = separate(clean, train_mode())
  after_clean = running(separate)
  masked_outputs = separate(masked, train_mode())
  np.testing.assert_allclose(outputs[0::2], clean_outputs, atol=1e-5)
  np.testing.assert_allclose(outputs[1::2], masked_outputs, atol=1e-5)
  expected = after_clean if views == "clean" else running(separate)
  np.testing.assert_allclose(running(fused), expected, atol=1e-5)
  assert not np.allclose(after_clean, running(separate), atol=1e-3)


def test_joint_views_are_one_batch(two_views):
  rows = interleaved(*two_views)
  joint, plain = layer(), layer()
  np.testing.assert_allclose(
    joint(rows, train_mode(2, "joint")), plain(rows, train_mode()), atol=1e-6
  )
  np.testing.assert_allclose(running(joint), running(plain), atol=1e-6)
  assert not np.allclose(joint(rows, train_mode(2)), plain(rows, train_mode()), atol=1e-2)


def test_gradient_passes_through_the_batch_statistics(two_views):
  def loss(inputs):
    return jnp.sum(jnp.sin(layer()(jnp.asarray(inputs), train_mode(2))))

  check_grads(loss, (interleaved(*two_views),), order=1, modes=["rev"], eps=1e-2, rtol=2e-2)


def test_half_precision_keeps_float32_statistics(two_views):
  norm = layer()
  outputs = norm(interleaved(*two_views).astype(jnp.bfloat16), train_mode(2))
  assert outputs.dtype == jnp.bfloat16
  assert norm.mean[...].dtype == norm.var[...].dtype == jnp.float32


def test_large_offset_does_not_cancel():
  """The variance of 1000 +- 1 is 1: the mean of squares minus the squared mean would lose it."""
  norm = BatchNorm(1)
  values = 1000 + jnp.asarray([-1.0, 1.0] * 8).reshape(4, 2, 2, 1)
  np.testing.assert_allclose(jnp.abs(norm(values, train_mode())), 1, rtol=1e-3)


def test_one_pass_of_accelerators_equals_two(two_views):
  """Also far from 0, once the running mean knows where the values are."""

  def near(offset):
    norm = layer()
    norm.mean[...] = jnp.full(3, 0.99 * offset)
    return norm

  def measured(platform, offset):
    inputs, norm = interleaved(*two_views) + offset, near(offset)
    with target.compiling_for(platform):
      outputs = norm(inputs, train_mode(2))
      slope = jax.grad(lambda x: jnp.sum(jnp.sin(near(offset)(x, train_mode(2)))))(inputs)
    return outputs, *running(norm), slope

  for offset in (0.0, 300.0):
    for ours, twice in zip(measured("tpu", offset), measured("cpu", offset), strict=True):
      np.testing.assert_allclose(ours, twice, rtol=2e-3, atol=2e-3)


def test_one_value_per_channel_is_refused():
  with pytest.raises(ValueError, match="at least 2 values per channel"):
    BatchNorm(3)(jnp.ones((1, 1, 1, 3)), train_mode())


def arrays(side, height):
  key_x, key_w = jax.random.split(jax.random.key(0))
  x = jax.random.normal(key_x, (2, height, height + 1, 3))
  return x, jax.random.normal(key_w, (side, side, 3, 4))


def test_gradient_loops_are_in_the_fast_layout():
  """In a loop of `loops` no convolution of a gradient leaves NHWC, HWIO; in any other one does."""
  x, w = arrays(3, 8)

  def jaxpr(scan):
    def step(x, _):  # made anew: JAX remembers what it traced for a function
      gradient = jax.grad(lambda x: jnp.sin(layers.conv2d(x, w, stride=2, padding=1)).sum())(x)
      return x - 0.1 * gradient, None

    return str(jax.make_jaxpr(lambda x: scan(step, x, length=3))(x))

  fast, derived = "rhs_spec=(3, 2, 0, 1)", "rhs_spec="
  ours, theirs = jaxpr(loops.scan), jaxpr(jax.lax.scan)
  assert ours.count(fast) == ours.count(derived) > 0
  assert theirs.count(fast) < theirs.count(derived)


def test_bad_options():
  x, w = arrays(3, 7)
  with pytest.raises(ValueError, match="padding=3"):
    layers.conv2d(x, w, stride=1, padding=3)
  with pytest.raises(ValueError, match="stride=0"):
    layers.conv2d(x, w, stride=0, padding=1)


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


@pytest.mark.parametrize("side", [4, 7])
def test_halving_is_max_pooling(side):
  values = jax.random.normal(jax.random.key(0), (2, side, side + 1, 3))
  weights = jnp.arange(2.0 * (side // 2) * ((side + 1) // 2) * 3)

  def both(fn):
    return jax.value_and_grad(lambda x: jnp.sum(fn(x).ravel() * weights))(values)

  ours, theirs = both(layers.halve), both(lambda x: max_pool(x, size=2, stride=2, padding=0))
  np.testing.assert_array_equal(ours[1], theirs[1])
  assert float(ours[0]) == pytest.approx(float(theirs[0]), rel=1e-6)


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 5), (4, 4), (5, 3)])
def test_a_dirac_start_copies_the_first_channels(inputs, outputs):
  conv = layers.Conv(RandomWeights(jax.random.key(0)), inputs, outputs, 3, init="dirac")
  images = jax.random.normal(jax.random.key(1), (2, 5, 6, inputs))
  found, same = np.asarray(conv(images)), min(inputs, outputs)
  np.testing.assert_array_equal(found[..., :same], images[..., :same])
  rest = np.asarray(conv.kernel[...])[..., same:]
  assert conv.bias is None
  assert rest.size == 0 or 0.7 / inputs**0.5 < 3 * np.abs(rest).max() <= 1 / inputs**0.5


def test_mean_pool_accumulates_in_float32():
  pooled = mean_pool(jnp.full((1, 64, 64, 2), 1.01, jnp.bfloat16))
  assert pooled.dtype == jnp.float32
  np.testing.assert_allclose(pooled, float(jnp.bfloat16(1.01)), rtol=1e-5)


@pytest.fixture(scope="module")
def seeds():
  return seeds_of(jax.random.split(jax.random.key(3), 64))


def test_values_are_zero_or_scaled_and_the_mean_is_kept(seeds):
  rate, shape = 0.3, (64, 16, 16, 8)
  outputs = np.asarray(dropout(seeds, jnp.ones(shape), rate=rate, layer=0))
  kept = 1 - round(rate * 65536) / 65536
  assert set(np.unique(outputs)) == {np.float32(0), np.float32(1 / kept)}
  stderr = (rate / (1 - rate) / outputs.size) ** 0.5
  assert abs(outputs.mean() - 1) < 4 * stderr


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_neighbours_are_uncorrelated(seeds, axis):
  shape = (64, 16, 16, 8)
  kept = np.asarray(dropout(seeds, jnp.ones(shape), rate=0.5, layer=1)) > 0
  signs = np.moveaxis(2.0 * kept - 1, axis, 0)
  half = len(signs) // 2  # the two halves of the channels share their random words
  for products in (signs[1:] * signs[:-1], signs[half:] * signs[:half]):
    assert abs(products.mean()) < 4 / products.size**0.5


def test_layers_and_rows_have_masks_of_their_own(seeds):
  ones = jnp.ones((64, 8, 8, 4))
  first = 2.0 * (dropout(seeds, ones, rate=0.5, layer=0) > 0) - 1
  second = 2.0 * (dropout(seeds, ones, rate=0.5, layer=1) > 0) - 1
  assert abs(jnp.mean(first * second)) < 4 / first.size**0.5
  assert abs(jnp.mean(first[1:] * first[:-1])) < 4 / first.size**0.5


def test_the_mask_of_a_row_does_not_depend_on_the_batch(seeds):
  values = jax.random.normal(jax.random.key(0), (64, 5, 5, 3))  # odd number of channels
  drop = jax.jit(functools.partial(dropout, rate=0.4, layer=2))
  whole = drop(seeds, values)
  part = drop(seeds[10:13], values[10:13])
  np.testing.assert_array_equal(part, whole[10:13])
  same = dropout(seeds[jnp.asarray([5, 5])], jnp.ones((2, 9, 6)), rate=0.4, layer=0)
  np.testing.assert_array_equal(same[0], same[1])


def test_extreme_rates(seeds):
  ones = jnp.ones((64, 6))
  np.testing.assert_array_equal(dropout(seeds, ones, rate=0.0, layer=0), ones)
  assert jnp.all(jnp.isfinite(dropout(seeds, ones, rate=1 - 1e-9, layer=0)))


def test_dtype_is_kept(seeds):
  assert dropout(seeds, jnp.ones((64, 6), jnp.bfloat16), rate=0.5, layer=0).dtype == jnp.bfloat16
