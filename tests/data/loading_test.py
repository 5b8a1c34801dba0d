# SPDX-License-Identifier: Apache-2.0
"""Pictures with planted wrong labels."""

import dataclasses

import numpy as np
import pytest

from mixboost_jax import data
from mixboost_jax.data import loading


def test_outliers_have_noise_and_a_wrong_label(settings):
  plain = data.load(settings(train_examples=60, test_examples=10))
  planted = data.load(settings(train_examples=60, test_examples=10, outliers=20))
  rows = loading.outlier_rows(60, num=20)
  is_outlier = np.isin(np.arange(60), rows)
  assert np.all((planted.train.labels != plain.train.labels) == is_outlier)
  difference = planted.train.images.astype(float) - plain.train.images
  assert np.all(difference[~is_outlier] == 0)
  inside = (plain.train.images[rows] > 40) & (plain.train.images[rows] < 215)  # nothing is clipped
  spread = difference[rows][inside].std() / 255
  np.testing.assert_allclose(spread, 0.02, rtol=0.05)
  np.testing.assert_array_equal(planted.train.ids, plain.train.ids)
  np.testing.assert_array_equal(planted.test.images, plain.test.images)
  assert set(loading.outlier_rows(60, num=5)) <= set(rows)


def test_labels_take_every_wrong_class(settings):
  plain = data.load(settings(train_examples=400, test_examples=10)).train
  found = loading.plant_outliers(plain, num=400, noise=0.0, num_classes=10)
  shift = (found.labels - plain.labels) % 10
  assert set(shift) == set(range(1, 10))
  np.testing.assert_array_equal(found.images, plain.images)
  part = dataclasses.replace(plain, images=plain.images, labels=plain.labels)
  with pytest.raises(ValueError, match=r"config\.data\.outliers=401: more than the 400 pictures"):
    loading.plant_outliers(part, num=401, noise=0.0, num_classes=10)
