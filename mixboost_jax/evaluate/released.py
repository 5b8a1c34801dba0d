# SPDX-License-Identifier: Apache-2.0
"""Published sets in place of pictures made here, and never mixed with them.

A folder holds the sets under their published names (`CIFAR-10-C`, `imagenet-r`, ...). A family of
corruptions whose set is there is read from it; the others are made here. Every number says which it
is.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mixboost_jax import corruptions
from mixboost_jax.evaluate import suites
from mixboost_jax.evaluate.examples import Examples
from mixboost_jax.evaluate.store import digest
from mixboost_jax.evaluate.suites import Unit

SOURCE = "released"
GROUPS: dict[str, tuple[str, ...]] = {
  "c": ("benchmark",),
  "c_extra": ("extra",),
  "c_bar": ("bar",),
  "p": ("benchmark",),
  "p_extra": ("extra",),
  "p_code": ("benchmark", "extra"),
  "r": ("benchmark",),
}
"""Word of a suite -> groups of units of a published set."""


@dataclasses.dataclass(frozen=True)
class Released:
  """Open sets, and the chosen examples whose row numbers they share."""

  sets: dict[str, Any]
  """Family -> a `data.released.ReleasedSet`."""
  examples: Examples
  num_classes: int = 0
  """Columns of the logits, for `renditions`."""

  def members(self, family: str) -> tuple[str, ...]:
    """Returns the published names of a family, in the order of the benchmark."""
    return tuple(dict.fromkeys(unit.corruption for unit in self._units(family)))

  def count(self, unit: Unit) -> int:
    """Returns how many pictures or films there are to measure a unit on.

    Corrupted pictures, and films if there is one of every example, belong to the examples and come
    in their order; other sets have their own pictures.
    """
    if unit.kind == "corruption" or (unit.kind == "sequence" and self._film_each(unit)):
      return len(self.examples)
    return self.sets[unit.family].num_rows

  def pictures(self, unit: Unit, start: int, stop: int) -> Examples:
    """Reads the corrupted versions of the examples at these places of their order.

    Raises:
      ValueError: if the labels of the published set are not those of the examples.
    """
    published, own = self.sets[unit.family], self.examples.take(self.examples.order[start:stop])
    parts = [
      published.load(self._find(unit), start=first, stop=last) for first, last in _runs(own.ids)
    ]
    order = np.argsort(np.argsort(own.ids, kind="stable"), kind="stable")
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    if len(labels) != len(own) or not np.array_equal(labels[order], own.labels):
      raise ValueError(
        f"evaluate.released_dir: {unit.label}: labels differ from those of {own.dataset} "
        f"({own.split}); the set must hold the same pictures in the same order."
      )
    return dataclasses.replace(own, images=images[order], source=SOURCE)

  def films(self, unit: Unit, start: int, stop: int) -> np.ndarray:
    """Reads films: uint8[V, F, H, W, C], as many as the places from `start` to `stop`."""
    ids = np.arange(start, stop)
    if self._film_each(unit):
      ids = self.examples.ids[self.examples.order[start:stop]]
    parts = [
      self.sets[unit.family].load_films(self._find(unit), start=first, stop=last)
      for first, last in _runs(ids)
    ]
    films = np.concatenate(parts)[np.argsort(np.argsort(ids, kind="stable"), kind="stable")]
    self._check_size(unit, films.shape[2:], "frames")
    return films

  def renditions(self, unit: Unit, start: int, stop: int) -> tuple[Examples, tuple[int, ...]]:
    """Reads pictures of ImageNet-R, and says which columns of the logits are their classes.

    Labels are places among these columns. A network with a column for each of ImageNet's 1,000
    classes is judged by those that occur in the set (Hendrycks et al. 2021, arXiv:2006.16241); one
    with as many columns as these was trained on them alone, and numbers them in alphabetical order
    of their wnids.
    """
    published = self.sets[unit.family]
    classes = published.class_indices
    part = published.load(self._find(unit), start=start, stop=stop)
    self._check_size(unit, part.images.shape[1:], "pictures")
    labels = np.searchsorted(np.asarray(classes), part.labels).astype(np.int32)
    own = dataclasses.replace(
      self.examples, images=part.images, labels=labels, ids=part.ids, source=SOURCE
    )
    whole = self.num_classes == published.num_classes
    return own, tuple(classes) if whole else tuple(range(len(classes)))

  def digest(self, unit: Unit, start: int, stop: int) -> str:
    """Returns a hash of what a piece of a unit is measured on."""
    if unit.kind == "sequence":
      return digest(self.films(unit, start, stop))
    if unit.kind == "renditions":
      part, columns = self.renditions(unit, start, stop)
      return digest(part.images, part.labels, columns)
    part = self.pictures(unit, start, stop)
    return digest(part.images, part.labels)

  def _film_each(self, unit: Unit) -> bool:
    return int(self.examples.ids.max()) < self.sets[unit.family].num_rows

  def _check_size(self, unit: Unit, shape: tuple[int, ...], what: str) -> None:
    own = self.examples.images.shape[1:]
    if shape != own:
      raise ValueError(
        f"evaluate.released_dir: {unit.label}: expected {what} of the size of the pictures, "
        f"{list(own)}, got {list(shape)}; set config.data.image_size to their size."
      )

  def _units(self, family: str) -> list[Any]:
    found = [unit for unit in self.sets[family].units if unit.group in GROUPS[family]]
    if family == "p_code":
      names = [corruptions.BENCHMARK_NAMES.get(name, name) for name in corruptions.NAMES[family]]
      found = [unit for name in names for unit in found if unit.corruption == name]
    return found or list(self.sets[family].units)

  def _find(self, unit: Unit) -> Any:
    for one in self._units(unit.family):
      if unit.member in ("", one.corruption) and (one.severity or 0) == unit.severity:
        return one
    raise ValueError(f"evaluate.released_dir: {unit.label}: not in the published set.")


def _runs(ids: np.ndarray) -> list[tuple[int, int]]:
  """Returns the ranges of neighbouring numbers in `ids`, in ascending order."""
  ordered = np.sort(ids)
  cuts = np.flatnonzero(np.diff(ordered) != 1) + 1
  return [(int(part[0]), int(part[-1]) + 1) for part in np.split(ordered, cuts)]


def replace_units(units: Sequence[Unit], released: Released | None) -> tuple[Unit, ...]:
  """Returns the units, those of published families read from files unless made here on purpose.

  Raises:
    ValueError: if a unit that cannot be made here is not published in the given folder.
  """
  result: dict[Unit, None] = {}
  for unit in units:
    is_there = released is not None and unit.family in released.sets
    if unit.kind == "renditions":
      if not is_there:
        raise ValueError(
          f"evaluate: suite: {unit.family!r} is read from published files only; set "
          "evaluate.released_dir to the folder that holds imagenet-r."
        )
      result[dataclasses.replace(unit, source=SOURCE)] = None
      continue
    if unit.source == suites.GENERATED or released is None or not is_there:
      result[dataclasses.replace(unit, source="")] = None
      continue
    member = corruptions.BENCHMARK_NAMES.get(unit.member, unit.member)
    if member in released.members(unit.family):
      result[dataclasses.replace(unit, member=member, source=SOURCE)] = None
  return tuple(result)
