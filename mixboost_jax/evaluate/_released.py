# SPDX-License-Identifier: Apache-2.0
"""Published sets in place of pictures made here, and never mixed with them.

A folder holds the sets under their published names (`CIFAR-10-C`, `imagenet-r`, ...). A family of
corruptions whose set is there is read from it; the others are made here. Every number says which it
is.
"""

import dataclasses
import importlib
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mixboost_jax import corruptions, data
from mixboost_jax.evaluate._examples import Examples, Unit

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
RENDITIONS: Form = ("imagenet_r", "imagenet-r")
"""Goes with any network of ImageNet's classes, whatever data set it is evaluated on."""
CLASS_NAMES = "wnids.txt"
"""Beside the sets: the 1,000 wnids, for data without class names."""
_LISTS = {"c_extra": "c", "p_extra": "p", "p_code": "p"}
_WNID = re.compile(r"n\d{8}")


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

  def num_films(self, unit: Unit) -> int:
    """Returns how many films there are: those of the examples, if there is one of each."""
    return len(self.examples) if self._film_each(unit) else self.sets[unit.family].num_rows

  def pictures(self, unit: Unit, start: int, stop: int) -> Examples:
    """Reads the corrupted versions of the examples at these places of their order."""
    own = self.examples.take(self.examples.order[start:stop])
    parts, order = self._read(self.sets[unit.family].load, unit, own.ids)
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
    parts, order = self._read(self.sets[unit.family].load_films, unit, ids)
    films = np.concatenate(parts)[order]
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

  def _read(
    self, read: Callable[..., Any], unit: Unit, ids: np.ndarray
  ) -> tuple[list[Any], np.ndarray]:
    """Reads the runs of neighbouring rows, and says in which order the rows were asked for."""
    one = self._find(unit)
    parts = [read(one, start=first, stop=last) for first, last in _runs(ids)]
    return parts, np.argsort(np.argsort(ids, kind="stable"), kind="stable")

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


def open_sets(
  folder: str,
  examples: Examples,
  families: Sequence[str],
  *,
  num_classes: int = 0,
  open_set: Callable[..., Any] | None = None,
) -> Released | None:
  """Opens and checks the published sets of the wanted families (words of a suite).

  Args:
    folder: holds them; empty: None is returned.
    examples: the split that the sets are corrupted versions of.
    families: words of a suite.
    num_classes: columns of the logits, for ImageNet-R.
    open_set: instead of `data.released.open_set`.
  """
  if not folder:
    return None
  root = pathlib.Path(folder).expanduser()
  present = {p.name.lower(): p for p in root.iterdir() if p.is_dir()} if root.is_dir() else {}
  opener = open_set or importlib.import_module(f"{data.__name__}.released").open_set
  # ImageNet is a folder or a TFDS set of any name, and known by its class names.
  original = "imagenet" if _has_wnids(examples) else examples.dataset
  found = {}
  for family in families:
    forms = FOLDERS.get((original, _LISTS.get(family, family)), ())
    forms = (RENDITIONS,) if family == "r" else forms
    form = next((one for one in forms if one[1].lower() in present), None)
    if family not in GROUPS or form is None:
      continue
    place = present[form[1].lower()]
    own: dict[str, Any] = {}
    if family == "r":
      own = {"wnids": _class_names(root, examples, num_classes, place)}
    elif original == "imagenet":
      own = {"wnids": examples.class_names}
    if own:
      own["image_size"] = examples.images.shape[1]
    found[family] = opener(form[0], place, groups=GROUPS[family], **own)
    if family == "r":
      _check_columns(found[family], num_classes)
    elif original != "imagenet" and not found[family].is_sequences:
      _check_labels(found[family], examples)
  if not found:
    raise _nothing(root, examples, original, families)
  return Released(found, examples, num_classes)


def _check_columns(published: Any, num_classes: int) -> None:
  fitting = sorted({published.num_classes, len(published.class_indices)}, reverse=True)
  if num_classes not in fitting:
    expected = " or ".join(map(str, fitting))
    raise ValueError(
      f"evaluate: suite: 'r': {published.title} needs a network of {expected} classes, got "
      f"{num_classes}; leave the word out."
    )


def _check_labels(published: Any, examples: Examples) -> None:
  """Compares every label with that of the example of its number (small sets: all in one read)."""
  labels = published.load(published.units[0]).labels
  fits = int(examples.ids.max()) < len(labels)
  wrong = int((labels[examples.ids] != examples.labels).sum()) if fits else len(examples)
  if wrong:
    raise ValueError(
      f"evaluate.released_dir: {published.title}: expected the labels of {examples.dataset} "
      f"({examples.split}) in the same order, got {wrong} of {len(examples)} that differ; evaluate "
      "on the official test split, whose rows these sets repeat."
    )


def _nothing(
  root: pathlib.Path, examples: Examples, original: str, families: Sequence[str]
) -> ValueError:
  titles = [form[1] for key, forms in FOLDERS.items() if key[0] == original for form in forms]
  titles += [RENDITIONS[1]] if "r" in families else []
  expected = f"a folder named {', '.join(titles)}"
  if not titles:
    expected = "one of cifar10, cifar100, or a data set with ImageNet's classes (n01440764, ...)"
  return ValueError(
    f"config.evaluate.released_dir: {root}: no published set of {examples.dataset!r} for this "
    f"suite; expected {expected}."
  )


def _has_wnids(examples: Examples) -> bool:
  names = examples.class_names
  return bool(names) and all(_WNID.fullmatch(name) for name in names)


def _class_names(
  root: pathlib.Path, examples: Examples, num_classes: int, place: pathlib.Path
) -> Any:
  """Returns the names of the columns of the logits, to find those of ImageNet-R among them."""
  if _has_wnids(examples):
    return examples.class_names
  if (root / CLASS_NAMES).is_file():
    return root / CLASS_NAMES
  own = [p.name for p in place.iterdir() if p.is_dir() and _WNID.fullmatch(p.name)]
  if num_classes == len(own):
    return own
  raise ValueError(
    f"config.evaluate.released_dir: {place}: expected to know which of the {num_classes} columns "
    f"of the logits these {len(own)} classes are, got data without wnids as class names; put "
    f"{CLASS_NAMES} with ImageNet's 1,000 wnids into {root}, or evaluate on an ImageNet folder."
  )
