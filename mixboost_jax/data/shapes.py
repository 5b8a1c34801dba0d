# SPDX-License-Identifier: Apache-2.0
"""A procedural set of 32x32 colour pictures: ten shapes, ten textures, clutter. No download.

The class is the *outline* of the one big object, a global cue. Its fill is a *texture*, a local
cue: with probability `texture_agreement` the one that belongs to the class, else one of the nine
others. Colours, contrast, position, size, angle, background and small textured scraps behind the
object say nothing about the class. Pictures of one id at different agreements differ in the fill
pattern only, so tests with agreeing, neutral and conflicting texture are paired.

A picture is a pure function of (seed, id, texture_agreement).
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32, UInt8

from mixboost_jax import keys
from mixboost_jax.array_types import ExampleIds, PRNGKey, Scalar
from mixboost_jax.data import outlines, textures
from mixboost_jax.data.dataset import Split
from mixboost_jax.data.outlines import CLASS_NAMES

SIZE = 32
"""Side of a picture in pixels."""
NUM_CLASSES = len(CLASS_NAMES)
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
  tables = (jnp.asarray(outlines.distance_tables()), jnp.asarray(textures.tiles()))
  agreement = jnp.float32(texture_agreement)
  images = np.empty((len(ids), SIZE, SIZE, 3), np.uint8)
  pending: list[tuple[int, jax.Array]] = []
  for start in range(0, len(ids), _CHUNK):
    chunk = ids[start : start + _CHUNK]
    padded = np.resize(chunk, _CHUNK)
    pending.append((start, _draw(key, jnp.asarray(padded), agreement, *tables)))
  for start, drawn in pending:
    stop = min(start + _CHUNK, len(ids))
    images[start:stop] = np.asarray(drawn)[: stop - start]
  return Split(images, (ids % NUM_CLASSES).astype(np.int32), ids)


def textures_of(
  ids: Int[np.ndarray, " N"], *, texture_agreement: float, seed: int = SEED
) -> Int32[np.ndarray, " N"]:
  """Returns which texture each of these pictures has: the class whose texture it is."""
  key = keys.stream_key(keys.root_key(seed), keys.Stream.DATA)
  scenes = _scenes(key, jnp.asarray(ids, jnp.int32), jnp.float32(texture_agreement))
  return np.asarray(scenes.texture, np.int32)


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
    bounds = (jnp.broadcast_to(jnp.array(bound, jnp.float32), shape) for bound in (low, high))
    bottom, top = bounds
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
  per_pixel = textures.RESOLUTION / textures.PERIOD
  column = jnp.floor((x / pose[2] + pose[0]) * per_pixel).astype(jnp.int32) % textures.RESOLUTION
  row = jnp.floor((y / pose[2] + pose[1]) * per_pixel).astype(jnp.int32) % textures.RESOLUTION
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
  to_index = outlines.RESOLUTION / (2 * outlines.EXTENT)
  index = [(w / radius + outlines.EXTENT) * to_index - 0.5 for w in (u, v)]
  cover = _cover(_bilinear(distances[label], index[0], index[1]) * radius)
  blend = _pattern(tiles[scene.texture], x, y, scene.fill_pose[0])
  picture = _paint(picture, cover, blend, scene.light[0], scene.dark[0])
  return jnp.round(jnp.clip(picture, 0, 1) * 255).astype(jnp.uint8)


def _paint(picture: Array, cover: Plane, blend: Plane, light: Array, dark: Array) -> Array:
  fill = dark[None, None] + blend[..., None] * (light - dark)[None, None]
  return picture + cover[..., None] * (fill - picture)
