# SPDX-License-Identifier: Apache-2.0
"""What is scored: pictures and labels, from one of our data sets or from a stranger's arrays."""

import dataclasses
import functools
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mixboost_jax import data

SPLITS = ("test", "validation", "train")


@dataclasses.dataclass(frozen=True)
class Examples:
  """Labelled pictures in host memory, with the words by which results name them."""

  images: np.ndarray | data.StoredPictures
  """uint8, or float32 in [0, 1]; [N, H, W, C]."""
  labels: np.ndarray
  """int32[N]."""
  ids: np.ndarray
  """int32[N], an example's number for life."""
  dataset: str
  split: str
  source: str
  class_names: tuple[str, ...] = ()
  """One per label; empty if nobody said."""

  def __len__(self) -> int:
    return len(self.labels)

  @functools.cached_property
  def order(self) -> np.ndarray:
    """A fixed random order, so that the first N examples are a fair sample of any set."""
    return np.random.Generator(np.random.Philox(key=len(self))).permutation(len(self))

  def take(self, places: np.ndarray) -> "Examples":
    """Returns copies of the examples at these places."""
    return dataclasses.replace(
      self, images=self.images[places], labels=self.labels[places], ids=self.ids[places]
    )


def opened(dataset: Any) -> Any:
  """Returns the data set that a name ("cifar10") or a place ("~/pictures") stands for."""
  return data.load(dataset) if isinstance(dataset, str | os.PathLike) else dataset


def from_dataset(dataset: Any, *, split: str) -> Examples:
  """Accepts a `data.Dataset`, its name or place, a `data.Split`, or a pair (images, labels).

  Images of a pair are uint8, or float in [0, 1], [N, H, W, C]; labels integers [N]. `split` is the
  part of a `Dataset` that is taken, and the name of anything else.

  ```python
  examples = evaluate.from_dataset((images, labels), split="test")
  ```

  Raises:
    ValueError: if the split does not exist or the arrays are not what they should be.
  """
  if split not in SPLITS:
    raise ValueError(f"evaluate: split must be one of {', '.join(SPLITS)}, got {split!r}.")
  dataset = opened(dataset)
  if isinstance(dataset, data.Dataset):
    part = {"test": dataset.test, "validation": dataset.validation, "train": dataset.train}[split]
    if part is None:
      raise ValueError(
        f"evaluate: {dataset.title} has no validation split; hold some training examples out with "
        "config.data.validation_examples, or evaluate split='test'."
      )
    checked = _checked(part.images, part.labels, part.ids, dataset.name, split, dataset.source)
    return dataclasses.replace(checked, class_names=tuple(dataset.class_names))
  if isinstance(dataset, data.Split):
    return _checked(dataset.images, dataset.labels, dataset.ids, "split", split, "arrays")
  if not isinstance(dataset, tuple | list) or len(dataset) != 2:
    raise ValueError(
      "evaluate: dataset must be a pair (images, labels), the name or place of a set, a "
      f"mixboost_jax.data.Dataset or a Split, got {type(dataset).__name__}."
    )
  images, labels = np.asarray(dataset[0]), np.asarray(dataset[1])
  return _checked(images, labels, np.arange(len(labels)), "arrays", split, "arrays")


def check_labels(examples: Examples, num_classes: int) -> None:
  """Raises ValueError if a label has no column among the outputs of the network."""
  largest = int(examples.labels.max())
  if largest >= num_classes:
    raise ValueError(
      f"evaluate: labels must be in 0 .. {num_classes - 1}, one per output of the network, got "
      f"{largest}; check the labels and the network's number of classes."
    )


class HostBatch(NamedTuple):
  """Rows of one compiled call, on the host."""

  images: np.ndarray
  """float32[B, H, W, C] in [0, 1]."""
  labels: np.ndarray
  """int32[B]."""
  ids: np.ndarray
  """int32[B]; -1 for padding."""
  real: np.ndarray
  """bool[B]; False for padding."""


def padded_batches(examples: Examples, batch_size: int) -> Iterator[HostBatch]:
  """Yields batches of one shape, in order; the last one is filled up with padding."""
  if examples.images.dtype == np.uint8:
    split = data.Split(examples.images, examples.labels, examples.ids)
    for batch, weights in data.padded_batches(split, batch_size):
      images, labels, ids = (np.asarray(part) for part in batch)
      yield HostBatch(images, labels, ids, np.asarray(weights) > 0)
    return
  for start in range(0, len(examples), batch_size):
    images = examples.images[start : start + batch_size]
    rows = [(0, batch_size - len(images))]
    yield HostBatch(
      np.pad(images, rows + 3 * [(0, 0)]),
      np.pad(examples.labels[start : start + batch_size], rows),
      np.pad(examples.ids[start : start + batch_size], rows, constant_values=data.PADDING_ID),
      np.pad(np.ones(len(images), bool), rows),
    )


def _checked(
  images: np.ndarray | data.StoredPictures,
  labels: Any,
  ids: np.ndarray,
  dataset: str,
  split: str,
  source: str,
) -> Examples:
  if images.ndim != 4 or labels.shape != images.shape[:1] or not len(labels):
    hint = "; class numbers are labels.argmax(-1)" if labels.ndim == 2 else ""
    raise ValueError(
      "evaluate: expected images [N, H, W, C] and labels [N] with N >= 1, got shapes "
      f"{list(images.shape)} and {list(labels.shape)}{hint}."
    )
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f"evaluate: labels must be integers (class numbers), got {labels.dtype}.")
  if labels.min() < 0:
    raise ValueError(f"evaluate: labels must be >= 0, got {labels.min()}.")
  if not isinstance(images, data.StoredPictures) and images.dtype != np.uint8:
    if not np.issubdtype(images.dtype, np.floating):
      raise ValueError(f"evaluate: images must be uint8, or float in [0, 1], got {images.dtype}.")
    low, high = float(images.min()), float(images.max())
    if not (np.isfinite(low) and np.isfinite(high)):
      raise ValueError(
        f"evaluate: float images must be finite, got [{low:g}, {high:g}]; look for a division by 0 "
        "in what made them."
      )
    if not (low >= 0 and high <= 1):
      raise ValueError(
        f"evaluate: float images must lie in [0, 1], got [{low:g}, {high:g}]; divide 8-bit values "
        "by 255 and let the model normalise."
      )
    images = images.astype(np.float32)
  return Examples(images, labels.astype(np.int32), ids.astype(np.int32), dataset, split, source)


@dataclasses.dataclass(frozen=True, order=True)
class Unit:
  """One set of pictures to score; units do not depend on each other."""

  kind: str
  """How it is measured: a key of `_suites.KINDS`."""
  family: str
  """The word that asks for it; units of one family are aggregated together."""
  member: str = ""
  severity: int = 0
  source: str = ""
  """"" (made here), "released" (read from published files), or "generated" (made here, even if
  there are published files)."""

  @property
  def label(self) -> str:
    """Short and unique, e.g. `c:gaussian_noise:3`."""
    parts = [self.family, self.member, str(self.severity or "")]
    return ":".join(part for part in parts if part) + (f" {self.source}" if self.source else "")


GENERATED = "generated"
"""End of words such as `c_generated`: made here even if published files are given."""
