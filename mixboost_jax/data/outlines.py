# SPDX-License-Identifier: Apache-2.0
"""The ten outlines of the `shapes` set: the global cue, which is the class.

An outline is kept as a table of signed distances (negative inside), from which any size and angle
is drawn with clean edges.
"""

import functools

import numpy as np

RESOLUTION = 64
"""Samples per side of a table."""
EXTENT = 1.5
"""A table spans [-EXTENT, EXTENT]; outlines reach to about 1 (`y` points down)."""

CLASS_NAMES = (
  "disk",
  "ring",
  "square",
  "triangle",
  "star",
  "cross",
  "crescent",
  "heart",
  "hourglass",
  "arrow",
)


def polygon_distance(x: np.ndarray, y: np.ndarray, corners: np.ndarray) -> np.ndarray:
  """Returns the signed distance to a closed polygon.

  Args:
    x: coordinates, any shape.
    y: coordinates, same shape.
    corners: float[n, 2], in order around the polygon.
  """
  distance = np.full(x.shape, np.inf)
  inside = np.zeros(x.shape, bool)
  for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
    dx, dy = x1 - x0, y1 - y0
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
    distance = np.minimum(distance, np.hypot(x - x0 - along * dx, y - y0 - along * dy))
    if dy:  # a ray to the right crosses this edge: even-odd rule
      inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * dx / dy)
  return np.where(inside, -distance, distance)


def _around(*radii: float, count: int) -> np.ndarray:
  """Corners at equal angles from the top, their radii repeating."""
  angle = np.arange(count) * 2 * np.pi / count - np.pi / 2
  radius = np.resize(radii, count)
  return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _cross(arm: float) -> np.ndarray:
  a, b = arm, 1.0
  corners = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)]
  corners += [(a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]
  return np.array(corners)


def _heart() -> np.ndarray:
  t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
  up = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
  return np.stack([16 * np.sin(t) ** 3, -up - 2.5], axis=1) / 15.5


def _arrow() -> np.ndarray:
  corners = [(0, -1.1), (0.85, -0.1), (0.3, -0.1), (0.3, 1.05)]
  corners += [(-0.3, 1.05), (-0.3, -0.1), (-0.85, -0.1)]
  return np.array(corners)


def _hourglass() -> np.ndarray:
  corners = [(-0.85, -1), (0.85, -1), (0.16, 0), (0.85, 1), (-0.85, 1), (-0.16, 0)]
  return np.array(corners)


@functools.cache
def distance_tables() -> np.ndarray:
  """Returns float32[10, RESOLUTION, RESOLUTION] signed distances in the order of CLASS_NAMES."""
  axis = (np.arange(RESOLUTION) + 0.5) / RESOLUTION * 2 * EXTENT - EXTENT
  x, y = np.meshgrid(axis, axis)
  radius = np.hypot(x, y)
  tables = {
    "disk": radius - 0.9,
    "ring": np.abs(radius - 0.75) - 0.27,
    "square": polygon_distance(x, y, 0.8 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])),
    "triangle": polygon_distance(x, y + 0.15, _around(1.2, count=3)),
    "star": polygon_distance(x, y, _around(1.2, 0.48, count=10)),
    "cross": polygon_distance(x, y, _cross(0.33)),
    "crescent": np.maximum(np.hypot(x - 0.15, y) - 1.05, 0.85 - np.hypot(x - 0.75, y)),
    "heart": polygon_distance(x, y, _heart()),
    "hourglass": polygon_distance(x, y, _hourglass()),
    "arrow": polygon_distance(x, y, _arrow()),
  }
  return np.stack([tables[name] for name in CLASS_NAMES]).astype(np.float32)
