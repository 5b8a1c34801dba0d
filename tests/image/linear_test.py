# SPDX-License-Identifier: Apache-2.0
"""Blur, zoom and resize against scipy.ndimage and Pillow; borders by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image as PillowImage

from mixboost_jax.corruptions._digital import CHROMA, LUMA, jpeg_compression, quantization_table
from mixboost_jax.image import linear, sampling
from mixboost_jax.image.linear import correlate

SMALL = np.random.default_rng(3).uniform(size=(9, 13, 2)).astype(np.float32)
IMAGE = jnp.asarray(SMALL)


def test_borders_by_hand():
  at = np.array([-3, -1, 0, 3, 4, 6])
  assert linear.border_index(at, 4, border="edge").tolist() == [0, 0, 0, 3, 3, 3]
  assert linear.border_index(at, 4, border="reflect").tolist() == [2, 0, 0, 3, 3, 1]
  assert linear.border_index(at, 4, border="reflect_101").tolist() == [3, 1, 0, 3, 2, 0]
  assert linear.border_index(at, 1, border="reflect_101").tolist() == [0] * 6


@pytest.mark.parametrize(
  ("border", "mode"), [("edge", "nearest"), ("reflect", "reflect"), ("reflect_101", "mirror")]
)
@pytest.mark.parametrize(("sigma", "truncate"), [(0.3, 4.0), (1.7, 3.0), (12.0, 3.0)])
def test_gaussian_is_that_of_scipy(border, mode, sigma, truncate):
  wanted = scipy.ndimage.gaussian_filter(
    SMALL.astype(np.float64), sigma, mode=mode, truncate=truncate, axes=(0, 1)
  )
  got = linear.gaussian_blur_of_width(IMAGE, sigma=sigma, truncate=truncate, border=border)
  np.testing.assert_allclose(got, wanted, atol=2e-6)


@pytest.mark.parametrize("factor", [1.0, 1.06, 1.25, 2.25, 4.5])
def test_zoom_is_that_of_scipy(factor):
  square = np.random.default_rng(1).uniform(size=(32, 32)).astype(np.float32)
  part = int(np.ceil(32 / factor))
  top = (32 - part) // 2
  large = scipy.ndimage.zoom(
    square[top : top + part, top : top + part].astype(np.float64), factor, order=1
  )
  trim = (large.shape[0] - 32) // 2
  got = linear.zoom(jnp.asarray(square)[..., None], factor=factor)[..., 0]
  np.testing.assert_allclose(got, large[trim : trim + 32, trim : trim + 32], atol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 1.05, 1.5])
def test_cubic_zoom_is_that_of_scipy(factor):
  square = np.random.default_rng(2).uniform(size=(32, 32))
  large = scipy.ndimage.zoom(square, factor, order=3, prefilter=False)
  trim = (large.shape[0] - 32) // 2
  matrix = linear.zoom_matrix(32, factor, 3)
  np.testing.assert_allclose(
    matrix @ square @ matrix.T, large[trim : trim + 32, trim : trim + 32], atol=1e-9
  )


@pytest.mark.parametrize("small", [30, 28, 27, 24, 20])
def test_box_resize_is_that_of_pillow(small):
  levels = np.random.default_rng(4).integers(0, 256, (32, 32, 3)).astype(np.uint8)
  picture = PillowImage.fromarray(levels).resize((small, small), PillowImage.Resampling.BOX)
  back = picture.resize((32, 32), PillowImage.Resampling.BOX)
  got = linear.resize_box(jnp.asarray(levels, jnp.float32) / 255, height=small, width=small)
  np.testing.assert_array_equal(np.round(np.asarray(got) * 255), np.asarray(picture))
  got = linear.resize_box(got, height=32, width=32)
  np.testing.assert_array_equal(np.round(np.asarray(got) * 255), np.asarray(back))


@pytest.mark.parametrize(("border", "mode"), [("edge", "nearest"), ("reflect", "reflect")])
def test_bilinear_is_that_of_scipy(border, mode):
  rng = np.random.default_rng(5)
  rows, columns = rng.uniform(-4, 14, (2, 6, 7)).astype(np.float32)
  wanted = np.stack(
    [
      scipy.ndimage.map_coordinates(p, [rows, columns], order=1, mode=mode)
      for p in SMALL.T.swapaxes(1, 2)
    ],
    -1,
  )
  got = sampling.bilinear(IMAGE, jnp.asarray(rows), jnp.asarray(columns), border=border)
  np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_cubic_is_that_of_scipy():
  wanted = scipy.ndimage.rotate(SMALL[..., 0].astype(np.float64), 7.0, reshape=False, order=3)
  spline = linear.along_axes(IMAGE, rows=linear.spline_matrix(9), columns=linear.spline_matrix(13))
  cos, sin = np.cos(np.deg2rad(7.0)), np.sin(np.deg2rad(7.0))
  y, x = np.meshgrid(np.arange(9) - 4.0, np.arange(13) - 6.0, indexing="ij")
  rows, columns = cos * y + sin * x + 4, -sin * y + cos * x + 6
  got = sampling.cubic(spline, jnp.asarray(rows, jnp.float32), jnp.asarray(columns, jnp.float32))
  np.testing.assert_allclose(got[..., 0], wanted, atol=1e-5)


@pytest.mark.parametrize("side", [3, 7])  # unrolled, and by convolution
def test_correlation_is_that_of_scipy(side):
  kernel = np.random.default_rng(6).uniform(size=(side, side))
  wanted = np.stack(
    [scipy.ndimage.correlate(SMALL[..., c], kernel, mode="mirror") for c in range(2)], -1
  )
  np.testing.assert_allclose(correlate(IMAGE, kernel=kernel), wanted, rtol=1e-4)


@pytest.mark.parametrize(("quality", "shape"), [(80, (32, 32)), (40, (19, 33)), (7, (32, 32))])
def test_jpeg_is_near_that_of_pillow(quality, shape, tmp_path):
  rng = np.random.default_rng(quality)
  coarse = rng.uniform(size=(9, 9, 3))
  smooth = np.kron(coarse, np.ones((4, 4, 1)))[: shape[0], : shape[1]] * 0.8
  levels = np.floor((smooth + 0.2 * rng.uniform(size=(*shape, 3))) * 255).astype(np.uint8)
  PillowImage.fromarray(levels).save(tmp_path / "a.jpg", quality=quality)
  with PillowImage.open(tmp_path / "a.jpg") as opened:
    tables = opened.quantization
    wanted = np.asarray(opened).astype(int)
  np.testing.assert_array_equal(
    np.sort(tables[0]), np.sort(quantization_table(LUMA, quality=quality).reshape(-1))
  )
  np.testing.assert_array_equal(
    np.sort(tables[1]), np.sort(quantization_table(CHROMA, quality=quality).reshape(-1))
  )
  got = np.round(
    np.asarray(jpeg_compression(jnp.asarray(levels, jnp.float32) / 255, quality=quality)) * 255
  )
  difference = np.abs(got - wanted)
  assert difference.mean() <= 1.1
  assert difference.max() <= 15


def test_wrong_requests_are_explained():
  with pytest.raises(ValueError, match="sigma must be >= 0"):
    linear.gaussian_blur_of_width(IMAGE, sigma=-1.0)
  with pytest.raises(ValueError, match="factor must be >= 1"):
    linear.zoom(IMAGE, factor=0.5)
  with pytest.raises(ValueError, match="border"):
    linear.border_index(np.arange(3), 2, border="wrap")
  with pytest.raises(ValueError, match=r"quality must be in 1\.\.100"):
    quantization_table(LUMA, quality=0)
  with pytest.raises(ValueError, match="1 or 3 channels"):
    jpeg_compression(IMAGE, quality=50)
