# SPDX-License-Identifier: Apache-2.0
"""TFDS image-classification sets that lie on disk as array_record, read without TensorFlow.

Nothing is ever downloaded or prepared here: the folder either holds the set or it does not. The
training split is `train`; the test split is `test`, else `validation`, else the share of `train`
that a hash of the row number picks (`dataset.TEST_SHARE`). Rows keep their stored order.
"""

import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mixboost_jax.data import dataset, pictures
from mixboost_jax.data.dataset import Split
from mixboost_jax.data.stored import StoredLabels, StoredPictures

INFO = "dataset_info.json"
TEST_SPLITS = ("test", "validation")
_MANY = 2**24
"""Examples above which it is worth asking whether the files can hold them."""
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def find(name: str, places: Sequence[pathlib.Path]) -> pathlib.Path | None:
  """Returns the folder of a prepared set, or None.

  Args:
    name: NAME, NAME/CONFIG, NAME:VERSION or NAME/CONFIG:VERSION; without a version the newest.
    places: data folders as TFDS understands them, or the set's own folder.
  """
  path, _, version = name.partition(":")
  for place in places:
    for root in (place / path, place):
      if (root / INFO).is_file() and (root != place or _is_named(root, path)):
        return root
      versions = [folder for folder in root.glob("*.*.*") if (folder / INFO).is_file()]
      versions = [v for v in versions if _VERSION.fullmatch(v.name)]
      versions = [v for v in versions if _is_named(v, path) and version in ("", v.name)]
      if versions:
        return max(versions, key=lambda folder: [int(n) for n in folder.name.split(".")])
  return None


def _is_named(folder: pathlib.Path, path: str) -> bool:
  """Whether a folder is that of the set: the name is part of its path or of its files."""
  base = path.partition("/")[0]
  return base in folder.parts or any(folder.glob(f"{base}-*"))


class Stored(NamedTuple):
  """A set on disk: its TFDS builder, the features that count, and the class names."""

  folder: pathlib.Path
  builder: Any
  image_key: str
  label_key: str
  num_channels: int
  class_names: tuple[str, ...]


def open_splits(
  folder: pathlib.Path, *, image_size: int = 0, test_margin: int = 0
) -> tuple[Split, Split, tuple[str, ...]]:
  """Returns both splits, whose pictures and labels stay in their files, and the class names.

  Without an `image_size` it is that of the first picture, which all others must have. A ValueError
  says if the set is not image classification, not array_record, or damaged.
  """
  stored = _open_set(folder)
  train, test = _parts(stored)
  names = stored.class_names
  return _open(stored, *train, image_size), _open(stored, *test, image_size, test_margin), names


def open_split(
  folder: pathlib.Path, *choices: str, image_size: int = 0
) -> tuple[Split, tuple[str, ...]]:
  """Returns the first of these splits that there is, and the class names; see `open_splits`."""
  stored = _open_set(folder)
  rows = _num_rows(stored.builder)
  split = next((split for split in choices if split in rows), None)
  if split is None:
    raise ValueError(
      f"{folder}: no split {' or '.join(map(repr, choices))}, has "
      f"{', '.join(sorted(rows)) or 'none'}."
    )
  return _open(stored, split, _all(rows[split]), image_size), stored.class_names


def _open(stored: Stored, split: str, rows: np.ndarray, image_size: int, margin: int = 0) -> Split:
  if not len(rows):
    raise ValueError(f"{stored.folder} ({split}): no pictures.")
  source = RecordSource(stored, split)
  images = StoredPictures(source, rows, image_size=image_size, margin=margin)
  return Split(images, StoredLabels(source, rows), rows)


def _num_rows(builder: Any) -> dict[str, int]:
  return {split: info.num_examples for split, info in builder.info.splits.items()}


def _all(num_rows: int) -> np.ndarray:
  return np.arange(num_rows, dtype=np.int32)


def count(folder: pathlib.Path) -> dict[str, int]:
  """Returns the number of rows by split that the files themselves hold (not what is noted)."""
  from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

  rows = {}
  for split, info in _builder(folder).info.splits.items():
    rows[split] = 0
    for file in info.filepaths:
      try:
        reader = array_record_module.ArrayRecordReader(str(file))
        rows[split] += reader.num_records()
        reader.close()
      except Exception as error:  # whatever the reader raises on damaged files
        raise ValueError(f"{file}: unreadable ({error}); prepare it again.") from error
  return rows


def _open_set(folder: pathlib.Path) -> Stored:
  builder = _builder(folder)
  image_key, label_key, num_channels = _features(builder, folder)
  label = builder.info.features[label_key]
  if not 0 < (label.num_classes or 0) <= pictures.MAX_CLASSES:
    raise ValueError(
      f"{folder}: expected 1 to {pictures.MAX_CLASSES} classes, got {label.num_classes}; "
      "prepare it again."
    )
  names = tuple(label.names or map(str, range(label.num_classes)))
  return Stored(folder, builder, image_key, label_key, num_channels, names)


