# SPDX-License-Identifier: Apache-2.0

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mixboost_jax import attacks, augment, keys
from mixboost_jax import image as kernels
from mixboost_jax.augment import _classical
from tests.augment import pil_reference


def test_flip_happens_half_of_the_time(key):
  ramp = jnp.broadcast_to(jnp.linspace(0, 1, 4)[None, None, :, None], (4000, 1, 4, 1))
  flipped = np.asarray(augment.random_flip(key, ramp))[:, 0, 0, 0] == 1
  assert abs(flipped.mean() - 0.5) < 4 * 0.5 / 4000**0.5


def test_crop_offsets_are_uniform_and_the_border_is_black(key):
  # One bright pixel in the middle of a picture of side 5: its place tells the offset.
  images = jnp.zeros((9000, 5, 5, 1)).at[:, 2, 2].set(1.0)
  out = np.asarray(augment.random_crop(key, images, padding=1))[..., 0]
  counts = out.sum(0)[1:4, 1:4]
  assert counts.sum() == 9000
  expected = 1000
  assert ((counts - expected) ** 2 / expected).sum() < 26.1  # chi-square, 8 degrees, p = 0.001
  white = np.asarray(augment.random_crop(key, jnp.ones((64, 3, 3, 1)), padding=1))
  assert set(np.unique(white)) == {0.0, 1.0}


