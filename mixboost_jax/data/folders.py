# SPDX-License-Identifier: Apache-2.0
"""Picture folders: `root/train/CLASS/x.png` with `root/test/...`, or plain `root/CLASS/x.png`.

Without split folders, every example is put into one of the splits by a hash of its relative path
(`dataset.TEST_SHARE` of them are test examples). Within a split the order is by another hash, so
the first N are a fair sample of all classes.
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8

from mixboost_jax import files
from mixboost_jax.data import arrays, dataset, pictures, places
from mixboost_jax.data.dataset import Split, Wanted, check_class_names, make_split, num_wanted
from mixboost_jax.data.stored import StoredPictures, shape_of

TRAIN_FOLDERS = ("train", "training")
"""Names of split folders, in any case. A folder so named that holds no folders is a class."""
TEST_FOLDERS = ("test", "testing", "eval", "val", "valid", "validation")
"""The first of these beside a training folder is the test split; the others are not read."""
_FORMAT = 1  # of the cached mixing sets


@dataclasses.dataclass(frozen=True)
class Listing:
  """The files of one split: path and class of each, in the order of their ids."""

  root: pathlib.Path
  names: tuple[str, ...]
  labels: tuple[int, ...]


def list_files(root: pathlib.Path) -> tuple[Listing, Listing, tuple[str, ...]]:
  """Returns the training files, the test files and the class names, without opening a picture.

  Raises:
    ValueError: if the folder holds no such tree, one split of two, or only one class; or a split
      would be empty.
  """
  found = _split_roots(root)
  if found is not None:
    train_root, test_root = found
    train_names, test_names = (_names(place, all_full=True) for place in found)
  else:
    names = _names(root)
    train_names = [name for name in names if not dataset.is_test(name)]
    test_names = [name for name in names if dataset.is_test(name)]
    train_root = test_root = root
  class_names = sorted({_class_of(name) for name in train_names})
  unknown = sorted({_class_of(name) for name in test_names} - set(class_names))
  if unknown:
    raise ValueError(
      f"{test_root}: classes {', '.join(unknown[:5])} have no training pictures under {train_root}."
    )
  for split_root, names, what in (
    (train_root, train_names, "training"),
    (test_root, test_names, "test"),
  ):
    if not names:
      raise ValueError(
        f"{split_root}: no {what} pictures at CLASS/FILE ({', '.join(pictures.SUFFIXES)}); "
        f"expected {root}/train/CLASS/FILE with {root}/test/CLASS/FILE, or {root}/CLASS/FILE."
      )
  check_class_names(class_names, place=str(train_root))
  number = {name: i for i, name in enumerate(class_names)}
  train, test = (
    Listing(split_root, tuple(names), tuple(number[_class_of(name)] for name in names))
    for split_root, names in ((train_root, train_names), (test_root, test_names))
  )
  return train, test, tuple(class_names)


def _split_roots(root: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path] | None:
  """Returns the folders of the two splits, or None if `root` holds classes."""
  named = [
    entry
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name)
    if entry.is_dir() and entry.name.lower() in (*TRAIN_FOLDERS, *TEST_FOLDERS)
  ]
  nested = [entry.name for entry in named if _holds_folders(entry.path)]
  train, test = _both(nested, root)
  if train and test:
    return root / train, root / test
  if not nested:
    flat, other = _both([entry.name for entry in named], root)
    if flat and other:
      raise ValueError(
        f"{root}: expected {flat}/CLASS/FILE and {other}/CLASS/FILE, got pictures without a class "
        "folder; put those of each class into a folder of its name."
      )
    return None
  missing = f"{root}/{TEST_FOLDERS[0] if train else TRAIN_FOLDERS[0]}/CLASS/FILE"
  raise ValueError(
    f"{root}: expected two splits, got {train or test}/ without {missing}; add it, or set "
    f"config.data.dir={root / (train or test)} to have {dataset.TEST_SHARE:.0%} of its pictures "
    "kept for testing."
  )


def _both(names: Sequence[str], root: pathlib.Path) -> tuple[str, str]:
  """Returns the training and the test folder among these, "" for none.

  Raises:
    ValueError: if two differ in nothing but their case.
  """
  folded = {name.lower(): name for name in names}
  if len(folded) < len(names):
    raise ValueError(f"{root}: expected one folder of a name, got {', '.join(names)}; rename one.")
  train, test = (
    next((folded[name] for name in choices if name in folded), "")
    for choices in (TRAIN_FOLDERS, TEST_FOLDERS)
  )
  return train, test


def _holds_folders(folder: str) -> bool:
  """Whether a folder is a level above classes."""
  with os.scandir(folder) as entries:
    return any(entry.is_dir() and not entry.name.startswith(".") for entry in entries)


def _is_picture(entry: os.DirEntry[str]) -> bool:
  return entry.name.lower().endswith(pictures.SUFFIXES) and not entry.name.startswith(".")


def read(root: pathlib.Path, wanted: Wanted) -> tuple[Split, Split, tuple[str, ...]]:
  """Reads both splits (as colour pictures) and the class names.

  Raises:
    ValueError: naming the file or folder and the remedy.
  """
  *listings, class_names = list_files(root)
  train, test = (
    _read_split(listing, *asked, wanted.image_size, len(class_names))
    for listing, asked in zip(listings, wanted.by_split(), strict=True)
  )
  return train, test, class_names


def open_splits(root: pathlib.Path, wanted: Wanted) -> tuple[Split, Split, tuple[str, ...]]:
  """Returns what `read` returns, but the pictures stay in their files.

  Without a wanted size it is that of the first picture, which all others must have.

  Raises:
    ValueError: see `read`.
  """
  *listings, class_names = list_files(root)
  train, test = (
    _open_split(listing, *asked, wanted.image_size)
    for listing, asked in zip(listings, wanted.by_split(), strict=True)
  )
  return train, test, class_names


def _open_split(listing: Listing, field: str, wanted: int, margin: int, image_size: int) -> Split:
  source = FolderSource(listing)
  count = num_wanted(len(source), wanted, field=field, place=str(listing.root))
  rows = np.arange(count, dtype=np.int32)
  shape = (image_size, image_size, 3) if image_size else shape_of(source, 0)
  stored = StoredPictures(source, rows, shape, resize=bool(image_size), margin=margin)
  return Split(stored, np.asarray(listing.labels[:count], np.int32), rows)


class FolderSource:
  """The files of a listing, one row each; see `stored.Source`."""

  num_channels = 3

  def __init__(self, listing: Listing):
    self._listing = listing
    names = "\n".join(listing.names).encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(names, digest_size=8).hexdigest()
    self.fingerprint = f"{len(listing.names)} files {digest}"

  def __len__(self) -> int:
    return len(self._listing.names)

  def read(self, row: int) -> tuple[bytes, int]:
    """Returns a file and its label."""
    try:
      return pictures.read_file(self.name(row)), self._listing.labels[row]
    except ValueError as error:
      if not isinstance(error.__cause__, OSError):
        raise
      raise ValueError(
        f"{self.name(row)}: {files.reason(error.__cause__)}, but it was listed when the run "
        "started; put it back, then the same command resumes the run."
      ) from error

  def name(self, row: int) -> str:
    """Returns the path of a file."""
    return os.path.join(self._listing.root, self._listing.names[row])


def _names(root: pathlib.Path, *, all_full: bool = False) -> list[str]:
  """Relative paths CLASS/.../FILE of all pictures below the class folders of `root`."""
  names = []
  for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
    if entry.is_dir() and not entry.name.startswith("."):
      found = list(_files(entry.path, f"{entry.name}/"))
      if all_full and not found:
        raise ValueError(
          f"{entry.path}: a class without pictures ({', '.join(pictures.SUFFIXES)}); add some, or "
          "delete the folder."
        )
      names += found
  return dataset.shuffled(names)


def _files(folder: str, prefix: str) -> Iterator[str]:
  """Yields the relative paths of all pictures; a million files take seconds."""
  for entry in os.scandir(folder):
    if entry.is_dir(follow_symlinks=False):
      yield from _files(entry.path, f"{prefix}{entry.name}/")
    elif _is_picture(entry):
      yield f"{prefix}{entry.name}"


def _class_of(name: str) -> str:
  return name.partition("/")[0]


def _read_split(
  listing: Listing, field: str, wanted: int, margin: int, image_size: int, num_classes: int
) -> Split:
  place = str(listing.root)
  count = num_wanted(len(listing.names), wanted, field=field, place=place)
  images = pictures.read_all(
    lambda rows: [pictures.read_file(listing.root / listing.names[i]) for i in rows],
    count,
    num_channels=3,
    image_size=image_size,
    name_of=lambda i: str(listing.root / listing.names[i]),
    place=place,
    margin=margin,
  )
  return make_split(images, listing.labels[:count], num_classes=num_classes, place=place)


def read_mixing_images(
  folder: str | os.PathLike, *, size: int, num_channels: int = 3, cache: pathlib.Path | None = None
) -> UInt8[np.ndarray, "M S S C"]:
  """Decodes every picture below `folder`, in the order of their paths, for PixMix to mix with.

  Any tree of busy pictures will do. The set of the paper (Hendrycks et al. 2022, arXiv:2112.05135)
  is two folders, `fractals/images/*.jpg` and `first_layers_resized256_onevis/images/*.jpg`: unpack
  both into one folder and name that.

  Deviation: of a picture that is not square only the middle square is used; the paper's code
  resizes the shorter side and crops from the whole. The pictures of its set are square.

  Args:
    folder: searched with all folders inside it; hidden files are skipped.
    size: side in px that the pictures are resized to.
    num_channels: 3 (colour) or 1 (grey).
    cache: folder of decoded sets, read again as long as no file of `folder` changes; None: in the
      user's cache. A cache that cannot be written is no error.

  Raises:
    ValueError: if there is no such folder, no picture in it, an unreadable one, or too many.
  """
  root = pathlib.Path(folder).expanduser()
  place = f"config.augment.mixing_dir={str(folder)!r}"
  found = _list(root, place)
  stored = (cache or default_cache()) / f"{_digest(found, size, num_channels)}.npy"
  shape = (len(found), size, size, num_channels)
  if (kept := _load(stored, shape)) is not None:
    return kept
  images = pictures.read_all(
    lambda rows: [pictures.read_file(found[i]) for i in rows],
    len(found),
    num_channels=num_channels,
    image_size=size,
    name_of=lambda i: str(found[i]),
    place=place,
  )
  with contextlib.suppress(OSError):
    files.make_folder(stored.parent)
    with files.replacing(stored) as temporary, open(temporary, "wb") as file:
      np.save(file, images)
  return images


def default_cache() -> pathlib.Path:
  """Returns the folder of decoded sets in the user's cache."""
  return places.user_cache().parent / "mixing"


def _list(root: pathlib.Path, place: str) -> list[pathlib.Path]:
  if not root.is_dir():
    state = "is a file" if root.exists() else "does not exist"
    raise ValueError(
      f'{place}: {state}; expected a folder with pictures, or "" for procedural ones.'
    )
  files = sorted(
    file
    for file in root.rglob("*")
    if file.suffix.lower() in pictures.SUFFIXES and not file.name.startswith(".")
  )
  if not files:
    raise ValueError(
      f"{place}: no pictures ({', '.join(pictures.SUFFIXES)}) in it or in its folders; unpack the "
      'mixing set there, or set "" for procedural pictures.'
    )
  return files


def _digest(files: list[pathlib.Path], size: int, num_channels: int) -> str:
  state = hashlib.sha256(f"{_FORMAT} {size} {num_channels}".encode())
  for file in files:
    facts = file.stat()
    state.update(f"\n{file.absolute()} {facts.st_size} {facts.st_mtime_ns}".encode())
  return state.hexdigest()[:24]


def _load(stored: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray | None:
  try:
    images = arrays.open_npy(stored)
  except ValueError:
    return None
  return np.array(images) if images.shape == shape and images.dtype == np.uint8 else None
