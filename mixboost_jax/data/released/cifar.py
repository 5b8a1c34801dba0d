# SPDX-License-Identifier: Apache-2.0
"""Released CIFAR sets: one `.npy` per corruption, mapped and never unpickled, or TFDS records.

A file of -C or C-bar holds 5 blocks of N rows, severity 1 first, each in the order of the clean
test split; `labels.npy` repeats the labels of that split five times. A file of -P holds one film
per test picture.

TFDS has one config per corruption and severity (`TFDS_NAMES`: two are called otherwise), whose rows
are not in the order of CIFAR-10's test split. The builder numbers them in that order
(tensorflow_datasets/image_classification/cifar10_corrupted.py) and its writer then sorts them by a
hash of the number (core/shuffle.py, core/hashing.py). `published_rows` computes the same hashes, so
the published order is given back. That this is so for a given copy is not taken on trust: an
evaluation compares all labels with those of its own test split.
"""

import functools
import hashlib
import pathlib

import numpy as np

from mixboost_jax import files
from mixboost_jax.data import arrays, records
from mixboost_jax.data.dataset import Split
from mixboost_jax.data.released.units import (
  SEVERITIES,
  ReleasedSet,
  ReleasedUnit,
  Request,
  units_of,
)

SIDE = 32
PUBLISHED_ROWS = 10_000
LABELS = "labels"
TFDS = "cifar10_corrupted"
TFDS_SPLIT = "test"
TFDS_NAMES = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}
"""Published names that TFDS has changed."""


def open_corrupted(request: Request) -> ReleasedSet:
  """Opens CIFAR-10/100-C or C-bar."""
  num_classes = _num_classes(request)
  root = _root(request)
  labels = _labels(request, root, num_classes)
  num_rows = 0 if labels is None else len(labels)
  for name, _ in request.wanted:
    file = root / f"{name}.npy"
    images = _open(request, file)
    if images is not None and labels is not None:
      shape = (len(SEVERITIES) * num_rows, SIDE, SIDE, 3)
      wanted = f"uint8{list(shape)} (5 severities of {num_rows} rows, as {LABELS}.npy says)"
      fine = images.dtype == np.uint8 and images.shape == shape
      request.expect(fine, file, wanted, f"{images.dtype}{list(images.shape)}")

  def read(unit: ReleasedUnit, start: int, stop: int | None) -> Split:
    assert labels is not None  # open_set has raised otherwise
    ids = np.arange(num_rows, dtype=np.int32)[start:stop]
    stored = arrays.open_npy(root / f"{unit.corruption}.npy")
    block = stored[num_rows * (unit.severity - 1) :][:num_rows]
    return Split(np.array(block[start:stop]), labels[start:stop], ids)

  title, units = _title(request, num_rows, "test pictures"), units_of(request.wanted, SEVERITIES)
  return ReleasedSet(request.kind, title, units, read, num_classes, num_rows)


def open_sequences(request: Request) -> ReleasedSet:
  """Opens CIFAR-10/100-P."""
  root = _root(request)
  counts = {}
  for name, _ in request.wanted:
    file = root / f"{name}.npy"
    films = _open(request, file)
    if films is None:
      continue
    fine = films.dtype == np.uint8 and films.ndim == 5 and films.shape[1] >= 2
    fine = fine and films.shape[2:] == (SIDE, SIDE, 3)
    wanted = f"uint8[videos, 2 or more frames, {SIDE}, {SIDE}, 3]"
    if request.expect(fine, file, wanted, f"{films.dtype}{list(films.shape)}"):
      counts[file] = len(films)
  num_films = request.num_rows or max(counts.values(), default=0)
  wanted = f"{num_films} films" + ("" if request.num_rows else ", as in the longest file")
  for file, count in counts.items():
    request.expect(count == num_films, file, wanted, count)

  def read(unit: ReleasedUnit, start: int, stop: int | None) -> np.ndarray:
    return np.array(arrays.open_npy(root / f"{unit.corruption}.npy")[start:stop])

  title, units = (
    _title(request, num_films, "films per perturbation"),
    units_of(request.wanted, (0,)),
  )
  num_classes = _num_classes(request)
  return ReleasedSet(request.kind, title, units, read, num_classes, num_films, is_sequences=True)


