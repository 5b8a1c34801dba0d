# SPDX-License-Identifier: Apache-2.0
"""Published corrupted sets in place of pictures made here, and never mixed with them.

A folder holds the sets under their published names (`CIFAR-10-C`, ...). A family of corruptions
whose set is there is read from it; the others are made here. Every number says which it is.
"""

import dataclasses
import importlib
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mixboost_jax import corruptions, data
from mixboost_jax.evaluate import suites
from mixboost_jax.evaluate.examples import Examples
from mixboost_jax.evaluate.store import digest
from mixboost_jax.evaluate.suites import Unit

SOURCE = "released"
GROUPS = {
  "c": "benchmark",
  "c_extra": "extra",
  "c_bar": "bar",
  "p": "benchmark",
  "p_extra": "extra",
}
"""Word of a suite -> group of units of a published set."""
Form = tuple[str, str]
"""(kind of `data.released.open_set`, name of the folder in any case)."""
FOLDERS: dict[tuple[str, str], tuple[Form, ...]] = {
  ("cifar10", "c"): (("cifar10_c", "CIFAR-10-C"), ("cifar10_corrupted", "cifar10_corrupted")),
  ("cifar10", "c_bar"): (("cifar10_c_bar", "CIFAR-10-C-Bar"),),
  ("cifar10", "p"): (("cifar10_p", "CIFAR-10-P"),),
  ("cifar100", "c"): (("cifar100_c", "CIFAR-100-C"),),
  ("cifar100", "c_bar"): (("cifar100_c_bar", "CIFAR-100-C-Bar"),),
  ("cifar100", "p"): (("cifar100_p", "CIFAR-100-P"),),
  ("imagenet", "c"): (("imagenet_c", "ImageNet-C"),),
  ("imagenet", "c_bar"): (("imagenet_c_bar", "ImageNet-C-Bar"),),
  ("imagenet", "p"): (("imagenet_p", "ImageNet-P"),),
}
"""(data set, list) -> forms that the list is published in; the first that is there counts."""
_WNID = re.compile(r"n\d{8}")


@dataclasses.dataclass(frozen=True)
class Released:
  """Open sets, and the chosen examples whose row numbers they share."""

  sets: dict[str, Any]
  """Family -> a `data.released.ReleasedSet`."""
  examples: Examples

  def members(self, family: str) -> tuple[str, ...]:
    """Returns the published names of a family, in the order of the benchmark."""
    return tuple(dict.fromkeys(unit.corruption for unit in self._units(family)))

  def pictures(self, unit: Unit, places: np.ndarray) -> Examples:
    """Reads the corrupted versions of the examples at these places.

    Raises:
      ValueError: if the labels of the published set are not those of the examples.
    """
    published, own = self.sets[unit.family], self.examples.take(places)
    parts = [
      published.load(self._find(unit), start=start, stop=stop) for start, stop in _runs(own.ids)
    ]
    order = np.argsort(np.argsort(own.ids, kind="stable"), kind="stable")
    images = np.concatenate([part.images for part in parts])[order]
    labels = np.concatenate([part.labels for part in parts])[order]
    if not np.array_equal(labels, own.labels):
      raise ValueError(
        f"evaluate.released_dir: {unit.label}: labels differ from those of {own.dataset} "
        f"({own.split}); the set must hold the same pictures in the same order."
      )
    return dataclasses.replace(own, images=images, source=SOURCE)

  def films(self, unit: Unit, places: np.ndarray) -> np.ndarray:
    """Reads the films of the examples at these places: uint8[V, F, H, W, C]."""
    ids = self.examples.ids[places]
    parts = [
      self.sets[unit.family].load_films(self._find(unit), start=start, stop=stop)
      for start, stop in _runs(ids)
    ]
    films = np.concatenate(parts)[np.argsort(np.argsort(ids, kind="stable"), kind="stable")]
    if films.shape[2:] != self.examples.images.shape[1:]:
      raise ValueError(
        f"evaluate.released_dir: {unit.label}: expected frames of the size of the pictures, "
        f"{list(self.examples.images.shape[1:])}, got {list(films.shape[2:])}; set "
        "config.data.image_size to the size of the frames."
      )
    return films

  def digest(self, unit: Unit, places: np.ndarray) -> str:
    """Returns a hash of what a piece of a unit is measured on."""
    if unit.kind == "sequence":
      return digest(self.films(unit, places))
    part = self.pictures(unit, places)
    return digest(part.images, part.labels)

  def _units(self, family: str) -> list[Any]:
    return [unit for unit in self.sets[family].units if unit.group == GROUPS[family]] or list(
      self.sets[family].units
    )

  def _find(self, unit: Unit) -> Any:
    for one in self._units(unit.family):
      if one.corruption == unit.member and (one.severity or 0) == unit.severity:
        return one
    raise ValueError(f"evaluate.released_dir: {unit.label}: not in the published set.")


