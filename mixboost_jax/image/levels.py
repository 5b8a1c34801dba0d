# SPDX-License-Identifier: Apache-2.0
"""8-bit levels, and what the classical operations do to them, exact to Pillow.

A level has no useful gradient: whatever goes through `to_levels` has the gradient 0. `cut` and
`to_nearest` keep the picture and pass gradients on as if they did nothing (straight-through).

Autocontrast and equalize look levels up in tables made of histograms. Invert, posterize and
solarize change each level on its own, in arrays of any shape. Color, contrast, brightness and
sharpness blend a picture with a degenerate one, `degenerate + factor * (picture - degenerate)`:
factor 0 gives the degenerate picture, 1 the picture itself, and more exaggerates.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from mixboost_jax import checks, target

LEVELS = 255
_MOST_ROWS = 71 * 71  # 70 x 70 pixels in a frame; beyond, the matrices of `take` grow too large
_SLACK = 2.0**-10  # a level k that was stored as k / 255 must come back as k, not as k - 1


@checks.inputs(values="never")
def to_levels(images: Float[Array, "*n C"]) -> UInt8[Array, "*n C"]:
  """Returns floor(255 x) clipped to 0..255, as converting a float picture to 8 bits does.

  ```python
  levels = image.to_levels(jnp.array([[0.0, 0.5, 1.0]]))
  assert levels.tolist() == [[0, 127, 255]]
  ```
  """
  return jnp.floor(jnp.clip(images * LEVELS, 0, LEVELS) + _SLACK).astype(jnp.uint8)


@checks.inputs(values="never")
def from_levels(levels: UInt8[Array, "*n C"]) -> Float[Array, "*n C"]:
  """Returns level / 255 as float32.

  ```python
  assert (image.from_levels(image.to_levels(images)) == images).all()  # of 8-bit pictures
  ```
  """
  return levels.astype(jnp.float32) / LEVELS


@jax.custom_jvp
def cut(images: Float[Array, "*n C"]) -> Float[Array, "*n C"]:
  """Returns `from_levels(to_levels(images))`; its gradient is that of the identity."""
  return from_levels(to_levels(images))


@jax.custom_jvp
def to_nearest(images: Float[Array, "*n C"]) -> Float[Array, "*n C"]:
  """Rounds to the nearest level, halves up as Pillow; its gradient is that of the identity."""
  return from_levels(to_levels(images + 0.5 / LEVELS))


cut.defjvps(lambda tangent, result, images: tangent)
to_nearest.defjvps(lambda tangent, result, images: tangent)


def rounded(product: Float[Array, "*n"]) -> Float[Array, "*n"]:
  """Keeps a product from being fused with a following addition into one rounding.

  Compilers contract `a * b + c` where they like, which moves results across the boundaries of
  levels and makes two formulations of one operation disagree. A clip that never clips (all values
  here are far below 2^24) stops them on every backend.
  """
  return jnp.clip(product, -(2.0**24), 2.0**24)


AnyLevels = UInt8[Array, "*n"]
Levels = UInt8[Array, "H W C"]
LevelBatch = UInt8[Array, "N H W C"]
Tables = UInt8[Array, "N C 256"]
Factor = Float[Array, ""] | float | int
Amount = Factor | Int[Array, ""]


def histograms(levels: LevelBatch) -> Int[Array, "N C 256"]:
  """Counts the levels of each channel of each picture.

  One flat scatter for the whole batch: a scatter per picture, batched, is many times slower.
  """
  number, _, _, channels = levels.shape
  if target.is_tpu():
    high, low = _digits(levels)
    counts = jnp.einsum("nhpc,nlpc->nchl", high, low, preferred_element_type=jnp.float32)
    return counts.reshape(number, channels, 256).astype(jnp.int32)
  counts = jnp.zeros(number * channels * 256, jnp.int32)
  rows = jnp.arange(number * channels).reshape(number, 1, channels)
  entries = rows * 256 + levels.reshape(number, -1, channels)
  counts = counts.at[entries.reshape(-1)].add(1, mode="promise_in_bounds")
  return counts.reshape(number, channels, 256)


def take(rows: UInt8[Array, "P C"], index: Int[Array, "*q"]) -> UInt8[Array, "*q C"]:
  """Returns `rows[index]`; the indices are in bounds.

  A TPU gathers value by value, in layouts for 128 channels. There a product with a matrix of zeros
  and ones picks the rows of small pictures, exactly: bfloat16 holds every level.
  """
  if not target.is_tpu() or len(rows) > _MOST_ROWS:
    return rows.at[index].get(mode="promise_in_bounds")
  chosen = jnp.arange(len(rows))[:, None] == index.reshape(-1)[None, :]
  picked = jnp.einsum(
    "pc,pq->cq",
    rows.astype(jnp.bfloat16),
    chosen.astype(jnp.bfloat16),
    preferred_element_type=jnp.float32,
  )
  return picked.astype(jnp.uint8).T.reshape(*index.shape, rows.shape[1])


def look_up(levels: LevelBatch, tables: Tables) -> LevelBatch:
  """Replaces each level by the entry of its channel's table."""
  number, _, _, channels = levels.shape
  if target.is_tpu():
    high, low = _digits(levels)
    squares = tables.reshape(number, channels, 16, 16).astype(jnp.bfloat16)
    lines = jnp.einsum("nchl,nlpc->nhpc", squares, low, preferred_element_type=jnp.float32)
    return (lines * high).sum(axis=1).astype(jnp.uint8).reshape(levels.shape)
  rows = jnp.arange(number * channels).reshape(number, 1, 1, channels)
  return tables.reshape(-1).at[rows * 256 + levels].get(mode="promise_in_bounds")


