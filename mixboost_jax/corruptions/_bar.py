# SPDX-License-Identifier: Apache-2.0
"""C-bar corruptions: they paint over a picture, add or multiply a field, or move pixels.

Paper: Mintun et al. 2021, arXiv:2102.11273; `severity` is its real-valued strength, 0..10. Fields
(coloured noises, waves, plasma, Perlin) are made for a square of the longer side and cropped.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixboost_jax.array_types import Image, PRNGKey
from mixboost_jax.corruptions._blur import round_levels
from mixboost_jax.corruptions._weather import coloured, perlin_turbulence
from mixboost_jax.image.levels import from_levels, to_levels
from mixboost_jax.image.linear import along_axes, gaussian_blur_of_width, spline_matrix, zoom_matrix
from mixboost_jax.image.sampling import bilinear, cubic, positions

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
    ends = jnp.trunc(middle - arm), jnp.trunc(middle + arm)
    cover = line_cover(*ends, height=height, width=width)[..., None]
    image = from_levels(to_levels(image * (1 - cover) + cover * _GREY))
  return image


def line_cover(
  start: Float[Array, "2"], stop: Float[Array, "2"], *, height: int, width: int
) -> Float[Array, "H W"]:
  """Returns 1 - distance to the line, at least 0, for pixels beside the segment of two ends."""
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
  rays = {"radius": 0.25 * side, "exponent": 6.5 * severity / 50, "shortest": -float("inf")}
  light = _star(key_star, centre, shape=(height, width), **rays)
  return 1 + light[..., None] * (image - 1)


def blue_noise_sample(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Blackens pixels whose blue noise is at most .3 severity - 2.5."""
  height, width, _ = image.shape
  field = coloured(key, side=max(height, width), kind="blue")[:height, :width]
  return jnp.where(field[..., None] > 0.3 * severity - 2.5, image, 0.0)


