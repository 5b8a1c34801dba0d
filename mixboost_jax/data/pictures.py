# SPDX-License-Identifier: Apache-2.0
"""Decodes, resizes and stacks picture files with Pillow; no TensorFlow, no OpenCV."""

import concurrent.futures
import io
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mixboost_jax import files

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
"""File names that count as pictures, in any case."""
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
"""What such a file may hold. Pillow would open any other by its content: EPS starts Ghostscript."""
MAX_BYTES = 8 * 2**30
"""Largest split held in memory: 8 GiB of uint8 pictures (CIFAR-10 takes 0.15 GiB)."""
MAX_CLASSES = 2**17
"""More than any set has (ImageNet-21k: 21,841), and than a network could tell apart."""
_MAX_FILE_BYTES = 2**28
_CHUNK = 256  # pictures decoded ahead
_LONGEST = 16  # times the shorter side; the middle is kept of anything longer

Window = Callable[[int, int], tuple[int, int, int, int]]
"""`(height, width) of a picture -> (top, left, height, width)` of a window in it, in pixels."""


def decode(
  raw: bytes,
  *,
  num_channels: int,
  image_size: int,
  place: str,
  margin: int = 0,
  window: Window | None = None,
) -> np.ndarray:
  """Returns one picture as uint8[H, W, num_channels].

  Args:
    raw: a PNG, JPEG, BMP or WebP file.
    num_channels: 3 (colour) or 1 (grey); others are converted.
    image_size: side in px; the shorter side is resized to it (bilinear with antialiasing) and the
      middle square is cut out, as torchvision's Resize and CenterCrop do. 0: as stored.
    place: its name, for the message.
    margin: resize to so many px more before the middle square of `image_size` px is cut out.
    window: what to cut out and resize instead of the middle square; needs `image_size`.

  Raises:
    ValueError: if it is not a readable 8-bit picture.
  """
  picture = open_picture(raw, place=place).convert("RGB" if num_channels == 3 else "L")
  if window is not None:
    picture = _cut(picture, window(picture.height, picture.width), image_size)
  elif image_size:
    picture = _to_square(picture, image_size, margin)
  return np.asarray(picture, np.uint8).reshape(picture.height, picture.width, num_channels)


def normalise(raw: bytes, *, image_size: int, place: str) -> bytes:
  """Returns a colour PNG or JPEG file: the same bytes if they are one and keep their size.

  Args:
    raw: see `decode`.
    image_size: see `decode`.
    place: see `decode`.

  Raises:
    ValueError: see `decode`.
  """
  picture = open_picture(raw, place=place)
  resized = image_size and picture.size != (image_size, image_size)
  if picture.format in ("PNG", "JPEG") and picture.mode == "RGB" and not resized:
    return raw
  return encode_png(decode(raw, num_channels=3, image_size=image_size, place=place))


def size_of(raw: bytes, *, place: str) -> tuple[int, int]:
  """Returns height and width of a picture file.

  Raises:
    ValueError: see `decode`.
  """
  picture = open_picture(raw, place=place)
  return picture.height, picture.width


def read_file(file: str | os.PathLike) -> bytes:
  """Returns the content of a picture file.

  Raises:
    ValueError: if it cannot be read, is no regular file, or is larger than any picture.
  """
  try:
    return files.read_bytes(file, limit=_MAX_FILE_BYTES)
  except (OSError, ValueError) as error:
    place = os.fspath(file)
    raise ValueError(
      f"{place}: not a readable picture ({files.reason(error)}); remove or replace it."
    ) from error


def open_picture(raw: bytes, *, place: str) -> Any:
  """Returns the decoded Pillow image.

  Raises:
    ValueError: see `decode`.
  """
  from PIL import Image

  try:
    picture = Image.open(io.BytesIO(raw), formats=FORMATS)
    if picture.width * picture.height > (Image.MAX_IMAGE_PIXELS or math.inf):
      raise ValueError(f"{picture.width}x{picture.height} pixels are too many")
    picture.load()
  except Exception as error:  # Pillow's readers raise almost anything on damaged files
    reason = files.reason(error)
    if isinstance(error, Image.UnidentifiedImageError):
      reason = f"no {', '.join(FORMATS)} file, whatever its name says"
    raise ValueError(
      f"{place}: not a readable picture ({reason}); remove or replace it."
    ) from error
  if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
    raise ValueError(f"{place}: {picture.mode} pixels; expected 8 bits per channel.")
  return picture


def _to_square(picture: Any, size: int, margin: int) -> Any:
  from PIL import Image

  short = min(picture.size)
  if max(picture.size) > _LONGEST * short:  # would be resized to a picture of any length
    picture = _middle(picture, *(min(side, _LONGEST * short) for side in picture.size))
  if short != size + margin:
    # The whole picture: what lies beyond the square counts at its edges, and the square may begin
    # between two pixels.
    sides = [int((size + margin) * side / short) for side in picture.size]
    picture = picture.resize(sides, Image.Resampling.BILINEAR)
  return _middle(picture, size, size)


def _middle(picture: Any, width: int, height: int) -> Any:
  left, top = (round((a - b) / 2) for a, b in zip(picture.size, (width, height), strict=True))
  return picture.crop((left, top, left + width, top + height))


def _cut(picture: Any, window: tuple[int, int, int, int], size: int) -> Any:
  """Resizes a window as if it had been cut out first: no pixel beyond it counts."""
  from PIL import Image

  top, left, height, width = window
  part = picture.crop((left, top, left + width, top + height))
  return part.resize((size, size), Image.Resampling.BILINEAR)


def encode_png(image: np.ndarray) -> bytes:
  """Returns uint8[H, W, 1 or 3] as a PNG file: nothing is lost."""
  from PIL import Image

  buffer = io.BytesIO()
  Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
  return buffer.getvalue()


def read_all(
  load: Callable[[range], Sequence[bytes]],
  count: int,
  *,
  num_channels: int,
  image_size: int,
  name_of: Callable[[int], str],
  place: str,
  margin: int = 0,
) -> np.ndarray:
  """Reads pictures 0 to count - 1 into one array, after checking that it fits into memory.

  Args:
    load: returns the files of a range of pictures.
    count: number of pictures, at least 1.
    num_channels: see `decode`.
    image_size: see `decode`.
    name_of: what to call picture i in a message.
    place: what is being read.
    margin: see `decode`.

  Raises:
    ValueError: if a picture is unreadable, the pictures differ in shape, or they take more memory
      than `MAX_BYTES`.
  """

  def decode_one(i: int, raw: bytes) -> np.ndarray:
    place = name_of(i)
    return decode(raw, num_channels=num_channels, image_size=image_size, place=place, margin=margin)

  first = decode_one(0, load(range(1))[0])
  height, width, channels = first.shape
  check_size(count, (height, width, channels), place=place)
  images = np.empty((count, *first.shape), np.uint8)
  with concurrent.futures.ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
    for start in range(0, count, _CHUNK):
      rows = range(start, min(start + _CHUNK, count))
      for i, image in zip(rows, pool.map(decode_one, rows, load(rows)), strict=True):
        if image.shape != first.shape:
          raise ValueError(
            f"{place}: pictures of different shapes: {name_of(0)} is {_size(first.shape)}, "
            f"{name_of(i)} is {_size(image.shape)}; set config.data.image_size to resize all."
          )
        images[i] = image
  return images


def _size(shape: Sequence[int]) -> str:
  return "x".join(map(str, shape))


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
