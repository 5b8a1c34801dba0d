# SPDX-License-Identifier: Apache-2.0
"""Refuses sets that do not fit in memory before a single picture is read."""

import math

MAX_BYTES = 8 * 2**30
"""Largest split held in memory: 8 GiB of uint8 pictures (CIFAR-10 takes 0.15 GiB)."""
MAX_CLASSES = 2**17
"""More than any set has (ImageNet-21k: 21,841), and than a network could tell apart."""


class TooLargeError(ValueError):
  """A set does not fit in memory."""


def fits(num_examples: int, shape: tuple[int, int, int]) -> bool:
  """Returns whether so many pictures of this shape may be held in memory."""
  return num_examples * math.prod(shape) <= MAX_BYTES


def check_size(num_examples: int, shape: tuple[int, int, int], *, place: str) -> None:
  """Checks that a split of pictures of this shape may be loaded at once.

  Args:
    num_examples: pictures to be read.
    shape: height, width, channels of one, after resizing.
    place: what is being read, for the message.

  Raises:
    TooLargeError: with the estimate and what to change.
  """
  height, width, channels = shape
  needed = num_examples * height * width * channels
  if not fits(num_examples, shape):
    raise TooLargeError(
      f"{place}: {num_examples} pictures of {height}x{width}x{channels} need "
      f"{needed / 2**30:.1f} GiB in memory, more than the limit of {MAX_BYTES / 2**30:g} GiB; "
      "set config.data.image_size smaller, or config.data.train_examples and test_examples to "
      "use a part; sets of picture files (folder, tfds) are streamed with "
      "config.data.stream='auto'."
    )