def _builder(folder: pathlib.Path) -> Any:
  import tensorflow_datasets as tfds

  try:
    builder = tfds.builder_from_directory(folder)
    file_format = builder.info.file_format
  except Exception as error:  # whatever its parsers raise on damaged metadata
    raise ValueError(f"{folder}: unreadable TFDS metadata ({error}).") from error
  if file_format is None or file_format.value != "array_record":
    raise ValueError(
      f"{folder}: stored as {getattr(file_format, 'value', file_format)}, which only TensorFlow "
      "reads; prepare it again with --file_format=array_record (tfds build or "
      "tfds.builder(..., file_format='array_record'))."
    )
  for split, info in builder.info.splits.items():
    if info.num_examples > _MANY:
      stored = sum(path.stat().st_size for path in map(pathlib.Path, info.filepaths))
      if info.num_examples > stored:
        raise ValueError(
          f"{folder}: split {split!r} claims {info.num_examples} examples in {stored} bytes; "
          "prepare it again."
        )
  return builder


def _features(builder: Any, folder: pathlib.Path) -> tuple[str, str, int]:
  """Returns the names of the picture and of the label, and the number of channels."""
  import tensorflow_datasets as tfds

  features = builder.info.features
  top = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
  found = []
  for position, kind in enumerate((tfds.features.Image, tfds.features.ClassLabel)):
    keys = [key for key, feature in top.items() if isinstance(feature, kind)]
    named = builder.info.supervised_keys or ()
    keys = [named[position]] if len(named) > 1 and named[position] in keys else keys
    if len(keys) != 1:
      raise ValueError(
        f"{folder}: not image classification: expected one {kind.__name__} feature, "
        f"has {keys or 'none'} among {sorted(top)}."
      )
    found.append(keys[0])
  image: Any = top[found[0]]
  channels = image.shape[-1]
  if channels not in (1, 3) or image.np_dtype != np.uint8:
    raise ValueError(
      f"{folder}: pictures have {channels} channels of {np.dtype(image.np_dtype)}; expected 1 or 3 "
      "of uint8."
    )
  return found[0], found[1], channels


def _parts(stored: Stored) -> tuple[tuple[str, np.ndarray], tuple[str, np.ndarray]]:
  """Returns the split and the rows (so the ids) of training examples, and of test examples."""
  num_rows = _num_rows(stored.builder)
  if "train" not in num_rows:
    raise ValueError(
      f"{stored.folder}: no split 'train', has {', '.join(sorted(num_rows)) or 'none'}."
    )
  rows = _all(num_rows["train"])
  if test := next((split for split in TEST_SPLITS if _is_labelled(stored, split)), ""):
    return ("train", rows), (test, _all(num_rows[test]))
  is_test = np.array([dataset.is_test(str(row)) for row in rows], bool)
  return ("train", rows[~is_test]), ("train", rows[is_test])


def _is_labelled(stored: Stored, split: str) -> bool:
  """Whether a split exists and has classes; a competition's test split (ImageNet) has -1 there."""
  if split not in stored.builder.info.splits:
    return False
  try:
    label = _rows(stored, split)[0][stored.label_key]
  except Exception:  # whatever the reader raises on damaged files; said where they are read
    return True
  return label is None or label >= 0


def _rows(stored: Stored, split: str) -> Any:
  """Opens a stored split; its pictures come as files."""
  import tensorflow_datasets as tfds

  decoders: Any = {stored.image_key: tfds.decode.SkipDecoding()}
  try:
    return stored.builder.as_data_source(split, decoders=decoders)
  except Exception as error:  # whatever the reader raises on damaged files
    raise ValueError(
      f"{stored.folder} ({split}): unreadable array_record ({error}); prepare it again."
    ) from error


class RecordSource:
  """The rows of a stored split; see `stored.Source`."""

  def __init__(self, stored: Stored, split: str):
    self._stored, self._split, self._rows = stored, split, _rows(stored, split)
    self.num_channels, info = stored.num_channels, stored.builder.info
    self.fingerprint = f"{info.full_name} {split} {list(info.splits[split].shard_lengths)}"

  def __len__(self) -> int:
    return len(self._rows)

  def read(self, rows: Sequence[int]) -> list[tuple[bytes, int]]:
    """Returns the picture file and the label of each row."""
    image_key, label_key = self._stored.image_key, self._stored.label_key
    try:
      examples = self._rows.__getitems__(rows)
      found = [(example[image_key], example[label_key]) for example in examples]
    except Exception as error:  # whatever the reader raises on damaged files
      near = f"{self.name(rows[0])}{' or after it' if len(rows) > 1 else ''}"
      raise ValueError(f"{near}: unreadable ({error}); prepare it again.") from error
    num_classes = len(self._stored.class_names)
    for row, (raw, label) in zip(rows, found, strict=True):
      if raw is None or label is None:
        raise ValueError(f"{self.name(row)}: unreadable or truncated; prepare it again.")
      if not 0 <= label < num_classes:
        raise ValueError(
          f"{self.name(row)}: labels must lie in [0, {num_classes}), one per class name, got "
          f"{label}; prepare it again."
        )
    return found

  def name(self, row: int) -> str:
    """Returns the set, the split and the row."""
    return f"{self._stored.folder} ({self._split}), row {row}"
