# SPDX-License-Identifier: Apache-2.0
"""Decodes, resizes and stacks picture files with Pillow; no TensorFlow, no OpenCV."""

import io
import math
import os
from collections.abc import Callable
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
  picture, mode = open_picture(raw, place=place), "RGB" if num_channels == 3 else "L"
  picture = picture if picture.mode == mode else picture.convert(mode)  # which copies
  if window is not None:
    picture = _cut(picture, window(picture.height, picture.width), image_size)
  elif image_size:
    picture = _to_square(picture, image_size, margin)
  return np.asarray(picture, np.uint8).reshape(picture.height, picture.width, num_channels)


def normalise(raw: bytes, *, image_size: int, place: str) -> bytes:
  """Returns a colour PNG or JPEG file: the same bytes if they are one and keep their size."""
  picture = open_picture(raw, place=place)
  resized = image_size and picture.size != (image_size, image_size)
  if picture.format in ("PNG", "JPEG") and picture.mode == "RGB" and not resized:
    return raw
  return encode_png(decode(raw, num_channels=3, image_size=image_size, place=place))


def read_file(file: str | os.PathLike) -> bytes:
  """Returns the content of a picture file, unless it is no regular one or larger than any."""
  try:
    return files.read_bytes(file, limit=_MAX_FILE_BYTES)
  except (OSError, ValueError) as error:
    raise _unreadable(os.fspath(file), files.reason(error)) from error


def _unreadable(place: str, reason: str) -> ValueError:
  return ValueError(f"{place}: not a readable picture ({reason}); remove or replace it.")


def open_picture(raw: bytes, *, place: str) -> Any:
  """Returns the decoded Pillow image; errors as of `decode`."""
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
    raise _unreadable(place, reason) from error
  if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
    raise ValueError(f"{place}: {picture.mode} pixels; expected 8 bits per channel.")
  return picture


def header(file: str | os.PathLike) -> tuple[int, int, str]:
  """Returns height, width and Pillow's mode of a picture file without decoding it."""
  from PIL import Image

  try:
    with files.open_regular(file) as raw, Image.open(raw, formats=FORMATS) as picture:
      return picture.height, picture.width, picture.mode
  except Exception as error:  # as in `open_picture`
    raise _unreadable(os.fspath(file), files.reason(error)) from error


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


class TooLargeError(ValueError):
  """A set does not fit in memory."""


def fits(num_examples: int, shape: tuple[int, int, int]) -> bool:
  """Returns whether so many pictures of this shape may be held in memory."""
  return num_examples * math.prod(shape) <= MAX_BYTES


def check_size(num_examples: int, shape: tuple[int, int, int], *, place: str) -> None:
  """Raises a TooLargeError, with the estimate and the remedy, if a split may not be held."""
  if not fits(num_examples, shape):
    raise TooLargeError(
      f"{place}: {num_examples} pictures of {'x'.join(map(str, shape))} need "
      f"{num_examples * math.prod(shape) / 2**30:.1f} GiB in memory, more than the limit of "
      f"{MAX_BYTES / 2**30:g} GiB; set config.data.image_size smaller, or "
      "config.data.train_examples and test_examples to use a part; sets of picture files (folder, "
      "tfds) are streamed with config.data.stream='auto'."
    )
