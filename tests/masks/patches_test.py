# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import masks


@pytest.mark.parametrize(
  ("keep_rate", "expected"), [(0.7, 179), (0.3, 76), (0.9, 230), (0.4, 102), (0.0, 0), (1.0, 256)]
)
def test_popcount_is_exact(key, keep_rate, expected):
  mask = masks.sample_patch_mask(key, grid=16, keep_rate=keep_rate)
  assert masks.num_kept(grid=16, keep_rate=keep_rate) == expected
  assert int(mask.sum()) == expected


def test_one_key_per_example_gives_its_own_mask_whatever_the_batch(key):
  keys = jax.random.split(key, 6)
  together = masks.sample_patch_mask(keys, grid=8, keep_rate=0.5)
  alone = jnp.stack([masks.sample_patch_mask(k, grid=8, keep_rate=0.5) for k in keys])
  np.testing.assert_array_equal(together, alone)
  assert not np.array_equal(together[0], together[1])


def test_nested(key):
  keys = jax.random.split(key, 5)
  small, large = masks.nested_patch_masks(keys, grid=16, r1=0.3, r2=0.7)
  assert bool((large | ~small).all())
  np.testing.assert_array_equal(small.sum((1, 2)), 76)
  np.testing.assert_array_equal(large.sum((1, 2)), 179)


def test_every_cell_is_kept_equally_often():
  keys = jax.random.split(jax.random.key(3), 4000)
  frequency = masks.sample_patch_mask(keys, grid=4, keep_rate=0.5).mean(0)
  # 16 cells, standard error sqrt(.25 / 4000) = .0079; 4 standard errors.
  np.testing.assert_allclose(frequency, 0.5, atol=4 * 0.0079)


def test_pairs_of_cells_are_kept_as_in_sampling_without_replacement():
  keys = jax.random.split(jax.random.key(4), 4000)
  kept = masks.sample_patch_mask(keys, grid=3, keep_rate=0.5).reshape(4000, 9)
  both = (kept[:, 0] & kept[:, 5]).mean()
  expected = 4 / 9 * 3 / 8
  assert abs(float(both) - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"grid": 0, "keep_rate": 0.5}, "grid must be >= 1"),
    ({"grid": 4, "keep_rate": 1.5}, r"keep_rate must be in \[0, 1\], got 1.5"),
  ],
)
def test_bad_options(key, options, message):
  with pytest.raises(ValueError, match=message):
    masks.sample_patch_mask(key, **options)


def test_rates_out_of_order(key):
  with pytest.raises(ValueError, match="r1 <= r2"):
    masks.nested_patch_masks(key, grid=4, r1=0.7, r2=0.3)
