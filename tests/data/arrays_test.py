# SPDX-License-Identifier: Apache-2.0
import os
import zipfile

import numpy as np
import pytest

from mixboost_jax import data
from mixboost_jax.data import arrays as arrays_lib
from mixboost_jax.data import pictures


def content(**changes):
  rng = np.random.default_rng(0)
  arrays = {
    "train_images": rng.integers(0, 256, size=(6, 8, 8, 3), dtype=np.uint8),
    "train_labels": np.array([0, 1, 2, 0, 1, 2]),
    "test_images": rng.integers(0, 256, size=(3, 8, 8, 3), dtype=np.uint8),
    "test_labels": np.array([2, 1, 0], np.uint8),
    "class_names": np.array(["ant", "bee", "cow"]),
  }
  arrays.update(changes)
  return {name: value for name, value in arrays.items() if value is not None}


def save(root, arrays, *, packed):
  if packed:
    np.savez_compressed(root / "set.npz", **arrays)
    return root / "set.npz"
  for name, value in arrays.items():
    np.save(root / f"{name}.npy", value)
  return root


@pytest.fixture(params=[True, False], ids=["npz", "npy"])
def packed(request):
  return request.param


def test_reads_both_forms(settings, tmp_path, packed):
  arrays = content()
  place = save(tmp_path, arrays, packed=packed)
  dataset = data.load(settings(name="npz", dir=place, train_examples=5, validation_examples=1))
  np.testing.assert_array_equal(dataset.train.images, arrays["train_images"][:4])
  np.testing.assert_array_equal(dataset.train.labels, [0, 1, 2, 0])
  np.testing.assert_array_equal(dataset.test.labels, [2, 1, 0])
  assert dataset.validation is not None
  np.testing.assert_array_equal(dataset.validation.ids, [4])
  assert dataset.class_names == ("ant", "bee", "cow")
  assert dataset.train.labels.dtype == dataset.test.labels.dtype == np.int32


def test_names_and_channels_are_optional(settings, tmp_path, packed):
  arrays = content(
    class_names=None,
    train_images=np.zeros((6, 8, 8), np.uint8),
    test_images=np.zeros((3, 8, 8), np.uint8),
  )
  dataset = data.load(settings(name="npz", dir=save(tmp_path, arrays, packed=packed)))
  assert dataset.class_names == ("0", "1", "2")
  assert dataset.image_shape == (8, 8, 1)
  assert dataset.channel_mean == (0.0,)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"test_labels": None}, r"lacks test_labels; expected arrays train_images"),
    ({"train_images": None, "test_images": None}, r"lacks train_images, test_images"),
    ({"train_labels": np.array([0, 1])}, r"got \(6, 8, 8, 3\) and \(2,\)"),
    ({"train_labels": np.zeros((6, 1), int)}, r"and \(6, 1\)"),
    ({"train_labels": np.zeros(6)}, r"labels as one list of integers, got float64"),
    ({"train_labels": np.array([0, 1, 2, 3, 0, 0])}, r"labels must lie in \[0, 3\).*got 0 to 3"),
    (
      {"train_images": np.zeros((6, 8, 8, 3), np.float32)},
      r"uint8\[N, H, W, 1 or 3\], got float32",
    ),
    ({"train_images": np.zeros((6, 8, 8, 4), np.uint8)}, r"got uint8\[6, 8, 8, 4\]"),
    (
      {"train_images": np.zeros((6, 9, 8, 3), np.uint8)},
      r"\[9, 8, 3\] but test pictures \[8, 8, 3\]",
    ),
    ({"train_images": np.zeros((6, 64), np.uint8)}, r"got \(6, 64\)"),
    ({"class_names": np.arange(3)}, r"class_names must be a list of text, got int64"),
    ({"class_names": np.array(["a"])}, r"labels must lie in \[0, 1\)"),
    (
      {"class_names": np.array([b"\xe9", b"b", b"c"])},
      r"expected class names in UTF-8, got b'.xe9'",
    ),
    ({"class_names": np.array(["a", "b", "a"])}, r"a name of its own for each class, got 'a' more"),
    ({"class_names": None, "train_labels": np.full(6, 2**31)}, "train_labels below 131072, got 21"),
    ({"class_names": None, "train_labels": np.full(6, 2**40)}, "train_labels below 131072, got 10"),
    (
      {"class_names": None, "train_labels": np.zeros(6, int), "test_labels": np.zeros(3, int)},
      "expected at least 2 classes to tell apart, got only '0'",
    ),
  ],
)
def test_wrong_arrays_give_one_error(settings, tmp_path, packed, changes, message):
  place = save(tmp_path, content(**changes), packed=packed)
  with pytest.raises(ValueError, match=message):
    data.load(settings(name="npz", dir=place))


