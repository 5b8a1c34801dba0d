# SPDX-License-Identifier: Apache-2.0
"""Fog, snow, frost and spatter of -C, and the random fields that they and C-bar draw.

Fields are coloured by their spectrum, fractal (diamond-square) or Perlin noise.

Spatter is drops of water (severities 1 to 3) or mud (4 and 5). Mud is exact. Water needs an edge
detector and a distance transform; here edges are local maxima of the Sobel gradient above one
threshold (no hysteresis), and distances are exact up to 20 pixels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mixboost_jax.array_types import Image, PRNGKey
from mixboost_jax.corruptions._blur import motion_streak
from mixboost_jax.image.levels import from_levels, to_levels
from mixboost_jax.image.linear import correlate, gaussian_blur_of_width, zoom

Field = Float[Array, "S S"]
_LATTICE = 16 * 7 + 2
"""Perlin: 7 cells along a side at the first octave, 16 times as many at the last."""


@functools.cache
def spectrum(side: int, kind: str) -> np.ndarray:
  """Returns the amplitude per frequency, the middle of the array being frequency 0.

  With d the distance of (column, row) to (side / 2, side / 2): "blue" d, "brown" 1 / (d^2 + 1).
  """
  line = np.arange(side) - side / 2
  squared = line[:, None] ** 2 + line[None, :] ** 2
  return np.sqrt(squared) if kind == "blue" else 1 / (squared + 1)


def coloured(key: PRNGKey, *, side: int, kind: str) -> Field:
  """Returns a field of deviation 1 whose spectrum has uniform phases.

  Paper: Mintun et al. 2021, arXiv:2102.11273. As in its code, the phases of the right half are
  those of the left half turned by 180 degrees, not negated; the real part is kept; the mean is not
  removed. Zero where the field is constant (1x1).
  """
  half = side // 2
  draws = jax.random.uniform(key, (side * half + half,), maxval=2 * np.pi)
  left = draws[: side * half].reshape(side, half)
  columns = [left, left[::-1, ::-1]]
  if side % 2:
    upper = draws[side * half :]
    columns.insert(1, jnp.concatenate([upper, jnp.zeros(1), upper[::-1]])[:, None])
  phases = jnp.concatenate(columns, axis=1)
  amplitude = jnp.asarray(spectrum(side, kind), jnp.float32)
  waves = jax.lax.complex(amplitude * jnp.cos(phases), amplitude * jnp.sin(phases))
  field = jnp.fft.ifft2(jnp.roll(waves, (half, half), axis=(0, 1))).real
  deviation = field.std()
  return field / jnp.where(deviation > 0, deviation, 1)


def diamond_square(key: PRNGKey, *, side: int, decay: float) -> Field:
  """Returns a fractal height map in [0, 1] that wraps around; `side` is a power of two.

  The noise of a level is w U(-w, w): its amplitude is w^2. w starts at 100 and is divided by
  `decay` after every level.
  """
  if side < 2 or side & (side - 1):
    raise ValueError(f"diamond_square: side must be a power of two >= 2, got {side}.")
  levels = side.bit_length() - 1
  grid = jnp.zeros((1, 1))  # the points known so far, one per period
  wibble = 100.0
  noise = jax.random.uniform(key, (side * side - 1,), minval=-1.0)  # one draw compiles fastest
  for _ in range(levels):
    size = grid.shape[0]
    first = size * size - 1  # 3 (1 + 4 + 16 + ...) values went to the levels before
    draws = noise[first : first + 3 * size * size].reshape(3, size, size) * wibble**2
    pairs = grid + jnp.roll(grid, -1, 0)
    centre = (pairs + jnp.roll(pairs, -1, 1)) / 4 + draws[0]
    across = (centre + jnp.roll(centre, 1, 0) + grid + jnp.roll(grid, -1, 1)) / 4 + draws[1]
    down = (centre + jnp.roll(centre, 1, 1) + grid + jnp.roll(grid, -1, 0)) / 4 + draws[2]
    upper = jnp.stack([grid, across], -1).reshape(size, 2 * size)
    lower = jnp.stack([down, centre], -1).reshape(size, 2 * size)
    grid = jnp.stack([upper, lower], 1).reshape(2 * size, 2 * size)
    wibble /= decay
  grid = grid - grid.min()
  return grid / grid.max()


def perlin_turbulence(key: PRNGKey, *, height: int, width: int) -> Float[Array, "H W"]:
  """Returns sum_f |noise(f p)| / f over f = 1, 2, 4, 8, 16, with 7 cells along the longer side.

  Deviation: gradients are independent per lattice point, not read through a table of 256.
  """
  raw = jax.random.uniform(key, (_LATTICE, _LATTICE, 2), minval=-1.0)
  length = jnp.sqrt((raw**2).sum(-1, keepdims=True))
  gradients = raw / jnp.where(length > 0, length, 1)
  cells = 7 / max(height, width)
  total = jnp.zeros((height, width))
  for frequency in (1, 2, 4, 8, 16):
    rows, columns = (np.arange(side) * cells * frequency for side in (height, width))
    total = total + jnp.abs(_perlin(gradients, rows, columns)) / frequency
  return total


def _perlin(
  gradients: Float[Array, "L L 2"], rows: np.ndarray, columns: np.ndarray
) -> Float[Array, "H W"]:
  """Evaluates Perlin noise (times 1.5) on the product of two static axes."""
  i, j = np.floor(rows).astype(int), np.floor(columns).astype(int)
  dy, dx = (rows - i).astype(np.float32)[:, None], (columns - j).astype(np.float32)[None, :]

  def corner(a: int, b: int) -> Array:
    gradient = gradients[i + a][:, j + b]
    return jnp.asarray(dy - a) * gradient[..., 0] + jnp.asarray(dx - b) * gradient[..., 1]

  ease_y, ease_x = jnp.asarray(dy * dy * (3 - 2 * dy)), jnp.asarray(dx * dx * (3 - 2 * dx))
  left = corner(0, 0) + ease_y * (corner(1, 0) - corner(0, 0))
  right = corner(0, 1) + ease_y * (corner(1, 1) - corner(0, 1))
  return 1.5 * (left + ease_x * (right - left))


FROST_COLOURS = (
  (78.0, 149.0, 166.0),
  (201.0, 205.0, 214.0),
  (201.0, 205.0, 214.0),
  (138.0, 153.0, 165.0),
  (112.0, 123.0, 135.0),
)
"""Mean levels of the five photographs of frost that the benchmark draws from (measured)."""
FROST_DEVIATION = 26.0


def fog(key: PRNGKey, image: Image, *, amount: float, decay: float) -> Image:
  """Adds a fractal haze and rescales so that the brightest value stays possible."""
  height, width, _ = image.shape
  side = 1 << max((max(height, width) - 1).bit_length(), 1)  # the next power of two
  haze = diamond_square(key, side=side, decay=decay)
  brightest = image.max()
  return (image + amount * haze[:height, :width, None]) * brightest / (brightest + amount)


def grey(image: Image) -> Float[Array, "H W 1"]:
  """Returns .299 R + .587 G + .114 B (one channel: itself)."""
  if image.shape[2] == 1:
    return image
  return (image * jnp.array([0.299, 0.587, 0.114])[None, None, :]).sum(-1, keepdims=True)


def snow_layer(
  key: PRNGKey, *, shape: tuple[int, ...], mean: float, deviation: float, size: float, cut: float
) -> Float[Array, "H W 1"]:
  """Draws flakes: normal noise enlarged by `size`, 0 where it is below `cut`, in 8-bit levels."""
  flakes = mean + deviation * jax.random.normal(key, (*shape, 1))
  flakes = zoom(flakes, factor=size)
  return from_levels(to_levels(jnp.where(flakes < cut, 0.0, flakes)))


def whiten(image: Image, moving: Float[Array, "H W 1"], *, mix: float) -> Image:
  """Whitens a picture and adds flakes that have been streaked, upright and turned around."""
  moving = from_levels(to_levels(moving))
  white = mix * image + (1 - mix) * jnp.maximum(image, grey(image) * 1.5 + 0.5)
  return white + moving + moving[::-1, ::-1]


def snow(
  key: PRNGKey,
  image: Image,
  *,
  mean: float,
  deviation: float,
  size: float,
  cut: float,
  radius: int,
  sigma: float,
  mix: float,
) -> Image:
  """Lets snow (see `snow_layer`) fall at an angle of U(-135, -45) degrees.

  `radius` and `sigma` of its motion blur are in pixels; `mix` weighs the picture against its
  whitened version.
  """
  key_layer, key_angle = jax.random.split(key)
  layer = snow_layer(
    key_layer, shape=image.shape[:2], mean=mean, deviation=deviation, size=size, cut=cut
  )
  angle = jax.random.uniform(key_angle, (), minval=-135.0, maxval=-45.0)
  moving = motion_streak(layer, angle, radius=radius, sigma=sigma)
  return whiten(image, moving, mix=mix)


def frost_texture(key: PRNGKey, *, height: int, width: int) -> Float[Array, "H W 3"]:
  """Draws ice: sharp ridges along the zero lines of smooth fields, in one of five colours.

  Levels 0..255; before clipping the mean of each channel is exactly one of `FROST_COLOURS` and the
  deviation is `FROST_DEVIATION`.
  """
  key_colour, key_broad, key_fine = jax.random.split(key, 3)
  side = max(height, width, 2)
  broad = jnp.abs(coloured(key_broad, side=side, kind="brown"))
  fine = jnp.abs(coloured(key_fine, side=side, kind="brown"))
  ice = (jnp.exp(-4 * broad) + jnp.exp(-8 * fine) + 0.3 * fine)[:height, :width]
  spread = ice.std()
  ice = (ice - ice.mean()) / jnp.where(spread > 0, spread, 1) * FROST_DEVIATION
  which = jax.random.randint(key_colour, (), 0, len(FROST_COLOURS))
  colour = jnp.asarray(FROST_COLOURS)[which]
  return jnp.clip(ice[:, :, None] + colour[None, None, :], 0, 255)


def frost_procedural(key: PRNGKey, image: Image, *, keep: float, amount: float) -> Image:
  """Returns keep x + amount frost, with a drawn texture.

  Deviation: the benchmark pastes crops of photographs; a number got with this one is not a number
  of the benchmark.
  """
  height, width, channels = image.shape
  ice = frost_texture(key, height=height, width=width) / 255
  return keep * image + amount * (ice if channels == 3 else ice.mean(-1, keepdims=True))


Plane = Float[Array, "H W"]
WATER = (175 / 255, 238 / 255, 238 / 255)
MUD = (63 / 255, 42 / 255, 20 / 255)
_EDGE_THRESHOLD = 150.0
_FARTHEST = 20
_SOBEL = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
_RELIEF = np.array([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]])
_BOX = np.full((3, 3), 1 / 9)


def _filter(plane: Plane, kernel: np.ndarray, border: str = "reflect_101") -> Plane:
  return correlate(plane[..., None], kernel=kernel, border=border)[..., 0]


def edges(levels: Plane) -> Bool[Array, "H W"]:
  """Returns where the gradient is above the threshold and not below its two neighbours' on it."""
  right, down = _filter(levels, _SOBEL, "edge"), _filter(levels, _SOBEL.T, "edge")
  size = jnp.abs(right) + jnp.abs(down)
  padded = jnp.pad(size, 1)
  height, width = size.shape

  def at(y: int, x: int) -> Plane:
    return padded[1 + y : 1 + y + height, 1 + x : 1 + x + width]

  def peak(y: int, x: int) -> Bool[Array, "H W"]:
    return (size > at(-y, -x)) & (size >= at(y, x))

  steep = jnp.abs(down) > 2.4142 * jnp.abs(right)
  flat = jnp.abs(down) < 0.4142 * jnp.abs(right)
  same = right * down > 0
  diagonal = jnp.where(same, peak(1, 1), peak(1, -1))
  return (size > _EDGE_THRESHOLD) & jnp.where(
    flat, peak(0, 1), jnp.where(steep, peak(1, 0), diagonal)
  )


