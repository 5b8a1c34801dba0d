# SPDX-License-Identifier: Apache-2.0
"""The operations done by Pillow itself, by the names of `augment._steps.Op`."""

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from mixboost_jax.augment._steps import Op

_ENHANCERS = {
  Op.COLOR: ImageEnhance.Color,
  Op.CONTRAST: ImageEnhance.Contrast,
  Op.BRIGHTNESS: ImageEnhance.Brightness,
  Op.SHARPNESS: ImageEnhance.Sharpness,
}


def apply(pixels: np.ndarray, op: int, magnitude: float, *, bilinear: bool = False) -> np.ndarray:
  """Applies one operation to uint8[H, W, 3]."""
  picture = Image.fromarray(pixels)
  sampling = Image.Resampling.BILINEAR if bilinear else Image.Resampling.NEAREST
  matrices = {
    Op.SHEAR_X: (1, magnitude, 0, 0, 1, 0),
    Op.SHEAR_Y: (1, 0, 0, magnitude, 1, 0),
    Op.TRANSLATE_X: (1, 0, magnitude, 0, 1, 0),
    Op.TRANSLATE_Y: (1, 0, 0, 0, 1, magnitude),
  }
  if op in matrices:
    method = Image.Transform.AFFINE
    return np.asarray(picture.transform(picture.size, method, matrices[Op(op)], sampling))
  if op in _ENHANCERS:
    return np.asarray(_ENHANCERS[Op(op)](picture).enhance(magnitude))
  simple = {
    Op.IDENTITY: lambda: picture,
    Op.AUTOCONTRAST: lambda: ImageOps.autocontrast(picture),
    Op.EQUALIZE: lambda: ImageOps.equalize(picture),
    Op.INVERT: lambda: ImageOps.invert(picture),
    Op.POSTERIZE: lambda: ImageOps.posterize(picture, int(magnitude)),
    Op.SOLARIZE: lambda: ImageOps.solarize(picture, magnitude),
    Op.ROTATE: lambda: picture.rotate(magnitude, sampling),
  }
  return np.asarray(simple[Op(op)]())


def pictures(height: int, width: int) -> np.ndarray:
  """Returns five kinds of uint8 pictures: noise, ramps, constant, low contrast, few colours."""
  rng = np.random.default_rng(height * 100 + width)
  noise = rng.integers(0, 256, (height, width, 3))
  ramp = np.add.outer(np.linspace(0, 1, height), np.linspace(0, 1, width)) / 2
  ramps = ramp[..., None] * np.array([200, 100, 50]) + np.array([20, 100, 0])
  flat = np.full((height, width, 3), 77)
  dull = rng.integers(40, 90, (height, width, 3))
  few = rng.choice([0, 3, 128, 255], (height, width, 3))
  return np.stack([noise, ramps, flat, dull, few]).astype(np.uint8)
