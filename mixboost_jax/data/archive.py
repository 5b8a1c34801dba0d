# SPDX-License-Identifier: Apache-2.0
"""Files of a published archive, read from the extracted folder or straight from the .tar.gz."""

import hashlib
import pathlib
import tarfile
import zlib
from collections.abc import Iterator, Sequence

MAX_MEMBER_BYTES = 2**30
"""No file of a known archive is near this size; a larger one is not what it claims to be."""


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
    if file.is_file():
      yield name, file.read_bytes()


def _from_tar(
  place: pathlib.Path, folder: str, names: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
  wanted = {f"{folder}/{name}": name for name in names}
  try:
    with tarfile.open(place, mode="r:*") as tar:
      for member in tar:
        name = wanted.get(member.name.removeprefix("./"))
        if name is None or not member.isfile():
          continue
        if member.size > MAX_MEMBER_BYTES:
          raise ValueError(f"{place}: {member.name} claims {member.size} bytes; not the archive.")
        handle = tar.extractfile(member)
        assert handle is not None
        yield name, handle.read()
  except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
    reason = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
    raise ValueError(
      f"{place}: unreadable or truncated archive ({reason}); download it again."
    ) from error


def md5(file: pathlib.Path) -> str:
  """Returns the MD5 sum as published beside the archives (a check against damage, not attack)."""
  with file.open("rb") as handle:
    return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