def test_pickled_arrays_are_refused(settings, tmp_path, packed):
  place = save(tmp_path, content(class_names=np.array(["a", "b", "c"], object)), packed=packed)
  with pytest.raises(ValueError, match=r"unreadable or truncated.*(Object arrays|Python objects)"):
    data.load(settings(name="npz", dir=place))


def test_truncated_files_give_one_error(settings, tmp_path, packed):
  place = save(tmp_path, content(), packed=packed)
  file = place if packed else place / "train_images.npy"
  os.truncate(file, file.stat().st_size // 2)
  with pytest.raises(ValueError, match="unreadable or truncated"):
    data.load(settings(name="npz", dir=place))


@pytest.mark.parametrize("change", [(b"'shape'", b"'shape("), (b"(6, 8", b"(9, 8"), (b"}", b" ")])
def test_damaged_headers_give_one_error(settings, tmp_path, packed, change):
  place = tmp_path / "set.npz" if packed else tmp_path
  save(tmp_path, content(), packed=False)
  file = tmp_path / "train_images.npy"
  file.write_bytes(file.read_bytes().replace(*change, 1))
  if packed:
    with zipfile.ZipFile(place, "w") as archive:
      for one in tmp_path.glob("*.npy"):
        archive.write(one, one.name)
  with pytest.raises(ValueError, match="unreadable or truncated"):
    data.load(settings(name="npz", dir=place))


def test_an_npz_that_unpacks_without_end_is_refused_before(settings, tmp_path, monkeypatch):
  zeros = np.zeros((4000, 32, 32, 3), np.uint8)
  cases = {
    "train_images": content(train_images=zeros, train_labels=np.arange(4000) % 3),
    "test_labels": content(test_labels=np.zeros(10**6, int)),
    "class_names": content(class_names=np.array(["a" * 10**6])),
  }
  monkeypatch.setattr(arrays_lib, "_SMALL_BYTES", 2**20)
  for name, arrays in cases.items():
    place = save(tmp_path, arrays, packed=True)
    with pytest.raises(ValueError, match=rf"{name}.npy unpacks from \d+ to \d+ bytes, as no set"):
      data.load(settings(name="npz", dir=place))


def test_a_pipe_is_not_waited_for(settings, tmp_path):
  os.mkfifo(tmp_path / "set.npz")
  with pytest.raises(ValueError, match=r"unreadable .*expected a regular file, got a folder, pipe"):
    data.load(settings(name="npz", dir=tmp_path / "set.npz"))


def test_resizing_is_refused(settings, tmp_path, packed):
  place = save(tmp_path, content(), packed=packed)
  assert len(data.load(settings(name="npz", dir=place, image_size=8)).train) == 6
  with pytest.raises(ValueError, match="image_size=16: npz has pictures of 8x8 pixels"):
    data.load(settings(name="npz", dir=place, image_size=16))


def test_size_is_checked_first(settings, tmp_path, packed, monkeypatch):
  place = save(tmp_path, content(), packed=packed)
  monkeypatch.setattr(pictures, "MAX_BYTES", 1000)
  with pytest.raises(pictures.TooLargeError, match="6 pictures"):
    data.load(settings(name="npz", dir=place))
