# SPDX-License-Identifier: Apache-2.0
"""Pictures for a person: a row of images as one PNG file."""

import io
import pathlib

import numpy as np
from jaxtyping import Float

from mixboost_jax.runtime import atomic

GAP = 2
"""White pixels between two pictures, before enlargement."""


def write_strip(
  path: pathlib.Path, images: Float[np.ndarray, "N H W C"], *, height: int = 96
) -> None:
  """Writes images side by side, enlarged by whole pixels to about `height`.

  Args:
    path: a `.png` file; written atomically.
    images: values in [0, 1], 1 or 3 channels.
    height: pixels.
  """
  from PIL import Image

  pixels = np.round(np.clip(np.asarray(images), 0, 1) * 255).astype(np.uint8)
  if pixels.shape[-1] == 1:
    pixels = np.repeat(pixels, 3, axis=-1)
  padded = np.pad(pixels, ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=255)
  strip = np.concatenate(list(padded), axis=1)[:, :-GAP]
  scale = max(1, height // strip.shape[0])
  buffer = io.BytesIO()
  Image.fromarray(strip.repeat(scale, 0).repeat(scale, 1)).save(buffer, format="PNG")
  atomic.make_folder(path.parent)
  atomic.write_bytes(path, buffer.getvalue())
