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

import pathlib
from collections.abc import Callable, Mapping, Sequence

from mixboost_jax.data.released import cifar, trees
from mixboost_jax.data.released.units import ReleasedSet, ReleasedUnit, Request, resolve
from mixboost_jax.registry import lookup

KINDS: Mapping[str, Callable[[Request], ReleasedSet]] = {
  "cifar10_c": cifar.open_corrupted,
  "cifar100_c": cifar.open_corrupted,
  "cifar10_c_bar": cifar.open_corrupted,
  "cifar100_c_bar": cifar.open_corrupted,
  "cifar10_p": cifar.open_sequences,
  "cifar100_p": cifar.open_sequences,
  "cifar10_corrupted": cifar.open_records,
  "imagenet_c": trees.open_corrupted,
  "imagenet_c_bar": trees.open_corrupted,
  "imagenet_r": trees.open_renditions,
  "imagenet_p": trees.open_films,
}
"""What `open_set` can open."""


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
  request = Request(kind, title, root, wanted, num_rows, wnids, image_size)
  opened = opener(request)
  request.finish()
  return opened


__all__ = ["KINDS", "ReleasedSet", "ReleasedUnit", "open_set", "resolve"]
