# SPDX-License-Identifier: Apache-2.0
import math

import jax
import numpy as np
import pytest

from mixboost_jax import models
from mixboost_jax.models.weights import RandomWeights


def leaves(model):
  pure = models.functional(model)
  return {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(pure.params)}


def close_to(values, std):
  """The sample deviation of n normal values has standard error std / sqrt(2 n)."""
  assert abs(values.std() - std) < 4 * std / math.sqrt(2 * values.size)
  assert abs(values.mean()) < 4 * std / math.sqrt(values.size)


def test_streams_cross_pieces_without_a_seam():
  size = 2**18
  first, second = RandomWeights(jax.random.key(1)), RandomWeights(jax.random.key(1))
  whole = np.asarray(first.normal((2 * size + 10,), std=1.0))
  parts = [second.normal((count,), std=1.0) for count in (5, size, size - 3, 8)]
  np.testing.assert_array_equal(np.concatenate(parts), whole)
  close_to(whole, 1.0)
  third, fourth = np.split(whole[: 2 * size], 2)
  assert abs(np.mean(third * fourth)) < 4 / math.sqrt(size)
  assert abs(np.mean(np.abs(whole) < 1) - 0.6826895) < 4 * math.sqrt(0.68 * 0.32 / whole.size)


def test_uniform_numbers_do_not_depend_on_the_normal_ones():
  first, second = RandomWeights(jax.random.key(1)), RandomWeights(jax.random.key(1))
  first.normal((100,), std=1.0)
  ours = first.uniform((50_000,), bound=0.5)
  np.testing.assert_array_equal(ours, second.uniform((50_000,), bound=0.5))
  assert np.abs(ours).max() <= 0.5
  assert abs(np.std(ours) - 0.5 / math.sqrt(3)) < 4 * 0.5 / math.sqrt(6 * 50_000)


def test_wide_resnet_starts_as_specified():
  network = models.create("wrn-16-4", num_classes=100, key=jax.random.key(2))
  params = leaves(network)
  for path, values in params.items():
    values = np.asarray(values)
    if path.endswith("'scale']"):
      assert np.all(values == 1)
    elif path.endswith("'bias']"):
      assert np.all(values == 0)
    elif "'fc'" in path:
      assert 0.99 / 16 < np.abs(values).max() <= 1 / 16  # 256 features
    else:
      side, _, _, outputs = values.shape
      close_to(values, math.sqrt(2 / (side * side * outputs)))


def test_alexnet_starts_uniform_with_biases():
  params = leaves(models.create("alexnet", num_classes=10, key=jax.random.key(2)))
  for name, fan_in in {"conv1": 147, "conv3": 192 * 9, "fc1": 4096, "fc3": 512}.items():
    bound = 1 / math.sqrt(fan_in)
    for leaf in ("kernel", "bias"):
      values = np.abs(params[f"['{name}']['{leaf}']"])
      assert 0.5 * bound < values.max() <= bound


@pytest.mark.parametrize("name", ["wrn-10-1", "tiny-cnn"])
def test_same_key_same_weights_on_any_device(name):
  one = leaves(models.create(name, num_classes=10, key=jax.random.key(0)))
  with jax.default_device(jax.devices()[3]):
    two = leaves(models.create(name, num_classes=10, key=jax.random.key(0)))
  other = leaves(models.create(name, num_classes=10, key=jax.random.key(1)))
  for path in one:
    np.testing.assert_array_equal(one[path], two[path])
  assert any(not np.array_equal(one[path], other[path]) for path in one)


FIRST_KERNEL = [0.11832421, -0.10681286, -0.08817294]
FIRST_FC = [-0.12317654, -0.11977720, 0.02035663]


def test_first_weights_are_frozen():
  """A change of these numbers changes every published result: do not update them lightly."""
  params = leaves(models.create("wrn-10-1", num_classes=10, key=jax.random.key(0)))
  first = np.asarray(params["['conv1']['kernel']"]).ravel()[:3]
  np.testing.assert_allclose(first, FIRST_KERNEL, rtol=1e-5)
  np.testing.assert_allclose(params["['fc']['kernel']"].ravel()[:3], FIRST_FC, rtol=1e-5)
