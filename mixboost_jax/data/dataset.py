# SPDX-License-Identifier: Apache-2.0
"""What every reader returns: pictures at rest, as bytes in host memory."""

import collections
import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from mixboost_jax import files
from mixboost_jax.data import pictures
from mixboost_jax.data.stored import StoredLabels, StoredPictures

Pictures = UInt8[np.ndarray, "N H W C"] | UInt8[StoredPictures, "N H W C"]
ClassNumbers = Int32[np.ndarray, " N"] | Int32[StoredLabels, " N"]
MEAN_EXAMPLES = 512
"""How many pictures of a stored split are decoded to find the mean of its channels."""
TEST_SHARE = 0.2
"""Expected share of test examples where the source does not say which they are."""


@dataclasses.dataclass(frozen=True)
class Split:
  """Pictures, their classes, and who they are.

  An example keeps its id for life: it is the row number in the split that its source publishes
  (`shapes`: a number that no other split uses), whatever part of that split is loaded. All
  randomness of an example hangs on it.

  Pictures (and labels) of a set that is too large for memory stay in their files; see `stored.py`.
  """

  images: Pictures
  labels: ClassNumbers
  ids: Int32[np.ndarray, " N"]

  def __len__(self) -> int:
    return len(self.labels)

  def part(self, start: int, stop: int | None) -> "Split":
    """Returns examples `start` to `stop` (without copying), which keep their ids."""
    return Split(self.images[start:stop], self.labels[start:stop], self.ids[start:stop])

  def in_memory(self, *, place: str) -> "Split":
    """Returns the same examples, read from their files; `place` is for messages.

    Raises:
      ValueError: if they do not fit into memory, or a picture is unreadable or of another shape.
    """
    if not isinstance(self.images, StoredPictures):
      return self
    pictures.check_size(len(self), self.images.picture_shape, place=place)
    return Split(*self.images.read_all(), self.ids)


