# SPDX-License-Identifier: Apache-2.0
"""Brightness, contrast, saturation, elastic deformation, coarse pixels and JPEG of -C.

Brightness and saturation change V or S of the HSV model. Hue stays, so both have closed forms in
RGB and the conversion is not needed: V = max, S = (max - min) / max.

JPEG is what a picture looks like after baseline JPEG with 4:2:0 chroma, without making a file.
Colour conversion and chroma sampling follow the integer arithmetic of the common codec; the cosine
transform is computed in single precision where codecs use fixed point, so a few coefficients round
the other way. Entropy coding loses nothing and is left out.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mixboost_jax.array_types import Image, PRNGKey, Scalar
from mixboost_jax.image.levels import from_levels, to_levels
from mixboost_jax.image.linear import gaussian_blur_of_width, resize_box
from mixboost_jax.image.sampling import bilinear, positions


def brightness(image: Image, *, shift: float | Scalar) -> Image:
  """Adds `shift` in [-1, 1] to V and keeps it in [0, 1]; black becomes grey."""
  value = image.max(axis=-1, keepdims=True)
  moved = jnp.clip(value + shift, 0, 1)
  return jnp.where(value > 0, image * (moved / jnp.where(value > 0, value, 1)), moved)


def contrast(image: Image, *, factor: float) -> Image:
  """Multiplies the distance of every value to the mean of its channel by `factor`."""
  mean = image.mean(axis=(0, 1), keepdims=True)
  return (image - mean) * factor + mean


def saturate(image: Image, *, factor: float, shift: float) -> Image:
  """Makes S `factor` S + `shift`, kept in [0, 1]; grey pixels turn red where that is not 0."""
  value = image.max(axis=-1, keepdims=True)
  span = value - image.min(axis=-1, keepdims=True)
  saturation = span / jnp.where(value > 0, value, 1)
  wanted = jnp.clip(saturation * factor + shift, 0, 1)
  scaled = value - (value - image) * wanted / jnp.where(span > 0, saturation, 1)
  red = (jnp.arange(image.shape[2]) == 0)[None, None, :]
  grey = jnp.where(red, value, value * (1 - wanted))
  return jnp.where(span > 0, scaled, grey)


def pixelate(image: Image, *, share: float) -> Image:
  """Shrinks both sides to int(share side) by box averages and enlarges again."""
  height, width, _ = image.shape
  small = [max(int(side * share), 1) for side in (height, width)]
  shrunk = resize_box(image, height=small[0], width=small[1])
  return resize_box(shrunk, height=height, width=width)


def affine_from_points(source: Float[Array, "3 2"], target: Float[Array, "3 2"]) -> Array:
  """Returns the 2x3 matrix that sends (x, y, 1) of three source points to the target points."""
  a, b, c = source[0], source[1], source[2]
  u, v = b - a, c - a
  inverse = jnp.stack([jnp.stack([v[1], -v[0]]), jnp.stack([-u[1], u[0]])])
  inverse = inverse / (u[0] * v[1] - u[1] * v[0])
  edges = jnp.stack([target[1] - target[0], target[2] - target[0]])
  linear = jnp.einsum("ki,kj->ij", edges, inverse, precision="highest")
  shift = target[0] - (linear * a[None, :]).sum(axis=1)
  return jnp.concatenate([linear, shift[:, None]], axis=1)


def elastic_transform(
  key: PRNGKey, image: Image, *, strength: float, sigma: float, jitter: float
) -> Image:
  """Warps by a random affine map and then by a smooth random field.

  Three reference points move by U(-jitter, jitter) pixels; the field is `strength` pixels times
  U(-1, 1), smoothed by `sigma` pixels (cut at three sigma).
  """
  height, width, _ = image.shape
  draws = jax.random.uniform(key, (6 + 2 * height * width,), minval=-1.0)
  middle, arm = jnp.array([width // 2, height // 2]), max(min(height, width) // 3, 1)
  corners = jnp.array([[arm, arm], [arm, -arm], [-arm, -arm]])
  points = (middle[None, :] + corners).astype(jnp.float32)
  moved = points + jitter * draws[:6].reshape(3, 2)
  back = affine_from_points(moved, points)
  y, x = positions(height, width)
  xs = back[0, 0] * x + back[0, 1] * y + back[0, 2]
  ys = back[1, 0] * x + back[1, 1] * y + back[1, 2]
  image = bilinear(image, ys, xs, border="reflect_101")
  if strength == 0:
    return image

  noise = jnp.moveaxis(draws[6:].reshape(2, height, width), 0, 2)
  field = strength * gaussian_blur_of_width(noise, sigma=sigma, truncate=3.0, border="reflect")
  return bilinear(image, y + field[..., 0], x + field[..., 1], border="reflect")


Plane = Int[Array, "H W"]

LUMA = np.array([
  [16, 11, 10, 16, 24, 40, 51, 61],
  [12, 12, 14, 19, 26, 58, 60, 55],
  [14, 13, 16, 24, 40, 57, 69, 56],
  [14, 17, 22, 29, 51, 87, 80, 62],
  [18, 22, 37, 56, 68, 109, 103, 77],
  [24, 35, 55, 64, 81, 104, 113, 92],
  [49, 64, 78, 87, 103, 121, 120, 101],
  [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip
CHROMA = np.full((8, 8), 99)
CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


def quantization_table(base: np.ndarray, *, quality: int) -> np.ndarray:
  """Scales a base table to a quality in 1..100."""
  if not 1 <= quality <= 100:
    raise ValueError(f"quality must be in 1..100, got {quality}.")
  scale = 5000 // quality if quality < 50 else 200 - 2 * quality
  return np.clip((base * scale + 50) // 100, 1, 255)


def jpeg_compression(image: Image, *, quality: int) -> Image:
  """Returns the RGB or grey picture after coding and decoding; quality 1..100 as codecs count."""
  height, width, channels = image.shape
  luma, chroma = (quantization_table(base, quality=quality) for base in (LUMA, CHROMA))
  levels = to_levels(image).astype(jnp.int32)
  if channels == 1:
    return from_levels(_lossy(levels[..., 0], luma).astype(jnp.uint8))[..., None]
  if channels != 3:
    raise ValueError(f"jpeg_compression: expected 1 or 3 channels, got {channels}.")
  padded = jnp.pad(levels, ((0, -height % 2), (0, -width % 2), (0, 0)), mode="edge")
  y, _, _ = _to_ycc(levels)
  _, cb, cr = _to_ycc(padded)
  halves = [_lossy(_halve(plane), chroma) for plane in (cb, cr)]
  cb, cr = (_double(plane)[:height, :width] for plane in halves)
  return from_levels(_to_rgb(_lossy(y, luma), cb, cr).astype(jnp.uint8))


def _to_ycc(rgb: Int[Array, "H W 3"]) -> tuple[Plane, Plane, Plane]:
  r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
  middle = (128 << 16) + 32767
  y = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16
  cb = (-11059 * r - 21709 * g + 32768 * b + middle) >> 16
  cr = (32768 * r - 27439 * g - 5329 * b + middle) >> 16
  return y, cb, cr


def _to_rgb(y: Plane, cb: Plane, cr: Plane) -> Int[Array, "H W 3"]:
  cb, cr = cb - 128, cr - 128
  r = y + ((91881 * cr + 32768) >> 16)
  g = y + ((-22554 * cb - 46802 * cr + 32768) >> 16)
  b = y + ((116130 * cb + 32768) >> 16)
  return jnp.clip(jnp.stack([r, g, b], -1), 0, 255)


def _halve(plane: Plane) -> Int[Array, "A B"]:
  """Averages 2x2 pixels, rounding down and up in turns along a row."""
  total = plane[::2, ::2] + plane[::2, 1::2] + plane[1::2, ::2] + plane[1::2, 1::2]
  bias = 1 + jnp.arange(total.shape[1]) % 2
  return (total + bias[None, :]) >> 2


def _double(plane: Plane) -> Int[Array, "A B"]:
  """Doubles both sides with weights 3/4 and 1/4, rounding down and up in turns along a row."""
  height, width = plane.shape
  tall = jnp.pad(plane, ((1, 1), (0, 0)), mode="edge")
  near = 3 * tall[1:-1]
  rows = jnp.stack([near + tall[:-2], near + tall[2:]], 1).reshape(2 * height, width)
  wide = jnp.pad(rows, ((0, 0), (1, 1)), mode="edge")
  near = 3 * wide[:, 1:-1]
  left, right = (near + wide[:, :-2] + 8) >> 4, (near + wide[:, 2:] + 7) >> 4
  return jnp.stack([left, right], 2).reshape(2 * height, 2 * width)


def _lossy(plane: Plane, table: np.ndarray) -> Plane:
  """Cuts a plane into 8x8 blocks and rounds their cosine coefficients to multiples of a table."""
  height, width = plane.shape
  padded = jnp.pad(plane, ((0, -height % 8), (0, -width % 8)), mode="edge")
  rows, columns = padded.shape[0] // 8, padded.shape[1] // 8
  blocks = padded.reshape(rows, 8, columns, 8).astype(jnp.float32) - 128
  steps = jnp.asarray(table, jnp.float32)[None, :, None, :]
  multiples = jnp.round(_transform(blocks, _cosines()) / steps)
  back = _transform(multiples * steps, _cosines().T)
  levels = jnp.clip(jnp.round(back) + 128, 0, 255).astype(jnp.int32)
  return levels.reshape(padded.shape)[:height, :width]


def _transform(blocks: Float[Array, "R 8 Q 8"], matrix: np.ndarray) -> Float[Array, "R 8 Q 8"]:
  basis = jnp.asarray(matrix, jnp.float32)
  return jnp.einsum("ua,rakb,vb->rukv", basis, blocks, basis, precision=jax.lax.Precision.HIGHEST)


@functools.cache
def _cosines() -> np.ndarray:
  k = np.arange(8)
  matrix = np.cos((2 * k[None, :] + 1) * k[:, None] * np.pi / 16) / 2
  matrix[0] /= np.sqrt(2)
  return matrix
