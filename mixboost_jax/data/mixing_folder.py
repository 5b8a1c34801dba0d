# SPDX-License-Identifier: Apache-2.0
"""A folder of pictures for PixMix to mix with: fractals, feature visualisations, anything busy.

Any tree of pictures will do. The set of the paper (Hendrycks et al. 2022, arXiv:2112.05135) is two
folders, `fractals/images/*.jpg` and `first_layers_resized256_onevis/images/*.jpg`: unpack both into
one folder and name that.
"""

import hashlib
import os
import pathlib
import tempfile

import numpy as np
from jaxtyping import UInt8

from mixboost_jax.data import arrays, locate, pictures

_FORMAT = 1  # of the cached files


def read(
  folder: str | os.PathLike, *, size: int, num_channels: int = 3, cache: pathlib.Path | None = None
) -> UInt8[np.ndarray, "M S S C"]:
  """Decodes every picture below `folder`, in the order of their paths.

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
  files = _list(root, place)
  stored = (cache or default_cache()) / f"{_digest(files, size, num_channels)}.npy"
  shape = (len(files), size, size, num_channels)
  found = _load(stored, shape)
  if found is not None:
    return found
  images = pictures.read_all(
    lambda rows: [pictures.read_file(files[i]) for i in rows],
    len(files),
    num_channels=num_channels,
    image_size=size,
    name_of=lambda i: str(files[i]),
    place=place,
  )
  _store(stored, images)
  return images


def default_cache() -> pathlib.Path:
  """Returns the folder of decoded sets in the user's cache."""
  return locate.user_cache().parent / "mixing"


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


def _store(stored: pathlib.Path, images: np.ndarray) -> None:
  temporary = None
  try:
    stored.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".writing-", dir=stored.parent)
    temporary = pathlib.Path(name)
    with os.fdopen(descriptor, "wb") as file:
      np.save(file, images)
    os.replace(temporary, stored)
    temporary = None
  except OSError:
    pass
  finally:
    if temporary is not None:
      temporary.unlink(missing_ok=True)