def distance_to(inside: Bool[Array, "H W"]) -> Plane:
  """Returns the Euclidean distance to the nearest True pixel, at most 20 pixels."""
  height, width = inside.shape
  far = float(_FARTHEST**2)

  def sweep(squared: Plane, axis: int) -> Plane:
    side = (height, width)[axis]
    reach = min(_FARTHEST, side - 1)
    pads = [(0, 0), (0, 0)]
    pads[axis] = (reach, reach)
    padded = jnp.pad(squared, pads, constant_values=far)
    best = jnp.full_like(squared, far)
    for offset in range(-reach, reach + 1):
      shifted = jax.lax.slice_in_dim(padded, reach + offset, reach + offset + side, axis=axis)
      best = jnp.minimum(best, shifted + float(offset**2))
    return best

  return jnp.sqrt(sweep(sweep(jnp.where(inside, 0.0, far), 0), 1))


def equalize_short(levels: Plane) -> Plane:
  """Equalizes a picture of whole levels 0..20 to 0..255."""
  total = levels.size
  counts = jnp.stack([(levels <= k).sum() for k in range(_FARTHEST + 1)])
  below = counts.astype(jnp.float32)
  first = jnp.where(below > 0, below, total).min()  # the darkest level that occurs maps to 0
  spread = jnp.maximum(total - first, 1.0)
  table = jnp.clip(jnp.round((below - first) * 255 / spread), 0, 255)
  constant = first == total
  return jnp.where(constant, levels, table[levels.astype(jnp.int32)])


