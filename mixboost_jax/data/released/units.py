# SPDX-License-Identifier: Apache-2.0
"""What readers of released sets share: units, published names, and one list of problems."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mixboost_jax.corruptions import BENCHMARK_NAMES, NAMES
from mixboost_jax.data.dataset import Split

BENCHMARK, EXTRA, BAR = "benchmark", "extra", "bar"
SEVERITIES = (1, 2, 3, 4, 5)
AGAIN = "extract the published archive again"
MAX_REPORTED = 8
"""Problems listed in one message."""

TITLES = {
  "cifar10_c": "CIFAR-10-C",
  "cifar100_c": "CIFAR-100-C",
  "cifar10_c_bar": "CIFAR-10-C-Bar",
  "cifar100_c_bar": "CIFAR-100-C-Bar",
  "cifar10_p": "CIFAR-10-P",
  "cifar100_p": "CIFAR-100-P",
  "cifar10_corrupted": "CIFAR-10-C from TFDS",
  "imagenet_c": "ImageNet-C",
  "imagenet_c_bar": "ImageNet-C-Bar",
  "imagenet_r": "ImageNet-R",
  "imagenet_p": "ImageNet-P",
}


@dataclasses.dataclass(frozen=True)
class ReleasedUnit:
  """One corruption at one severity, as the benchmark names it.

  Attributes:
    corruption: published name ("frost", "glass_blur"); "renditions" for ImageNet-R.
    severity: 1..5; 0 where the set has none (-P, -R).
    group: "benchmark" (enters the benchmark's mean), "extra" or "bar".
  """

  corruption: str
  severity: int
  group: str


@dataclasses.dataclass(frozen=True)
class ReleasedSet:
  """One released set whose files have been checked.

  Attributes:
    kind: a key of `KINDS`.
    title: name for reports; says so if the copy is smaller than the published set.
    units: what can be loaded, in the order of the benchmark.
    read: `(unit, start, stop) -> Split`, or uint8 films.
    num_classes: how many classes a network for this set tells apart.
    num_rows: pictures (films) in each unit.
    class_indices: the classes that occur, if they are not all of them (ImageNet-R: 200 of 1,000;
      compare the logits of these alone), else None.
    is_sequences: whether units are films, for `load_films`.
  """

  kind: str
  title: str
  units: tuple[ReleasedUnit, ...]
  read: Callable[[ReleasedUnit, int, int | None], Any] = dataclasses.field(repr=False)
  num_classes: int
  num_rows: int
  class_indices: tuple[int, ...] | None = None
  is_sequences: bool = False

  def load(self, unit: ReleasedUnit, *, start: int = 0, stop: int | None = None) -> Split:
    """Reads the labelled pictures `start` to `stop` (None: the last) of one of the `units`.

    Ids are row numbers of the unit: the same picture has the same id under every corruption.

    Raises:
      ValueError: if the set holds films, the unit is not its own, or a picture is unreadable.
    """
    if self.is_sequences:
      raise ValueError(f"{self.title}: holds films without labels; use load_films.")
    return self.read(self._own(unit), start, stop)

  def load_films(
    self, unit: ReleasedUnit, *, start: int = 0, stop: int | None = None
  ) -> UInt8[np.ndarray, "videos frames H W C"]:
    """Reads films `start` to `stop` of a unit; arrays are mapped, so ask for a part at a time.

    Raises:
      ValueError: if the set holds single pictures, the unit is not its own, or a film is damaged.
    """
    if not self.is_sequences:
      raise ValueError(f"{self.title}: holds labelled pictures; use load.")
    return self.read(self._own(unit), start, stop)

  def _own(self, unit: ReleasedUnit) -> ReleasedUnit:
    if unit not in self.units:
      raise ValueError(f"{self.title}: has no unit {unit}; choose one of its `units`.")
    return unit


@dataclasses.dataclass(frozen=True)
class Request:
  """What `open_set` was asked for, and the problems found, so that a user sees all at once."""

  kind: str
  title: str
  root: pathlib.Path
  wanted: tuple[tuple[str, str], ...]
  """(corruption, group) in order."""
  num_rows: int
  wnids: Sequence[str] | str | pathlib.Path
  image_size: int
  problems: list[str] = dataclasses.field(default_factory=list)

  def expect(
    self, fine: bool, place: object, expected: str, got: object, remedy: str = AGAIN
  ) -> bool:
    """Notes a problem unless `fine`, and returns `fine`."""
    if not fine:
      self.problems.append(f"{place}: expected {expected}, got {got}; {remedy}.")
    return fine

  def expect_content(
    self, root: pathlib.Path, present: Mapping[str, pathlib.Path], what: str, suffix: str = ""
  ) -> None:
    """Notes `what` ("an array", "a folder") does not belong below `root`, and what is missing."""
    names = known(self.kind)
    only = f"only {what.split()[1]}s of {self.title} ({', '.join(sorted(names))})"
    other = "open the kind that it belongs to"
    other = other if suffix else "check that the path ends above the corruptions"
    for name in sorted(set(present) - names):
      remedy = f"move it elsewhere, or {other}"
      self.expect(False, present[name], only, f"{what} called {name!r}", remedy)
    for name, group in self.wanted:
      others = tuple(sorted({g for _, g in self.wanted} - {group}))
      remedy = AGAIN + (f", or leave the group out with groups={others}" if others else "")
      wanted = f"{what} of the group {group!r}"
      self.expect(name in present, root / f"{name}{suffix}", wanted, "none", remedy)

  def inside(self, name: str = "") -> pathlib.Path:
    """Returns the folder of the published (or this) name inside the given one, or that itself."""
    folder = self.root / (name or self.title)
    return folder if folder.is_dir() else self.root

  def finish(self) -> None:
    """Raises one ValueError if anything was noted."""
    if self.problems:
      more = len(self.problems) - MAX_REPORTED
      lines = [f"{self.title}: not as released."]
      lines += [f"  - {problem}" for problem in self.problems[:MAX_REPORTED]]
      raise ValueError("\n".join([*lines, f"  ... and {more} more"] if more > 0 else lines))


def resolve(kind: str, groups: Sequence[str]) -> tuple[str, tuple[tuple[str, str], ...]]:
  """Returns the title of a kind and the (corruption, group) pairs that it must hold."""
  wanted = [(name, group) for name, group in _content(kind) if not groups or group in groups]
  return TITLES[kind], tuple(wanted)


def known(kind: str) -> frozenset[str]:
  """Returns the names of all corruptions that a kind may hold, the harder noises of -P included."""
  names = {name for name, _ in _content(kind)}
  if kind.endswith("_p"):
    names |= {f"{name}_{step}" for name in names if name.endswith("_noise") for step in (2, 3)}
  return frozenset(names)


def units_of(wanted: Iterable[tuple[str, str]], severities: Sequence[int]) -> tuple:
  """Returns one unit per corruption and severity."""
  return tuple(ReleasedUnit(name, s, group) for name, group in wanted for s in severities)


def _content(kind: str) -> list[tuple[str, str]]:
  if kind == "imagenet_r":
    return [("renditions", BENCHMARK)]
  lists = (("c", BENCHMARK), ("c_extra", EXTRA))
  if kind.endswith("_c_bar"):
    lists = (("c_bar_imagenet" if kind.startswith("imagenet") else "c_bar", BAR),)
  elif kind.endswith("_p"):
    lists = (("p", BENCHMARK), ("p_extra", EXTRA))
  return [(BENCHMARK_NAMES.get(n, n), group) for key, group in lists for n in NAMES[key]]
