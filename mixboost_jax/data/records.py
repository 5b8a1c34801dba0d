# SPDX-License-Identifier: Apache-2.0
"""TFDS image-classification sets that lie on disk as array_record, read without TensorFlow.

Nothing is ever downloaded or prepared here: the folder either holds the set or it does not. The
training split is `train`; the test split is `test`, else `validation`, else the share of `train`
that a hash of the row number picks (`dataset.TEST_SHARE`). Rows keep their stored order.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mixboost_jax.data import dataset, pictures
from mixboost_jax.data.dataset import Split, Wanted, make_split, num_wanted
from mixboost_jax.data.stored import StoredLabels, StoredPictures, shape_of

INFO = "dataset_info.json"
TEST_SPLITS = ("test", "validation")
_MANY = 2**24
"""Examples above which it is worth asking whether the files can hold them."""
_VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclasses.dataclass(frozen=True)
class Part:
  """Some rows of one stored split; an example's id is the number of its row."""

  split: str
  rows: np.ndarray


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


def read(folder: pathlib.Path, wanted: Wanted) -> tuple[Split, Split, tuple[str, ...]]:
  """Reads the training split, the test split and the class names.

  Args:
    folder: the one with `dataset_info.json`.
    wanted: how many pictures, and of which size.

  Raises:
    ValueError: if the set is not image classification, not array_record, or damaged.
  """
  builder, keys, names = open_set(folder)
  splits = []
  for part, place, margin in _parts(builder, folder, keys, wanted):
    images, labels = _rows(builder, part.split, part.rows, keys, wanted.image_size, place, margin)
    split = make_split(images, labels, num_classes=len(names), place=place)
    splits.append(dataclasses.replace(split, ids=part.rows))
  return splits[0], splits[1], names


def open_splits(folder: pathlib.Path, wanted: Wanted) -> tuple[Split, Split, tuple[str, ...]]:
  """Returns what `read` returns, but pictures and labels stay in the files.

  Without a wanted size it is that of the first picture, which all others must have.

  Raises:
    ValueError: see `read`.
  """
  builder, keys, names = open_set(folder)
  size, splits = wanted.image_size, []
  for part, place, margin in _parts(builder, folder, keys, wanted):
    source = RecordSource(builder, part.split, keys, len(names), place)
    shape = (size, size, keys[2]) if size else shape_of(source, int(part.rows[0]))
    labels = StoredLabels(source, part.rows)
    stored = StoredPictures(source, part.rows, shape, resize=bool(size), margin=margin)
    splits.append(Split(stored, labels, part.rows))
  return splits[0], splits[1], names


def _parts(
  builder: Any, folder: pathlib.Path, keys: tuple[str, str, int], wanted: Wanted
) -> Iterator[tuple[Part, str, int]]:
  """Yields the rows asked for of both splits, their name in messages, and their margin."""
  stored = stored_parts(builder, folder, keys)
  for part, (field, number, margin) in zip(stored, wanted.by_split(), strict=True):
    place = f"{folder} ({part.split})"
    count = num_wanted(len(part.rows), number, field=field, place=place)
    if not count:
      raise ValueError(f"{place}: no pictures.")
    yield Part(part.split, part.rows[:count]), place, margin


def read_split(
  folder: pathlib.Path, split: str, *, start: int = 0, stop: int | None = None, image_size: int = 0
) -> tuple[Split, tuple[str, ...]]:
  """Reads rows of one stored split, which need not have a partner, and the class names.

  Args:
    folder: the one with `dataset_info.json`.
    split: as it is stored.
    start: first row wanted.
    stop: one behind the last row wanted; None: all.
    image_size: side in px to resize to; 0: all must have one size.

  Raises:
    ValueError: see `read`; or if there is no such split or no such row.
  """
  builder, keys, names = open_set(folder)
  stored = {name: info.num_examples for name, info in builder.info.splits.items()}
  if split not in stored:
    raise ValueError(f"{folder}: no split {split!r}, has {', '.join(sorted(stored)) or 'none'}.")
  rows = np.arange(stored[split], dtype=np.int32)[start:stop]
  place = f"{folder} ({split})"
  images, labels = _rows(builder, split, rows, keys, image_size, place)
  part = make_split(images, labels, num_classes=len(names), place=place)
  return dataclasses.replace(part, ids=rows), names


def count(folder: pathlib.Path) -> dict[str, int]:
  """Returns the number of rows by split that the files themselves hold (not what is noted).

  Raises:
    ValueError: if the set is damaged or not array_record.
  """
  from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

  rows = {}
  for split, info in _builder(folder).info.splits.items():
    rows[split] = 0
    for name in sorted(info.filenames):
      try:
        reader = array_record_module.ArrayRecordReader(str(folder / name))
        rows[split] += reader.num_records()
        reader.close()
      except Exception as error:  # whatever the reader raises on damaged files
        raise ValueError(f"{folder / name}: unreadable ({error}); prepare it again.") from error
  return rows