def test_reflected_crops_are_windows_of_the_reflected_picture(key):
  images = jax.random.uniform(key, (40, 5, 6, 2))
  out = np.asarray(augment.random_crop(key, images, padding=2, border="reflect"))
  offsets = np.asarray(_classical.draw_offsets(keys.per_example(key, 40), padding=2))
  padded = np.pad(np.asarray(images), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
  for row, (top, left) in enumerate(offsets):
    np.testing.assert_array_equal(out[row], padded[row, top : top + 5, left : left + 6])
  assert len(np.unique(offsets, axis=0)) > 10


def test_alternating_flips_begin_as_random_ones_and_turn_in_every_epoch(key, images):
  each = jax.random.split(key, 8)
  epochs = [np.asarray(augment.alternating_flip(each, images, epoch=e)) for e in range(4)]
  np.testing.assert_array_equal(epochs[0], augment.random_flip(each, images))
  for before, after in itertools.pairwise(epochs):
    np.testing.assert_array_equal(after, before[:, :, ::-1])
  kept = [np.array_equal(a, b) for a, b in zip(epochs[0], np.asarray(images), strict=True)]
  assert 0 < sum(kept) < 8


def test_crop_without_padding_is_the_identity(key, images):
  assert augment.random_crop(key, images, padding=0) is images


def test_cutout_area_by_enumerating_centres(key):
  side, length = 6, 4
  half = length // 2
  span = [min(c + half, side) - max(c - half, 0) for c in range(side)]
  areas = np.outer(span, span)
  out = np.asarray(augment.cutout(key, jnp.ones((3000, side, side, 1)), length=length, fill=0.0))
  found = (out == 0).sum((1, 2, 3))
  assert set(found) <= set(areas.ravel())
  assert found.max() == length**2
  assert abs(found.mean() - areas.mean()) < 4 * areas.std() / 3000**0.5


@pytest.mark.parametrize("length", [0, 1])
def test_cutout_of_nothing_is_the_identity(key, images, length):
  np.testing.assert_array_equal(augment.cutout(key, images, length=length), images)


def test_cutout_fill_per_channel(key, images):
  out = np.asarray(augment.cutout(key, images, length=64, fill=(0.1, 0.2, 0.3)))
  changed = (out != np.asarray(images)).any(-1)
  assert changed.any()
  np.testing.assert_allclose(
    out[changed], np.broadcast_to(np.float32([0.1, 0.2, 0.3]), (changed.sum(), 3))
  )


@pytest.mark.parametrize(
  ("fn", "keywords", "message"),
  [
    (augment.cutout, {"length": -1}, "cutout: length: expected an integer >= 0, got -1"),
    (augment.cutout, {"length": 2, "fill": 2.0}, "cutout: fill"),
    (augment.random_crop, {"padding": -1}, "random_crop: padding"),
    (augment.random_crop, {"padding": 1, "fill": 2}, r"random_crop: fill: expected a number in"),
    (
      augment.random_crop,
      {"padding": 1, "border": "wrap"},
      "border: expected one of fill, reflect",
    ),
  ],
)
def test_wrong_keywords(key, images, fn, keywords, message):
  with pytest.raises(ValueError, match=message):
    fn(key, images, **keywords)


def test_wrong_number_of_keys(images):
  with pytest.raises(ValueError, match="expected one key or 8 keys"):
    augment.random_flip(jax.random.split(jax.random.key(0), 3), images)


@pytest.mark.parametrize(
  ("window", "size"), [((3, 5, 20, 17), 12), ((0, 0, 8, 9), 24), ((30, 2, 1, 1), 4)]
)
def test_resized_windows_are_those_of_pillow(window, size):
  top, left, height, width = window
  pixels = pil_reference.pictures(32, 40)[0]
  cut = Image.fromarray(pixels).crop((left, top, left + width, top + height))
  want = np.asarray(cut.resize((size, size), Image.Resampling.BILINEAR))
  image = jnp.asarray(pixels, jnp.float32) / 255
  got = jax.jit(lambda w: kernels.resize_window(image, *w, size=(size, size)))(
    jnp.array(window, jnp.float32)
  )
  assert np.abs(np.asarray(got) * 255 - want).max() <= 1.01


def test_windows_have_the_stated_areas_and_shapes():
  each = jax.random.split(jax.random.key(0), 4000)
  windows = np.asarray(_classical.draw_windows(each, height=64, width=48))
  top, left, height, width = windows.T
  assert (top >= 0).all()
  assert (left >= 0).all()
  assert (top + height <= 64).all()
  assert (left + width <= 48).all()
  area = height * width / (64 * 48)
  assert 0.07 < area.min() < 0.1
  assert (width / height > 0.68).all()
  assert (width / height < 1.45).all()
  # Corners are uniform over what fits.
  room = 48 - width
  share = (left[room > 8] + 0.5) / (room[room > 8] + 1)
  assert abs(share.mean() - 0.5) < 4 * 0.2887 / share.size**0.5


def test_no_window_fits_takes_the_centre():
  each = jax.random.split(jax.random.key(0), 1)
  window = _classical.draw_windows(each, height=10, width=100, scale=(0.99, 1.0))
  np.testing.assert_array_equal(window[0], [0, (100 - 13) // 2, 10, 13])


def test_resized_crops_are_rounded_as_pillow_does(key):
  """A policy that cuts to levels must not darken them by half a level."""
  pixels = pil_reference.pictures(32, 40)[:6]
  each = jax.random.split(key, len(pixels))
  images = jnp.asarray(pixels, jnp.float32) / 255
  crops = augment.random_resized_crop(each, images, size=20)
  windows = _classical.draw_windows(each, height=32, width=40)
  want = []
  for picture, (top, left, height, width) in zip(pixels, np.asarray(windows), strict=True):
    part = Image.fromarray(picture).crop((left, top, left + width, top + height))
    want.append(np.asarray(part.resize((20, 20), Image.Resampling.BILINEAR), np.int32))
  difference = np.asarray(kernels.to_levels(crops), np.int32) - np.stack(want)
  assert np.abs(difference).max() <= 1
  assert abs(difference.mean()) < 0.05
  np.testing.assert_array_equal(kernels.from_levels(kernels.to_levels(crops)), crops)


def test_resized_crop_changes_the_size(key, images):
  assert augment.random_resized_crop(key, images, size=20).shape == (8, 20, 20, 3)


def test_jitter_without_strength_is_the_identity(key, images):
  out = augment.color_jitter(key, images, brightness=0, contrast=0, saturation=0)
  np.testing.assert_allclose(out, images, atol=1e-6)


def test_jitter_of_brightness_alone_scales_the_picture():
  images = jnp.full((2000, 1, 1, 3), 0.4)
  out = augment.color_jitter(jax.random.key(0), images, brightness=0.5, contrast=0, saturation=0)
  factor = np.asarray(out)[:, 0, 0, 0] / 0.4
  assert 0.5 <= factor.min() < 0.51
  assert 1.49 < factor.max() <= 1.5
  assert abs(factor.mean() - 1) < 4 * (1 / 12) ** 0.5 / 2000**0.5


def test_hue_turns_red_to_green_and_back():
  red = jnp.array([[[0.8, 0.1, 0.1]]])
  green = _classical.shift_hue(red, 1 / 3)
  np.testing.assert_allclose(green, [[[0.1, 0.8, 0.1]]], atol=1e-6)
  np.testing.assert_allclose(_classical.shift_hue(green, -1 / 3), red, atol=1e-6)


def test_hsv_equals_the_standard_library(images):
  import colorsys

  pixels = np.asarray(images)[0, ::8, ::8].reshape(-1, 3)
  want = [colorsys.rgb_to_hsv(*map(float, p)) for p in pixels]
  hsv = _classical.rgb_to_hsv(jnp.asarray(pixels))
  np.testing.assert_allclose(hsv, want, atol=1e-5)
  np.testing.assert_allclose(_classical.hsv_to_rgb(hsv), pixels, atol=1e-6)


def test_grayscale_frequency_and_value(key):
  images = jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0]), (3000, 1, 1, 3))
  out = np.asarray(augment.random_grayscale(key, images, prob=0.2))[:, 0, 0]
  grey = out[:, 1] > 0
  assert abs(grey.mean() - 0.2) < 4 * (0.16 / 3000) ** 0.5
  np.testing.assert_allclose(out[grey], 0.2989, rtol=1e-5)