def _digits(levels: LevelBatch) -> tuple[Array, Array]:
  """Returns which hexadecimal digits each level has: two [N, 16, P, C] of zeros and ones.

  A table of 256 entries is a square for them, and products with it are exact in bfloat16: a TPU
  neither gathers nor scatters single values well.
  """
  flat = levels.reshape(len(levels), 1, -1, levels.shape[-1])
  digits = jnp.arange(16).reshape(1, 16, 1, 1)
  high, low = (part == digits for part in (flat >> 4, flat & 15))
  return high.astype(jnp.bfloat16), low.astype(jnp.bfloat16)


def equalize_tables(levels: LevelBatch) -> Tables:
  """Returns the tables that flatten each channel's histogram, as Pillow does."""
  counts = histograms(levels)
  last = ranges(levels)[1][:, :, None]
  last_count = jnp.take_along_axis(counts, last, axis=2)
  total = levels.shape[1] * levels.shape[2]
  step = (total - last_count) // 255
  before = jnp.cumsum(counts, axis=2) - counts
  flat = jnp.minimum(floor_divide(step // 2 + before, jnp.maximum(step, 1)), 255)
  return jnp.where(step > 0, flat, _ALL).astype(jnp.uint8)


def autocontrast_tables(levels: LevelBatch) -> Tables:
  """Returns the tables that stretch each channel's range to 0..255, as Pillow does.

  Exactly floor(255 (i - low) / (high - low)), except where Pillow's double arithmetic ends just
  below an integer; those cases are looked up.
  """
  low, high = (end[:, :, None] for end in ranges(levels))
  span = jnp.maximum(high - low, 1)
  above = jnp.clip(_ALL - low, 0, span)
  stretched = floor_divide(255 * above, span)
  common = jnp.asarray(_COMMON_DIVISOR)[span]
  shortfall = jnp.asarray(_shortfalls())[low, span]
  # 255 * above / span is the integer 255 * j / common where above = j * span / common.
  j = floor_divide(above * common, span)
  is_integer = stretched * span == 255 * above
  stretched = stretched - jnp.where(is_integer, (shortfall >> j) & 1, 0)
  return jnp.where(high > low, stretched, _ALL).astype(jnp.uint8)


def ranges(levels: LevelBatch) -> tuple[Int[Array, "N C"], Int[Array, "N C"]]:
  """Returns the lowest and the highest level of each channel.

  Whole rows are compared first: reducing over the outer axis vectorises.
  """
  number, height, width, channels = levels.shape
  rows = levels.astype(jnp.int32).reshape(number, height, width * channels)
  low = rows.min(axis=1).reshape(number, width, channels).min(axis=1)
  high = rows.max(axis=1).reshape(number, width, channels).max(axis=1)
  return low, high


def floor_divide(numerator: Int[Array, "*n"], divisor: Int[Array, "*m"]) -> Int[Array, "..."]:
  """Divides non-negative integers below 2^22 by positive ones below 2^16, rounding down.

  Through floats, which vectorise; the half keeps approximate division away from the boundary.
  """
  quotient = (numerator.astype(jnp.float32) + 0.5) / divisor.astype(jnp.float32)
  return jnp.floor(quotient).astype(jnp.int32)


_ALL = np.arange(256, dtype=np.int32)[None, None, :]
_COMMON_DIVISOR = np.array([math.gcd(255, span) for span in range(256)], np.int32)


@functools.cache
def _shortfalls() -> np.ndarray:
  """Bit j of entry [low, span]: Pillow maps level low + j span / gcd(255, span) one too low.

  It computes int(i * s - low * s) with s = 255 / span in double precision.
  """
  table = np.zeros((256, 256), np.int32)
  low = np.arange(256)
  for span in range(1, 256):
    scale = 255.0 / span
    common = math.gcd(255, span)
    for j in range(common + 1):
      level = low + j * span // common
      computed = np.trunc(level * scale + -low * scale)
      short = (computed < 255 * j // common) & (low + span <= 255)
      if short.any():
        table[short, span] |= 1 << j  # only j <= 17 occur
  return table


def invert(levels: AnyLevels) -> AnyLevels:
  """Returns 255 - level."""
  return 255 - levels


def posterize(levels: AnyLevels, bits: Amount) -> AnyLevels:
  """Keeps the `bits` highest bits, 0..8; 0 gives black."""
  mask = (0xFF00 >> jnp.asarray(bits).astype(jnp.int32)) & 0xFF
  return levels & mask.astype(jnp.uint8)


def solarize(levels: AnyLevels, threshold: Amount) -> AnyLevels:
  """Inverts the levels at or above `threshold` in 0..256; 256 changes nothing."""
  # Integers, so that bytes are compared: level < t exactly if level < ceil(t).
  bound = jnp.ceil(jnp.asarray(threshold, jnp.float32)).astype(jnp.int16)
  return jnp.where(levels.astype(jnp.int16) < bound, levels, 255 - levels)


def solarize_add(levels: AnyLevels, addition: Amount) -> AnyLevels:
  """Adds `addition` (levels) to the levels below 128, clipped at 255."""
  moved = jnp.clip(levels.astype(jnp.int16) + jnp.asarray(addition).astype(jnp.int16), 0, 255)
  return jnp.where(levels < 128, moved.astype(jnp.uint8), levels)


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


def contrast(levels: Levels, factor: Factor) -> Levels:
  """Moves the picture from its mean grey level (0) through itself (1)."""
  grey = jnp.broadcast_to(mean_luminance(levels), levels.shape)
  return blend(grey, levels.astype(jnp.int32), factor)


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
  inner = np.zeros((height, width, 1), bool)
  inner[1:-1, 1:-1] = True
  return jnp.where(inner, mean.astype(jnp.uint8).reshape(levels.shape), levels)


def sharpness(levels: Levels, factor: Factor) -> Levels:
  """Moves the picture from its smoothed version (0) through itself (1)."""
  return blend(smooth(levels).astype(jnp.int32), levels.astype(jnp.int32), factor)
