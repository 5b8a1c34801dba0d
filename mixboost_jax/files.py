# SPDX-License-Identifier: Apache-2.0
"""Files that somebody else may have made are read with care, and ours appear whole or not at all.

Reading never waits for a pipe and never goes beyond a limit. Everything is written to a hidden
temporary name in the same folder, flushed to the disk and renamed over the target: whoever reads
the target sees the old content or the new one, never a part.
"""

import contextlib
import errno
import io
import json
import os
import pathlib
import stat
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float

MAX_JSON_BYTES = 2**28
"""No results file, config or list of contents is near this size."""
MAX_JSON_LEVELS = 50
"""Nor near this depth, which all code that walks through them can bear."""
TEMPORARY_PREFIX = ".writing-"
"""Start of the temporary names; files that begin with it are left-overs of a killed process."""

_GAP = 2  # white pixels between two pictures of a strip, before enlargement
_REMEDIES = {
  errno.ENOSPC: "the disk is full; free some space or choose another folder",
  errno.EDQUOT: "your disk quota is used up; free some space or choose another folder",
  errno.EACCES: "no permission to write there; choose another folder",
  errno.EPERM: "no permission to write there; choose another folder",
  errno.EROFS: "the file system is read-only; choose another folder",
  errno.ENOENT: "the folder does not exist",
  errno.ENOTDIR: "a part of the path is a file, not a folder",
  errno.EISDIR: "a folder of that name is in the way",
}


class WriteError(OSError):
  """A file or folder could not be written. What was there before is untouched."""


def open_regular(path: str | os.PathLike) -> BinaryIO:
  """Opens a file for reading; a pipe or a device is refused instead of waited for.

  Raises:
    OSError: as `open` does.
    ValueError: if it is no regular file.
  """
  descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
  if not stat.S_ISREG(os.fstat(descriptor).st_mode):
    os.close(descriptor)
    raise ValueError("expected a regular file, got a folder, pipe or device")
  return os.fdopen(descriptor, "rb")


def read_bytes(path: str | os.PathLike, *, limit: int) -> bytes:
  """Returns the content of a regular file.

  Raises:
    OSError: as `open` does.
    ValueError: if it is no regular file, or larger than `limit` bytes; it is not read then.
  """
  with open_regular(path) as file:
    size = os.fstat(file.fileno()).st_size
    if size > limit:
      raise ValueError(f"expected at most {limit} bytes, got {size}")
    return file.read(limit + 1)[:limit]


def read_json(path: str | os.PathLike) -> Any:
  """Returns the content of a JSON file; errors as of `read_bytes` and `parse_json`."""
  return parse_json(read_bytes(path, limit=MAX_JSON_BYTES))


def parse_json(raw: str | bytes | bytearray) -> Any:
  """Returns what JSON says, as `json.loads` does, or raises its ValueError.

  Raises:
    ValueError: also if lists and mappings lie too deep in each other.
  """
  wrong = f"expected at most {MAX_JSON_LEVELS} lists or mappings in each other, got more"
  try:
    tree = json.loads(raw)
  except RecursionError:
    raise ValueError(wrong) from None
  level = [tree]
  for _ in range(MAX_JSON_LEVELS + 1):
    branches = [node for node in level if isinstance(node, dict | list)]
    if not branches:
      return tree
    level = [x for node in branches for x in (node.values() if isinstance(node, dict) else node)]
  raise ValueError(wrong)


def reason(error: BaseException) -> str:
  """Returns the first line of an error, or its name if it says nothing, without a full stop."""
  text = getattr(error, "strerror", None) or str(error)
  return text.partition("\n")[0].rstrip(".: ") or type(error).__name__


def is_text(value: str) -> bool:
  """Whether a string can be written as UTF-8; names of files and JSON may hold half characters."""
  try:
    value.encode()
  except UnicodeEncodeError:
    return False
  return True


def explain(error: BaseException) -> str:
  """Returns why a write failed and what to do, also for errors that only quote the system's."""
  cause: BaseException | None = error
  while cause is not None:
    if isinstance(cause, WriteError) and cause.strerror:
      return cause.strerror
    if isinstance(cause, OSError) and cause.errno in _REMEDIES:
      return _REMEDIES[cause.errno]
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
      if os.strerror(number) in str(cause):
        return _REMEDIES[number]
    cause = cause.__cause__ or cause.__context__
  first_line = str(error).partition("\n")[0]
  return f"{type(error).__name__}: {first_line}"


