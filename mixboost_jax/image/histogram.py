# SPDX-License-Identifier: Apache-2.0
"""Histograms of levels and the tables that autocontrast and equalize make of them."""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8

LevelBatch = UInt8[Array, "N H W C"]
Tables = UInt8[Array, "N C 256"]


def histograms(levels: LevelBatch) -> Int[Array, "N C 256"]:
  """Counts the levels of each channel of each picture.

  One flat scatter for the whole batch: a scatter per picture, batched, is many times slower.
  """
  number, channels = levels.shape[0], levels.shape[3]
  rows = jnp.arange(number)[:, None, None] * channels + jnp.arange(channels)[None, None, :]
  bins = rows * 256 + levels.reshape(number, -1, channels)
  counts = jnp.zeros(number * channels * 256, jnp.int32)
  counts = counts.at[bins.reshape(-1)].add(1, mode="promise_in_bounds")
  return counts.reshape(number, channels, 256)


def look_up(levels: LevelBatch, tables: Tables) -> LevelBatch:
  """Replaces each level by the entry of its channel's table."""
  number, _, _, channels = levels.shape
  rows = jnp.arange(number)[:, None, None] * channels + jnp.arange(channels)[None, None, :]
  index = rows * 256 + levels.reshape(number, -1, channels)
  return tables.reshape(-1).at[index].get(mode="promise_in_bounds").reshape(levels.shape)


def equalize_tables(levels: LevelBatch) -> Tables:
  """Returns the tables that flatten each channel's histogram, as Pillow does."""
  counts = histograms(levels)
  last = ranges(levels)[1][:, :, None]
  last_count = jnp.take_along_axis(counts, last, axis=2)
  total = levels.shape[1] * levels.shape[2]
  step = (total - last_count) // 255
  before = jnp.cumsum(counts, axis=2) - counts
  flat = jnp.minimum(floor_divide(step // 2 + before, jnp.maximum(step, 1)), 255)
  return jnp.where(step > 0, flat, _identity()).astype(jnp.uint8)


def autocontrast_tables(levels: LevelBatch) -> Tables:
  """Returns the tables that stretch each channel's range to 0..255, as Pillow does.

  Exactly floor(255 (i - low) / (high - low)), except where Pillow's double arithmetic ends just
  below an integer; those cases are looked up.
  """
  low, high = (end[:, :, None] for end in ranges(levels))
  span = jnp.maximum(high - low, 1)
  above = jnp.clip(_identity() - low, 0, span)
  stretched = floor_divide(255 * above, span)
  common = jnp.asarray(_COMMON_DIVISOR)[span]
  shortfall = jnp.asarray(_shortfalls())[low, span]
  # 255 * above / span is the integer 255 * j / common where above = j * span / common.
  j = floor_divide(above * common, span)
  is_integer = stretched * span == 255 * above
  stretched = stretched - jnp.where(is_integer, (shortfall >> j) & 1, 0)
  return jnp.where(high > low, stretched, _identity()).astype(jnp.uint8)


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


def _identity() -> Int[Array, "1 1 256"]:
  return jnp.arange(256)[None, None, :]


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