def open_set(folder: pathlib.Path) -> tuple[Any, tuple[str, str, int], tuple[str, ...]]:
  """Returns the builder, the features that count, and the class names."""
  builder = _builder(folder)
  keys = _features(builder, folder)
  label = builder.info.features[keys[1]]
  if not 0 < (label.num_classes or 0) <= pictures.MAX_CLASSES:
    raise ValueError(
      f"{folder}: expected 1 to {pictures.MAX_CLASSES} classes, got {label.num_classes}; "
      "prepare it again."
    )
  return builder, keys, tuple(label.names or (str(i) for i in range(label.num_classes)))


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


def stored_parts(
  builder: Any, folder: pathlib.Path, keys: tuple[str, str, int]
) -> tuple[Part, Part]:
  """Returns which rows are training examples, and which are test examples."""
  stored = {name: info.num_examples for name, info in builder.info.splits.items()}
  if "train" not in stored:
    raise ValueError(f"{folder}: no split 'train', has {', '.join(sorted(stored)) or 'none'}.")
  rows = np.arange(stored["train"], dtype=np.int32)
  place = str(folder)
  test = next((name for name in TEST_SPLITS if _is_labelled(builder, name, keys, place)), None)
  if test is not None:
    return Part("train", rows), Part(test, np.arange(stored[test], dtype=np.int32))
  is_test = np.array([dataset.is_test(str(row)) for row in rows], bool)
  return Part("train", rows[~is_test]), Part("train", rows[is_test])


def _is_labelled(builder: Any, split: str, keys: tuple[str, str, int], place: str) -> bool:
  """Whether a split exists and has classes; a competition's test split (ImageNet) has -1 there."""
  if split not in builder.info.splits:
    return False
  try:
    label = open_rows(builder, split, keys[0], place)[0][keys[1]]
  except Exception:  # whatever the reader raises on damaged files; said where they are read
    return True
  return label is None or label >= 0


def _rows(
  builder: Any,
  split: str,
  rows: np.ndarray,
  keys: tuple[str, str, int],
  image_size: int,
  place: str,
  margin: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
  """Reads and decodes these rows of a stored split."""
  image_key, label_key, num_channels = keys
  if not len(rows):
    raise ValueError(f"{place}: no pictures.")
  labels = np.empty(len(rows), np.int32)
  source = open_rows(builder, split, image_key, place)

  def load(wanted: range) -> list[bytes]:
    try:
      examples = source.__getitems__([int(rows[i]) for i in wanted])
    except Exception as error:
      raise ValueError(
        f"{place}: unreadable near row {rows[wanted.start]} ({error}); prepare it again."
      ) from error
    if any(x[label_key] is None or x[image_key] is None for x in examples):
      raise ValueError(
        f"{place}: unreadable or truncated near row {rows[wanted.start]}; prepare it again."
      )
    labels[wanted.start : wanted.stop] = [x[label_key] for x in examples]
    return [x[image_key] for x in examples]

  images = pictures.read_all(
    load,
    len(rows),
    num_channels=num_channels,
    image_size=image_size,
    name_of=lambda i: f"{place}, row {rows[i]}",
    place=place,
    margin=margin,
  )
  return images, labels


def open_rows(builder: Any, split: str, image_key: str, place: str) -> Any:
  """Opens a stored split; its pictures come as files."""
  import tensorflow_datasets as tfds

  try:
    return builder.as_data_source(split, decoders={image_key: tfds.decode.SkipDecoding()})
  except Exception as error:  # whatever the reader raises on damaged files
    raise ValueError(f"{place}: unreadable array_record ({error}); prepare it again.") from error


class RecordSource:
  """The rows of a stored split; see `stored.Source`."""

  def __init__(
    self, builder: Any, split: str, keys: tuple[str, str, int], num_classes: int, place: str
  ):
    image_key, label_key, self.num_channels = keys
    self._place, self._num_classes = place, num_classes
    self._keys = (image_key, label_key)
    self._rows = open_rows(builder, split, image_key, place)
    info = builder.info
    self.fingerprint = f"{info.full_name} {split} {list(info.splits[split].shard_lengths)}"

  def __len__(self) -> int:
    return len(self._rows)

  def read(self, row: int) -> tuple[bytes, int]:
    """Returns a picture file and its label."""
    try:
      example = self._rows[row]
      raw, label = (example[key] for key in self._keys)
    except Exception as error:  # whatever the reader raises on damaged files
      raise ValueError(f"{self.name(row)}: unreadable ({error}); prepare it again.") from error
    if raw is None or label is None:
      raise ValueError(f"{self.name(row)}: unreadable or truncated; prepare it again.")
    if not 0 <= label < self._num_classes:
      raise ValueError(
        f"{self.name(row)}: labels must lie in [0, {self._num_classes}), one per class name, got "
        f"{label}; prepare it again."
      )
    return raw, int(label)

  def name(self, row: int) -> str:
    """Returns the set, the split and the row."""
    return f"{self._place}, row {row}"
