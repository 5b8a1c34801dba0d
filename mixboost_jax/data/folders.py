# SPDX-License-Identifier: Apache-2.0
"""Picture folders: `root/train/CLASS/x.png` with `root/test/...`, or plain `root/CLASS/x.png`.

Without a test folder, every example is put into one of the splits by a hash of its relative path
(`splitting.TEST_SHARE` of them are test examples). Within a split the order is by another hash, so
the first N are a fair sample of all classes.
"""

import dataclasses
import pathlib

from mixboost_jax.data import pictures, splitting
from mixboost_jax.data.dataset import Split, make_split, num_wanted

TEST_FOLDERS = ("test", "val", "validation")
"""The first of these beside `train` is the test split; the others are not read."""


@dataclasses.dataclass(frozen=True)
class Listing:
  """The files of one split: path and class of each, in the order of their ids."""

  root: pathlib.Path
  names: tuple[str, ...]
  labels: tuple[int, ...]


def list_files(root: pathlib.Path) -> tuple[Listing, Listing, tuple[str, ...]]:
  """Returns the training files, the test files and the class names, without opening a picture.

  Raises:
    ValueError: if the folder holds no such tree, or a split would be empty.
  """
  test_root = next((root / name for name in TEST_FOLDERS if (root / name).is_dir()), None)
  if (root / "train").is_dir() and test_root is not None:
    train_names, test_names = _names(root / "train"), _names(test_root)
    train_root = root / "train"
  else:
    names = _names(root)
    train_names = [name for name in names if not splitting.is_test(name)]
    test_names = [name for name in names if splitting.is_test(name)]
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
  number = {name: i for i, name in enumerate(class_names)}
  train, test = (
    Listing(split_root, tuple(names), tuple(number[_class_of(name)] for name in names))
    for split_root, names in ((train_root, train_names), (test_root, test_names))
  )
  return train, test, tuple(class_names)


def read(
  root: pathlib.Path, *, image_size: int, train_examples: int = 0, test_examples: int = 0
) -> tuple[Split, Split, tuple[str, ...]]:
  """Reads both splits (as colour pictures) and the class names.

  Args:
    root: folder as described above.
    image_size: side in px to resize to; 0: all must have one size.
    train_examples: use the first so many; 0: all.
    test_examples: the same for the test split.

  Raises:
    ValueError: naming the file or folder and the remedy.
  """
  train, test, class_names = list_files(root)
  return (
    _read_split(train, "train_examples", train_examples, image_size, len(class_names)),
    _read_split(test, "test_examples", test_examples, image_size, len(class_names)),
    class_names,
  )


def _names(root: pathlib.Path) -> list[str]:
  """Relative paths CLASS/.../FILE of all pictures below the class folders of `root`."""
  names = []
  for folder in root.iterdir():
    if folder.is_dir() and not folder.name.startswith("."):
      names += [
        file.relative_to(root).as_posix()
        for file in folder.rglob("*")
        if file.suffix.lower() in pictures.SUFFIXES and not file.name.startswith(".")
      ]
  return splitting.shuffled(names)


def _class_of(name: str) -> str:
  return name.partition("/")[0]


def _read_split(
  listing: Listing, field: str, wanted: int, image_size: int, num_classes: int
) -> Split:
  place = str(listing.root)
  count = num_wanted(len(listing.names), wanted, field=field, place=place)
  images = pictures.read_all(
    lambda rows: [(listing.root / listing.names[i]).read_bytes() for i in rows],
    count,
    num_channels=3,
    image_size=image_size,
    name_of=lambda i: str(listing.root / listing.names[i]),
    place=place,
  )
  return make_split(images, listing.labels[:count], num_classes=num_classes, place=place)
