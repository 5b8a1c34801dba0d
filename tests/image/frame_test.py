# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import image as kernels


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
