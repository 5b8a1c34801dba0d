# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from mixboost_jax import augment


@pytest.fixture(scope="module")
def pictures():
  return np.asarray(augment.mixing_images(jax.random.key(0), 12, size=24))


def test_pictures_are_8_bit_levels_and_busy(pictures):
  assert pictures.shape == (12, 24, 24, 3)
  assert pictures.dtype == np.float32
  assert np.isfinite(pictures).all()
  np.testing.assert_allclose(pictures * 255, np.rint(pictures * 255), atol=1e-4)
  assert pictures.min() >= 0
  assert pictures.max() <= 1
  contrast = pictures.std(axis=(1, 2, 3))
  assert (contrast > 0.02).all(), "a picture without structure"
  assert (contrast > 0.08).mean() > 0.8
  assert len({p.tobytes() for p in pictures}) == 12


def test_a_picture_does_not_depend_on_how_many_are_made(pictures):
  fewer = augment.mixing_images(jax.random.key(0), 6, size=24)
  np.testing.assert_allclose(fewer, pictures[:6], atol=1.01 / 255)


def test_another_key_gives_other_pictures(pictures):
  other = np.asarray(augment.mixing_images(jax.random.key(1), 12, size=24))
  assert not any(np.array_equal(a, b) for a, b in zip(other, pictures, strict=True))


def test_none_and_wrong_arguments(key):
  assert augment.mixing_images(key, 0, size=8).shape == (0, 8, 8, 3)
  with pytest.raises(ValueError, match="families among ifs, escape_time"):
    augment.mixing_images(key, 3, families=("fractal",))
