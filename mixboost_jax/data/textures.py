# SPDX-License-Identifier: Apache-2.0
"""The ten fill patterns of the `shapes` set: the local cue, which goes with a class only mostly.

A pattern is kept as a periodic tile with values in [0, 1], a blend between two colours.
"""

import functools

import numpy as np

RESOLUTION = 64
"""Samples per side of a tile."""
PERIOD = 16.0
"""Side of a tile in pixels of a picture."""

TEXTURE_NAMES = (
  "horizontal stripes",
  "vertical stripes",
  "diagonal stripes",
  "checks",
  "dots",
  "mesh",
  "plain",
  "speckle",
  "zigzag",
  "wide stripes",
)


def _bands(phase: np.ndarray) -> np.ndarray:
  """Light and dark bands of equal width with soft edges, one pair per unit of `phase`."""
  return np.clip(0.5 + 1.5 * np.sin(2 * np.pi * phase), 0, 1)


def _speckle(cells: int) -> np.ndarray:
  """Random cells, half of them light; the generator only decides which."""
  light = np.random.default_rng(7).permutation(cells * cells) < cells * cells // 2
  side = RESOLUTION // cells
  return np.kron(light.reshape(cells, cells), np.ones((side, side)))


@functools.cache
def tiles() -> np.ndarray:
  """Returns float32[10, RESOLUTION, RESOLUTION] in the order of TEXTURE_NAMES."""
  axis = (np.arange(RESOLUTION) + 0.5) / RESOLUTION  # of one period
  x, y = np.meshgrid(axis, axis)
  wave_x, wave_y = np.sin(6 * np.pi * x), np.sin(6 * np.pi * y)
  fold = np.abs((3 * x) % 1 - 0.5)
  patterns = {
    "horizontal stripes": _bands(4 * y),
    "vertical stripes": _bands(4 * x),
    "diagonal stripes": _bands(3 * (x + y)),
    "checks": np.clip(0.5 + 1.5 * wave_x * wave_y, 0, 1),
    "dots": np.clip(0.5 + 1.2 * (wave_x + wave_y - 0.8), 0, 1),
    "mesh": np.clip(0.5 + 2.5 * (np.maximum(wave_x, wave_y) - 0.75), 0, 1),
    "plain": np.full_like(x, 0.5),
    "speckle": _speckle(8),
    "zigzag": _bands(4 * y + 1.2 * fold),
    "wide stripes": _bands(2 * y),
  }
  return np.stack([patterns[name] for name in TEXTURE_NAMES]).astype(np.float32)
