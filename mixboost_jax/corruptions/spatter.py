# SPDX-License-Identifier: Apache-2.0
"""Spatter of -C: drops of water (severities 1 to 3) or mud (4 and 5).

Mud is exact. Water needs an edge detector and a distance transform; here edges are local maxima of
the Sobel gradient above one threshold (no hysteresis), and distances are exact up to 20 pixels.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mixboost_jax.array_types import Image, PRNGKey
from mixboost_jax.image.axes import gaussian_blur
from mixboost_jax.image.correlate import correlate

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
  soft = gaussian_blur((liquid > cut).astype(jnp.float32)[..., None], sigma=sigma)[..., 0]
  return jnp.where(soft < 0.8, 0.0, soft)


def paint(image: Image, mask: Plane, *, colour: tuple[float, ...], cover: bool) -> Image:
  """Adds a colour where the mask is, covering the picture (mud) or not (water)."""
  channels = image.shape[2]
  tint = colour if channels == len(colour) else (sum(colour) / len(colour),) * channels
  kept = image * (1 - mask[..., None]) if cover else image
  return kept + mask[..., None] * jnp.asarray(tint)[None, None, :]


def liquid_layer(
  key: PRNGKey, *, shape: tuple[int, int], mean: float, deviation: float, sigma: float, cut: float
) -> Plane:
  """Draws smoothed normal noise, 0 where it is below `cut`."""
  noise = mean + deviation * jax.random.normal(key, (*shape, 1))
  smooth = gaussian_blur(noise, sigma=sigma)[..., 0]
  return jnp.where(smooth < cut, 0.0, smooth)


def spatter_approximate(
  key: PRNGKey,
  image: Image,
  *,
  mean: float,
  deviation: float,
  sigma: float,
  cut: float,
  strength: float,
  mud: int,
) -> Image:
  """Spatters a picture; see the module for what is approximate.

  Args:
    key: of this example.
    image: the picture.
    mean: of the normal noise that becomes liquid.
    deviation: of that noise.
    sigma: of its smoothing, pixels.
    cut: smoothed noise below it is dry.
    strength: water: the largest brightness; mud: sigma of the softening, pixels.
    mud: 1 for mud, 0 for water.
  """
  height, width, _ = image.shape
  liquid = liquid_layer(
    key, shape=(height, width), mean=mean, deviation=deviation, sigma=sigma, cut=cut
  )
  if mud:
    return paint(image, mud_mask(liquid, cut=cut, sigma=strength), colour=MUD, cover=True)
  return paint(image, water_mask(liquid, strength=strength), colour=WATER, cover=False)
