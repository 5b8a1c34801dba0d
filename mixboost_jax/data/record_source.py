# SPDX-License-Identifier: Apache-2.0
"""TFDS array_record sets whose pictures stay in their files; see `stored.py`."""

import pathlib
from typing import Any

from mixboost_jax.data import pictures, records
from mixboost_jax.data.dataset import Split, num_wanted
from mixboost_jax.data.stored import StoredLabels, StoredPictures


def open_splits(
  folder: pathlib.Path,
  *,
  image_size: int,
  train_examples: int = 0,
  test_examples: int = 0,
  test_margin: int = 0,
) -> tuple[Split, Split, tuple[str, ...]]:
  """Returns what `records.read` returns, but pictures and labels stay in the files.

  Args:
    folder: see `records.read`.
    image_size: side in px; 0: that of the first picture, which all others must have.
    train_examples: see `records.read`.
    test_examples: see `records.read`.
    test_margin: see `records.read`.

  Raises:
    ValueError: see `records.read`.
  """
  builder, keys, names = records.open_set(folder)
  splits = []
  for part, wanted, field, margin in zip(
    records.stored_parts(builder, folder, keys),
    (train_examples, test_examples),
    ("train_examples", "test_examples"),
    (0, test_margin),
    strict=True,
  ):
    place = f"{folder} ({part.split})"
    count = num_wanted(len(part.rows), wanted, field=field, place=place)
    if not count:
      raise ValueError(f"{place}: no pictures.")
    source = RecordSource(builder, part.split, keys, len(names), place)
    rows = part.rows[:count]
    shape = (image_size, image_size, keys[2])
    if not image_size:
      first, _ = source.read(int(rows[0]))
      name = source.name(int(rows[0]))
      found = pictures.decode(first, num_channels=keys[2], image_size=0, place=name).shape
      shape = (found[0], found[1], keys[2])
    labels = StoredLabels(source, rows)
    stored = StoredPictures(source, rows, shape, resize=bool(image_size), margin=margin)
    splits.append(Split(stored, labels, part.ids[:count]))
  return splits[0], splits[1], names


class RecordSource:
  """The rows of a stored split; see `stored.Source`."""

  def __init__(
    self, builder: Any, split: str, keys: tuple[str, str, int], num_classes: int, place: str
  ):
    image_key, label_key, self.num_channels = keys
    self._place, self._num_classes = place, num_classes
    self._keys = (image_key, label_key)
    self._rows = records.open_rows(builder, split, image_key, place)
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
