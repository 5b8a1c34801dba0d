# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import image as kernels
from mixboost_jax import target


def test_box_is_half_open_and_clipped():
  mask = np.asarray(kernels.box_mask(-2, 1, 2, 9, height=4, width=3))
  want = np.zeros((4, 3), bool)
  want[0:2, 1:3] = True
  np.testing.assert_array_equal(mask, want)


def test_empty_box():
  assert not np.asarray(kernels.box_mask(2, 2, 2, 2, height=4, width=4)).any()


def test_fill_per_channel():
  inside = jnp.asarray([[True, False]])
  out = kernels.fill_where(jnp.zeros((1, 2, 3)), inside, fill=(0.1, 0.2, 0.3))
  np.testing.assert_allclose(out, [[[0.1, 0.2, 0.3], [0, 0, 0]]], rtol=1e-6)


@pytest.fixture
def picture():
  return jnp.arange(3 * 4 * 2, dtype=jnp.float32).reshape(3, 4, 2)


@pytest.mark.parametrize("fill", [0.0, 0.5, (7.0, 9.0)])
def test_pad_equals_numpy(picture, fill):
  value = jnp.asarray(fill) if isinstance(fill, tuple) else fill
  out = np.asarray(kernels.pad(picture, padding=2, fill=value))
  for channel, v in enumerate(np.broadcast_to(fill, 2)):
    want = np.pad(np.asarray(picture)[..., channel], 2, constant_values=v)
    np.testing.assert_array_equal(out[..., channel], want)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize(
  ("corner", "moved"), [((1, 2), (1, 2)), ((-1, 9), (0, 2)), ((5, 0), (1, 0))]
)
def test_crop_is_the_window(picture, platform, corner, moved):
  top, left = moved
  with target.compiling_for(platform):
    window = kernels.crop(picture, *jnp.asarray(corner), height=2, width=2)
  np.testing.assert_array_equal(window, picture[top : top + 2, left : left + 2])


@pytest.mark.parametrize("side", [65, 66])
def test_a_tpu_chooses_among_few_windows_only(side):
  row = jnp.arange(side, dtype=jnp.float32).reshape(1, side, 1)
  with target.compiling_for("tpu"):
    cut = lambda left: kernels.crop(row, 0, left, height=1, width=1)  # noqa: E731
    assert ("dynamic_slice" in str(jax.make_jaxpr(cut)(0))) == (side > 65)
    assert [cut(left).item() for left in (0, 1, side - 1)] == [0, 1, side - 1]


def test_crop_too_large_and_negative_padding_are_refused(picture):
  with pytest.raises(ValueError, match="4x4 window does not fit a picture of 3x4"):
    kernels.crop(picture, 0, 0, height=4, width=4)
  with pytest.raises(ValueError, match="padding must be >= 0"):
    kernels.pad(picture, padding=-1)
