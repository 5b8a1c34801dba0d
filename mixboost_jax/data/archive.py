# SPDX-License-Identifier: Apache-2.0
"""Files of a published archive, read from the extracted folder or straight from the .tar.gz."""

import gzip
import hashlib
import pathlib
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from mixboost_jax import files

MAX_BYTES = 2**28
"""No known archive unpacks to more than 178 MiB; a larger one is not what it claims to be."""
_GZIP = b"\x1f\x8b"


def read_files(
  place: pathlib.Path, folder: str, names: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
  """Yields (name, content) of the files `folder/name`, each once, in any order.

  Args:
    place: the extracted folder itself, or the .tar.gz.
    folder: name of the folder inside the archive.
    names: files wanted from it.

  Raises:
    ValueError: if the archive is unreadable or lacks some of the files (all of them are named).
  """
  missing = set(names)
  source = _from_folder(place, names) if place.is_dir() else _from_tar(place, folder, names)
  for name, content in source:
    if name in missing:
      missing.remove(name)
      yield name, content
  if missing:
    inside = "" if place.is_dir() else f" in {folder}/"
    raise ValueError(
      f"{place}: lacks {', '.join(sorted(missing))}{inside}; extract or download it again."
    )


def _from_folder(place: pathlib.Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
  for name in names:
    file = place / name
    if not file.exists():
      continue
    try:
      yield name, files.read_bytes(file, limit=MAX_BYTES)
    except (OSError, ValueError) as error:
      raise ValueError(
        f"{file}: unreadable ({files.reason(error)}); extract the archive again."
      ) from error


def _from_tar(
  place: pathlib.Path, folder: str, names: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
  """Reads to the very end, where gzip keeps the checksum of everything before."""
  wanted = {f"{folder}/{name}": name for name in names}
  try:
    with files.open_regular(place) as raw, _unpacked(raw) as unpacked:
      stream: Any = _Bounded(unpacked)
      with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
          name = wanted.get(member.name.removeprefix("./"))
          if name is None or not member.isfile():
            continue
          if member.size > MAX_BYTES:
            raise ValueError(f"{member.name} claims {member.size} bytes")
          handle = tar.extractfile(member)
          assert handle is not None
          yield name, handle.read()
      while stream.read(2**20):
        pass
  except Exception as error:  # tarfile, gzip and zlib each raise their own
    raise ValueError(
      f"{place}: unreadable or truncated archive ({files.reason(error)}); download it again."
    ) from error


def _unpacked(raw: BinaryIO) -> Any:
  """Returns the stream inside a .gz file, or the file itself."""
  is_packed = raw.read(2) == _GZIP
  raw.seek(0)
  return gzip.GzipFile(fileobj=raw) if is_packed else raw


class _Bounded:
  """Ends a stream that unpacks to more than any known archive."""

  def __init__(self, stream: Any):
    self._stream, self._left = stream, MAX_BYTES

  def read(self, size: int) -> bytes:
    """Returns the next bytes."""
    block = self._stream.read(size)
    self._left -= len(block)
    if self._left < 0:
      raise ValueError(f"it unpacks to more than {MAX_BYTES} bytes")
    return block


def md5(file: pathlib.Path) -> str:
  """Returns the MD5 sum as published beside the archives (a check against damage, not attack)."""
  with file.open("rb") as handle:
    return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
