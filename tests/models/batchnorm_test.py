# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mixboost_jax.models.batchnorm import BatchNorm
from mixboost_jax.models.mode import Mode


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

  check_grads(loss, (interleaved(*two_views),), order=1, modes=["rev"], rtol=2e-2)


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


def test_one_value_per_channel_is_refused():
  with pytest.raises(ValueError, match="at least 2 values per channel"):
    BatchNorm(3)(jnp.ones((1, 1, 1, 3)), train_mode())
