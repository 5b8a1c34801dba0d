# SPDX-License-Identifier: Apache-2.0
"""Arrays in a `.npz` file, or in a folder of `.npy` files with the same names.

Names: `train_images`, `train_labels`, `test_images`, `test_labels` and, if wanted, `class_names`
(text; without it classes are called by their number). Images are uint8[N, H, W, 1 or 3] or
uint8[N, H, W], labels integers from 0. The order is kept: shuffle before saving if it is by class.
"""

import math
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from mixboost_jax.data import limits
from mixboost_jax.data.dataset import Split, make_split, num_wanted

REQUIRED = ("train_images", "train_labels", "test_images", "test_labels")
_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError)


def read(
  place: pathlib.Path, *, train_examples: int = 0, test_examples: int = 0
) -> tuple[Split, Split, tuple[str, ...]]:
  """Reads both splits and the class names.

  Args:
    place: the `.npz` file, or the folder of `.npy` files.
    train_examples: use the first so many; 0: all.
    test_examples: the same for the test split.

  Raises:
    ValueError: naming the file and the remedy.
  """
  content = _open_folder(place) if place.is_dir() else _open_npz(place)
  names = _class_names(content, place)
  splits = []
  for split, wanted in (("train", train_examples), ("test", test_examples)):
    images, labels = content[f"{split}_images"], content[f"{split}_labels"]
    if images.ndim == 3:
      images = images[..., None]
    where = f"{place}: {split}"
    if images.ndim != 4 or labels.ndim != 1 or len(images) != len(labels):
      raise ValueError(
        f"{where}_images must be uint8[N, H, W] or uint8[N, H, W, C] and {split}_labels int[N], "
        f"got {content[f'{split}_images'].shape} and {labels.shape}."
      )
    count = num_wanted(len(labels), wanted, field=f"{split}_examples", place=where)
    limits.check_size(count, images.shape[1:], place=where)
    splits.append(
      make_split(np.array(images[:count]), labels[:count], num_classes=len(names), place=where)
    )
  return splits[0], splits[1], names


def _class_names(content: dict[str, np.ndarray], place: pathlib.Path) -> tuple[str, ...]:
  if "class_names" in content:
    names = content["class_names"]
    if names.ndim != 1 or names.dtype.kind not in "US":
      raise ValueError(
        f"{place}: class_names must be a list of text, got {names.dtype}{list(names.shape)}."
      )
    return tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names.tolist())
  labels = content["train_labels"]
  highest = int(labels.max()) if labels.size and labels.dtype.kind in "iu" else 0
  return tuple(str(i) for i in range(highest + 1))


def _open_folder(place: pathlib.Path) -> dict[str, np.ndarray]:
  content = {}
  for name in (*REQUIRED, "class_names"):
    file = place / f"{name}.npy"
    if file.is_file():
      try:  # mapped, not read: only the examples that are asked for are copied
        content[name] = np.load(file, mmap_mode="r", allow_pickle=False)
      except _ERRORS as error:
        raise ValueError(f"{file}: unreadable or truncated ({error}); write it again.") from error
  return _complete(content, place)


def _open_npz(place: pathlib.Path) -> dict[str, Any]:
  try:
    with zipfile.ZipFile(place) as archive:
      stored = {name.removesuffix(".npy") for name in archive.namelist()}
      for name in sorted(stored & {"train_images", "test_images"}):
        _check_stored_size(archive, name, place)
    with np.load(place, allow_pickle=False) as file:
      content = {name: file[name] for name in (*REQUIRED, "class_names") if name in file.files}
  except limits.TooLargeError:
    raise
  except _ERRORS as error:
    raise ValueError(f"{place}: unreadable or truncated .npz ({error}); write it again.") from error
  return _complete(content, place)


def _check_stored_size(archive: zipfile.ZipFile, name: str, place: pathlib.Path) -> None:
  """Reads the header only: an array of a .npz has to be unpacked as a whole."""
  with archive.open(f"{name}.npy") as member:
    version = np.lib.format.read_magic(member)
    reader = np.lib.format.read_array_header_1_0
    shape = (reader if version == (1, 0) else np.lib.format.read_array_header_2_0)(member)[0]
  if shape:
    limits.check_size(shape[0], (math.prod(shape[1:]), 1, 1), place=f"{place}: {name}")


def _complete(content: dict[str, np.ndarray], place: pathlib.Path) -> dict[str, np.ndarray]:
  absent = [name for name in REQUIRED if name not in content]
  if absent:
    raise ValueError(
      f"{place}: lacks {', '.join(absent)}; expected arrays {', '.join(REQUIRED)} "
      "and optionally class_names."
    )
  return content
