# SPDX-License-Identifier: Apache-2.0
"""Turns raw archives and picture folders into TFDS array_record or `.npy`, without TensorFlow.

    python -m mixboost_jax.data.prepare cifar10 --source=DIR_OR_ARCHIVE --out=DIR
    python -m mixboost_jax.data.prepare cifar100 --download --out=DIR
    python -m mixboost_jax.data.prepare folder --source=DIR --out=DIR --name=pets --format=npy

The result is `DIR/NAME/...`, complete or absent. It is read by `config.data.name=cifar10` (or
`cifar100`, or `tfds` with `tfds_name=NAME`) and `config.data.dir=DIR`; a picture folder as `.npy`
by `config.data.name=npz` and `config.data.dir=DIR/NAME`.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mixboost_jax import files
from mixboost_jax.data import cifar, download, folders, pictures, records
from mixboost_jax.data.dataset import Split

FORMATS = ("array_record", "npy")
CIFAR_VERSION = "3.0.2"  # of the TFDS sets with the same features, so that TFDS finds ours by name
FOLDER_VERSION = "1.0.0"

Log = Callable[[str], None]


def prepare_cifar(
  name: str,
  *,
  source: pathlib.Path | None,
  out: pathlib.Path,
  file_format: str = "array_record",
  fetch: bool = False,
  url: str = "",
  log: Log = print,
) -> pathlib.Path:
  """Writes `out/name` and returns it; nothing is left half-written.

  Args:
    name: "cifar10" or "cifar100".
    source: archive, folder, or a folder that holds one of them; None with `fetch`.
    out: data folder.
    file_format: one of FORMATS.
    fetch: download the official archive into `out` (if it is not there).
    url: where from; the authors' page if empty. The checksum is that of the official archive.
    log: called with lines for the user.
  """
  layout = cifar.LAYOUTS[name]
  if fetch == (source is not None):
    raise ValueError("give either --source=DIR_OR_ARCHIVE or --download.")
  with new_folder(out / name) as folder:
    if source is None:
      address = url or layout.url
      log(f"fetching {address}")
      target = out / layout.archive
      source = download.fetch(address, target, md5=layout.md5, progress=download.show_progress)
    place = _raw_place(source, layout)
    is_official = cifar.is_official(place, layout)
    log(_verdict(place, layout, is_official))
    train, test, names = cifar.read(place, layout)
    log(f"writing {len(train)} training and {len(test)} test pictures as {file_format}")
    if file_format == "npy":
      write_npy(folder, train, test, names)
    else:
      folder = folder / CIFAR_VERSION
      folder.mkdir()
      write_records(
        folder,
        {"train": examples_of(train, "train"), "test": examples_of(test, "test")},
        name=name,
        version=CIFAR_VERSION,
        class_names=names,
        image_shape=(32, 32, 3),
        description=layout.title,
      )
    if is_official:
      (folder / cifar.SEAL).write_text(cifar.seal(train, test) + "\n")
  log(f"done: {out / name}; use it with --config.data.name={name} --config.data.dir={out}")
  return out / name


def prepare_folder(
  *,
  source: pathlib.Path,
  out: pathlib.Path,
  name: str = "",
  file_format: str = "array_record",
  image_size: int = 0,
  log: Log = print,
) -> pathlib.Path:
  """Writes `out/name` from a picture folder (see `folders`) and returns it; never a half.

  Args:
    source: the picture folder.
    out: data folder.
    name: of the new set; derived from the name of the source if empty.
    file_format: one of FORMATS; array_record is written picture by picture, at any size of the set.
    image_size: side in px to resize to; 0: PNG and JPEG files are kept byte for byte.
    log: called with lines for the user.
  """
  if not source.is_dir():
    raise ValueError(f"{source}: no such folder.")
  name = name or re.sub(r"[^a-z0-9_]+", "_", source.absolute().name.lower()).strip("_")
  if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
    raise ValueError(
      f"name {name!r}: expected lower-case letters, digits and _, starting with a letter."
    )
  with new_folder(out / name) as folder:
    train, test, names = folders.list_files(source)
    log(f"writing {len(train.names)} training and {len(test.names)} test pictures as {file_format}")
    if file_format == "npy":
      *splits, _ = folders.open_splits(source, image_size=image_size)
      one, other = (split.in_memory(place=str(source)) for split in splits)
      write_npy(folder, one, other, names)
    else:
      (folder / FOLDER_VERSION).mkdir()
      write_records(
        folder / FOLDER_VERSION,
        {
          "train": _examples(train, "train", image_size),
          "test": _examples(test, "test", image_size),
        },
        name=name,
        version=FOLDER_VERSION,
        class_names=names,
        image_shape=(image_size or None, image_size or None, 3),
        description=f"Pictures of {len(names)} classes",
      )
  use = (
    f"--config.data.name=npz --config.data.dir={out / name}"
    if file_format == "npy"
    else f"--config.data.name=tfds --config.data.tfds_name={name} --config.data.dir={out}"
  )
  log(f"done: {out / name}; use it with {use}")
  return out / name


def _raw_place(source: pathlib.Path, layout: cifar.Layout) -> pathlib.Path:
  found = cifar.find(layout, (source,))
  if found is None or found.form != "raw":
    raise ValueError(
      f"{source}: expected {layout.archive}, the folder {layout.folder} extracted from it, or a "
      "folder that holds one of them; --download fetches the official archive."
    )
  return found.path


def _verdict(path: pathlib.Path, layout: cifar.Layout, is_official: bool) -> str:
  """Says what the checksums do about a raw copy; an archive must be the official one."""
  if is_official:
    return f"{path}: official {layout.title}, MD5 verified"
  if not path.is_dir():
    raise ValueError(
      f"{path}: MD5 differs from the official {layout.archive} ({layout.md5}); damaged? Fetch it "
      "again with --download, or extract it and give the folder to use a copy that is not official."
    )
  return (
    f"{path}: NOT the official archive (MD5 sums differ); results on it are not results on "
    f"{layout.title} as published"
  )


class Example(NamedTuple):
  """One picture file (PNG, JPEG) with its label and a name that never changes."""

  name: str
  picture: bytes
  label: int


def _examples(listing: folders.Listing, split: str, image_size: int) -> Iterator[Example]:
  for name, label in zip(listing.names, listing.labels, strict=True):
    file = listing.root / name
    picture = pictures.normalise(pictures.read_file(file), image_size=image_size, place=str(file))
    yield Example(f"{split}/{name}", picture, label)


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line and returns its exit code."""

  def path(text: str) -> pathlib.Path:
    return pathlib.Path(text).expanduser()

  about = (__doc__ or "").partition("\n")[0]
  parser = argparse.ArgumentParser("python -m mixboost_jax.data.prepare", description=about)
  parser.add_argument("name", choices=[*cifar.LAYOUTS, "folder"], help="what the source is")
  parser.add_argument("--source", type=path, help="archive or folder")
  parser.add_argument("--out", type=path, required=True, help="data folder to write to")
  parser.add_argument("--format", choices=FORMATS, default=FORMATS[0])
  parser.add_argument("--download", action="store_true", help="cifar: fetch the official archive")
  parser.add_argument("--url", default="", help="cifar: fetch it from here instead")
  parser.add_argument("--name", dest="set_name", default="", help="folder: name of the new set")
  parser.add_argument("--image_size", type=int, default=0, help="folder: side in px; 0: as stored")
  options = parser.parse_args(arguments)
  is_folder = options.name == "folder"
  if is_folder and (options.source is None or options.download or options.url):
    parser.error("folder needs --source=DIR and knows neither --download nor --url")
  if not is_folder and (options.set_name or options.image_size):
    parser.error(f"{options.name} knows neither --name nor --image_size")
  signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # clean up first
  common = {"source": options.source, "out": options.out, "file_format": options.format}
  try:
    if is_folder:
      prepare_folder(**common, name=options.set_name, image_size=options.image_size)
    else:
      prepare_cifar(options.name, **common, fetch=options.download, url=options.url)
  except ValueError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print("interrupted; nothing was written", file=sys.stderr)
    return 130
  return 0