def water_mask(liquid: Plane, *, strength: float) -> Plane:
  """Returns how bright water is at each pixel, at most `strength`."""
  levels = jnp.floor(jnp.clip(liquid, 0, 1) * 255)
  distance = jnp.floor(_filter(distance_to(edges(levels)), _BOX))
  relief = jnp.clip(_filter(equalize_short(distance), _RELIEF), 0, 255)
  wet = levels * jnp.round(_filter(relief, _BOX))
  brightest = wet.max()
  return wet / jnp.where(brightest > 0, brightest, 1) * strength


def mud_mask(liquid: Plane, *, cut: float, sigma: float) -> Plane:
  """Returns how opaque mud is at each pixel; less than .8 is none."""
  soft = gaussian_blur_of_width((liquid > cut).astype(jnp.float32)[..., None], sigma=sigma)[..., 0]
  return jnp.where(soft < 0.8, 0.0, soft)


def paint(image: Image, mask: Plane, *, colour: tuple[float, ...], cover: bool) -> Image:
  """Adds a colour where the mask is, covering the picture (mud) or not (water)."""
  channels = image.shape[2]
  tint = colour if channels == len(colour) else (sum(colour) / len(colour),) * channels
  kept = image * (1 - mask[..., None]) if cover else image
  return kept + mask[..., None] * jnp.asarray(tint)[None, None, :]


def liquid_layer(
  key: PRNGKey, *, shape: tuple[int, ...], mean: float, deviation: float, sigma: float, cut: float
) -> Plane:
  """Draws normal noise smoothed by `sigma` pixels, 0 (dry) where it is below `cut`."""
  noise = mean + deviation * jax.random.normal(key, (*shape, 1))
  smooth = gaussian_blur_of_width(noise, sigma=sigma)[..., 0]
  return jnp.where(smooth < cut, 0.0, smooth)


def spatter_approximate(
  key: PRNGKey, image: Image, *, cut: float, strength: float, mud: int, **noise: float
) -> Image:
  """Spatters a picture with `liquid_layer(cut=cut, **noise)`; see the module.

  `strength` is the largest brightness of water, or the sigma of the softening of mud, in pixels.
  """
  liquid = liquid_layer(key, shape=image.shape[:2], cut=cut, **noise)
  if mud:
    return paint(image, mud_mask(liquid, cut=cut, sigma=strength), colour=MUD, cover=True)
  return paint(image, water_mask(liquid, strength=strength), colour=WATER, cover=False)
