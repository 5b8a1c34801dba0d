# SPDX-License-Identifier: Apache-2.0
"""Linear maps of one picture: blur, zoom and resize along its axes, small kernels that mix both.

The matrices of an axis are made by NumPy in double precision from static sizes, so every border
rule is an exact sum over the pixels that the rule points to, however far a kernel reaches beyond
the picture. Only `resize_window` and `gaussian_blur` take numbers that are known at run time.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixboost_jax import checks
from mixboost_jax.array_types import Image

BORDERS = ("edge", "reflect", "reflect_101", "zero")
"""aaa|abc|ccc, cba|abc|cba, dcb|abcd|cba, 000|abc|000."""


def border_index(index: Any, size: int, *, border: str) -> Any:
  """Maps positions outside 0..size-1 to the pixel that a border rule takes ("zero": unchanged)."""
  if border not in BORDERS:
    raise ValueError(f"border: expected one of {', '.join(BORDERS)}, got {border!r}.")
  if border == "zero":
    return index
  if border == "edge" or size == 1:
    return index.clip(0, size - 1)
  period = 2 * size if border == "reflect" else 2 * size - 2
  folded = index % period
  xp = jnp if isinstance(index, Array) else np
  return xp.where(folded < size, folded, period - (border == "reflect") - folded)


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
  positions, weights = base[:, None] + np.arange(-1, 3), np.stack(cubic_weights(share), 1)
  return taps_matrix(size, positions, weights, border="reflect_101")


def cubic_weights(share: Any) -> tuple[Any, Any, Any, Any]:
  """Returns the cubic B-spline at the distances 1 + s, s, 1 - s, 2 - s."""
  t = 1 - share
  middle = 2 / 3 - share**2 * (2 - share) / 2
  after = 2 / 3 - t**2 * (2 - t) / 2
  return t**3 / 6, middle, after, share**3 / 6


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


def gaussian_blur_of_width(
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


Length = Float[Array, ""] | float | int


def triangle_weights(
  start: Length, length: Length, *, num_inputs: int, num_outputs: int
) -> Float[Array, "{num_outputs} {num_inputs}"]:
  """Returns the matrix that resamples inputs [start, start + length) to `num_outputs` values.

  Bilinear; when shrinking, the triangle is as wide as the step, which prevents aliasing. Inputs
  outside the window have weight 0, as if it had been cut out first.
  """
  step = length / num_outputs
  centre = start + (jnp.arange(num_outputs) + 0.5) * step
  position = jnp.arange(num_inputs) + 0.5
  support = jnp.maximum(step, 1.0)
  weights = jnp.maximum(0.0, 1 - jnp.abs(position[None, :] - centre[:, None]) / support)
  inside = (position > start) & (position < start + length)
  weights = jnp.where(inside[None, :], weights, 0.0)
  return weights / weights.sum(axis=1, keepdims=True)


@checks.inputs(values="never")
def resize_window(
  image: Image, top: Length, left: Length, height: Length, width: Length, *, size: tuple[int, int]
) -> Float[Array, "P Q C"]:
  """Cuts out a window of whole pixels and resizes it to `size` (rows, columns).

  ```python
  window = image.resize_window(images[0], 2, 3, 8, 12, size=(6, 6))
  assert window.shape == (6, 6, 3)
  ```
  """
  rows = triangle_weights(top, height, num_inputs=image.shape[0], num_outputs=size[0])
  columns = triangle_weights(left, width, num_inputs=image.shape[1], num_outputs=size[1])
  return along_axes(image, rows=rows, columns=columns)


@checks.inputs(values="never")
def gaussian_kernel(sigma: Float[Array, ""] | float | int, *, radius: int) -> Float[Array, " K"]:
  """Returns 2 radius + 1 normalised weights; sigma in pixels, > 0.

  ```python
  weights = image.gaussian_kernel(1.0, radius=3)
  assert weights.shape == (7,) and jnp.isclose(weights.sum(), 1)
  ```
  """
  offsets = jnp.arange(-radius, radius + 1)
  weights = jnp.exp(-0.5 * (offsets / sigma) ** 2)
  return weights / weights.sum()


@checks.inputs(values="never")
def gaussian_blur(
  image: Image, sigma: Float[Array, ""] | float | int, *, radius: int, mode: str = "reflect"
) -> Image:
  """Blurs both directions with the same Gaussian.

  ```python
  blurred = jax.vmap(lambda picture: image.gaussian_blur(picture, 1.0, radius=3))(images)
  ```

  Args:
    image: values in [0, 1].
    sigma: standard deviation in pixels, > 0; may be traced.
    radius: pixels at which the kernel is cut.
    mode: of `jnp.pad` at the border: "reflect" (without the edge pixel), "symmetric" or "edge".
  """
  height, width, _ = image.shape
  if mode == "reflect" and radius >= min(height, width):
    raise ValueError(
      f"gaussian_blur: radius {radius} cannot be reflected in a picture of {height}x{width}; "
      "use a smaller radius or mode='edge'."
    )
  kernel = gaussian_kernel(sigma, radius=radius)
  padded = jnp.pad(image, ((radius, radius), (0, 0), (0, 0)), mode=mode)
  rows = sum(kernel[i] * padded[i : i + height] for i in range(2 * radius + 1))
  padded = jnp.pad(jnp.asarray(rows), ((0, 0), (radius, radius), (0, 0)), mode=mode)
  blurred = sum(kernel[i] * padded[:, i : i + width] for i in range(2 * radius + 1))
  return jnp.asarray(blurred)


_UNROLLED_TAPS = 32  # above this a convolution is shorter to compile and faster


def correlate(image: Image, *, kernel: np.ndarray, border: str = "reflect_101") -> Image:
  """Returns sum_k kernel[k] image[. + k - middle] per channel; the kernel has odd sides."""
  height, width, _ = image.shape
  used = np.argwhere(kernel != 0)
  middle = np.array(kernel.shape) // 2
  reach = np.abs(used - middle).max(axis=0)
  first, last = middle - reach, middle + reach + 1
  kernel = kernel[first[0] : last[0], first[1] : last[1]]
  rows = border_index(np.arange(-reach[0], height + reach[0]), height, border=border)
  columns = border_index(np.arange(-reach[1], width + reach[1]), width, border=border)
  padded = image[rows][:, columns]
  if len(used) > _UNROLLED_TAPS:
    out = jax.lax.conv_general_dilated(
      jnp.moveaxis(padded, 2, 0)[..., None],
      jnp.asarray(kernel, jnp.float32)[:, :, None, None],
      (1, 1),
      "VALID",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      precision=jax.lax.Precision.HIGHEST,
    )
    return jnp.moveaxis(out[..., 0], 0, 2)
  total = jnp.zeros_like(image)
  for i, j in np.argwhere(kernel != 0):
    total += float(kernel[i, j]) * padded[i : i + height, j : j + width]
  return total
