# SPDX-License-Identifier: Apache-2.0
"""The operations of the Python Imaging Library on pictures in [0, 1], one picture at a time.

A picture is cut to 8-bit levels, changed exactly as Pillow changes it, and returned in [0, 1].
Lift with `jax.vmap`. Magnitudes may be Python numbers or traced scalars.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from mixboost_jax import checks
from mixboost_jax.array_types import Image
from mixboost_jax.image import affine
from mixboost_jax.image import levels as levels_lib
from mixboost_jax.image.levels import from_levels, look_up, to_levels

__all__ = [
  "autocontrast", "brightness", "color", "contrast", "equalize", "invert", "posterize", "rotate",
  "sharpness", "shear_x", "shear_y", "solarize", "solarize_add", "translate_x", "translate_y",
]  # fmt: skip

Fill = float | int | tuple[float, ...] | Array
Magnitude = Any


@checks.inputs()
def autocontrast(image: Image) -> Image:
  """Stretches each channel to the full range; a constant channel stays."""
  levels = to_levels(image)[None]
  return from_levels(look_up(levels, levels_lib.autocontrast_tables(levels))[0])


@checks.inputs()
def equalize(image: Image) -> Image:
  """Flattens the histogram of each channel."""
  levels = to_levels(image)[None]
  return from_levels(look_up(levels, levels_lib.equalize_tables(levels))[0])


@checks.inputs()
def invert(image: Image) -> Image:
  """Returns the negative."""
  return from_levels(levels_lib.invert(to_levels(image)))


@checks.inputs()
def posterize(image: Image, bits: Magnitude) -> Image:
  """Keeps the `bits` highest of 8 bits; 0 gives black."""
  return from_levels(levels_lib.posterize(to_levels(image), bits))


@checks.inputs()
def solarize(image: Image, threshold: Magnitude) -> Image:
  """Inverts levels at or above `threshold` in 0..256 (levels, not [0, 1])."""
  return from_levels(levels_lib.solarize(to_levels(image), threshold))


@checks.inputs()
def solarize_add(image: Image, addition: Magnitude) -> Image:
  """Adds `addition` in 0..255 to levels below 128."""
  return from_levels(levels_lib.solarize_add(to_levels(image), addition))


@checks.inputs()
def color(image: Image, factor: Magnitude) -> Image:
  """Saturation: 0 is grey, 1 the picture."""
  return from_levels(levels_lib.color(to_levels(image), factor))


@checks.inputs()
def contrast(image: Image, factor: Magnitude) -> Image:
  """Contrast: 0 is the mean grey level, 1 the picture."""
  return from_levels(levels_lib.contrast(to_levels(image), factor))


@checks.inputs()
def brightness(image: Image, factor: Magnitude) -> Image:
  """Brightness: 0 is black, 1 the picture."""
  return from_levels(levels_lib.brightness(to_levels(image), factor))


@checks.inputs()
def sharpness(image: Image, factor: Magnitude) -> Image:
  """Sharpness: 0 is smoothed, 1 the picture."""
  return from_levels(levels_lib.sharpness(to_levels(image), factor))


@checks.inputs()
def rotate(
  image: Image, degrees: Magnitude, *, interpolation: str = "nearest", fill: Fill = 0.0
) -> Image:
  """Rotates counter-clockwise about the centre; the size stays."""
  height, width, _ = image.shape
  if isinstance(degrees, Tracer):
    matrix: Any = affine.traced_rotation(degrees, height=height, width=width)
  else:
    matrix = affine.rotation(float(degrees), height=height, width=width)
  return _warp(image, matrix, interpolation, fill)


@checks.inputs()
def shear_x(
  image: Image, factor: Magnitude, *, interpolation: str = "nearest", fill: Fill = 0.0
) -> Image:
  """Reads pixel (x, y) at (x + factor y, y), y counted from the top."""
  return _warp(image, _entry(1, factor), interpolation, fill)


@checks.inputs()
def shear_y(
  image: Image, factor: Magnitude, *, interpolation: str = "nearest", fill: Fill = 0.0
) -> Image:
  """Reads pixel (x, y) at (x, y + factor x), x counted from the left."""
  return _warp(image, _entry(3, factor), interpolation, fill)


@checks.inputs()
def translate_x(
  image: Image, pixels: Magnitude, *, interpolation: str = "nearest", fill: Fill = 0.0
) -> Image:
  """Reads pixel (x, y) at (x + pixels, y): positive moves the content to the left."""
  return _warp(image, _entry(2, pixels), interpolation, fill)


@checks.inputs()
def translate_y(
  image: Image, pixels: Magnitude, *, interpolation: str = "nearest", fill: Fill = 0.0
) -> Image:
  """Reads pixel (x, y) at (x, y + pixels): positive moves the content up."""
  return _warp(image, _entry(5, pixels), interpolation, fill)


def _entry(index: int, value: Magnitude) -> Any:
  """Returns the identity matrix with one entry set."""
  matrix = np.array([1.0, 0, 0, 0, 1, 0])
  if isinstance(value, Tracer):
    return jnp.asarray(matrix, jnp.float32).at[index].set(value)
  matrix[index] = float(value)
  return matrix


def _warp(image: Image, matrix: Any, interpolation: str, fill: Fill) -> Image:
  value = to_levels(jnp.broadcast_to(jnp.asarray(fill, jnp.float32), image.shape[-1:]))
  levels = to_levels(image)
  return from_levels(affine.warp(levels, matrix, interpolation=interpolation, fill=value))
