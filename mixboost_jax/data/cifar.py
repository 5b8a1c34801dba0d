# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 and CIFAR-100 from the python archives, extracted or not."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mixboost_jax.data import archive, unpickle
from mixboost_jax.data.dataset import Split, as_text, make_split

SIZE = 32
SEAL = "official.sha256"
"""Beside a prepared copy of the official archive: a checksum of its pictures and labels."""


@dataclasses.dataclass(frozen=True)
class Layout:
  """How one of the two archives is built, and the MD5 sums of the published files."""

  name: str
  title: str
  folder: str
  archive: str
  url: str
  md5: str
  train_files: tuple[str, ...]
  test_file: str
  meta_file: str
  names_key: str
  labels_key: str
  num_classes: int
  checksums: Mapping[str, str]
  num_train: int = 50_000
  num_test: int = 10_000


LAYOUTS = {
  "cifar10": Layout(
    name="cifar10",
    title="CIFAR-10",
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    train_files=tuple(f"data_batch_{i}" for i in range(1, 6)),
    test_file="test_batch",
    meta_file="batches.meta",
    names_key="label_names",
    labels_key="labels",
    num_classes=10,
    checksums={
      "data_batch_1": "c99cafc152244af753f735de768cd75f",
      "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
      "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
      "data_batch_4": "634d18415352ddfa80567beed471001a",
      "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
      "test_batch": "40351d587109b95175f43aff81a1287e",
      "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
  ),
  "cifar100": Layout(
    name="cifar100",
    title="CIFAR-100",
    folder="cifar-100-python",
    archive="cifar-100-python.tar.gz",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    train_files=("train",),
    test_file="test",
    meta_file="meta",
    names_key="fine_label_names",
    labels_key="fine_labels",
    num_classes=100,
    checksums={
      "train": "16019d7e3df5f24257cddd939b257f8d",
      "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
      "meta": "7973b15100ade9c7d40fb424638fde48",
    },
  ),
}


def read(place: pathlib.Path, layout: Layout) -> tuple[Split, Split, tuple[str, ...]]:
  """Reads the training split, the test split and the class names (for CIFAR-100 the fine ones).

  Args:
    place: the extracted folder itself, or the .tar.gz.
    layout: which of the two.

  Raises:
    ValueError: naming the file and what is wrong with it.
  """
  files = [*layout.train_files, layout.test_file, layout.meta_file]
  names: tuple[str, ...] = ()
  parts: dict[str, Split] = {}
  for file, raw in archive.read_files(place, layout.folder, files):
    content = unpickle.load_dict(raw, place=f"{place}: {file}")
    if file == layout.meta_file:
      names = _class_names(content, layout, place=f"{place}: {file}")
    else:
      parts[file] = _rows(content, layout, place=f"{place}: {file}")
  train = _join([parts[file] for file in layout.train_files])
  return train, parts[layout.test_file], names


def is_official(place: pathlib.Path, layout: Layout) -> bool:
  """Whether a folder or archive is, byte for byte, what the authors publish."""
  if not place.is_dir():
    return archive.md5(place) == layout.md5
  files = [(place / name, md5) for name, md5 in layout.checksums.items()]
  return all(file.is_file() and archive.md5(file) == md5 for file, md5 in files)


def seal(train: Split, test: Split) -> str:
  """Returns a checksum of all pictures and labels, whatever form they are stored in."""
  digest = hashlib.sha256()
  for split in (train, test):
    digest.update(np.ascontiguousarray(split.images).data)
    digest.update(np.ascontiguousarray(split.labels, np.int32).data)
  return digest.hexdigest()


def note_of(layout: Layout, train: Split, test: Split, *, official: bool | None) -> str:
  """Returns what must be said about a copy wherever it is named; "" for the published set itself.

  Args:
    layout: which set.
    train: training pictures.
    test: test pictures.
    official: whether checksums say that it is what the authors publish; None: there are none.
  """
  if (len(train), len(test)) != (layout.num_train, layout.num_test):
    return f"copy with {len(train)} training and {len(test)} test pictures"
  return {True: "", False: "unofficial copy", None: "unverified copy"}[official]


def _value(content: dict[str, Any], key: str, *, place: str) -> Any:
  if key not in content:
    raise ValueError(f"{place}: lacks {key!r}, has {', '.join(map(repr, sorted(content)))}.")
  return content[key]


def _class_names(content: dict[str, Any], layout: Layout, *, place: str) -> tuple[str, ...]:
  raw = _value(content, layout.names_key, place=place)
  names = [as_text(n, place=place) for n in raw] if isinstance(raw, list) else []
  if len(names) != layout.num_classes or not all(isinstance(n, str) for n in names):
    raise ValueError(
      f"{place}: expected {layout.num_classes} names in {layout.names_key!r}, got {len(names)}."
    )
  return tuple(names)


def _rows(content: dict[str, Any], layout: Layout, *, place: str) -> Split:
  rows = np.asarray(_value(content, "data", place=place))
  labels = _value(content, layout.labels_key, place=place)
  width = 3 * SIZE * SIZE
  if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != width:
    raise ValueError(
      f"{place}: expected 'data' as uint8[N, {width}] (red, green, blue planes of {SIZE}x{SIZE}), "
      f"got {rows.dtype}{list(rows.shape)}."
    )
  images = rows.reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
  return make_split(images, labels, num_classes=layout.num_classes, place=place)


def _join(parts: list[Split]) -> Split:
  images = np.concatenate([part.images for part in parts])
  labels = np.concatenate([part.labels for part in parts])
  return Split(images, labels, np.arange(len(labels), dtype=np.int32))
