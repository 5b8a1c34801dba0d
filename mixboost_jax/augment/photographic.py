# SPDX-License-Identifier: Apache-2.0
"""Transforms of photographs: resized crops, colour jitter, noise, blur, grey.

Not cut to levels, and each has a gradient with respect to the pictures. Resized crops alone are
rounded to levels, which their gradient ignores.
"""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax import checks, keys
from mixboost_jax.array_types import AnyKey, Image, Images, PerExample, PRNGKey, PRNGKeys
from mixboost_jax.augment import parameters
from mixboost_jax.augment.parameters import Number
from mixboost_jax.image import colour, filters, resize
from mixboost_jax.image.quantize import rounded, to_nearest

_ATTEMPTS = 10
_ORDERS = np.array(list(itertools.permutations(range(4))), np.int32)


@checks.inputs()
def random_resized_crop(
  key: AnyKey,
  images: Images,
  *,
  size: int,
  scale: tuple[float, ...] = (0.08, 1.0),
  ratio: tuple[float, ...] = (3 / 4, 4 / 3),
) -> Float[Array, "N {size} {size} C"]:
  """Cuts out a window of random area and shape and resizes it to `size` x `size`.

  Paper: Szegedy et al. 2015, arXiv:1409.4842, Sec. 6. As in common code, ten windows are tried; if
    none fits, the largest central one of an allowed shape is taken. The result is rounded to 8-bit
    levels, as common code does: a policy that follows would cut it, half a level darker.

  Args:
    key: one key, or one per example.
    images: values in [0, 1].
    size: side of the result, pixels.
    scale: least and greatest area of the window relative to the picture.
    ratio: least and greatest width / height, log-uniform.
  """
  parameters.check("random_resized_crop", size=size, scale=scale, ratio=ratio)
  number, height, width, _ = images.shape

  windows = draw_windows(
    keys.per_example(key, number), height=height, width=width, scale=scale, ratio=ratio
  )

  def one(window: Array, image: Image) -> Array:
    return to_nearest(resize.resize_window(image, *window, size=(size, size)))

  return jax.vmap(one)(windows, images)


def draw_windows(
  each: PRNGKeys, *, height: int, width: int, scale: tuple[float, ...], ratio: tuple[float, ...]
) -> Float[Array, "N 4"]:
  """Draws (top, left, height, width) of each window, in whole pixels."""
  draw = functools.partial(_draw_window, height=height, width=width, scale=scale, ratio=ratio)
  return jax.vmap(draw)(each)


def _draw_window(key: PRNGKey, **picture: Any) -> Float[Array, "4"]:
  return place_window(draw_attempts(key), **picture)


def draw_attempts(key: PRNGKey) -> Float[Array, "4 A"]:
  """Draws what `place_window` makes one window of: all of its randomness, whatever the picture."""
  return jax.random.uniform(key, (4, _ATTEMPTS))


