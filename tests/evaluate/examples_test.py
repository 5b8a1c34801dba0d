# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from mixboost_jax import data, evaluate
from mixboost_jax.evaluate import _examples as examples_lib


def make_split(count, start=0):
  rng = np.random.default_rng(count)
  images = rng.integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
  ids = np.arange(start, start + count, dtype=np.int32)
  return data.Split(images, (ids % 10).astype(np.int32), ids)


@pytest.fixture
def dataset():
  names = tuple("abcdefghij")
  return data.Dataset(
    "own", "Own set", "files", names, make_split(7), None, make_split(5, 100), (0.5, 0.5, 0.5)
  )


def test_parts_of_a_dataset(dataset):
  test = evaluate.from_dataset(dataset, split="test")
  assert (len(test), test.dataset, test.split, test.source) == (5, "own", "test", "files")
  np.testing.assert_array_equal(test.ids, dataset.test.ids)
  assert len(evaluate.from_dataset(dataset, split="train")) == 7
  with_validation = dataclasses.replace(dataset, validation=make_split(3))
  assert len(evaluate.from_dataset(with_validation, split="validation")) == 3


def test_missing_validation(dataset):
  with pytest.raises(ValueError, match="hold some training examples out"):
    evaluate.from_dataset(dataset, split="validation")
  with pytest.raises(ValueError, match="got 'dev'"):
    evaluate.from_dataset(dataset, split="dev")


IMAGES, LABELS = np.zeros((3, 2, 2, 1), np.uint8), np.zeros(3, int)


@pytest.mark.parametrize(
  ("pair", "message"),
  [
    (7, "a pair"),
    ((IMAGES,), "a pair"),
    ((IMAGES[0], LABELS), r"expected images \[N, H, W, C\]"),
    ((IMAGES, LABELS[:2]), r"got shapes \[3, 2, 2, 1\] and \[2\]"),
    ((IMAGES[:0], LABELS[:0]), "N >= 1"),
    ((IMAGES, LABELS.astype(float)), "labels must be integers"),
    ((IMAGES, LABELS - 1), "labels must be >= 0"),
    ((IMAGES.astype(int), LABELS), "uint8, or float"),
    ((IMAGES + 255.0, LABELS), r"lie in \[0, 1\], got \[255, 255\]"),
    ((IMAGES + np.nan, LABELS), r"must be finite, got \[nan, nan\]; look for a division"),
    ((IMAGES + np.inf, LABELS), r"must be finite, got \[inf, inf\]"),
  ],
)
def test_wrong_arrays(pair, message):
  with pytest.raises(ValueError, match=message):
    evaluate.from_dataset(pair, split="test")


@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_padding_is_marked(kind):
  split = make_split(11)
  images = split.images if kind == "bytes" else split.images / np.float32(255)
  examples = evaluate.from_dataset((images, split.labels), split="test")
  batches = list(examples_lib.padded_batches(examples, 4))
  assert [batch.images.shape for batch in batches] == 3 * [(4, 4, 4, 3)]
  assert all(batch.images.dtype == np.float32 for batch in batches)
  real = np.concatenate([batch.real for batch in batches])
  np.testing.assert_array_equal(real, [True] * 11 + [False])
  together = np.concatenate([batch.images for batch in batches])
  np.testing.assert_allclose(together[:11], split.images.astype(np.float32) / 255, rtol=1e-6)
  labels = np.concatenate([batch.labels for batch in batches])
  np.testing.assert_array_equal(labels[:11], split.labels)
  ids = np.concatenate([batch.ids for batch in batches])
  np.testing.assert_array_equal(ids, [*range(11), data.PADDING_ID])


@pytest.mark.parametrize("as_split", [False, True])
def test_a_misspelt_split_is_refused_for_arrays_too(as_split):
  split = make_split(3)
  with pytest.raises(ValueError, match=r"one of test, validation, train, got 'tset'"):
    evaluate.from_dataset(split if as_split else (split.images, split.labels), split="tset")
