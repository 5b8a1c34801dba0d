# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import augment


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
  ],
)
def test_wrong_keywords(key, images, fn, keywords, message):
  with pytest.raises(ValueError, match=message):
    fn(key, images, **keywords)


def test_wrong_number_of_keys(images):
  with pytest.raises(ValueError, match="expected one key or 8 keys"):
    augment.random_flip(jax.random.split(jax.random.key(0), 3), images)