def channel_mean(images: Pictures) -> tuple[float, ...]:
  """Returns the mean of every channel in [0, 1], exact up to float64 for the pictures looked at."""
  if isinstance(images, StoredPictures):
    count = min(len(images), MEAN_EXAMPLES)
    images = np.asarray(images[np.linspace(0, len(images) - 1, count).round().astype(int)])
  sums = images.sum(axis=(0, 1, 2), dtype=np.int64)
  count = max(1, images.size // images.shape[-1])
  return tuple(float(s) / (255 * count) for s in sums)


@dataclasses.dataclass(frozen=True)
class Dataset:
  """One data set, cut as the config asked.

  Attributes:
    name: what results call it: the name in the config, with its note.
    title: what a report calls it.
    source: "procedural" (made here) or "files".
    class_names: one per label.
    train: what is trained on, without the validation part.
    validation: held out from the end of the training split, to select on; None if not asked for.
    test: what is reported.
    channel_mean: mean of the training pictures, one number per channel in [0, 1]; of a set that
      stays in its files, of `MEAN_EXAMPLES` pictures at equal distances.
    fingerprint: of a set that stays in its files, where it may change between the parts of a run.
  """

  name: str
  title: str
  source: str
  class_names: tuple[str, ...]
  train: Split
  validation: Split | None
  test: Split
  channel_mean: tuple[float, ...]
  fingerprint: str = ""

  @property
  def is_streamed(self) -> bool:
    """Whether training pictures are read from their files step by step."""
    return isinstance(self.train.images, StoredPictures)

  @property
  def num_classes(self) -> int:
    """Number of classes."""
    return len(self.class_names)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width and channels of one picture."""
    height, width, channels = self.train.images.shape[1:]
    return height, width, channels


def make_split(images: np.ndarray, labels: Any, *, num_classes: int, place: str) -> Split:
  """Checks what came out of a file, and numbers the rows; a ValueError names the place."""
  if problem := images_problem(images):
    raise ValueError(f"{place}: {problem}.")
  values = np.asarray(labels)
  if values.ndim != 1 or (values.size and not np.issubdtype(values.dtype, np.integer)):
    raise ValueError(
      f"{place}: expected labels as one list of integers, got {values.dtype}{list(values.shape)}."
    )
  if len(values) != len(images):
    raise ValueError(f"{place}: {len(images)} pictures but {len(values)} labels; file damaged?")
  if not len(images):
    raise ValueError(f"{place}: no pictures.")
  low, high = int(values.min()), int(values.max())
  if low < 0 or high >= num_classes:
    raise ValueError(
      f"{place}: labels must lie in [0, {num_classes}), one per class name, got {low} to {high}."
    )
  ids = np.arange(len(values), dtype=np.int32)
  return Split(np.ascontiguousarray(images), values.astype(np.int32), ids)


def images_problem(images: np.ndarray) -> str | None:
  """Returns what is wrong with an array of pictures and how to make it right, or None."""
  shape, remedy = images.shape, ""
  if images.dtype == np.uint8 and len(shape) == 4 and shape[-1] in (1, 3):
    return None
  if len(shape) == 4 and shape[1] in (1, 3) and shape[-1] not in (1, 3):
    remedy = "; channels come last: images.transpose(0, 2, 3, 1)"
  elif len(shape) == 4 and shape[-1] == 4:
    remedy = "; leave the transparency out: images[..., :3]"
  elif np.issubdtype(images.dtype, np.floating):
    remedy = "; of values in [0, 1] take (images * 255).round().astype(np.uint8)"
  return f"expected pictures uint8[N, H, W, 1 or 3], got {images.dtype}{list(shape)}{remedy}"


def middle_square(height: int, width: int) -> str:
  """Returns what to type to keep the middle square of an array of pictures."""
  side = min(height, width)
  top, left = (height - side) // 2, (width - side) // 2
  return f"images[:, {top}:{top + side}, {left}:{left + side}]"


def as_text(name: Any, *, place: str) -> Any:
  """Returns the name of a class as text if it is bytes, which must be UTF-8, else unchanged."""
  if not isinstance(name, bytes):
    return name
  try:
    return name.decode()
  except UnicodeDecodeError:
    raise ValueError(f"{place}: expected class names in UTF-8, got {name!r}; rename it.") from None


def check_class_names(names: Sequence[str], *, place: str) -> None:
  """Raises a ValueError unless classes can be told apart, and reports can name them."""
  if len(names) < 2:
    found = f"only {names[0]!r}" if names else "none"
    raise ValueError(
      f"{place}: expected at least 2 classes to tell apart, got {found}; add pictures of another "
      "class, or check which folder or file config.data.dir names."
    )
  for wrong in (name for name in names if not files.is_text(name)):
    raise ValueError(f"{place}: expected class names in UTF-8, got {wrong!r}; rename it.")
  if len(set(names)) < len(names):
    twice = [name for name, n in collections.Counter(names).items() if n > 1][:3]
    raise ValueError(
      f"{place}: expected a name of its own for each class, got {', '.join(map(repr, twice))} more "
      "than once; rename one."
    )


def num_wanted(available: int, wanted: int, *, field: str, place: str) -> int:
  """Returns how many examples to use: `wanted`, or all of them if that is 0."""
  if wanted > available:
    raise ValueError(
      f"config.data.{field}={wanted}: {place} has only {available}; ask for at most that many, "
      "or 0 for all."
    )
  return wanted or available


def assemble(
  *,
  name: str,
  title: str,
  source: str,
  class_names: Sequence[str],
  train: Split,
  test: Split,
  validation_examples: int,
  place: str = "",
) -> Dataset:
  """Holds the validation part out of `train` and returns the data set.

  `place` is where it comes from, for messages; the title if empty. A ValueError says if nothing
  would be left to train on, the splits differ in picture shape, or the class names are not good.
  """
  place = place or title
  check_class_names(class_names, place=place)
  kept = len(train) - validation_examples
  if kept < 1:
    raise ValueError(
      f"config.data.validation_examples={validation_examples}: {title} has {len(train)} training "
      "examples, so nothing is left to train on; hold out fewer."
    )
  one, other = (list(split.images.shape[1:]) for split in (train, test))
  if one != other:
    raise ValueError(
      f"{place}: training pictures are {one} but test pictures {other}; set "
      "config.data.image_size to resize both."
    )
  validation = train.part(kept, len(train)) if validation_examples else None
  train, names = train.part(0, kept), tuple(class_names)
  mean, images = channel_mean(train.images), train.images
  fingerprint = images.source.fingerprint if isinstance(images, StoredPictures) else ""
  return Dataset(name, title, source, names, train, validation, test, mean, fingerprint)


def is_test(name: str) -> bool:
  """Whether the example of this name (relative path, or row number) belongs to the test split.

  That follows from a hash of the name: not from the machine, the other files, or a seed.
  """
  return _number(name, b"split") < TEST_SHARE * 2**64


def shuffled(names: Sequence[str]) -> list[str]:
  """Returns the names in an order that mixes classes, so that any beginning is a fair sample."""
  return sorted(names, key=lambda name: (_number(name, b"order"), name))


def _number(name: str, purpose: bytes) -> int:
  digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8, key=purpose)
  return int.from_bytes(digest.digest(), "big")
