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
