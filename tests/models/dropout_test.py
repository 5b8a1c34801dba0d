# SPDX-License-Identifier: Apache-2.0
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax.models.dropout import dropout, seeds_of


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