SHARD_BYTES = 512 * 2**20
"""An array_record file is closed once it holds this much."""


@contextlib.contextmanager
def new_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a hidden folder beside `target` that becomes `target` if the block ends well.

  After an error or interruption nothing is left. `target` must be missing, or an empty folder.
  """
  if target.exists() and (not target.is_dir() or any(target.iterdir())):
    raise ValueError(f"{target}: exists and is not empty; choose another --out or delete it.")
  temporary = None
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(
      tempfile.mkdtemp(prefix=f"{files.TEMPORARY_PREFIX}{target.name}-", dir=target.parent)
    )
    temporary.chmod(0o777 & ~files.umask())
    yield temporary
    for file in temporary.rglob("*"):
      files.sync(file)
    os.replace(temporary, target)
    temporary = None
    files.sync(target.parent)
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
) -> None:
  """Writes the folder of one version of a TFDS set, features `id`, `image` and `label`.

  Every row is found again before this returns.

  Args:
    folder: empty; gets the files of this version.
    splits: examples by split name, written in their order.
    name: of the set.
    version: as major.minor.patch.
    class_names: one per label.
    image_shape: height, width (None: they differ) and channels.
    description: what it is and where it comes from.
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
  written, stored = {i.name: i.num_examples for i in infos}, records.count(folder)
  if stored != written:
    raise ValueError(f"{folder}: wrote {written} examples but found {stored}; is the disk full?")


def _write_shards(
  folder: pathlib.Path, stem: str, serialized: Iterable[bytes]
) -> tuple[list[int], int]:
  """Writes files of at most about SHARD_BYTES; their number is known, and named, at the end."""
  from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

  lengths: list[int] = []
  total, in_shard, writer = 0, 0, None
  try:
    for record in serialized:
      if writer is None or in_shard >= SHARD_BYTES:
        if writer is not None:
          writer.close()
        path = folder / f"{stem}-{len(lengths):05d}"
        writer, in_shard = array_record_module.ArrayRecordWriter(str(path), "group_size:1"), 0
        lengths.append(0)
      writer.write(record)
      lengths[-1] += 1
      in_shard += len(record)
      total += len(record)
  finally:
    if writer is not None:
      writer.close()
  for i in range(len(lengths)):
    (folder / f"{stem}-{i:05d}").rename(folder / f"{stem}-{i:05d}-of-{len(lengths):05d}")
  return lengths, total


if __name__ == "__main__":
  sys.exit(main())