def write_error(path: str | os.PathLike, error: OSError) -> WriteError:
  """Returns the error that tells a user what could not be written, why, and what to do."""
  reason = _REMEDIES.get(error.errno or 0, error.strerror or str(error))
  return WriteError(error.errno or 0, f"cannot write {os.fspath(path)}: {reason}")


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Yields a temporary path beside `path`; what is written there becomes `path` at the end.

  For writers that insist on a file name (images, archives). The suffix of `path` is kept.

  Raises:
    WriteError: if the disk is full or not writable; `path` is as it was and nothing else is left.
  """
  target = pathlib.Path(path)
  temporary = None
  try:
    descriptor, name = tempfile.mkstemp(
      prefix=TEMPORARY_PREFIX, suffix=f"-{target.name}"[-80:], dir=target.parent
    )
    temporary = pathlib.Path(name)
    os.fchmod(descriptor, 0o666 & ~umask())  # mkstemp makes files that only their owner can read
    os.close(descriptor)
    yield temporary
    sync(temporary)
    os.replace(temporary, target)
    temporary = None
    sync(target.parent)
  except OSError as error:
    raise write_error(target, error) from error
  finally:
    if temporary is not None:
      temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
  """Writes a file at once or leaves everything as it was; errors as of `replacing`."""
  with replacing(path) as temporary, open(temporary, "wb") as file:
    file.write(content)


def write_text(path: str | os.PathLike, content: str) -> None:
  """Writes a UTF-8 file as `write_bytes` does."""
  write_bytes(path, content.encode())


def write_json(path: str | os.PathLike, tree: Any) -> None:
  """Writes an indented JSON file as `write_bytes` does.

  Raises:
    ValueError: if `tree` holds what JSON cannot say, e.g. NaN.
  """
  try:
    text = json.dumps(tree, indent=1, allow_nan=False)
  except (TypeError, ValueError) as error:
    raise ValueError(f"cannot write {os.fspath(path)}: not JSON: {error}.") from error
  write_text(path, text + "\n")


def make_folder(path: str | os.PathLike) -> pathlib.Path:
  """Creates a folder and its parents if they are missing, or raises a WriteError."""
  folder = pathlib.Path(path)
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except FileExistsError as error:
    reason = f"cannot write {folder}: a file of that name is in the way"
    raise WriteError(errno.EEXIST, reason) from error
  except FileNotFoundError as error:  # missing parents would have been made
    reason = f"cannot write {folder}: no folder can be made there; choose another folder"
    raise WriteError(errno.ENOENT, reason) from error
  except OSError as error:
    raise write_error(folder, error) from error
  return folder


def umask() -> int:
  """Returns which permissions new files do not get."""
  mask = os.umask(0)
  os.umask(mask)
  return mask


@contextlib.contextmanager
def alone(folder: str | os.PathLike) -> Iterator[None]:
  """Lets one process of this machine at a time work in a folder; others wait for it."""
  try:
    import fcntl
  except ImportError:  # not a POSIX system: nobody waits
    yield
    return
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):  # some network disks cannot lock
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)


def sync(path: pathlib.Path) -> None:
  """Asks for the content of a file, or the names in a folder, to be on the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  except OSError as error:
    if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot sync folders
      raise
  finally:
    os.close(descriptor)


def write_strip(
  path: pathlib.Path, images: Float[np.ndarray, "N H W C"], *, height: int = 96
) -> None:
  """Writes images in [0, 1] side by side into a PNG, enlarged by whole pixels to about `height`."""
  from PIL import Image

  pixels = np.round(np.clip(np.asarray(images), 0, 1) * 255).astype(np.uint8)
  if pixels.shape[-1] == 1:
    pixels = np.repeat(pixels, 3, axis=-1)
  padded = np.pad(pixels, ((0, 0), (0, 0), (0, _GAP), (0, 0)), constant_values=255)
  strip = np.concatenate(list(padded), axis=1)[:, :-_GAP]
  scale = max(1, height // strip.shape[0])
  buffer = io.BytesIO()
  Image.fromarray(strip.repeat(scale, 0).repeat(scale, 1)).save(buffer, format="PNG")
  make_folder(path.parent)
  write_bytes(path, buffer.getvalue())
