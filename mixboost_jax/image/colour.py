# SPDX-License-Identifier: Apache-2.0
"""Colour of pictures in [0, 1] without cutting to levels: grey, saturation, hue."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixboost_jax.image.quantize import rounded

Pixels = Float[Array, "*n 3"]
Factor = Float[Array, ""] | float | int

_GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # ITU-R 601-2


def grey(pixels: Pixels) -> Float[Array, "*n 1"]:
  """Returns the luminance of each pixel."""
  red, green, blue = (rounded(pixels[..., i : i + 1] * w) for i, w in enumerate(_GREY_WEIGHTS))
  return red + green + blue


@jax.jit
def mean_grey(pixels: Float[Array, "H W 3"]) -> Float[Array, ""]:
  """Returns the mean luminance of one picture.

  Added up in an order that is written down here: a plain mean is cut into pieces in another way
  for a picture alone than for one of a batch, and its last bits follow.
  """
  rest = grey(pixels).reshape(-1)
  number = len(rest)
  while len(rest) > 1:
    half = (len(rest) + 1) // 2
    rest = rest[:half] + jnp.pad(rest[half:], (0, 2 * half - len(rest)))
  return rest[0] * (1 / number)


def towards(pixels: Float[Array, "*n C"], other: Float[Array, "..."], factor: Factor) -> Array:
  """Returns `other + factor (pixels - other)` clipped to [0, 1]; factor 1 changes nothing."""
  return jnp.clip(rounded(factor * pixels) + rounded((1 - factor) * other), 0, 1)


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
    k = jnp.mod(offset + rounded(6 * hue), 6.0)
    return value - rounded(value * saturation * jnp.clip(jnp.minimum(k, 4 - k), 0, 1))

  return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)


def shift_hue(pixels: Pixels, turns: Factor) -> Pixels:
  """Turns the hue by `turns` of the colour circle, in [-0.5, 0.5]."""
  hsv = rgb_to_hsv(pixels)
  hue = jnp.mod(hsv[..., :1] + turns, 1.0)
  return hsv_to_rgb(jnp.concatenate([hue, hsv[..., 1:]], axis=-1))
