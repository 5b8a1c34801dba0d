# SPDX-License-Identifier: Apache-2.0
import json
import os

import numpy as np
import pytest

from mixboost_jax import data
from mixboost_jax.data import pictures, prepare, records
from mixboost_jax.data.dataset import is_test


def image(i, size=6, channels=3):
  return np.full((size, size, channels), i, np.uint8)


@pytest.fixture
def write(tmp_path):
  """Returns a function that writes a set of one-colour pictures and returns the data folder."""

  def make(
    splits, *, name="dots", config="", version="1.0.0", channels=3, sizes=(6,), unlabelled=""
  ):
    folder = tmp_path / name / config / version
    folder.mkdir(parents=True)
    examples = {
      split: [
        prepare.Example(
          f"{split}{i}",
          pictures.encode_png(image(i, sizes[i % len(sizes)], channels)),
          -1 if split == unlabelled else i % 3,
        )
        for i in range(count)
      ]
      for split, count in splits.items()
    }
    prepare.write_records(
      folder,
      examples,
      name=name,
      version=version,
      class_names=["a", "b", "c"],
      image_shape=(None, None, channels),
      description="",
    )
    return tmp_path

  return make


def test_reads_in_stored_order(settings, write):
  root = write({"train": 9, "test": 4})
  dataset = data.load(
    settings(
      name="tfds",
      tfds_name="dots",
      dir=root,
      train_examples=8,
      validation_examples=2,
      test_examples=3,
    )
  )
  assert dataset.train.images[:, 0, 0, 0].tolist() == list(range(6))
  assert dataset.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
  assert dataset.validation is not None
  assert dataset.validation.ids.tolist() == [6, 7]
  assert dataset.test.ids.tolist() == [0, 1, 2]
  assert dataset.class_names == ("a", "b", "c")
  assert (dataset.title, dataset.source) == ("dots", "files")


@pytest.mark.parametrize("name", ["dots", "dots:1.0.0", "dots/big:1.0.0", "dots/big"])
def test_finds_versions_and_configs(write, name):
  config = "big" if "/big" in name else ""
  root = write({"train": 2, "test": 1}, config=config)
  own = root / "dots" / config / "1.0.0"
  assert records.find(name, (root / "elsewhere", root)) == own
  assert records.find(name, (own,)) == own
  assert records.find("dot", (root,)) is None
  assert records.find(f"{name.partition(':')[0]}:2.0.0", (root,)) is None


