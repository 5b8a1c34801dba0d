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
from mixboost_jax.data.dataset import Split, check_class_names
from mixboost_jax.data.stored import StoredPictures

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

  A ValueError says if there is no such tree, one split of two, only one class, or an empty split.
  """
  found = _split_roots(root)
  train_root, test_root = found or (root, root)
  if found:
    train_names, test_names = (_names(place, all_full=True) for place in found)
  else:
    names = _names(root)
    train_names = [name for name in names if not dataset.is_test(name)]
    test_names = [name for name in names if dataset.is_test(name)]
  class_names = sorted({_class_of(name) for name in train_names})
  unknown = sorted({_class_of(name) for name in test_names} - set(class_names))
  if unknown:
    raise ValueError(
      f"{test_root}: classes {', '.join(unknown[:5])} have no training pictures under {train_root}."
    )
  splits = ((train_root, train_names, "training"), (test_root, test_names, "test"))
  for split_root, names, what in splits:
    if not names:
      raise ValueError(
        f"{split_root}: no {what} pictures at CLASS/FILE ({', '.join(pictures.SUFFIXES)}); "
        f"expected {root}/train/CLASS/FILE with {root}/test/CLASS/FILE, or {root}/CLASS/FILE."
      )
  check_class_names(class_names, place=str(train_root))
  number = {name: i for i, name in enumerate(class_names)}
  train, test = (
    Listing(split_root, tuple(names), tuple(number[_class_of(name)] for name in names))
    for split_root, names, _ in splits
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
  """Returns the training and the test folder among these, "" for none."""
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


def open_splits(
  root: pathlib.Path, *, image_size: int = 0, test_margin: int = 0
) -> tuple[Split, Split, tuple[str, ...]]:
  """Returns both splits, whose pictures (in colour) stay in their files, and the class names.

  Without an `image_size` it is that of the first picture, which all others must have. A ValueError
  names the file or folder and the remedy.
  """
  train, test, class_names = list_files(root)
  return open_listing(train, image_size), open_listing(test, image_size, test_margin), class_names


def open_listing(listing: Listing, image_size: int, margin: int = 0) -> Split:
  """Returns the pictures of a listing, in colour, which stay in their files."""
  rows = np.arange(len(listing.names), dtype=np.int32)
  stored = StoredPictures(FolderSource(listing), rows, image_size=image_size, margin=margin)
  return Split(stored, np.asarray(listing.labels, np.int32), rows)


def read_pictures(
  found: Sequence[pathlib.Path], *, num_channels: int, image_size: int, place: str
) -> np.ndarray:
  """Reads pictures that have no classes into uint8[N, image_size, image_size, num_channels]."""
  pictures.check_size(len(found), (image_size, image_size, num_channels), place=place)
  listing = Listing(pathlib.Path(), tuple(map(str, found)), (0,) * len(found))
  source = FolderSource(listing, num_channels)
  return np.asarray(StoredPictures(source, np.arange(len(found)), image_size=image_size))


class FolderSource:
  """The files of a listing, one row each; see `stored.Source`."""

  def __init__(self, listing: Listing, num_channels: int = 3):
    self._listing, self.num_channels = listing, num_channels
    names = "\n".join(listing.names).encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(names, digest_size=8).hexdigest()
    self.fingerprint = f"{len(listing.names)} files {digest}"

  def __len__(self) -> int:
    return len(self._listing.names)

  def read(self, rows: Sequence[int]) -> list[tuple[bytes, int]]:
    """Returns the file and the label of each row."""
    return [(self._file(row), self._listing.labels[row]) for row in rows]

  def _file(self, row: int) -> bytes:
    try:
      return pictures.read_file(self.name(row))
    except ValueError as error:
      if not isinstance(error.__cause__, OSError):
        raise
      raise ValueError(
        f"{self.name(row)}: {files.reason(error.__cause__)}, but it was there when the "
        "folder was listed; put it back (a run then goes on by the same command)."
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
    elif entry.name.lower().endswith(pictures.SUFFIXES) and not entry.name.startswith("."):
      yield f"{prefix}{entry.name}"


def _class_of(name: str) -> str:
  return name.partition("/")[0]


def read_mixing_images(
  folder: str | os.PathLike,
  *,
  size: int,
  num_channels: int = 3,
  cache: str | os.PathLike | None = None,
) -> UInt8[np.ndarray, "M S S C"]:
  """Decodes every picture below `folder`, in the order of their paths, for PixMix to mix with.

  Any tree of busy pictures will do. The set of the paper (Hendrycks et al. 2022, arXiv:2112.05135)
  is two folders, `fractals/images/*.jpg` and `first_layers_resized256_onevis/images/*.jpg`: unpack
  both into one folder and name that.

  Deviation: of a picture that is not square only the middle square is used; the paper's code
  resizes the shorter side and crops from the whole. The pictures of its set are square.

  ```python
  from PIL import Image
  Image.fromarray(np.uint8((255 * images[0]).round())).save("fern.png")
  mixing = data.read_mixing_folder(".", size=32, cache="decoded")
  ```

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
  stored = pathlib.Path(cache or default_cache()) / f"{_digest(found, size, num_channels)}.npy"
  shape = (len(found), size, size, num_channels)
  with contextlib.suppress(ValueError):
    kept = arrays.open_npy(stored)
    if kept.shape == shape and kept.dtype == np.uint8:
      return np.array(kept)
  images = read_pictures(found, num_channels=num_channels, image_size=size, place=place)
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
