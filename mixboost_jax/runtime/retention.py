# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints of a folder are kept, and how the others go."""

import math
import os
import pathlib
import shutil
from collections.abc import Iterable

from mixboost_jax.runtime import log, manifest


def rank(checkpoint: pathlib.Path, *, better: str) -> float:
  """Returns a number that is smaller for a better checkpoint, infinite without a metric.

  Minus infinity if it cannot be read: it may have been the best one.
  """
  try:
    metric = manifest.read(checkpoint).metric
  except manifest.DamagedError:
    return -math.inf
  if metric is None:
    return math.inf
  return metric if better == "lower" else -metric


def prune(
  checkpoints: Iterable[pathlib.Path], *, keep_last: int, keep_best: int, better: str
) -> None:
  """Removes all but the newest and the best.

  Args:
    checkpoints: oldest first.
    keep_last: newest to keep.
    keep_best: to keep for their metric beside those; of equal ones the newer.
    better: `lower` or `higher`.
  """
  newest_first = list(checkpoints)[::-1]
  ranks = {path: rank(path, better=better) for path in newest_first}
  ranked = sorted((p for p in newest_first if math.isfinite(ranks[p])), key=ranks.__getitem__)
  kept = {*newest_first[:keep_last], *ranked[:keep_best]}
  for path in newest_first:
    if path not in kept:
      dying = path.with_name(f"{path.name}.partial-old")
      try:
        os.rename(path, dying)  # from here on nobody takes it for a checkpoint
      except OSError as error:
        log.warn(f"cannot remove the old checkpoint {path}: {error.strerror}.")
      else:
        remove(dying)


def remove(path: pathlib.Path) -> None:
  """Removes a folder and Orbax's temporary versions of it, as far as possible."""
  for found in [path, *path.parent.glob(f"{path.name}.orbax*")]:
    shutil.rmtree(found, ignore_errors=True)


def set_aside(path: pathlib.Path) -> None:
  """Renames a damaged checkpoint, so that it is neither used nor in the way nor lost."""
  aside, count = path.with_name(f"{path.name}.damaged"), 1
  while aside.exists():
    aside, count = path.with_name(f"{path.name}.damaged{count}"), count + 1
  if path.exists():
    os.rename(path, aside)
