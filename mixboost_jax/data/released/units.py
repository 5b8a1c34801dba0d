# SPDX-License-Identifier: Apache-2.0
"""What readers of released sets share: units, published names, and one list of problems."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mixboost_jax.corruptions import BENCHMARK_NAMES, NAMES

BENCHMARK, EXTRA, BAR = "benchmark", "extra", "bar"
SEVERITIES = (1, 2, 3, 4, 5)
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
class Opened:
  """What a reader found.

  Attributes:
    units: in order.
    load: `(unit, start, stop) -> Split`, or uint8 films.
    num_classes: of the task.
    class_indices: see `ReleasedSet`.
    is_sequences: see `ReleasedSet`.
    title: if it differs from that of the published set.
    num_rows: see `ReleasedSet`.
  """

  units: tuple[ReleasedUnit, ...]
  load: Callable[[ReleasedUnit, int, int | None], Any]
  num_classes: int
  class_indices: tuple[int, ...] | None = None
  is_sequences: bool = False
  title: str = ""
  num_rows: int = 0


class Check:
  """Collects problems, so that a user sees all of them at once."""

  def __init__(self, title: str):
    self.title = title
    self.problems: list[str] = []

  def expect(self, fine: bool, place: object, *, expected: str, got: str, remedy: str) -> bool:
    """Notes a problem unless `fine`, and returns `fine`."""
    if not fine:
      self.problems.append(f"{place}: expected {expected}, got {got}; {remedy}.")
    return fine

  def finish(self) -> None:
    """Raises one ValueError if anything was noted."""
    if not self.problems:
      return
    shown = self.problems[:MAX_REPORTED]
    more = len(self.problems) - len(shown)
    lines = [f"{self.title}: not as released.", *(f"  - {problem}" for problem in shown)]
    raise ValueError("\n".join([*lines, f"  ... and {more} more"] if more else lines))


@dataclasses.dataclass(frozen=True)
class Request:
  """What `open_set` was asked for."""

  kind: str
  title: str
  root: pathlib.Path
  wanted: tuple[tuple[str, str], ...]
  """(corruption, group) in order."""
  num_rows: int
  wnids: Sequence[str] | str | pathlib.Path
  image_size: int
  check: Check


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
  lists = {
    "cifar10_c_bar": (("c_bar", BAR),),
    "cifar100_c_bar": (("c_bar", BAR),),
    "imagenet_c_bar": (("c_bar_imagenet", BAR),),
    "cifar10_p": (("p", BENCHMARK), ("p_extra", EXTRA)),
    "cifar100_p": (("p", BENCHMARK), ("p_extra", EXTRA)),
    "imagenet_p": (("p", BENCHMARK), ("p_extra", EXTRA)),
  }.get(kind, (("c", BENCHMARK), ("c_extra", EXTRA)))
  return [(BENCHMARK_NAMES.get(n, n), group) for key, group in lists for n in NAMES[key]]
