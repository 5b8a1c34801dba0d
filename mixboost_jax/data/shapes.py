# SPDX-License-Identifier: Apache-2.0
"""A procedural set of 32x32 colour pictures: ten shapes, ten textures, clutter. No download.

The class is the *outline* of the one big object, a global cue. Its fill is a *texture*, a local
cue: with probability `texture_agreement` the one that belongs to the class, else one of the nine
others. Colours, contrast, position, size, angle, background and small textured scraps behind the
object say nothing about the class. Pictures of one id at different agreements differ in the fill
pattern only, so tests with agreeing, neutral and conflicting texture are paired.

A picture is a pure function of (seed, id, texture_agreement). An outline is kept as a table of
signed distances (negative inside), from which any size and angle is drawn with clean edges; a
texture as a periodic tile with values in [0, 1], a blend between two colours.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from mixboost_jax import keys
from mixboost_jax.array_types import ExampleIds, PRNGKey, Scalar
from mixboost_jax.data.dataset import Split

SIZE = 32
"""Side of a picture in pixels."""
RESOLUTION = 64
"""Samples per side of a table."""
EXTENT = 1.5
"""A table spans [-EXTENT, EXTENT]; outlines reach to about 1 (`y` points down)."""
PERIOD = 16.0
"""Side of a tile in pixels of a picture."""
NUM_CLASSES = 10
SEED = 0
"""Root of the published set: the pictures do not change with the seed of a training run."""
_CHUNK = 500  # pictures per compiled call: one shape, one compilation
_SCRAPS = 3  # pieces of clutter per picture

Plane = Float[Array, "H W"]


class Scene(NamedTuple):
  """Everything that is drawn at random for one picture, before a pixel exists."""

  texture: Int[Array, ""]
  pose: Float[Array, " 4"]  # centre x, y (px), radius (px), angle (radians)
  scrap_texture: Int[Array, " S"]
  scrap_pose: Float[Array, "S 5"]  # centre x, y, half axes (px), angle
  fill_pose: Float[Array, "F 4"]  # texture of object and scraps: phase x, y (px), scale, angle
  light: Float[Array, "F 3"]  # darker and lighter end of the fill of object and scraps
  dark: Float[Array, "F 3"]
  background: Float[Array, "4 4 3"]  # colours at a coarse grid


def generate(ids: Int[np.ndarray, " N"], *, texture_agreement: float, seed: int = SEED) -> Split:
  """Draws the pictures with these ids.

  Args:
    ids: which examples, each in [0, 2**31); the class of an id is `id % 10`.
    texture_agreement: probability in [0, 1] that the texture is that of the class; 0.1 carries no
      information, 0 contradicts the class every time.
    seed: root of the set.
  """
  ids = np.asarray(ids, np.int32)
  key = keys.stream_key(keys.root_key(seed), keys.Stream.DATA)
  tables = (jnp.asarray(distance_tables()), jnp.asarray(tiles()))
  agreement = jnp.float32(texture_agreement)
  images = np.empty((len(ids), SIZE, SIZE, 3), np.uint8)
  chunks = [ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK)]
  drawn = [
    _draw(key, jnp.asarray(np.resize(chunk, _CHUNK)), agreement, *tables) for chunk in chunks
  ]
  for i, (chunk, pictures) in enumerate(zip(chunks, drawn, strict=True)):
    images[i * _CHUNK :][: len(chunk)] = np.asarray(pictures)[: len(chunk)]
  return Split(images, (ids % NUM_CLASSES).astype(np.int32), ids)


@jax.jit
def _scenes(key: PRNGKey, ids: ExampleIds, agreement: Scalar) -> Scene:
  return jax.vmap(functools.partial(_sample_scene, agreement=agreement))(
    keys.fold_in_each(key, ids), ids % NUM_CLASSES
  )


@jax.jit
def _draw(
  key: PRNGKey, ids: ExampleIds, agreement: Scalar, distances: Array, tiles: Array
) -> UInt8[Array, "N H W 3"]:
  scenes = _scenes(key, ids, agreement)
  render = functools.partial(_render, distances=distances, tiles=tiles)
  return jax.vmap(render)(scenes, ids % NUM_CLASSES)


class _Draws:
  """Hands out one vector of uniform numbers piece by piece: one generator call compiles fast."""

  def __init__(self, key: PRNGKey, count: int):
    self._left = jax.random.uniform(key, (count,))

  def take(self, *shape: int, low: Sequence[float] | float, high: Sequence[float] | float) -> Array:
    """Returns the next numbers, between `low` and `high` (one for all, or per last axis)."""
    size = math.prod(shape)
    values, self._left = self._left[:size].reshape(shape), self._left[size:]
    bottom, top = (jnp.broadcast_to(jnp.array(b, jnp.float32), shape) for b in (low, high))
    return bottom + values * (top - bottom)

  def choose(self, *shape: int, start: int = 0) -> Int[Array, "..."]:
    """Returns integers in [start, NUM_CLASSES)."""
    values = jnp.floor(self.take(*shape, low=start, high=NUM_CLASSES)).astype(jnp.int32)
    return jnp.minimum(values, NUM_CLASSES - 1)


def _sample_scene(key: PRNGKey, label: Int[Array, ""], *, agreement: Scalar) -> Scene:
  draws = _Draws(key, 128)
  fills, middle, far = 1 + _SCRAPS, SIZE / 2, float(SIZE)
  agrees = draws.take(low=0, high=1) < agreement
  other = (label + draws.choose(start=1)) % NUM_CLASSES
  level = draws.take(low=0.2, high=0.8)
  # The object is lighter than a dark background and darker than a light one; scraps are either.
  side = jnp.sign(draws.take(fills, 1, low=-1, high=1)).at[0].set(jnp.where(level < 0.5, 1, -1))
  base = level + side * draws.take(fills, 1, low=0.3, high=0.45)
  base = jnp.tile(base, (1, 3)) + draws.take(fills, 3, low=-0.15, high=0.15)
  contrast = jnp.tile(draws.take(fills, 1, low=0.1, high=0.22), (1, 3))
  return Scene(
    texture=jnp.where(agrees, label, other),
    pose=draws.take(
      4, low=(middle - 3, middle - 3, 9.5, -0.45), high=(middle + 3, middle + 3, 13, 0.45)
    ),
    scrap_texture=draws.choose(_SCRAPS),
    scrap_pose=draws.take(_SCRAPS, 5, low=(0, 0, 1.5, 3, 0), high=(far, far, 3, 6, 3.15)),
    fill_pose=draws.take(fills, 4, low=(0, 0, 0.85, -0.2), high=(16, 16, 1.2, 0.2)),
    light=base + contrast,
    dark=base - contrast,
    background=level + draws.take(4, 4, 3, low=-0.15, high=0.15),
  )


def _turn(x: Plane, y: Plane, angle: Scalar) -> tuple[Plane, Plane]:
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  return cos * x + sin * y, cos * y - sin * x


def _bilinear(table: Float[Array, "R R"], x: Plane, y: Plane) -> Plane:
  """Reads `table` at fractional indices, clamped to its edge."""
  top = table.shape[0] - 1.001
  x, y = jnp.clip(x, 0, top), jnp.clip(y, 0, top)
  column, row = jnp.floor(x).astype(jnp.int32), jnp.floor(y).astype(jnp.int32)
  right, down = x - column, y - row
  upper = table[row, column] * (1 - right) + table[row, column + 1] * right
  lower = table[row + 1, column] * (1 - right) + table[row + 1, column + 1] * right
  return upper * (1 - down) + lower * down


def _pattern(tile: Float[Array, "R R"], x: Plane, y: Plane, pose: Float[Array, " 4"]) -> Plane:
  """Reads a periodic tile, turned, scaled and shifted, at the nearest sample."""
  x, y = _turn(x, y, pose[3])
  per_pixel = RESOLUTION / PERIOD
  column = jnp.floor((x / pose[2] + pose[0]) * per_pixel).astype(jnp.int32) % RESOLUTION
  row = jnp.floor((y / pose[2] + pose[1]) * per_pixel).astype(jnp.int32) % RESOLUTION
  return tile[row, column]


def _cover(distance_px: Plane) -> Plane:
  """Share of a pixel that lies inside, from its signed distance to the edge."""
  return jnp.clip(0.5 - distance_px, 0, 1)


def _render(scene: Scene, label: Int[Array, ""], *, distances: Array, tiles: Array) -> Array:
  axis = jnp.arange(SIZE, dtype=jnp.float32) + 0.5
  x, y = jnp.meshgrid(axis, axis)
  picture = jax.image.resize(scene.background, (SIZE, SIZE, 3), "linear")
  for i in range(_SCRAPS):
    center_x, center_y, half_x, half_y, angle = scene.scrap_pose[i]
    u, v = _turn(x - center_x, y - center_y, angle)
    cover = _cover((jnp.sqrt((u / half_x) ** 2 + (v / half_y) ** 2) - 1) * half_x)
    blend = _pattern(tiles[scene.scrap_texture[i]], x, y, scene.fill_pose[i + 1])
    picture = _paint(picture, cover, blend, scene.light[i + 1], scene.dark[i + 1])
  center_x, center_y, radius, angle = scene.pose
  u, v = _turn(x - center_x, y - center_y, angle)
  to_index = RESOLUTION / (2 * EXTENT)
  index = [(w / radius + EXTENT) * to_index - 0.5 for w in (u, v)]
  cover = _cover(_bilinear(distances[label], index[0], index[1]) * radius)
  blend = _pattern(tiles[scene.texture], x, y, scene.fill_pose[0])
  picture = _paint(picture, cover, blend, scene.light[0], scene.dark[0])
  return jnp.round(jnp.clip(picture, 0, 1) * 255).astype(jnp.uint8)


def _paint(picture: Array, cover: Plane, blend: Plane, light: Array, dark: Array) -> Array:
  fill = dark[None, None] + blend[..., None] * (light - dark)[None, None]
  return picture + cover[..., None] * (fill - picture)


def polygon_distance(x: np.ndarray, y: np.ndarray, corners: np.ndarray) -> np.ndarray:
  """Returns the signed distance of points to a closed polygon, corners float[n, 2] in order."""
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


_SQUARE = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
_HOURGLASS = [(-0.85, -1), (0.85, -1), (0.16, 0), (0.85, 1), (-0.85, 1), (-0.16, 0)]
_ARROW = [(0, -1.1), (0.85, -0.1), (0.3, -0.1), (0.3, 1.05)]
_ARROW += [(-0.3, 1.05), (-0.3, -0.1), (-0.85, -0.1)]
Drawing = Callable[[np.ndarray, np.ndarray], np.ndarray]
_OUTLINES: dict[str, Drawing] = {
  "disk": lambda x, y: np.hypot(x, y) - 0.9,
  "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.75) - 0.27,
  "square": lambda x, y: polygon_distance(x, y, 0.8 * np.array(_SQUARE)),
  "triangle": lambda x, y: polygon_distance(x, y + 0.15, _around(1.2, count=3)),
  "star": lambda x, y: polygon_distance(x, y, _around(1.2, 0.48, count=10)),
  "cross": lambda x, y: polygon_distance(x, y, _cross(0.33)),
  "crescent": lambda x, y: np.maximum(np.hypot(x - 0.15, y) - 1.05, 0.85 - np.hypot(x - 0.75, y)),
  "heart": lambda x, y: polygon_distance(x, y, _heart()),
  "hourglass": lambda x, y: polygon_distance(x, y, np.array(_HOURGLASS)),
  "arrow": lambda x, y: polygon_distance(x, y, np.array(_ARROW)),
}
CLASS_NAMES = tuple(_OUTLINES)


@functools.cache
def distance_tables() -> np.ndarray:
  """Returns float32[10, RESOLUTION, RESOLUTION] signed distances in the order of CLASS_NAMES."""
  axis = (np.arange(RESOLUTION) + 0.5) / RESOLUTION * 2 * EXTENT - EXTENT
  x, y = np.meshgrid(axis, axis)
  return np.stack([outline(x, y) for outline in _OUTLINES.values()]).astype(np.float32)


def _bands(phase: np.ndarray) -> np.ndarray:
  """Light and dark bands of equal width with soft edges, one pair per unit of `phase`."""
  return np.clip(0.5 + 1.5 * np.sin(2 * np.pi * phase), 0, 1)


def _speckle(cells: int) -> np.ndarray:
  """Random cells, half of them light; the generator only decides which."""
  light = np.random.default_rng(7).permutation(cells * cells) < cells * cells // 2
  side = RESOLUTION // cells
  return np.kron(light.reshape(cells, cells), np.ones((side, side)))


def _wave(x: np.ndarray) -> np.ndarray:
  return np.sin(6 * np.pi * x)


_TEXTURES: dict[str, Drawing] = {
  "horizontal stripes": lambda x, y: _bands(4 * y),
  "vertical stripes": lambda x, y: _bands(4 * x),
  "diagonal stripes": lambda x, y: _bands(3 * (x + y)),
  "checks": lambda x, y: np.clip(0.5 + 1.5 * _wave(x) * _wave(y), 0, 1),
  "dots": lambda x, y: np.clip(0.5 + 1.2 * (_wave(x) + _wave(y) - 0.8), 0, 1),
  "mesh": lambda x, y: np.clip(0.5 + 2.5 * (np.maximum(_wave(x), _wave(y)) - 0.75), 0, 1),
  "plain": lambda x, y: np.full_like(x, 0.5),
  "speckle": lambda x, y: _speckle(8),
  "zigzag": lambda x, y: _bands(4 * y + 1.2 * np.abs((3 * x) % 1 - 0.5)),
  "wide stripes": lambda x, y: _bands(2 * y),
}
TEXTURE_NAMES = tuple(_TEXTURES)


@functools.cache
def tiles() -> np.ndarray:
  """Returns float32[10, RESOLUTION, RESOLUTION] in the order of TEXTURE_NAMES."""
  axis = (np.arange(RESOLUTION) + 0.5) / RESOLUTION  # of one period
  x, y = np.meshgrid(axis, axis)
  return np.stack([texture(x, y) for texture in _TEXTURES.values()]).astype(np.float32)
