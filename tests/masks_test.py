# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import masks


def test_upsample_by_hand():
  mask = jnp.array([[True, False], [False, True]])
  # Rows: floor(i * 2 / 4) = 0 0 1 1. Columns: floor(j * 2 / 5) = 0 0 0 1 1.
  expected = [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1]]
  np.testing.assert_array_equal(masks.upsample(mask, height=4, width=5), np.array(expected, bool))


@pytest.mark.parametrize("grid", [1, 4, 16, 32])
def test_kept_pixels_are_untouched_and_others_filled(key, images, grid):
  mask = masks.sample_patch_mask(jax.random.split(key, 8), grid=grid, keep_rate=0.6)
  out = masks.apply(images, mask, fill=0.25)
  keep = np.kron(np.asarray(mask), np.ones((1, 32 // grid, 32 // grid)))[..., None] > 0
  np.testing.assert_array_equal(out, np.where(keep, images, np.float32(0.25)))


def test_fills(images):
  nothing = jnp.zeros((4, 4), bool)
  np.testing.assert_array_equal(
    masks.apply(images, nothing, fill=jnp.array([0.1, 0.2, 0.3]))[3, 5, 7],
    np.float32([0.1, 0.2, 0.3]),
  )
  picture = images[0]
  np.testing.assert_array_equal(masks.apply(images, nothing, fill=picture)[5], picture)
  everything = jnp.ones((4, 4), bool)
  np.testing.assert_array_equal(masks.apply(images, everything), images)


def test_gradient_reaches_a_learned_fill(images, key):
  mask = masks.sample_patch_mask(key, grid=8, keep_rate=0.75)
  gradient = jax.grad(lambda f: masks.apply(images, mask, fill=f).sum())(jnp.zeros(3))
  np.testing.assert_allclose(gradient, 8 * 16 * 16)  # 16 dropped cells of 4x4 pixels, 8 images


def test_bad_shapes(images):
  with pytest.raises(ValueError, match=r"finer than a 32x32 image; use mask.grid <= 32"):
    masks.apply(images, jnp.ones((64, 64), bool))
  with pytest.raises(ValueError, match=r"expected a mask \[grid, grid\] or \[8, grid, grid\]"):
    masks.apply(images, jnp.ones((3, 4, 4), bool))


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
