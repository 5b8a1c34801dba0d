# SPDX-License-Identifier: Apache-2.0
"""In which form CIFAR lies at a place: extracted, archive, arrays or array_record."""

import dataclasses
import pathlib
from collections.abc import Iterator

from mixboost_jax.data.cifar import Layout

ARRAYS = "train_images.npy"
RECORDS = "dataset_info.json"


@dataclasses.dataclass(frozen=True)
class Found:
  """A form ("raw", "arrays" or "records") and the file or folder to read."""

  form: str
  path: pathlib.Path


def find(layout: Layout, places: tuple[pathlib.Path, ...]) -> Found | None:
  """Returns the first copy, or None."""
  return next((found for place in places for found in _copies(layout, place)), None)


def looked_for(layout: Layout) -> tuple[str, ...]:
  """Returns the forms in words."""
  return (
    f"{layout.folder}/ (the extracted archive), or that folder itself",
    f"{layout.archive}, or that file itself",
    f"{layout.name}/ as written by mixboost_jax.data.prepare, or TFDS array_record",
  )


def _copies(layout: Layout, place: pathlib.Path) -> Iterator[Found]:
  if place.is_file():
    yield Found("raw", place)
    return
  own = (place / layout.meta_file).is_file() and (place / layout.train_files[0]).is_file()
  if own or (place.name == layout.folder and place.is_dir()):
    yield Found("raw", place)
  if (place / layout.folder).is_dir():
    yield Found("raw", place / layout.folder)
  if (place / layout.archive).is_file():
    yield Found("raw", place / layout.archive)
  for folder in (place, place / layout.name):
    if (folder / ARRAYS).is_file():
      yield Found("arrays", folder)
    for info in [folder / RECORDS, *sorted(folder.glob(f"[0-9]*/{RECORDS}"), reverse=True)]:
      if info.is_file():
        yield Found("records", info.parent)
