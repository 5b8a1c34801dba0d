# SPDX-License-Identifier: Apache-2.0
"""Released CIFAR sets: one `.npy` per corruption, mapped into memory and never unpickled.

A file of -C or C-bar holds 5 blocks of N rows, severity 1 first, each in the order of the clean
test split; `labels.npy` repeats the labels of that split five times. A file of -P holds one film
per test picture.
"""

import functools
import pathlib

import numpy as np

from mixboost_jax import files
from mixboost_jax.data import arrays
from mixboost_jax.data.dataset import Split
from mixboost_jax.data.released.units import (
  SEVERITIES,
  Opened,
  ReleasedUnit,
  Request,
  known,
  units_of,
)

SIDE = 32
PUBLISHED_ROWS = 10_000
LABELS = "labels"
_AGAIN = "extract the published archive again"


def open_corrupted(request: Request) -> Opened:
  """Opens CIFAR-10/100-C or C-bar."""
  num_classes = 100 if request.kind.startswith("cifar100") else 10
  root = _root(request)
  _check_names(request, root, {LABELS})
  labels = _labels(request, root, num_classes)
  num_rows = 0 if labels is None else len(labels)
  blocks = len(SEVERITIES)
  for name, _ in request.wanted:
    images = _open(request, root / f"{name}.npy")
    if images is None or labels is None:
      continue
    wanted = (blocks * num_rows, SIDE, SIDE, 3)
    request.check.expect(
      images.dtype == np.uint8 and images.shape == wanted,
      root / f"{name}.npy",
      expected=f"uint8{list(wanted)} (5 severities of {num_rows} rows, as {LABELS}.npy says)",
      got=f"{images.dtype}{list(images.shape)}",
      remedy=_AGAIN,
    )

  def load(unit: ReleasedUnit, start: int, stop: int | None) -> Split:
    assert labels is not None  # open_set has raised otherwise
    rows = range(num_rows)[start:stop]
    first = num_rows * (unit.severity - 1)
    stored = arrays.open_npy(root / f"{unit.corruption}.npy")
    images = np.array(stored[first + rows.start : first + rows.stop])
    ids = np.arange(rows.start, rows.stop, dtype=np.int32)
    return Split(images, labels[rows.start : rows.stop], ids)

  return Opened(
    units=units_of(request.wanted, SEVERITIES),
    load=load,
    num_classes=num_classes,
    title=_title(request, num_rows, "test pictures"),
    num_rows=num_rows,
  )


def open_sequences(request: Request) -> Opened:
  """Opens CIFAR-10/100-P."""
  root = _root(request)
  _check_names(request, root, {LABELS})
  counts = {}
  for name, _ in request.wanted:
    films = _open(request, root / f"{name}.npy")
    if films is None:
      continue
    frames = films.shape[1] if films.ndim == 5 else 0
    fine = request.check.expect(
      films.dtype == np.uint8 and frames >= 2 and films.shape[2:] == (SIDE, SIDE, 3),
      root / f"{name}.npy",
      expected=f"uint8[videos, 2 or more frames, {SIDE}, {SIDE}, 3]",
      got=f"{films.dtype}{list(films.shape)}",
      remedy=_AGAIN,
    )
    if fine:
      counts[name] = len(films)
  num_films = request.num_rows or max(counts.values(), default=0)
  for name, count in counts.items():
    request.check.expect(
      count == num_films,
      root / f"{name}.npy",
      expected=f"{num_films} films" + ("" if request.num_rows else ", as in the longest file"),
      got=str(count),
      remedy=_AGAIN,
    )

  def load(unit: ReleasedUnit, start: int, stop: int | None) -> np.ndarray:
    stored = arrays.open_npy(root / f"{unit.corruption}.npy")
    return np.array(stored[start:stop])

  return Opened(
    units=units_of(request.wanted, (0,)),
    load=load,
    num_classes=100 if request.kind.startswith("cifar100") else 10,
    is_sequences=True,
    title=_title(request, num_films, "films per perturbation"),
    num_rows=num_films,
  )


def _root(request: Request) -> pathlib.Path:
  """Returns the folder itself, or the one of the published name inside it."""
  inside = request.root / request.title
  return inside if inside.is_dir() else request.root


def _check_names(request: Request, root: pathlib.Path, besides: set[str]) -> None:
  """Notes arrays that are missing and arrays that do not belong here."""
  present = {file.stem for file in root.glob("*.npy") if not file.name.startswith(".")}
  for name in sorted(present - known(request.kind) - besides):
    request.check.expect(
      False,
      root / f"{name}.npy",
      expected=f"only arrays of {request.title} ({', '.join(sorted(known(request.kind)))})",
      got=f"an array called {name!r}",
      remedy="move it elsewhere, or open the kind that it belongs to",
    )
  missing = [(name, group) for name, group in request.wanted if name not in present]
  for name, group in missing:
    others = sorted({g for _, g in request.wanted} - {group})
    without = f", or leave the group out with groups={tuple(others)}" if others else ""
    request.check.expect(
      False,
      root / f"{name}.npy",
      expected=f"an array of the group {group!r}",
      got="no such file",
      remedy=_AGAIN + without,
    )


def _open(request: Request, file: pathlib.Path) -> np.ndarray | None:
  """Maps an array; None if it is missing (noted elsewhere) or unreadable (noted here)."""
  if not file.is_file():
    return None
  try:
    return arrays.open_npy(file)
  except ValueError as error:
    request.check.expect(
      False,
      file,
      expected="a complete .npy array without pickled objects",
      got=files.reason(error.__cause__ or error),
      remedy=_AGAIN,
    )
    return None


def _labels(request: Request, root: pathlib.Path, num_classes: int) -> np.ndarray | None:
  """Returns the labels of one block as int32, after checking that all five are equal."""
  file = root / f"{LABELS}.npy"
  note = functools.partial(request.check.expect, place=file, remedy=_AGAIN)
  if not file.is_file():
    note(False, expected="the labels of all 5 blocks of rows", got="no such file")
    return None
  stored = _open(request, file)
  if stored is None:
    return None
  blocks = len(SEVERITIES)
  shape = f"{stored.dtype}{list(stored.shape)}"
  integers = stored.ndim == 1 and np.issubdtype(stored.dtype, np.integer)
  if not note(integers and stored.size > 0, expected="integers in one dimension", got=shape):
    return None
  if request.num_rows or stored.size % blocks:
    wanted = f"{blocks * request.num_rows} labels" if request.num_rows else "a multiple of 5 labels"
    fine = stored.size == blocks * request.num_rows
    if not note(fine, expected=wanted, got=str(stored.size)):
      return None
  low, high = int(stored.min()), int(stored.max())
  in_range = f"labels in [0, {num_classes})"
  if not note(low >= 0 and high < num_classes, expected=in_range, got=f"{low} to {high}"):
    return None
  table = stored.reshape(blocks, -1)
  differing = [str(s) for s, row in zip(SEVERITIES, table, strict=True) if (row != table[0]).any()]
  equal = "5 equal blocks, one per severity"
  if not note(not differing, expected=equal, got=f"other labels at severity {differing}"):
    return None
  return np.ascontiguousarray(table[0], np.int32)


def _title(request: Request, num_rows: int, what: str) -> str:
  if num_rows in (0, PUBLISHED_ROWS):
    return request.title
  return f"{request.title} (copy with {num_rows} {what})"