def brownish_noise(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Adds brown noise of deviation 6.4 severity levels, independent per channel."""
  height, width, channels = image.shape
  side = max(height, width)
  fields = jax.vmap(lambda k: coloured(k, side=side, kind="brown"))(jax.random.split(key, channels))
  return image + 6.4 * severity / 255 * jnp.moveaxis(fields, 0, 2)[:height, :width]


def single_frequency_greyscale(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Adds one plane wave of amplitude 19.6 severity levels."""
  height, width, _ = image.shape
  key_first, key_second, key_swap, key_phase = jax.random.split(key, 4)
  first = jax.random.uniform(key_first, (), minval=-np.pi, maxval=np.pi)
  second = jnp.abs(first) * jax.random.uniform(key_second, (), minval=-1.0)
  swap = jax.random.bernoulli(key_swap)
  across, down = jnp.where(swap, second, first), jnp.where(swap, first, second)
  phase = jax.random.uniform(key_phase, (), maxval=2 * np.pi)
  rows, columns = positions(height, width)
  wave = jnp.sin(columns * across + rows * down + phase)
  return image + 19.6 * severity / 255 * wave[..., None]


def cocentric_sine_waves(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Adds saw-tooth rings around a random point, wavy along the angle, 12.8 severity levels high."""
  height, width, _ = image.shape
  side = max(height, width)
  draws = jax.random.uniform(key, (5,))
  rows, columns = positions(height, width)
  right, down = columns - side * draws[0], rows - side * draws[1]
  waves = jnp.sin(jnp.arctan2(right, down) * 10 * draws[2]) * side / 10 * draws[3]
  ring = jnp.maximum(side / 10 * draws[4], 1e-6)
  saw = jnp.mod(jnp.sqrt(right**2 + down**2) + waves, ring) / ring - 0.5
  return image + 12.8 * severity / 255 * saw[..., None]


def plasma_noise(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Mixes in colourful sines that were bent 4 to 6 times, weight 6.4 severity / 255."""
  height, width, channels = image.shape
  key_real, key_bends = jax.random.split(key)
  draws = jax.random.uniform(key_real, (3,))
  time, sharpness = 6 * np.pi * draws[0], 0.5 + 0.5 * draws[1]
  scale = (0.075 + 0.125 * draws[2]) * max(height, width)
  bends = jax.random.randint(key_bends, (), 4, 7)
  y, x = (place / scale for place in positions(height, width))
  for bend in range(6):
    size = (2.25 - sharpness) ** bend
    right = jnp.cos(y * 1.93**bend + time / 1.15**bend) / size
    down = jnp.sin(x * 1.93**bend + time / 1.15**bend) / size
    active = bend < bends
    x = jnp.where(active, x + right - 0.3 * down, x)
    y = jnp.where(active, y + down + 0.3 * right, y)
  red, blue = jnp.sin(x - time), jnp.sin(y + time)
  green = jnp.sin((x + y + jnp.sin(time)) * 0.5)
  pattern = jnp.stack([red, green, blue], -1)
  if channels != 3:
    pattern = pattern.mean(-1, keepdims=True)
  weight = 6.4 * severity / 255
  return (1 - weight) * image + weight * pattern


def perlin_noise(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Mixes in Perlin turbulence, weight .05 severity."""
  height, width, _ = image.shape
  turbulence = perlin_turbulence(key, height=height, width=width)
  weight = 0.05 * severity
  return (1 - weight) * image + weight * jnp.clip(0.5 * turbulence + 0.5, 0, 1)[..., None]


def pinch_and_twirl(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Pinches and turns a disk in each of 3x3 cells (5x5 from 224 pixels on).

  Cells are done one after the other, columns of cells outside, and a disk may read the rim of a
  neighbour that is done; rows and columns that the cells do not fill stay.
  """
  height, width, _ = image.shape
  number = 5 if min(height, width) >= 224 else 3
  size = min(height, width) // number
  if size == 0:
    return image
  signs = jax.random.rademacher(key, (number, number), dtype=jnp.float32)
  for i, j in itertools.product(range(number), repeat=2):
    top, left = j * size, i * size
    angle = signs[i, j] * severity * np.pi / 20
    rows, columns = _pinched(size, angle, amount=0.04 * severity + 0.1)
    cell = bilinear(image, rows + top, columns + left, border="zero")
    image = image.at[top : top + size, left : left + size].set(cell)
  return image


def _pinched(size: int, angle: Array, *, amount: float) -> tuple[Array, Array]:
  """Returns where the pixels of one cell read, relative to its corner."""
  radius = size / 2
  y, x = np.meshgrid(np.arange(size) - radius, np.arange(size) - radius, indexing="ij")
  distance = np.hypot(y, x)
  moves = (distance <= radius) & (np.round(distance, 3) != 0)
  share = np.where(moves, distance, radius) / radius
  stretch = np.sin(np.pi / 2 * share) ** -amount
  dy, dx = jnp.asarray(y * stretch, jnp.float32), jnp.asarray(x * stretch, jnp.float32)
  turn = angle * jnp.asarray((1 - share) ** 2, jnp.float32)
  rows = radius + dy * jnp.cos(turn) - dx * jnp.sin(turn)
  columns = radius + dy * jnp.sin(turn) + dx * jnp.cos(turn)
  own_rows, own_columns = positions(size, size)
  return jnp.where(moves, rows, own_rows), jnp.where(moves, columns, own_columns)


def ripple(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Moves each axis by a wave of .0025 severity side pixels; black outside."""
  side = max(image.shape[:2])
  key_length, key_phase = jax.random.split(key)
  lengths = side * jax.random.uniform(key_length, (2,), minval=0.1, maxval=0.3)
  phases = jax.random.uniform(key_phase, (2,), maxval=2 * np.pi)
  moved = [
    place + 0.0025 * severity * side * jnp.sin(2 * np.pi * place / length + phase)
    for place, length, phase in zip(positions(*image.shape[:2]), lengths, phases, strict=True)
  ]
  return bilinear(image, *moved, border="zero")


def circular_motion_blur(image: Image, *, severity: float) -> Image:
  """Averages 21 rotations up to +-1.5 severity degrees, by cubic splines; black outside."""
  height, width, _ = image.shape
  spline = along_axes(image, rows=spline_matrix(height), columns=spline_matrix(width))
  places = np.linspace(-1, 1, 21)
  weights = np.exp(-2 * places**2)
  middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
  y, x = (p - m for p, m in zip(positions(height, width), (middle_y, middle_x), strict=True))

  def add(total: Array, turn: Float[Array, "3"]) -> tuple[Array, None]:
    cos, sin, weight = turn[0], turn[1], turn[2]
    rows, columns = cos * y + sin * x + middle_y, cos * x - sin * y + middle_x
    return total + weight * cubic(spline, rows, columns), None

  angles = np.deg2rad(1.5 * severity * places)
  turns = np.stack([np.cos(angles), np.sin(angles), weights / weights.sum()], 1)
  return jax.lax.scan(add, jnp.zeros_like(image), jnp.asarray(turns, jnp.float32))[0]


def transverse_chromatic_abberation(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Enlarges the three channels by 1, 1 + .025 severity and 1 + .05 severity, in random order.

  By cubic B-splines without their prefilter, so that even factor 1 smooths.
  """
  height, width, channels = image.shape
  factors = [1 + 0.025 * severity * i for i in range(3)]
  zoomed = [
    along_axes(image, rows=zoom_matrix(height, z, 3), columns=zoom_matrix(width, z, 3))
    for z in factors
  ]
  order = jax.random.permutation(key, 3)
  stacked = round_levels(jnp.stack(zoomed))
  return jnp.stack([stacked[order[c]][..., c] for c in range(channels)], -1)


def caustics(
  time: Array, size: Array, *, height: int, width: int
) -> Float[Array, "{height} {width}"]:
  """Returns the light at the bottom of water, in [0, 1]; `size` is pixels per period."""
  y, x = (jnp.mod(place / size, 1.0) * 6.28318530718 - 250 for place in positions(height, width))
  i, j, total = y, x, jnp.ones((height, width))
  for n in range(5):
    t = time * (1 - 3.5 / (n + 1))
    i, j = y + jnp.cos(t - i) + jnp.sin(t + j), x + jnp.sin(t - j) + jnp.cos(t + i)
    down = y * 0.005 / jnp.where(jnp.sin(i + t) == 0, 1e-12, jnp.sin(i + t))
    right = x * 0.005 / jnp.where(jnp.cos(j + t) == 0, 1e-12, jnp.cos(j + t))
    total += 1 / jnp.sqrt(down**2 + right**2)
  return jnp.clip(jnp.abs(1.17 - (total / 5) ** 1.4) ** 8, 0, 1)


def caustic_refraction(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Looks at the picture through moving water: refracted and lit by its caustics."""
  height, width, _ = image.shape
  side = max(height, width)
  draws = jax.random.uniform(key, (2,))
  time, size = 0.5 + 1.5 * draws[0], (0.75 + 0.5 * draws[1]) * side
  light = caustics(time, size, height=height, width=width)[..., None]
  light = jnp.pad(gaussian_blur_of_width(light, sigma=1.0, border="reflect")[..., 0], 1)
  down = light[2:, 1:-1] - light[:-2, 1:-1]
  right = light[1:-1, 2:] - light[1:-1, :-2]
  length = jnp.sqrt(down**2 + right**2 + 1)
  cos = 1 / length  # of the angle between the line of sight and the normal of the surface
  cos_after = jnp.sqrt(1 - (1 - cos**2) / 16)
  bend = jnp.where(cos >= 1 - 1e-3, 0.0, (cos_after - cos / 4) / length) * 0.05 * severity * side
  rows, columns = positions(height, width)
  moved_rows = rows + jnp.round(bend * down, 3)
  moved_columns = columns + jnp.round(bend * right, 3)
  out = bilinear(image, moved_rows, moved_columns, border="zero")
  return out + ((down - right) * 0.2 * severity)[..., None]
