# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10-C as TFDS prepares it: one config per corruption and severity, stored as array_record.

TFDS calls two corruptions otherwise (`TFDS_NAMES`). Metadata of every config is read when the set
is opened, pictures when a unit is loaded.

Rows are not stored in the order of CIFAR-10's test split. The builder numbers them in that order
(tensorflow_datasets/image_classification/cifar10_corrupted.py) and its writer then sorts them by a
hash of the number (core/shuffle.py, core/hashing.py). `published_rows` computes the same hashes, so
`load` gives the published order back, as for the `.npy` files. That this is so for a given copy is
not taken on trust: an evaluation compares all labels with those of its own test split.
"""

import functools
import hashlib
import pathlib

import numpy as np

from mixboost_jax import files
from mixboost_jax.data import records
from mixboost_jax.data.dataset import Split
from mixboost_jax.data.released.units import SEVERITIES, Opened, ReleasedUnit, Request, units_of

NAME = "cifar10_corrupted"
SPLIT = "test"
TFDS_NAMES = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}
"""Published names that TFDS has changed."""
PUBLISHED_ROWS = 10_000


def open_corrupted(request: Request) -> Opened:
  """Opens the configs CORRUPTION_SEVERITY below `request.root`."""
  units = units_of(request.wanted, SEVERITIES)
  places = {unit: _find(request, unit) for unit in units}
  found = {unit: _num_rows(request, place) for unit, place in places.items() if place is not None}
  counts = {unit: rows for unit, rows in found.items() if rows is not None}
  num_rows = request.num_rows or max(counts.values(), default=0)
  for unit, rows in counts.items():
    request.check.expect(
      rows == num_rows,
      places[unit],
      expected=f"{num_rows} rows in split {SPLIT!r}",
      got=str(rows),
      remedy="prepare this config again",
    )

  @functools.lru_cache(maxsize=1)  # a set is read in many small parts
  def whole(unit: ReleasedUnit) -> Split:
    place = places[unit]
    assert place is not None  # open_set has raised otherwise
    part, names = records.read_split(place, SPLIT)
    if len(names) != 10 or part.images.shape[1:] != (32, 32, 3):
      raise ValueError(
        f"{place}: expected 10 classes of 32x32x3, got {len(names)} of "
        f"{'x'.join(map(str, part.images.shape[1:]))}; prepare this config again."
      )
    if _keeps_order(place):
      return part
    stored_at = np.argsort(published_rows(len(part)))
    return Split(np.asarray(part.images)[stored_at], part.labels[stored_at], part.ids)

  def load(unit: ReleasedUnit, start: int, stop: int | None) -> Split:
    rows = range(len(whole(unit)))[start:stop]
    return whole(unit).part(rows.start, rows.stop)

  title = "" if num_rows in (0, PUBLISHED_ROWS) else f"{request.title} (copy with {num_rows} rows)"
  return Opened(units, load, num_classes=10, title=title, num_rows=num_rows)


def published_rows(count: int) -> np.ndarray:
  """Returns which row of CIFAR-10's test split TFDS stores at each place of a config."""
  hashes = [hashlib.md5(f"{SPLIT}{row}".encode(), usedforsecurity=False) for row in range(count)]
  return np.argsort(np.array([one.hexdigest() for one in hashes]))


def _keeps_order(path: pathlib.Path) -> bool:
  info = files.read_json(path / records.INFO)
  return bool(info.get("disableShuffling", False))


def _find(request: Request, unit: ReleasedUnit) -> pathlib.Path | None:
  config = f"{TFDS_NAMES.get(unit.corruption, unit.corruption)}_{unit.severity}"
  place = records.find(f"{NAME}/{config}", (request.root, request.root / NAME))
  if place is None:
    place = records.find(config, (request.root,))
  request.check.expect(
    place is not None,
    request.root,
    expected=f"{NAME}/{config}/VERSION with {records.INFO}",
    got="no such folder",
    remedy=f"tfds build {NAME} --config={config} --file_format=array_record",
  )
  return place


def _num_rows(request: Request, path: pathlib.Path) -> int | None:
  """Returns what the metadata says; None after noting that it is unreadable."""
  try:
    info = files.read_json(path / records.INFO)
    splits = {split["name"]: split for split in info["splits"]}
    return sum(int(n) for n in splits[SPLIT]["shardLengths"])
  except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
    request.check.expect(
      False,
      path / records.INFO,
      expected=f"TFDS metadata with split {SPLIT!r}",
      got=f"{type(error).__name__}: {error}",
      remedy="prepare this config again",
    )
    return None
