# SPDX-License-Identifier: Apache-2.0
"""The deterministic operations behind the policies, for one picture in [0, 1] each.

Hands on the Pillow-exact kernels of `image/`; lift them to batches with `jax.vmap`.
"""

from mixboost_jax.image.pil import (
  autocontrast,
  brightness,
  color,
  contrast,
  equalize,
  invert,
  posterize,
  rotate,
  sharpness,
  shear_x,
  shear_y,
  solarize,
  solarize_add,
  translate_x,
  translate_y,
)

__all__ = [
  "autocontrast",
  "brightness",
  "color",
  "contrast",
  "equalize",
  "invert",
  "posterize",
  "rotate",
  "sharpness",
  "shear_x",
  "shear_y",
  "solarize",
  "solarize_add",
  "translate_x",
  "translate_y",
]


def __dir__() -> list[str]:
  return __all__
