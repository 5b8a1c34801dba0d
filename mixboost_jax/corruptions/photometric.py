# SPDX-License-Identifier: Apache-2.0
"""Brightness, contrast and saturation of -C.

Brightness and saturation change V or S of the HSV model. Hue stays, so both have closed forms in
RGB and the conversion is not needed: V = max, S = (max - min) / max.
"""

import jax.numpy as jnp

from mixboost_jax.array_types import Image, Scalar


def brightness(image: Image, *, shift: float | Scalar) -> Image:
  """Adds `shift` in [-1, 1] to V and keeps it in [0, 1]; black becomes grey."""
  value = image.max(axis=-1, keepdims=True)
  moved = jnp.clip(value + shift, 0, 1)
  return jnp.where(value > 0, image * (moved / jnp.where(value > 0, value, 1)), moved)


def contrast(image: Image, *, factor: float) -> Image:
  """Multiplies the distance of every value to the mean of its channel by `factor`."""
  mean = image.mean(axis=(0, 1), keepdims=True)
  return (image - mean) * factor + mean


def saturate(image: Image, *, factor: float, shift: float) -> Image:
  """Makes S `factor` S + `shift`, kept in [0, 1]; grey pixels turn red where that is not 0."""
  value = image.max(axis=-1, keepdims=True)
  span = value - image.min(axis=-1, keepdims=True)
  saturation = span / jnp.where(value > 0, value, 1)
  wanted = jnp.clip(saturation * factor + shift, 0, 1)
  scaled = value - (value - image) * wanted / jnp.where(span > 0, saturation, 1)
  red = (jnp.arange(image.shape[2]) == 0)[None, None, :]
  grey = jnp.where(red, value, value * (1 - wanted))
  return jnp.where(span > 0, scaled, grey)
