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
