# SPDX-License-Identifier: Apache-2.0
"""Writes a set as TFDS array_record or as `.npy` files: all or nothing, without TensorFlow."""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mixboost_jax.data import pictures
from mixboost_jax.data.dataset import Split

SHARD_BYTES = 512 * 2**20
"""An array_record file is closed once it holds this much."""


class Example(NamedTuple):
  """One picture file (PNG, JPEG) with its label and a name that never changes."""

  name: str
  picture: bytes
  label: int


def check_name(name: str) -> None:
  """Checks that a word can name a TFDS set and its files.

  Raises:
    ValueError: if not.
  """
  if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
    raise ValueError(
      f"name {name!r}: expected lower-case letters, digits and _, starting with a letter."
    )


@contextlib.contextmanager
def new_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a hidden folder beside `target` that becomes `target` if the block ends well.

  Raises:
    ValueError: if `target` exists and is not an empty folder, or cannot be written; then, as after
      any error or interruption of the block, nothing is left behind.
  """
  if target.exists() and (not target.is_dir() or any(target.iterdir())):
    raise ValueError(f"{target}: exists and is not empty; choose another --out or delete it.")
  temporary = None
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".writing-{target.name}-", dir=target.parent))
    temporary.chmod(0o777 & ~_umask())
    yield temporary
    for file in temporary.rglob("*"):
      _sync(file)
    os.replace(temporary, target)
    temporary = None
    _sync(target.parent)
  except OSError as error:
    raise ValueError(
      f"{target}: not written ({error}); free some space or choose another --out."
    ) from error
  finally:
    if temporary is not None:
      shutil.rmtree(temporary, ignore_errors=True)


def write_npy(folder: pathlib.Path, train: Split, test: Split, class_names: Sequence[str]) -> None:
  """Writes what `config.data.name=npz` reads from a folder."""
  for name, split in (("train", train), ("test", test)):
    np.save(folder / f"{name}_images.npy", split.images)
    np.save(folder / f"{name}_labels.npy", split.labels)
  np.save(folder / "class_names.npy", np.array(list(class_names)))


def examples_of(split: Split, prefix: str) -> Iterator[Example]:
  """Yields the examples of a split as PNG files named like TFDS names those of CIFAR."""
  for image, label, row in zip(split.images, split.labels, split.ids, strict=True):
    yield Example(f"{prefix}_{row:05d}", pictures.encode_png(image), int(label))


def write_records(
  folder: pathlib.Path,
  splits: Mapping[str, Iterable[Example]],
  *,
  name: str,
  version: str,
  class_names: Sequence[str],
  image_shape: tuple[int | None, int | None, int],
  description: str,
) -> dict[str, int]:
  """Writes the folder of one version of a TFDS set, features `id`, `image` and `label`.

  Args:
    folder: empty; gets the files of this version.
    splits: examples by split name, written in their order.
    name: of the set.
    version: as major.minor.patch.
    class_names: one per label.
    image_shape: height, width (None: they differ) and channels.
    description: what it is and where it comes from.

  Returns:
    Number of examples by split.
  """
  import tensorflow_datasets as tfds
  from etils import epath
  from tensorflow_datasets.core import example_serializer

  features = tfds.features.FeaturesDict(
    {
      "id": tfds.features.Text(),
      "image": tfds.features.Image(shape=image_shape),
      "label": tfds.features.ClassLabel(names=list(class_names)),
    }
  )
  specs: Any = features.get_serialized_info()
  serializer = example_serializer.ExampleSerializer(specs)
  infos = []
  for split, examples in splits.items():
    serialized = (
      serializer.serialize_example(
        {"id": example.name.encode(), "image": example.picture, "label": example.label}
      )
      for example in examples
    )
    lengths, num_bytes = _write_shards(folder, f"{name}-{split}.array_record", serialized)
    template = tfds.core.ShardedFileTemplate(
      dataset_name=name, data_dir=epath.Path(folder), split=split, filetype_suffix="array_record"
    )
    infos.append(
      tfds.core.SplitInfo(
        name=split, shard_lengths=lengths, num_bytes=num_bytes, filename_template=template
      )
    )
  tfds.folder_dataset.write_metadata(
    data_dir=folder,
    features=features,
    split_infos=infos,
    version=version,
    check_data=False,  # its check needs TensorFlow; ours is reading the set back
    supervised_keys=("image", "label"),
    description=description,
  )
  return {info.name: info.num_examples for info in infos}


def _write_shards(
  folder: pathlib.Path, stem: str, serialized: Iterable[bytes]
) -> tuple[list[int], int]:
  """Writes files of at most about SHARD_BYTES; their number is known, and named, at the end."""
  from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

  lengths: list[int] = []
  total, writer = 0, None
  try:
    for record in serialized:
      if writer is None:
        path = folder / f"{stem}-{len(lengths):05d}"
        writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
        lengths.append(0)
        in_shard = 0
      writer.write(record)
      lengths[-1] += 1
      in_shard += len(record)
      total += len(record)
      if in_shard >= SHARD_BYTES:
        writer.close()
        writer = None
  finally:
    if writer is not None:
      writer.close()
  for i in range(len(lengths)):
    path = folder / f"{stem}-{i:05d}"
    path.rename(folder / f"{path.name}-of-{len(lengths):05d}")
  return lengths, total


def _sync(path: pathlib.Path) -> None:
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)


def _umask() -> int:
  current = os.umask(0)
  os.umask(current)
  return current