def test_noise_has_its_standard_deviation(key):
  out = np.asarray(augment.gaussian_noise(key, jnp.full((4, 32, 32, 3), 0.5), sigma=0.05))
  assert abs(out.std() / 0.05 - 1) < 4 / (2 * out.size) ** 0.5
  assert augment.gaussian_noise(key, jnp.ones((1, 2, 2, 3)), sigma=0).min() == 1


def test_blur_equals_scipy():
  from scipy import ndimage

  image = jnp.asarray(np.random.default_rng(0).random((12, 15, 3)), jnp.float32)
  want = ndimage.gaussian_filter(np.asarray(image), (1.3, 1.3, 0), truncate=4 / 1.3, mode="mirror")
  got = kernels.gaussian_blur(image, 1.3, radius=4)
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_blur_keeps_the_mean_of_a_constant_and_rejects_small_pictures(key):
  flat = jnp.full((1, 9, 9, 3), 0.3)
  np.testing.assert_allclose(augment.gaussian_blur(key, flat, radius=4), flat, rtol=1e-6)
  with pytest.raises(ValueError, match="radius 4 cannot be reflected in a picture of 4x4"):
    augment.gaussian_blur(key, jnp.zeros((1, 4, 4, 3)), radius=4)


def test_photographs_have_gradients_and_policies_have_none(key):
  """Sums of the output by pixel: a resized crop spreads one unit per output pixel."""
  images = jnp.full((2, 8, 8, 3), 100 / 255) + jnp.linspace(0, 0.3, 8)[None, :, None, None]

  def gradient(fn):
    return jax.grad(lambda pictures: fn(key, pictures).sum())(images)

  cropped = gradient(lambda key, pictures: augment.random_resized_crop(key, pictures, size=8))
  np.testing.assert_allclose(cropped.sum(), images.size, rtol=1e-5)
  assert np.abs(gradient(augment.color_jitter)).min() > 0
  assert not gradient(augment.trivial_augment_wide).any()
  straight = attacks.bpda(lambda pictures: augment.trivial_augment_wide(key, pictures))
  np.testing.assert_array_equal(gradient(lambda key, pictures: straight(pictures)), 1)
