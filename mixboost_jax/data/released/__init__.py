# SPDX-License-Identifier: Apache-2.0
"""Corrupted sets as their authors release them: -C, C-bar, -P, -R, in arrays, records or folders.

`open_set` checks everything that can be checked without decoding pictures, and `ReleasedSet.load`
then reads one unit. Nothing is downloaded, no pickle is opened, and these numbers are never mixed
with pictures that this package corrupts itself.

kind | layout below the folder
cifar10_c, cifar100_c | `gaussian_noise.npy` ... uint8[5 N, 32, 32, 3] and `labels.npy`
cifar10_c_bar, cifar100_c_bar | the same with the ten corruptions of C-bar
cifar10_p, cifar100_p | `gaussian_noise.npy` ... uint8[videos, frames, 32, 32, 3]
cifar10_corrupted | `cifar10_corrupted/gaussian_noise_1/1.0.0` ..., TFDS as array_record
imagenet_c, imagenet_c_bar | `gaussian_noise/1/n01440764/x.JPEG` ...
imagenet_r | `n01443537/x.jpg` ...
imagenet_p | `gaussian_noise/n01440764/x.mp4` ...
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from mixboost_jax.data.dataset import Split
from mixboost_jax.data.released import arrays, records, trees
from mixboost_jax.data.released.units import Check, Opened, ReleasedUnit, Request, resolve
from mixboost_jax.registry import lookup

KINDS: Mapping[str, Callable[[Request], Opened]] = {
  "cifar10_c": arrays.open_corrupted,
  "cifar100_c": arrays.open_corrupted,
  "cifar10_c_bar": arrays.open_corrupted,
  "cifar100_c_bar": arrays.open_corrupted,
  "cifar10_p": arrays.open_sequences,
  "cifar100_p": arrays.open_sequences,
  "cifar10_corrupted": records.open_corrupted,
  "imagenet_c": trees.open_corrupted,
  "imagenet_c_bar": trees.open_corrupted,
  "imagenet_r": trees.open_renditions,
  "imagenet_p": trees.open_films,
}
"""What `open_set` can open."""


@dataclasses.dataclass(frozen=True)
class ReleasedSet:
  """One released set whose files have been checked.

  Attributes:
    kind: a key of `KINDS`.
    title: name for reports; says so if the copy is smaller than the published set.
    units: what can be loaded, in the order of the benchmark.
    num_classes: how many classes a network for this set tells apart.
    class_indices: the classes that occur, if they are not all of them (ImageNet-R: 200 of 1,000;
      compare the logits of these alone), else None.
    is_sequences: whether units are films, for `load_films`.
    num_rows: pictures (films) in each unit.
  """

  kind: str
  title: str
  units: tuple[ReleasedUnit, ...]
  num_classes: int
  class_indices: tuple[int, ...] | None
  is_sequences: bool
  num_rows: int
  opened: Opened = dataclasses.field(repr=False)

  def load(self, unit: ReleasedUnit, *, start: int = 0, stop: int | None = None) -> Split:
    """Reads the labelled pictures of a unit.

    Ids are row numbers of the unit: the same picture has the same id under every corruption.

    Args:
      unit: one of `units`.
      start: first row wanted.
      stop: one behind the last row wanted; None: all.

    Raises:
      ValueError: if the set holds films, the unit is not its own, or a picture is unreadable.
    """
    if self.is_sequences:
      raise ValueError(f"{self.title}: holds films without labels; use load_films.")
    return self.opened.load(self._own(unit), start, stop)

  def load_films(
    self, unit: ReleasedUnit, *, start: int = 0, stop: int | None = None
  ) -> UInt8[np.ndarray, "videos frames H W C"]:
    """Reads films `start` to `stop` of a unit; arrays are mapped, so ask for a part at a time.

    Raises:
      ValueError: if the set holds single pictures, the unit is not its own, or a film is damaged.
    """
    if not self.is_sequences:
      raise ValueError(f"{self.title}: holds labelled pictures; use load.")
    return self.opened.load(self._own(unit), start, stop)

  def _own(self, unit: ReleasedUnit) -> ReleasedUnit:
    if unit not in self.units:
      raise ValueError(f"{self.title}: has no unit {unit}; choose one of its `units`.")
    return unit


def open_set(
  kind: str,
  folder: str | pathlib.Path,
  *,
  groups: Sequence[str] = (),
  num_rows: int = 0,
  wnids: Sequence[str] | str | pathlib.Path = (),
  image_size: int = 0,
) -> ReleasedSet:
  """Checks a released set and returns what can be loaded from it.

  Args:
    kind: a key of `KINDS`.
    folder: the one that holds the files, or its parent under the published name.
    groups: of units wanted, of "benchmark", "extra", "bar"; empty: all that the set has. Files of
      other groups need not exist.
    num_rows: pictures per corruption and severity (arrays: films), checked; 0: as many as the
      labels say. A copy that is smaller than the published set is called one in its title.
    wnids: for ImageNet: the 1,000 class names, as a list, a text file with one per line, or a
      folder whose sub-folders they are (such as the validation set). Label i is the i-th in
      alphabetical order. Empty: those of the set itself, which must then be 1,000. ImageNet-R
      also takes its own 200, for networks that know no others.
    image_size: for ImageNet: side in px to cut and resize to; 0: as stored.

  Raises:
    ValueError: naming file, expectation, finding and remedy; all problems at once.
  """
  opener = lookup(KINDS, kind, field="released.kind")
  unknown = sorted(set(groups) - {"benchmark", "extra", "bar"})
  if unknown:
    raise ValueError(f"open_set: unknown groups {unknown}; choose of benchmark, extra, bar.")
  root = pathlib.Path(folder).expanduser()
  title, wanted = resolve(kind, groups)
  if not wanted:
    raise ValueError(f"open_set: {title} has no units in groups {list(groups)}.")
  if not root.is_dir():
    raise ValueError(f"{root}: no such folder; expected {title} there, extracted.")
  check = Check(title)
  request = Request(kind, title, root, wanted, num_rows, wnids, image_size, check)
  opened = opener(request)
  check.finish()
  return ReleasedSet(
    kind=kind,
    title=opened.title or title,
    units=opened.units,
    num_classes=opened.num_classes,
    class_indices=opened.class_indices,
    is_sequences=opened.is_sequences,
    num_rows=opened.num_rows,
    opened=opened,
  )


__all__ = ["KINDS", "ReleasedSet", "ReleasedUnit", "open_set", "resolve"]
