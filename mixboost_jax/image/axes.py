# SPDX-License-Identifier: Apache-2.0
"""Linear maps along one axis of a picture, as matrices: blur, zoom and resize with their borders.

The matrices are made by NumPy in double precision from static sizes, so every border rule is an
exact sum over the pixels that the rule points to, however far a kernel reaches beyond the picture.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixboost_jax.array_types import Image

BORDERS = ("edge", "reflect", "reflect_101", "zero")
"""aaa|abc|ccc, cba|abc|cba, dcb|abcd|cba, 000|abc|000."""


def border_index(index: np.ndarray, size: int, *, border: str) -> np.ndarray:
  """Maps positions outside 0..size-1 to the pixel that a border rule takes ("zero": unchanged)."""
  if border == "edge":
    return np.clip(index, 0, size - 1)
  if border == "reflect":
    folded = np.mod(index, 2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)
  if border == "reflect_101":
    if size == 1:
      return np.zeros_like(index)
    folded = np.mod(index, 2 * size - 2)
    return np.where(folded < size, folded, 2 * size - 2 - folded)
  if border == "zero":
    return index
  raise ValueError(f"border: expected one of {', '.join(BORDERS)}, got {border!r}.")


def taps_matrix(size: int, positions: np.ndarray, weights: np.ndarray, *, border: str):
  """Returns the matrix [rows, size] whose row r sums `weights[r, k]` at `positions[r, k]`."""
  index = border_index(positions, size, border=border)
  inside = (index >= 0) & (index < size)
  matrix = np.zeros((positions.shape[0], size))
  rows = np.broadcast_to(np.arange(positions.shape[0])[:, None], positions.shape)
  np.add.at(matrix, (rows[inside], index[inside]), np.broadcast_to(weights, index.shape)[inside])
  return matrix


@functools.cache
def gaussian_matrix(size: int, sigma: float, truncate: float, border: str) -> np.ndarray:
  """Returns the Gaussian blur whose kernel reaches int(truncate sigma + .5) pixels, normalised."""
  radius = int(truncate * sigma + 0.5)
  offsets = np.arange(-radius, radius + 1)
  kernel = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
  positions = np.arange(size)[:, None] + offsets[None, :]
  return taps_matrix(size, positions, (kernel / kernel.sum())[None, :], border=border)


@functools.cache
def zoom_matrix(size: int, factor: float, order: int) -> np.ndarray:
  """Returns the enlargement of the middle of the axis by `factor` >= 1 that keeps its length.

  The ceil(size / factor) middle pixels are spread over round(that * factor) positions whose ends
  meet the outermost pixels, and the middle `size` of these are kept. `order` 1 crops first and
  interpolates linearly; 3 does not crop, and smooths by the cubic B-spline.
  """
  part = size if order == 3 else math.ceil(size / factor)
  enlarged = round(part * factor)
  first, trim = (size - part) // 2, (enlarged - size) // 2
  at = (np.arange(size) + trim) * ((part - 1) / max(enlarged - 1, 1))
  base = np.floor(at).astype(int)
  share = at - base
  if order == 1:
    positions, weights = base[:, None] + np.arange(2), np.stack([1 - share, share], 1)
    clipped = np.minimum(positions, part - 1)
    return taps_matrix(size, first + clipped, weights, border="edge")
  positions, weights = base[:, None] + np.arange(-1, 3), cubic_weights(share)
  return taps_matrix(size, positions, weights, border="reflect_101")


def cubic_weights(share: np.ndarray) -> np.ndarray:
  """Returns the cubic B-spline at the distances 1 + s, s, 1 - s, 2 - s along a new last axis."""
  t = 1 - share
  middle = 2 / 3 - share**2 * (2 - share) / 2
  after = 2 / 3 - t**2 * (2 - t) / 2
  return np.stack([t**3 / 6, middle, after, share**3 / 6], -1)


@functools.cache
def spline_matrix(size: int) -> np.ndarray:
  """Returns the map from samples to cubic B-spline coefficients (mirror ends, 101)."""
  positions = np.arange(size)[:, None] + np.arange(-1, 2)
  weights = np.array([[1 / 6, 4 / 6, 1 / 6]])
  return np.linalg.inv(taps_matrix(size, positions, weights, border="reflect_101"))


@functools.cache
def box_matrix(size: int, new_size: int) -> np.ndarray:
  """Returns the box resize of Pillow: the mean of the pixels whose centre falls into each box."""
  scale = size / new_size
  support = max(scale, 1.0) / 2
  matrix = np.zeros((new_size, size))
  for row in range(new_size):
    centre = (row + 0.5) * scale
    first = max(int(centre - support + 0.5), 0)
    last = min(int(centre + support + 0.5), size)
    distance = (np.arange(first, last) - centre + 0.5) / max(scale, 1.0)
    inside = (distance > -0.5) & (distance <= 0.5)
    matrix[row, first:last][inside] = 1 / max(inside.sum(), 1)
  return matrix


def along_axes(
  image: Image, *, rows: np.ndarray | Array, columns: np.ndarray | Array
) -> Float[Array, "A B C"]:
  """Applies one matrix along the height and one along the width, in full precision."""
  down = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
  image = down("ij,jkc->ikc", jnp.asarray(rows, jnp.float32), image)
  return down("lk,ikc->ilc", jnp.asarray(columns, jnp.float32), image)


def gaussian_blur(
  image: Image, *, sigma: float, truncate: float = 4.0, border: str = "edge"
) -> Image:
  """Blurs each channel by a Gaussian of `sigma` pixels (0: the picture itself)."""
  if sigma < 0:
    raise ValueError(f"gaussian_blur: sigma must be >= 0 pixels, got {sigma}.")
  height, width, _ = image.shape
  if int(truncate * sigma + 0.5) == 0:
    return image
  matrices = [gaussian_matrix(side, sigma, truncate, border) for side in (height, width)]
  return along_axes(image, rows=matrices[0], columns=matrices[1])


def zoom(image: Image, *, factor: float) -> Image:
  """Enlarges the middle of a picture linearly; the size stays."""
  if factor < 1:
    raise ValueError(f"zoom: factor must be >= 1, got {factor}.")
  height, width, _ = image.shape
  rows, columns = zoom_matrix(height, factor, 1), zoom_matrix(width, factor, 1)
  return along_axes(image, rows=rows, columns=columns)


def resize_box(image: Image, *, height: int, width: int) -> Float[Array, "{height} {width} C"]:
  """Resizes levels in [0, 1] as Pillow's BOX does: width first, rounded to 8 bits after each."""
  old_height, old_width, _ = image.shape

  def rounded(levels: Float[Array, "A B C"]) -> Float[Array, "A B C"]:
    return jnp.floor(levels * 255 + 0.5 + 2.0**-10) / 255

  eye = np.eye(old_height)
  wide = rounded(along_axes(image, rows=eye, columns=box_matrix(old_width, width)))
  return rounded(along_axes(wide, rows=box_matrix(old_height, height), columns=np.eye(width)))
