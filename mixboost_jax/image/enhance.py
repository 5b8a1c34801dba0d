# SPDX-License-Identifier: Apache-2.0
"""Colour, contrast, brightness and sharpness of one picture of levels, exact to Pillow.

Each blends the picture with a degenerate one: `degenerate + factor * (picture - degenerate)`,
so factor 0 gives the degenerate picture, 1 the picture itself, and more exaggerates.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from mixboost_jax.image.quantize import rounded

Levels = UInt8[Array, "H W C"]
Factor = Float[Array, ""] | float | int


def blend(degenerate: Int[Array, "*n"], levels: Int[Array, "*n"], factor: Factor) -> Array:
  """Returns the blend as levels, cut to whole levels towards 0 and clipped to 0..255."""
  difference = (levels - degenerate).astype(jnp.float32)
  moved = rounded(jnp.asarray(factor, jnp.float32) * difference) + degenerate.astype(jnp.float32)
  return jnp.clip(moved, 0, 255).astype(jnp.uint8)


def luminance(levels: UInt8[Array, "*n C"]) -> Int[Array, "*n"]:
  """Returns the grey level of each pixel: ITU-R 601-2 weights in 16-bit fixed point."""
  if levels.shape[-1] == 1:
    return levels[..., 0].astype(jnp.int32)
  if levels.shape[-1] != 3:
    raise ValueError(f"luminance: expected 1 or 3 channels, got {levels.shape[-1]}.")
  weights = jnp.array([19595, 38470, 7471]).reshape(*(1,) * (levels.ndim - 1), 3)
  return (jnp.sum(levels.astype(jnp.int32) * weights, axis=-1) + 32768) >> 16


def mean_luminance(levels: Levels) -> Int[Array, ""]:
  """Returns int(mean grey level + 0.5); exact below four million pixels."""
  grey = luminance(levels)
  return (2 * grey.sum() + grey.size) // (2 * grey.size)


def color(levels: Levels, factor: Factor) -> Levels:
  """Moves the picture from its grey version (0) through itself (1)."""
  grey = jnp.broadcast_to(luminance(levels)[:, :, None], levels.shape)
  return blend(grey, levels.astype(jnp.int32), factor)


def contrast_point(levels: UInt8[Array, "*n"], factor: Factor, mean: Int[Array, ""]) -> Array:
  """Moves levels from the grey level `mean` (0) through themselves (1)."""
  return blend(jnp.broadcast_to(mean, levels.shape), levels.astype(jnp.int32), factor)


def contrast(levels: Levels, factor: Factor) -> Levels:
  """Moves the picture from its mean grey level (0) through itself (1)."""
  return contrast_point(levels, factor, mean_luminance(levels))


def brightness(levels: UInt8[Array, "*n"], factor: Factor) -> Array:
  """Moves levels from black (0) through themselves (1)."""
  return blend(jnp.zeros(levels.shape, jnp.int32), levels.astype(jnp.int32), factor)


def smooth(levels: Levels) -> Levels:
  """Averages 3x3 neighbours, the middle one five times; the outermost pixels stay."""
  height, width, channels = levels.shape
  # Channels side by side, so that one row is one long vector; 16 bits hold 13 * 255.
  rows = levels.astype(jnp.uint16).reshape(height, width * channels)
  wide = jnp.pad(rows, ((1, 1), (channels, channels)))
  columns = wide[:-2] + wide[1:-1] + wide[2:]
  total = columns[:, : -2 * channels] + columns[:, channels:-channels] + columns[:, 2 * channels :]
  mean = jax.lax.div(total + 4 * rows + jnp.uint16(6), jnp.uint16(13))
  inner_rows = (jnp.arange(height) > 0) & (jnp.arange(height) < height - 1)
  inner_columns = (jnp.arange(width) > 0) & (jnp.arange(width) < width - 1)
  inner = inner_rows[:, None, None] & inner_columns[None, :, None]
  return jnp.where(inner, mean.astype(jnp.uint8).reshape(levels.shape), levels)


def sharpness(levels: Levels, factor: Factor) -> Levels:
  """Moves the picture from its smoothed version (0) through itself (1)."""
  return blend(smooth(levels).astype(jnp.int32), levels.astype(jnp.int32), factor)