@pytest.mark.parametrize("stream", ["off", "on"])
def test_a_test_split_without_labels_is_no_test_split(settings, write, stream):
  """ImageNet's has -1 for every class; its validation split is what everybody tests on."""
  root = write({"train": 4, "validation": 2, "test": 3}, unlabelled="test")
  chosen = settings(name="tfds", tfds_name="dots", dir=root, stream=stream)
  dataset = data.load(chosen)
  assert np.asarray(dataset.test.labels).tolist() == [0, 1]
  assert np.asarray(dataset.train.images)[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_labels_that_are_no_class_are_refused(settings, write):
  root = write({"train": 3, "test": 1}, unlabelled="train")
  with pytest.raises(ValueError, match=r"\(train\), row 0: labels must lie in \[0, 3\).*got -1"):
    data.load(settings(name="tfds", tfds_name="dots", dir=root))


def test_the_newest_version_wins(write):
  write({"train": 2}, version="9.0.0")
  root = write({"train": 2}, version="10.0.0")
  found = records.find("dots", (root,))
  assert found is not None
  assert found.name == "10.0.0"


def test_without_a_test_split(settings, write):
  root = write({"train": 9, "validation": 4})
  dataset = data.load(settings(name="tfds", tfds_name="dots", dir=root))
  assert (len(dataset.train), len(dataset.test)) == (9, 4)


def test_with_one_split_only(settings, write):
  dataset = data.load(settings(name="tfds", tfds_name="dots", dir=write({"train": 40})))
  expected = [i for i in range(40) if is_test(str(i))]
  assert dataset.test.ids.tolist() == expected
  assert dataset.test.images[:, 0, 0, 0].tolist() == expected
  assert sorted([*dataset.train.ids, *dataset.test.ids]) == list(range(40))


def test_grey_pictures_stay_grey(settings, write):
  root = write({"train": 3, "test": 1}, channels=1)
  assert data.load(settings(name="tfds", tfds_name="dots", dir=root)).image_shape == (6, 6, 1)


def test_mixed_sizes_need_image_size(settings, write):
  root = write({"train": 4, "test": 2}, sizes=(6, 9))
  with pytest.raises(
    ValueError, match=r"row 1 is 9x9x3, those before it are 6x6x3; set config.data.image_size"
  ):
    data.load(settings(name="tfds", tfds_name="dots", dir=root))
  dataset = data.load(settings(name="tfds", tfds_name="dots", dir=root, image_size=3))
  assert dataset.train.images[:, 1, 1, 1].tolist() == [0, 1, 2, 3]
  assert dataset.image_shape == (3, 3, 3)


def as_tfrecord(folder):
  info = json.loads((folder / "dataset_info.json").read_text())
  info["fileFormat"] = "tfrecord"
  (folder / "dataset_info.json").write_text(json.dumps(info))


def without_label(folder):
  features = json.loads((folder / "features.json").read_text())
  del features["featuresDict"]["features"]["label"]
  (folder / "features.json").write_text(json.dumps(features))
  info = json.loads((folder / "dataset_info.json").read_text())
  del info["supervisedKeys"]
  (folder / "dataset_info.json").write_text(json.dumps(info))


def truncated(folder):
  file = next(folder.glob("*train*"))
  os.truncate(file, file.stat().st_size // 2)


def without_file(folder):
  next(folder.glob("*train*")).unlink()


def without_train(folder):
  info = json.loads((folder / "dataset_info.json").read_text())
  info["splits"] = [split for split in info["splits"] if split["name"] != "train"]
  (folder / "dataset_info.json").write_text(json.dumps(info))


@pytest.mark.parametrize(
  ("harm", "message"),
  [
    (as_tfrecord, "stored as tfrecord, which only TensorFlow reads.*--file_format=array_record"),
    (without_label, "not image classification: expected one ClassLabel feature, has none"),
    (without_train, "no split 'train', has test"),
    (truncated, "unreadable"),
    (without_file, "unreadable"),
    (lambda folder: (folder / "dataset_info.json").write_text("{"), "unreadable TFDS metadata"),
    (lambda folder: (folder / "features.json").write_text("{"), "unreadable TFDS metadata"),
  ],
)
def test_wrong_sets_give_one_error(settings, write, harm, message):
  root = write({"train": 5, "test": 2})
  harm(root / "dots" / "1.0.0")
  with pytest.raises(ValueError, match=message):
    data.load(settings(name="tfds", tfds_name="dots", dir=root))


def test_count_looks_into_the_files(write):
  folder = write({"train": 5, "test": 2}) / "dots" / "1.0.0"
  assert records.count(folder) == {"train": 5, "test": 2}
  (folder / "dots-test.array_record-00000-of-00001").write_bytes(
    (folder / "dots-train.array_record-00000-of-00001").read_bytes()
  )
  assert records.count(folder) == {"train": 5, "test": 5}
  truncated(folder)
  with pytest.raises(ValueError, match="unreadable"):
    records.count(folder)


def test_another_set_is_not_taken_for_cifar(settings, write):
  root = write({"train": 5, "test": 2}, name="cifar10", version="3.0.2")
  with pytest.raises(ValueError, match=r"expected 10 classes of 32x32x3 .*got 3 .*not CIFAR-10"):
    data.load(settings(name="cifar10", dir=root))
