# SPDX-License-Identifier: Apache-2.0
"""What has been measured so far: one line of JSON and one small file of arrays per finished piece.

A piece is found again only by a hash of everything that its numbers depend on: the network, the
pictures, the definition of the unit. Another network or other pictures never meet old numbers.

```text
evaluation/units.jsonl  {"piece": hash, "unit": "c:fog:3", "start": 0, "stop": 1000, "seconds": 1.2}
evaluation/HASH.npz     per-example columns
evaluation/plan.json    how many examples of each kind, if a budget decided
```
"""

import hashlib
import json
import os
import pathlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import files

Columns = dict[str, np.ndarray]
"""Name -> one entry per example."""
VERSION = 1
"""Raised when the same unit would give other numbers than before."""
_ADDRESS = re.compile(r"0x[0-9a-f]+")


def digest(*parts: Any) -> str:
  """Returns 16 hex digits of arrays, text, and trees of plain values.

  ```python
  assert evaluate.digest(np.zeros(3), "pgd") == evaluate.digest(np.zeros(3), "pgd")
  assert evaluate.digest(np.zeros(3), "pgd") != evaluate.digest(np.ones(3), "pgd")
  ```
  """
  state = hashlib.blake2b(digest_size=8)
  for part in parts:
    if isinstance(part, np.ndarray | jax.Array):
      part = np.asarray(part)
      state.update(f"{part.dtype}{part.shape}".encode())
      state.update(np.ascontiguousarray(part).data)
    else:
      text = part if isinstance(part, str) else json.dumps(part, sort_keys=True, default=repr)
      state.update(text.encode())
    state.update(b"\0")
  return state.hexdigest()


def network_digest(apply_fn: Any, variables: Any, image_shape: tuple[int, ...]) -> str:
  """Returns a hash of what a network computes: its program for one picture, and its parameters.

  ```python
  apply_fn, variables = evaluate.open_up(logits_fn, images.shape)
  network = evaluate.network_digest(apply_fn, variables, images.shape[1:])
  ```
  """
  picture = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
  program = jax.make_jaxpr(apply_fn)(variables, picture)
  arrays = [*jax.tree.leaves(variables), *constants_of(program)]
  return digest(program_text(program), *(np.asarray(_whole(one)) for one in arrays))


def program_text(program: Any) -> str:
  """Returns a traced program as text, without the addresses of this process."""
  return _ADDRESS.sub("", str(program))


def constants_of(program: Any) -> Iterator[Any]:
  """Yields the arrays that a traced program and the programs inside it hold."""
  yield from getattr(program, "consts", ())
  for equation in program.eqns:
    for value in jax.tree.leaves(list(equation.params.values())):
      if hasattr(value, "eqns"):
        yield from constants_of(value)


def _whole(leaf: Any) -> Any:
  """Gathers an array that lies on devices of several processes."""
  if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(leaf, tiled=True)
  if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    return jax.random.key_data(leaf)
  return leaf


class Store:
  """Finished pieces in a folder; without a folder, nothing is kept."""

  def __init__(self, folder: str | os.PathLike | None):
    """Reads which pieces are there; makes the folder on the first write."""
    self.folder = pathlib.Path(folder) if folder is not None else None
    self._known = set(self._lines())

  def _lines(self) -> list[str]:
    if self.folder is None or not (self.folder / "units.jsonl").exists():
      return []
    found = []
    for line in (self.folder / "units.jsonl").read_bytes().split(b"\n"):
      try:
        found.append(str(files.parse_json(line)["piece"]))
      except (ValueError, KeyError, TypeError):  # cut short by a kill
        continue
    return found

  def read(self, piece: str) -> Columns | None:
    """Returns the columns of a piece, or None if it has to be measured."""
    if self.folder is None or piece not in self._known:
      return None
    try:
      path = self.folder / f"{piece}.npz"
      with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
      return None

  def write(self, piece: str, columns: Columns, note: Mapping[str, Any]) -> None:
    """Keeps a piece: first its arrays, then the line that says so.

    Raises:
      WriteError: if the disk is full or not writable; the pieces before stay usable.
    """
    if self.folder is None:
      return
    files.make_folder(self.folder)
    with files.replacing(self.folder / f"{piece}.npz") as place:
      np.savez(place, **columns)  # pyright: ignore[reportArgumentType]
    self._append({"piece": piece, **note})
    self._known.add(piece)

  def _append(self, record: Mapping[str, Any]) -> None:
    assert self.folder is not None
    path = self.folder / "units.jsonl"
    try:
      with open(path, "ab") as file:
        torn = file.tell() > 0 and path.read_bytes()[-1:] != b"\n"
        file.write((b"\n" if torn else b"") + json.dumps(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
      raise files.write_error(path, error) from error

  def read_plan(self, question: str) -> dict[str, int] | None:
    """Returns the sizes that an earlier process planned for the same question."""
    if self.folder is None:
      return None
    try:
      tree = files.read_json(self.folder / "plan.json")
      return dict(tree["sizes"]) if tree["question"] == question else None
    except (OSError, ValueError, KeyError, TypeError):
      return None

  def write_plan(self, question: str, sizes: Mapping[str, int]) -> None:
    """Keeps a plan, so that a resumed evaluation measures the same examples."""
    if self.folder is not None:
      files.make_folder(self.folder)
      files.write_json(self.folder / "plan.json", {"question": question, "sizes": dict(sizes)})