def _runs(ids: np.ndarray) -> list[tuple[int, int]]:
  """Returns the ranges of neighbouring numbers in `ids`, in ascending order."""
  ordered = np.sort(ids)
  cuts = np.flatnonzero(np.diff(ordered) != 1) + 1
  return [(int(part[0]), int(part[-1]) + 1) for part in np.split(ordered, cuts)]


def open_sets(
  folder: str,
  examples: Examples,
  families: Sequence[str],
  *,
  open_set: Callable[..., Any] | None = None,
) -> Released | None:
  """Opens and checks the published sets of the wanted families.

  Args:
    folder: holds them; empty: None is returned.
    examples: the split that the sets are corrupted versions of.
    families: words of a suite.
    open_set: instead of `data.released.open_set`.

  Raises:
    ValueError: if no set is found, or one is not as published.
  """
  if not folder:
    return None
  root = pathlib.Path(folder).expanduser()
  present = {p.name.lower(): p for p in root.iterdir() if p.is_dir()} if root.is_dir() else {}
  opener = open_set or importlib.import_module(f"{data.__name__}.released").open_set
  original = _original(examples)
  own: dict[str, Any] = {}
  if original == "imagenet":
    own = {"wnids": examples.class_names, "image_size": examples.images.shape[1]}
  found = {}
  for family in families:
    forms = FOLDERS.get((original, family.removesuffix("_extra")), ())
    form = next((one for one in forms if one[1].lower() in present), None)
    if family in GROUPS and form is not None:
      found[family] = opener(form[0], present[form[1].lower()], groups=(GROUPS[family],), **own)
  if not found:
    titles = [form[1] for key, forms in FOLDERS.items() if key[0] == original for form in forms]
    expected = f"a folder named {', '.join(titles)}"
    if not titles:
      expected = "one of cifar10, cifar100, or a data set with ImageNet's classes (n01440764, ...)"
    raise ValueError(
      f"config.evaluate.released_dir: {root}: no published set of {examples.dataset!r} for this "
      f"suite; expected {expected}."
    )
  return Released(found, examples)


def _original(examples: Examples) -> str:
  """Returns the data set whose corrupted versions belong to these examples.

  ImageNet is a folder or a TFDS set of any name, and known by its class names.
  """
  names = examples.class_names
  if names and all(_WNID.fullmatch(name) for name in names):
    return "imagenet"
  return examples.dataset


def replace_units(units: Sequence[Unit], released: Released | None) -> tuple[Unit, ...]:
  """Returns the units, those of published families read from files unless made here on purpose."""
  result: dict[Unit, None] = {}
  for unit in units:
    if unit.source == suites.GENERATED or released is None or unit.family not in released.sets:
      result[dataclasses.replace(unit, source="")] = None
      continue
    member = corruptions.BENCHMARK_NAMES.get(unit.member, unit.member)
    if member in released.members(unit.family):
      result[dataclasses.replace(unit, member=member, source=SOURCE)] = None
  return tuple(result)