def open_records(request: Request) -> ReleasedSet:
  """Opens the configs CORRUPTION_SEVERITY of TFDS; their metadata is read, but no picture."""
  units = units_of(request.wanted, SEVERITIES)
  places = {unit: _find(request, unit) for unit in units}
  found = {unit: _num_rows(request, place) for unit, place in places.items() if place is not None}
  counts = {unit: rows for unit, rows in found.items() if rows is not None}
  num_rows = request.num_rows or max(counts.values(), default=0)
  wanted, remedy = f"{num_rows} rows in split {TFDS_SPLIT!r}", "prepare this config again"
  for unit, rows in counts.items():
    request.expect(rows == num_rows, places[unit], wanted, rows, remedy)

  @functools.lru_cache(maxsize=1)  # a set is read in many small parts
  def whole(place: pathlib.Path) -> Split:
    part, names = records.open_split(place, TFDS_SPLIT)
    if len(names) != 10 or part.images.shape[1:] != (SIDE, SIDE, 3):
      raise ValueError(
        f"{place}: expected 10 classes of 32x32x3, got {len(names)} of "
        f"{'x'.join(map(str, part.images.shape[1:]))}; prepare this config again."
      )
    if files.read_json(place / records.INFO).get("disableShuffling"):
      return part
    stored_at = np.argsort(published_rows(len(part)))
    return Split(part.images[stored_at], part.labels[stored_at], part.ids)

  def read(unit: ReleasedUnit, start: int, stop: int | None) -> Split:
    place = places[unit]
    assert place is not None  # open_set has raised otherwise
    return whole(place).part(start, stop).in_memory(place=str(place))

  return ReleasedSet(request.kind, _title(request, num_rows, "rows"), units, read, 10, num_rows)


def published_rows(count: int) -> np.ndarray:
  """Returns which row of CIFAR-10's test split TFDS stores at each place of a config."""
  rows = [f"{TFDS_SPLIT}{row}".encode() for row in range(count)]
  return np.argsort([hashlib.md5(row, usedforsecurity=False).hexdigest() for row in rows])


def _find(request: Request, unit: ReleasedUnit) -> pathlib.Path | None:
  config = f"{TFDS_NAMES.get(unit.corruption, unit.corruption)}_{unit.severity}"
  place = records.find(f"{TFDS}/{config}", (request.root, request.root / TFDS))
  place = place or records.find(config, (request.root,))
  wanted = f"{TFDS}/{config}/VERSION with {records.INFO}"
  remedy = f"tfds build {TFDS} --config={config} --file_format=array_record"
  request.expect(place is not None, request.root, wanted, "no such folder", remedy)
  return place


def _num_rows(request: Request, path: pathlib.Path) -> int | None:
  """Returns what the metadata says; None after noting that it is unreadable."""
  try:
    info = files.read_json(path / records.INFO)
    splits = {split["name"]: split for split in info["splits"]}
    return sum(int(n) for n in splits[TFDS_SPLIT]["shardLengths"])
  except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
    got, wanted = f"{type(error).__name__}: {error}", f"TFDS metadata with split {TFDS_SPLIT!r}"
    request.expect(False, path / records.INFO, wanted, got, "prepare this config again")
    return None


def _num_classes(request: Request) -> int:
  return 100 if request.kind.startswith("cifar100") else 10


def _root(request: Request) -> pathlib.Path:
  """Returns the folder of the arrays, after a look at their names."""
  root = request.inside()
  present = {file.stem: file for file in root.glob("*.npy") if not file.name.startswith(".")}
  present.pop(LABELS, None)
  request.expect_content(root, present, "an array", ".npy")
  return root


def _open(request: Request, file: pathlib.Path) -> np.ndarray | None:
  """Maps an array; None if it is missing (noted elsewhere) or unreadable (noted here)."""
  if not file.is_file():
    return None
  try:
    return arrays.open_npy(file)
  except ValueError as error:
    got = files.reason(error.__cause__ or error)
    request.expect(False, file, "a complete .npy array without pickled objects", got)
    return None


def _labels(request: Request, root: pathlib.Path, num_classes: int) -> np.ndarray | None:
  """Returns the labels of one block as int32, after checking that all five are equal."""
  file = root / f"{LABELS}.npy"
  if not request.expect(file.is_file(), file, "the labels of all 5 blocks of rows", "no such file"):
    return None
  stored = _open(request, file)
  if stored is None:
    return None
  blocks = len(SEVERITIES)
  shape = f"{stored.dtype}{list(stored.shape)}"
  fine = stored.ndim == 1 and np.issubdtype(stored.dtype, np.integer) and stored.size > 0
  if not request.expect(fine, file, "integers in one dimension", shape):
    return None
  if request.num_rows or stored.size % blocks:
    wanted = f"{blocks * request.num_rows} labels" if request.num_rows else "a multiple of 5 labels"
    if not request.expect(stored.size == blocks * request.num_rows, file, wanted, stored.size):
      return None
  low, high = int(stored.min()), int(stored.max())
  fine, wanted = low >= 0 and high < num_classes, f"labels in [0, {num_classes})"
  if not request.expect(fine, file, wanted, f"{low} to {high}"):
    return None
  table = stored.reshape(blocks, -1)
  other = [str(s) for s, row in zip(SEVERITIES, table, strict=True) if (row != table[0]).any()]
  got = f"other labels at severity {other}"
  if not request.expect(not other, file, "5 equal blocks, one per severity", got):
    return None
  return np.ascontiguousarray(table[0], np.int32)


def _title(request: Request, num_rows: int, what: str) -> str:
  is_whole = num_rows in (0, PUBLISHED_ROWS)
  return request.title + ("" if is_whole else f" (copy with {num_rows} {what})")
