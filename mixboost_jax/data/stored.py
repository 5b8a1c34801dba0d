# SPDX-License-Identifier: Apache-2.0
"""Pictures that stay in their files: arrays to look at, decoded only where they are used.

A split too large for memory holds these in place of NumPy arrays. Slices and selections cost
nothing; `np.asarray` (and `astype`) decodes what is left, in threads. Readers of a split that walk
through it in pieces, as evaluation does, therefore need to know nothing about it.
"""

import concurrent.futures
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mixboost_jax.data import pictures
from mixboost_jax.data.pictures import Window

_CHUNK = 64  # rows that a thread reads at once


@runtime_checkable
class Source(Protocol):
  """Files with labels, by row; `read` may be called from several threads."""

  fingerprint: str
  """Changes when rows come, go or change their order."""
  num_channels: int

  def __len__(self) -> int:
    """Returns the number of rows."""
    ...

  def read(self, rows: Sequence[int]) -> list[tuple[bytes, int]]:
    """Returns the picture file of each row, and its label; a ValueError names file and remedy."""
    ...

  def name(self, row: int) -> str:
    """Returns what to call a row in a message."""
    ...


def shape_of(source: Source, row: int) -> tuple[int, int, int]:
  """Returns height, width and channels of a picture as it is stored."""
  picture = pictures.open_picture(source.read([row])[0][0], place=source.name(row))
  return picture.height, picture.width, source.num_channels


class StoredPictures:
  """Looks like uint8[N, H, W, C]."""

  dtype = np.dtype(np.uint8)
  ndim = 4

  def __init__(
    self, source: Source, rows: np.ndarray, *, image_size: int = 0, margin: int = 0, shape: Any = ()
  ):
    """Points at some rows.

    Args:
      source: of the files.
      rows: int[N].
      image_size: side in px of the middle square that every picture is cut and resized to. 0: as
        stored; then all must have one size.
      margin: see `pictures.decode`.
      shape: of one picture as stored, if known; else the first of `rows` is looked at.
    """
    self.source, self.rows, self.image_size, self.margin = source, rows, image_size, margin
    if image_size:
      shape = (image_size, image_size, source.num_channels)
    self.picture_shape: tuple[int, int, int] = shape or shape_of(source, int(rows[0]))

  @property
  def shape(self) -> tuple[int, int, int, int]:
    """Number, height, width, channels."""
    return (len(self.rows), *self.picture_shape)

  def __len__(self) -> int:
    return len(self.rows)

  def __repr__(self) -> str:
    """Says all that the pixels depend on: results are kept under a hash of it."""
    rows = hashlib.blake2b(np.ascontiguousarray(self.rows, np.int64).data, digest_size=8)
    resized = bool(self.image_size)
    facts = (self.source.fingerprint, rows.hexdigest(), self.shape, resized, self.margin)
    return f"StoredPictures{facts}"

  def __getitem__(self, indices: Any) -> Any:
    """Returns one decoded picture for an integer, else a selection along the first axis."""
    if isinstance(indices, int | np.integer):
      return self.read(int(indices))[0]
    rows, shape, size = self.rows[indices], self.picture_shape, self.image_size
    return StoredPictures(self.source, rows, image_size=size, margin=self.margin, shape=shape)

  def __iter__(self) -> Iterator[np.ndarray]:
    return (self[index] for index in range(len(self)))

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    if copy is False:
      raise ValueError("StoredPictures: decoding makes a new array.")
    images, _ = self.read_all()
    return images if dtype is None else images.astype(dtype)

  def astype(self, dtype: Any) -> np.ndarray:
    """Decodes everything."""
    return self.__array__(dtype)

  def read_all(self) -> tuple[np.ndarray, np.ndarray]:
    """Decodes everything in threads; returns uint8[N, H, W, C] and the labels, int32[N]."""
    images, labels = np.empty(self.shape, np.uint8), np.empty(len(self), np.int32)

    def keep(index: int, raw: bytes, label: int) -> None:
      images[index], labels[index] = self._decode(int(self.rows[index]), raw), label

    _read_in_threads(self.source, self.rows, keep)
    return images, labels

  def read(self, index: int, *, window: Window | None = None) -> tuple[np.ndarray, int]:
    """Reads one picture and its label; a ValueError names file and remedy.

    Args:
      index: of the picture among these.
      window: `(height, width) -> (top, left, height, width)` of what to cut out and resize; the
        middle square if None.
    """
    row = int(self.rows[index])
    ((raw, label),) = self.source.read([row])
    return self._decode(row, raw, window), label

  def _decode(self, row: int, raw: bytes, window: Window | None = None) -> np.ndarray:
    height, _, channels = self.picture_shape
    image = pictures.decode(
      raw,
      num_channels=channels,
      image_size=height if window else self.image_size,
      place=self.source.name(row),
      margin=self.margin,
      window=window,
    )
    if image.shape != self.picture_shape:
      found, others = ("x".join(map(str, shape)) for shape in (image.shape, self.picture_shape))
      raise ValueError(
        f"pictures of different shapes: {self.source.name(row)} is {found}, those before it are "
        f"{others}; set config.data.image_size to resize all."
      )
    return image

  def size_of(self, index: int) -> tuple[int, int]:
    """Returns height and width of a picture as it is stored."""
    return shape_of(self.source, int(self.rows[index]))[:2]


class StoredLabels:
  """Looks like int32[N]; the labels lie beside the pictures and are read when they are asked for.

  Training takes labels with its pictures and never asks.
  """

  dtype = np.dtype(np.int32)
  ndim = 1

  def __init__(self, source: Source, rows: np.ndarray):
    self.source, self.rows = source, rows
    self._read: np.ndarray | None = None

  @property
  def shape(self) -> tuple[int]:
    """Number."""
    return (len(self.rows),)

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, indices: Any) -> Any:
    if self._read is not None or isinstance(indices, int | np.integer):
      return np.asarray(self)[indices]
    return StoredLabels(self.source, self.rows[indices])

  def __iter__(self) -> Iterator[int]:
    return iter(np.asarray(self).tolist())

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    if self._read is None:
      labels = np.empty(len(self), np.int32)

      def keep(index: int, raw: bytes, label: int) -> None:
        del raw
        labels[index] = label

      _read_in_threads(self.source, self.rows, keep)
      self._read = labels
    return np.array(self._read, dtype, copy=copy)

  def astype(self, dtype: Any) -> np.ndarray:
    """Reads everything."""
    return self.__array__(dtype, copy=True)

  def min(self) -> int:
    """Returns the smallest label."""
    return int(np.asarray(self).min())

  def max(self) -> int:
    """Returns the largest label."""
    return int(np.asarray(self).max())


def num_threads(wanted: int = 0) -> int:
  """Returns how many threads decode: `wanted`, or one per core that this process may use."""
  if wanted:
    return wanted
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _read_in_threads(
  source: Source, rows: np.ndarray, keep: Callable[[int, bytes, int], None]
) -> None:
  """Calls `keep(index, file, label)` for all rows; Pillow decodes without Python's lock."""

  def read(start: int) -> None:
    some = rows[start : start + _CHUNK].tolist()
    for index, (raw, label) in enumerate(source.read(some), start):
      keep(index, raw, label)

  with concurrent.futures.ThreadPoolExecutor(num_threads()) as pool:
    try:
      for _ in pool.map(read, range(0, len(rows), _CHUNK)):
        pass
    except BaseException:
      pool.shutdown(wait=False, cancel_futures=True)
      raise
