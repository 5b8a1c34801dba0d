# SPDX-License-Identifier: Apache-2.0
"""Arrays in a `.npz` file, or in a folder of `.npy` files with the same names.

Names: `train_images`, `train_labels`, `test_images`, `test_labels` and, if wanted, `class_names`
(text; without it classes are called by their number). Images are uint8[N, H, W, 1 or 3] or
uint8[N, H, W], labels integers from 0. The order is kept: shuffle before saving if it is by class.
"""

import math
import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np

from mixboost_jax import files
from mixboost_jax.data import pictures
from mixboost_jax.data.dataset import Split, as_text, make_split, num_wanted

REQUIRED = ("train_images", "train_labels", "test_images", "test_labels")
_NAMES = "class_names"
_SMALL_BYTES = 2**26
"""No labels or names of classes take more; pictures above it cannot be packed without limit:"""
_MAX_RATIO = 200


def read(
  path: pathlib.Path, *, train_examples: int = 0, test_examples: int = 0
) -> tuple[Split, Split, tuple[str, ...]]:
  """Reads the first so many examples of both splits (0: all), and the class names."""
  if path.is_dir():
    stored = {name: path / f"{name}.npy" for name in (*REQUIRED, _NAMES)}
    content = {name: open_npy(file) for name, file in stored.items() if file.is_file()}
  else:
    content = read_npz(path, (*REQUIRED, _NAMES))
  if absent := [name for name in REQUIRED if name not in content]:
    raise ValueError(
      f"{path}: lacks {', '.join(absent)}; expected arrays {', '.join(REQUIRED)} "
      "and optionally class_names."
    )
  names = _class_names(content, path)
  splits = []
  for split, wanted in (("train", train_examples), ("test", test_examples)):
    images, labels = content[f"{split}_images"], content[f"{split}_labels"]
    if images.ndim == 3:
      images = images[..., None]
    where = f"{path}: {split}"
    if images.ndim != 4 or labels.ndim != 1 or len(images) != len(labels):
      raise ValueError(
        f"{where}_images must be uint8[N, H, W] or uint8[N, H, W, C] and {split}_labels int[N], "
        f"got {content[f'{split}_images'].shape} and {labels.shape}."
      )
    count = num_wanted(len(labels), wanted, field=f"{split}_examples", place=where)
    pictures.check_size(count, images.shape[1:], place=where)
    splits.append(
      make_split(np.array(images[:count]), labels[:count], num_classes=len(names), place=where)
    )
  return splits[0], splits[1], names


def open_npy(file: pathlib.Path) -> np.ndarray:
  """Maps an array, so that only what is asked for is read; Python objects are refused."""
  try:
    with files.open_regular(file):
      return np.load(file, mmap_mode="r", allow_pickle=False)
  except Exception as error:  # the parser of NumPy's headers raises almost anything
    raise ValueError(
      f"{file}: unreadable or truncated ({files.reason(error)}); write it again."
    ) from error


def _class_names(content: dict[str, np.ndarray], path: pathlib.Path) -> tuple[str, ...]:
  if _NAMES in content:
    names = content[_NAMES]
    if names.ndim != 1 or names.dtype.kind not in "US":
      raise ValueError(
        f"{path}: class_names must be a list of text, got {names.dtype}{list(names.shape)}."
      )
    return tuple(as_text(n, place=str(path)) for n in names.tolist())
  labels = content["train_labels"]
  highest = int(labels.max()) if labels.size and labels.dtype.kind in "iu" else 0
  if highest >= pictures.MAX_CLASSES:
    raise ValueError(
      f"{path}: expected train_labels below {pictures.MAX_CLASSES}, got {highest}; number the "
      "classes from 0 without gaps."
    )
  return tuple(str(i) for i in range(highest + 1))


def read_npz(path: pathlib.Path, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
  """Unpacks those of the named arrays (none named: all) that a `.npz` holds, each as a whole.

  A ValueError says if it is damaged, larger than it may be, or holds Python objects.
  """
  try:
    with files.open_regular(path) as raw, zipfile.ZipFile(raw) as archive:
      stored = {entry.filename: entry for entry in archive.infolist()}
      found = [name.removesuffix(".npy") for name in stored if name.endswith(".npy")]
      wanted = [name for name in found if not names or name in names]
      for name in wanted:
        _check_header(archive, stored[f"{name}.npy"], path)
      content = {}
      for name in wanted:
        with archive.open(f"{name}.npy") as member:
          content[name] = np.lib.format.read_array(member, allow_pickle=False)
  except pictures.TooLargeError:
    raise
  except Exception as error:  # zipfile, zlib and NumPy each raise their own
    raise ValueError(
      f"{path}: unreadable or truncated .npz ({files.reason(error)}); write it again."
    ) from error
  return content


def _check_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: pathlib.Path) -> None:
  """Refuses an array that is larger than it may be, before it is unpacked."""
  form = np.lib.format
  with archive.open(entry) as member:
    first = form.read_magic(member) == (1, 0)
    read_header = form.read_array_header_1_0 if first else form.read_array_header_2_0
    shape, _, dtype = read_header(member)
  num_bytes = dtype.itemsize * math.prod(shape)
  if not 0 <= num_bytes <= entry.file_size:
    raise ValueError(f"{entry.filename} claims {list(shape)}, which its data cannot hold")
  is_images = entry.filename.endswith("images.npy")
  if shape and is_images:
    pictures.check_size(shape[0], (math.prod(shape[1:]), 1, 1), place=f"{path}: {entry.filename}")
  most = _MAX_RATIO * entry.compress_size if is_images else 0
  if num_bytes > max(_SMALL_BYTES, most):
    raise ValueError(
      f"{entry.filename} unpacks from {entry.compress_size} to {num_bytes} bytes, as no set does"
    )
