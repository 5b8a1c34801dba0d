# SPDX-License-Identifier: Apache-2.0
"""C-bar corruptions that paint over a picture: checkerboard, lines and sparkles.

Paper: Mintun et al. 2021, arXiv:2102.11273; `severity` is its real-valued strength, 0..10.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixboost_jax.array_types import Image, PRNGKey
from mixboost_jax.corruptions.bar_noise import positions
from mixboost_jax.image.quantize import from_levels, to_levels

_GREY = 128 / 255
_MOST_CELLS = 41
_MOST_RAYS = 200


def checkerboard_cutout(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Greys the cells of one colour of a turned checkerboard, each with probability severity / 10.

  As in the original, indices are cut towards 0 and negative ones count from the end.
  """
  height, width, _ = image.shape
  side = max(height, width)
  key_turn, key_scale, key_cells = jax.random.split(key, 3)
  turn = jax.random.uniform(key_turn, (), maxval=2 * np.pi)
  scale = jnp.maximum(side * jax.random.uniform(key_scale, (), minval=0.1, maxval=0.25), 1.0)
  cells = jax.random.bernoulli(key_cells, severity / 10, (_MOST_CELLS, _MOST_CELLS))
  number = jnp.clip(jnp.floor(4 * side / scale), 1, _MOST_CELLS).astype(jnp.int32)
  rows, columns = positions(height, width)
  u = (jnp.cos(turn) * rows + jnp.sin(turn) * columns) / scale
  v = (-jnp.sin(turn) * rows + jnp.cos(turn) * columns) / scale
  same_colour = jnp.floor(jnp.mod(u, 2)) == jnp.floor(jnp.mod(v, 2))
  i, j = (jnp.mod(jnp.trunc(place).astype(jnp.int32), number) for place in (u, v))
  return jnp.where((same_colour & cells[i, j])[..., None], _GREY, image)


def lines(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Draws int(.1 severity side) grey anti-aliased lines, each blended over the ones before."""
  height, width, _ = image.shape
  side = max(height, width)
  key_turn, key_lines = jax.random.split(key)
  turn, spread = jax.random.uniform(key_turn, (2,))
  spread = 0.1 + 0.9 * spread
  for draws in jax.random.uniform(key_lines, (int(0.1 * severity * side), 3)):
    angle = 2 * np.pi * (turn + spread * (draws[2] - 0.5))
    middle, arm = draws[:2] * side, jnp.stack([jnp.cos(angle), jnp.sin(angle)]) * side
    cover = line_cover(
      jnp.trunc(middle - arm), jnp.trunc(middle + arm), height=height, width=width
    )[..., None]
    image = from_levels(to_levels(image * (1 - cover) + cover * _GREY))
  return image


def line_cover(
  start: Float[Array, "2"], stop: Float[Array, "2"], *, height: int, width: int
) -> Float[Array, "H W"]:
  """Returns 1 - distance to the line, at least 0, for pixels beside the segment.

  Args:
    start: row and column of one end.
    stop: of the other.
    height: of the picture.
    width: of the picture.
  """
  rows, columns = positions(height, width)
  along = stop - start
  length = jnp.maximum(jnp.sqrt((along**2).sum()), 1e-6)
  down, right = rows - start[0], columns - start[1]
  distance = jnp.abs(down * along[1] - right * along[0]) / length
  # ends are cut across the longer direction, as drawing pixel by pixel does
  steep = jnp.abs(along[0]) > jnp.abs(along[1])
  place = jnp.where(steep, down * jnp.sign(along[0]), right * jnp.sign(along[1]))
  beside = (place >= 0) & (place <= jnp.abs(along).max())
  return jnp.where(beside, jnp.maximum(1 - distance, 0.0), 0.0)


def _star(
  key: PRNGKey,
  centre: Float[Array, "2"],
  *,
  shape: tuple[int, int],
  radius: float,
  exponent: float,
  shortest: float,
) -> Float[Array, "H W"]:
  """Returns the light in [0, 1] of a star of 50 to 199 rays of random length around a centre."""
  key_rays, key_lengths = jax.random.split(key)
  rays = jax.random.randint(key_rays, (), 50, _MOST_RAYS)
  lengths = radius * (1 + 0.25 * jax.random.normal(key_lengths, (_MOST_RAYS,)))
  lengths = jnp.maximum(lengths, shortest)
  rows, columns = positions(*shape)
  down, right = rows - centre[0], columns - centre[1]
  place = (jnp.arctan2(right, down) + np.pi) / (2 * np.pi) * rays
  index = jnp.trunc(place).astype(jnp.int32)
  share = place - index
  first, second = lengths[index % rays], lengths[(index + 1) % rays]
  length = first + share * (second - first)
  glow = (length**2 / (down**2 + right**2 + 1e-4)) ** exponent
  return jnp.clip((1 - (share - 0.5) ** 2) * glow, 0, 1)


def sparkles(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Adds five white stars of radius .01 severity side."""
  height, width, _ = image.shape
  side = max(height, width)
  radius = 0.01 * severity * side

  def light(star_key: PRNGKey) -> Float[Array, "H W"]:
    key_centre, key_star = jax.random.split(star_key)
    centre = jax.random.uniform(key_centre, (2,), maxval=float(side))
    return _star(key_star, centre, shape=(height, width), radius=radius, exponent=1.0, shortest=1.0)

  # white added star after star: what is missing to white shrinks by 1 - light each time
  dark = jnp.prod(1 - jax.vmap(light)(jax.random.split(key, 5)), axis=0)
  return 1 - (1 - image) * dark[..., None]


def inverse_sparkles(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Whitens all but one star of radius side / 4."""
  height, width, _ = image.shape
  side = max(height, width)
  key_centre, key_star = jax.random.split(key)
  centre = jax.random.uniform(key_centre, (2,), minval=0.25 * side, maxval=0.75 * side)
  light = _star(
    key_star,
    centre,
    shape=(height, width),
    radius=0.25 * side,
    exponent=6.5 * severity / 50,
    shortest=-float("inf"),
  )
  return 1 + light[..., None] * (image - 1)
