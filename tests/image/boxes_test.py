# SPDX-License-Identifier: Apache-2.0

import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import image as kernels


def test_box_is_half_open_and_clipped():
  mask = np.asarray(kernels.box_mask(-2, 1, 2, 9, height=4, width=3))
  want = np.zeros((4, 3), bool)
  want[0:2, 1:3] = True
  np.testing.assert_array_equal(mask, want)


def test_empty_box():
  assert not np.asarray(kernels.box_mask(2, 2, 2, 2, height=4, width=4)).any()


@pytest.mark.parametrize(("grid", "height", "width"), [(2, 4, 4), (3, 5, 7), (1, 2, 2), (4, 4, 9)])
def test_pixel_takes_the_cell_at_the_floor(grid, height, width):
  cells = np.random.default_rng(grid).random((grid, grid)) < 0.5
  out = np.asarray(kernels.upsample_grid(jnp.asarray(cells), height=height, width=width))
  for i in range(height):
    for j in range(width):
      assert out[i, j] == cells[i * grid // height, j * grid // width]


def test_grid_finer_than_the_picture_is_refused():
  with pytest.raises(ValueError, match="5x5 cells needs at least as many pixels"):
    kernels.upsample_grid(jnp.ones((5, 5), bool), height=4, width=8)


def test_fill_per_channel():
  inside = jnp.asarray([[True, False]])
  out = kernels.fill_where(jnp.zeros((1, 2, 3)), inside, fill=(0.1, 0.2, 0.3))
  np.testing.assert_allclose(out, [[[0.1, 0.2, 0.3], [0, 0, 0]]], rtol=1e-6)


@pytest.fixture
def picture():
  return jnp.arange(3 * 4 * 2, dtype=jnp.float32).reshape(3, 4, 2)


def test_flip_is_an_involution_and_mirrors_columns(picture):
  flipped = kernels.flip_left_right(picture)
  np.testing.assert_array_equal(flipped[:, 0], picture[:, 3])
  np.testing.assert_array_equal(kernels.flip_left_right(flipped), picture)


@pytest.mark.parametrize("fill", [0.0, 0.5, (7.0, 9.0)])
def test_pad_equals_numpy(picture, fill):
  value = jnp.asarray(fill) if isinstance(fill, tuple) else fill
  out = np.asarray(kernels.pad(picture, padding=2, fill=value))
  for channel, v in enumerate(np.broadcast_to(fill, 2)):
    want = np.pad(np.asarray(picture)[..., channel], 2, constant_values=v)
    np.testing.assert_array_equal(out[..., channel], want)


def test_crop_is_the_window(picture):
  np.testing.assert_array_equal(kernels.crop(picture, 1, 2, height=2, width=2), picture[1:3, 2:4])


def test_crop_too_large_and_negative_padding_are_refused(picture):
  with pytest.raises(ValueError, match="4x4 window does not fit a picture of 3x4"):
    kernels.crop(picture, 0, 0, height=4, width=4)
  with pytest.raises(ValueError, match="padding must be >= 0"):
    kernels.pad(picture, padding=-1)