def place_window(
  u: Any,
  *,
  height: int,
  width: int,
  scale: tuple[float, ...] = (0.08, 1.0),
  ratio: tuple[float, ...] = (3 / 4, 4 / 3),
  xp: Any = jnp,
) -> Any:
  """Returns (top, left, height, width) of one window, in whole pixels.

  Args:
    u: `[4, attempts]` uniform numbers: area, shape, top, left of every window that is tried.
    height: of the picture, pixels.
    width: of the picture, pixels.
    scale: see `random_resized_crop`.
    ratio: see `random_resized_crop`.
    xp: `jax.numpy`, or `numpy` for pictures that the host cuts while it decodes.
  """
  area = height * width * (scale[0] + (scale[1] - scale[0]) * u[0])
  low, high = math.log(ratio[0]), math.log(ratio[1])
  shape = xp.exp(low + (high - low) * u[1])
  columns = xp.round(xp.sqrt(area * shape))
  rows = xp.round(xp.sqrt(area / shape))
  fits = (columns >= 1) & (columns <= width) & (rows >= 1) & (rows <= height)
  top = xp.floor(u[2] * (height - rows + 1))
  left = xp.floor(u[3] * (width - columns + 1))
  windows = xp.stack([top, left, rows, columns])
  # The central window, narrowed or flattened to the nearest allowed shape.
  middle_width = min(width, round(height * ratio[1]))
  middle_height = min(height, round(width / ratio[0]))
  middle = xp.array(
    [(height - middle_height) // 2, (width - middle_width) // 2, middle_height, middle_width],
    xp.float32,
  )
  return xp.where(fits.any(), windows[:, xp.argmax(fits)], middle)


@checks.inputs()
def color_jitter(
  key: AnyKey,
  images: Images,
  *,
  brightness: Number = 0.25,
  contrast: Number = 0.25,
  saturation: Number = 0.25,
  hue: Number = 0.0,
) -> Images:
  """Changes brightness, contrast, saturation and hue in random order by random amounts.

  Args:
    key: one key, or one per example.
    images: values in [0, 1], three channels.
    brightness: factors are uniform on [max(0, 1 - b), 1 + b].
    contrast: likewise.
    saturation: likewise.
    hue: turns are uniform on [-hue, hue], hue in [0, 0.5].
  """
  strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
  parameters.check("color_jitter", **strengths, hue=hue)

  drawn = draw_jitter(
    keys.per_example(key, len(images)), strengths=tuple(strengths.values()), hue=hue
  )

  def one(image: Image, order: Array, factors: Array, turn: Array) -> Image:
    for position in range(4):
      adjusted = (
        colour.towards(image, jnp.zeros(()), factors[0]),
        colour.towards(image, colour.mean_grey(image), factors[1]),
        colour.towards(image, colour.grey(image), factors[2]),
        image if hue == 0 else colour.shift_hue(image, turn),
      )
      image = jnp.stack(adjusted)[order[position]]
    return image

  return jax.vmap(one)(images, *drawn)


def draw_jitter(
  each: PRNGKeys, *, strengths: tuple[Number, ...], hue: Number
) -> tuple[Int[Array, "N 4"], Float[Array, "N 3"], PerExample]:
  """Draws the order of the four changes, three factors (brightness first), and the hue's turn."""
  key_order, key_amounts = keys.split_each(each, 2)
  which = jax.vmap(lambda k: jax.random.randint(k, (), 0, len(_ORDERS)))(key_order)
  u = jax.vmap(lambda k: jax.random.uniform(k, (4,)))(key_amounts)
  low = jnp.maximum(0.0, 1 - jnp.array(strengths))[None]
  high = 1 + jnp.array(strengths)[None]
  factors = low + rounded((high - low) * u[:, :3])
  return jnp.asarray(_ORDERS)[which], factors, rounded(hue * (2 * u[:, 3] - 1))


@checks.inputs()
def random_grayscale(key: AnyKey, images: Images, *, prob: Number = 0.1) -> Images:
  """Makes each picture grey, in three channels, with probability `prob`."""
  parameters.check("random_grayscale", prob=prob)
  chosen = draw_grey(keys.per_example(key, len(images)), prob=prob)
  grey = jnp.broadcast_to(colour.grey(images), images.shape)
  return jnp.where(chosen[:, None, None, None], grey, images)


def draw_grey(each: PRNGKeys, *, prob: Number) -> Bool[Array, " N"]:
  """Draws which examples lose their colour."""
  return jax.vmap(jax.random.uniform)(each) < prob


@checks.inputs()
def gaussian_noise(key: AnyKey, images: Images, *, sigma: Number) -> Images:
  """Adds independent Gaussian noise of standard deviation `sigma` (pixel units), then clips."""
  parameters.check("gaussian_noise", sigma=sigma)
  if sigma == 0:
    return images
  each = keys.per_example(key, len(images))
  noise = jax.vmap(lambda k: jax.random.normal(k, images.shape[1:]))(each)
  return jnp.clip(images + sigma * noise, 0, 1)


@checks.inputs()
def gaussian_blur(
  key: AnyKey, images: Images, *, sigmas: tuple[float, ...] = (0.1, 2.0), radius: int
) -> Images:
  """Blurs each picture with its own standard deviation, uniform on `sigmas` pixels.

  Args:
    key: one key, or one per example.
    images: values in [0, 1].
    sigmas: least and greatest standard deviation, > 0.
    radius: pixels at which the kernel is cut; smaller than the picture.
  """
  parameters.check("gaussian_blur", sigmas=sigmas, radius=radius)

  def one(sigma: Array, image: Image) -> Image:
    return jnp.clip(filters.gaussian_blur(image, sigma, radius=radius), 0, 1)

  return jax.vmap(one)(draw_sigmas(keys.per_example(key, len(images)), sigmas=sigmas), images)


def draw_sigmas(each: PRNGKeys, *, sigmas: tuple[float, ...]) -> PerExample:
  """Draws the standard deviation of each example's blur, in pixels."""
  return jax.vmap(lambda k: jax.random.uniform(k, minval=sigmas[0], maxval=sigmas[1]))(each)
