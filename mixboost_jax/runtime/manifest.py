# SPDX-License-Identifier: Apache-2.0
"""The list of contents of a checkpoint folder, by which damage is found before it is loaded.

It is written last: size and SHA-256 of every file, shape and type of every array, the caller's
metadata, and a digest over all of that.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from mixboost_jax import files
from mixboost_jax.runtime import atomic

FILE_NAME = "contents.json"
_VERSION = 1
_CHUNK_BYTES = 1 << 20


class DamagedError(ValueError):
  """A checkpoint is not what was written; the message says which file and how."""


@dataclasses.dataclass(frozen=True)
class Manifest:
  """What a checkpoint holds."""

  step: int
  metric: float | None
  metadata: Mapping[str, Any]
  leaves: Mapping[str, str]
  """Name -> type and shape, e.g. `float32[3,3,16,16]`."""


def write(folder: pathlib.Path, manifest: Manifest) -> None:
  """Adds the list of contents to a folder whose other files are complete.

  Raises:
    WriteError: if the disk is full or not writable.
  """
  files = {
    path.relative_to(folder).as_posix(): [path.stat().st_size, _checksum(path)]
    for path in sorted(folder.rglob("*"))
    if path.is_file() and path.name != FILE_NAME
  }
  tree = {"version": _VERSION, **dataclasses.asdict(manifest), "files": files}
  atomic.write_json(folder / FILE_NAME, tree | {"digest": _digest(tree)})


def read(folder: pathlib.Path) -> Manifest:
  """Reads the list alone, without looking at the files.

  Raises:
    DamagedError: if it is missing, unreadable or altered.
  """
  return _manifest(_read(folder), folder)


def verify(folder: pathlib.Path) -> Manifest:
  """Compares every file with the list.

  Raises:
    DamagedError: naming the first file that is missing, truncated or altered.
  """
  tree = _read(folder)
  # All sizes first: truncation is found without reading gigabytes.
  for name, (size, _) in tree["files"].items():
    path = folder / name
    found = path.stat().st_size if path.is_file() else None
    if found is None:
      raise DamagedError(f"{name} is missing")
    if found != size:
      raise DamagedError(f"{name} has {found} of {size} bytes")
  for name, (_, checksum) in tree["files"].items():
    if _checksum(folder / name) != checksum:
      raise DamagedError(f"{name} was altered (its checksum differs)")
  return _manifest(tree, folder)


def _read(folder: pathlib.Path) -> dict[str, Any]:
  try:
    tree = files.read_json(folder / FILE_NAME)
  except FileNotFoundError:
    raise DamagedError(f"{FILE_NAME} is missing") from None
  except (OSError, ValueError, RecursionError) as error:
    raise DamagedError(f"{FILE_NAME} cannot be read ({error})") from error
  if not isinstance(tree, dict) or tree.pop("digest", None) != _digest(tree):
    raise DamagedError(f"{FILE_NAME} was altered (its checksum differs)")
  if tree.get("version") != _VERSION:
    raise DamagedError(f"{FILE_NAME} is of version {tree.get('version')}, expected {_VERSION}")
  if wrong := [name for name, fits in _FIELDS.items() if name not in tree or not fits(tree[name])]:
    raise DamagedError(f"{FILE_NAME} lacks {', '.join(wrong)} as this version writes them")
  return tree


def _is_integer(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


_FIELDS: Mapping[str, Callable[[Any], bool]] = {
  "step": _is_integer,
  "metric": lambda value: value is None or isinstance(value, int | float),
  "metadata": lambda value: isinstance(value, dict),
  "leaves": lambda value: (
    isinstance(value, dict) and all(isinstance(leaf, str) for leaf in value.values())
  ),
  "files": lambda value: (
    isinstance(value, dict)
    and all(
      isinstance(entry, list)
      and len(entry) == 2
      and _is_integer(entry[0])
      and isinstance(entry[1], str)
      for entry in value.values()
    )
  ),
}
"""What a list of contents must hold."""


def _manifest(tree: Mapping[str, Any], folder: pathlib.Path) -> Manifest:
  if folder.name.isdecimal() and int(folder.name) != tree["step"]:
    raise DamagedError(f"it is of step {tree['step']}: the folder was renamed or copied")
  return Manifest(**{field.name: tree[field.name] for field in dataclasses.fields(Manifest)})


def _digest(tree: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _checksum(path: pathlib.Path) -> str:
  digest = hashlib.sha256()
  try:
    with open(path, "rb") as file:
      while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
  except OSError as error:
    raise DamagedError(f"{path.name} cannot be read ({error.strerror})") from error
  return digest.hexdigest()
