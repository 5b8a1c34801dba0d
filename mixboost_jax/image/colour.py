# SPDX-License-Identifier: Apache-2.0
"""Colour of pictures in [0, 1] without cutting to levels: grey, saturation, hue."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Pixels = Float[Array, "*n 3"]
Factor = Float[Array, ""] | float | int

_GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # ITU-R 601-2


def grey(pixels: Pixels) -> Float[Array, "*n 1"]:
  """Returns the luminance of each pixel."""
  weights = jnp.asarray(_GREY_WEIGHTS, pixels.dtype).reshape(*(1,) * (pixels.ndim - 1), 3)
  return jnp.sum(pixels * weights, axis=-1, keepdims=True)


def towards(pixels: Float[Array, "*n C"], other: Float[Array, "..."], factor: Factor) -> Array:
  """Returns `other + factor (pixels - other)` clipped to [0, 1]; factor 1 changes nothing."""
  return jnp.clip(factor * pixels + (1 - factor) * other, 0, 1)


def rgb_to_hsv(pixels: Pixels) -> Pixels:
  """Converts to hue, saturation, value, all in [0, 1]; grey has hue 0."""
  red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
  value = pixels.max(axis=-1)
  chroma = value - pixels.min(axis=-1)
  safe = jnp.where(chroma > 0, chroma, 1)
  hue = jnp.where(
    value == red,
    (green - blue) / safe,
    jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
  )
  hue = jnp.where(chroma > 0, jnp.mod(hue / 6, 1.0), 0.0)
  saturation = chroma / jnp.where(value > 0, value, 1)
  return jnp.stack([hue, saturation, value], axis=-1)


def hsv_to_rgb(pixels: Pixels) -> Pixels:
  """Inverts `rgb_to_hsv`."""
  hue, saturation, value = pixels[..., 0], pixels[..., 1], pixels[..., 2]

  def channel(offset: int) -> Array:
    k = jnp.mod(offset + 6 * hue, 6.0)
    return value - value * saturation * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

  return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)


def shift_hue(pixels: Pixels, turns: Factor) -> Pixels:
  """Turns the hue by `turns` of the colour circle, in [-0.5, 0.5]."""
  hsv = rgb_to_hsv(pixels)
  hue = jnp.mod(hsv[..., :1] + turns, 1.0)
  return hsv_to_rgb(jnp.concatenate([hue, hsv[..., 1:]], axis=-1))
