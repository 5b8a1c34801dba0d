# SPDX-License-Identifier: Apache-2.0
"""The classical transforms: flip, crops and cutout, and those of photographs.

Transforms of photographs (colour jitter, noise, blur, grey) are not cut to levels, and each has a
gradient with respect to the pictures. Resized crops alone are rounded to levels, which their
gradient ignores.
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
from mixboost_jax import image as kernels
from mixboost_jax.array_types import AnyKey, Image, Images, PerExample, PRNGKey, PRNGKeys
from mixboost_jax.augment import _options
from mixboost_jax.augment._entry import Account, Entry, Scene, short
from mixboost_jax.augment._options import Number
from mixboost_jax.image import linear
from mixboost_jax.image.levels import rounded, to_nearest


@jax.jit
def draw_flips(each: PRNGKeys) -> Bool[Array, " N"]:
  """Draws which examples are mirrored.

  ```python
  each = jax.random.split(key, len(images))
  mirrored = augment.draw_flips(each)  # which ones random_flip(each, images) mirrors
  ```
  """
  return jax.vmap(jax.random.bernoulli)(each)


@checks.inputs()
def random_flip(key: AnyKey, images: Images) -> Images:
  """Mirrors each picture left to right with probability one half.

  ```python
  images = augment.random_flip(key, images)
  ```

  Args:
    key: one key, or one per example.
    images: values in [0, 1].
  """
  flipped = draw_flips(keys.per_example(key, len(images)))
  return jnp.where(flipped[:, None, None, None], images[:, :, ::-1, :], images)


@checks.inputs()
def alternating_flip(key: AnyKey, images: Images, *, epoch: int | Int[Array, ""]) -> Images:
  """Mirrors each picture in every other epoch; the same key says in which it starts.

  Paper: Jordan 2024, arXiv:2404.00498, Sec. 3.6.

  ```python
  even, odd = (augment.alternating_flip(key, images, epoch=epoch) for epoch in (0, 1))
  assert (odd == even[:, :, ::-1]).all()
  ```

  Args:
    key: one key, or one per example, the same in all epochs.
    images: values in [0, 1].
    epoch: 0 mirrors as `random_flip` does.
  """
  flipped = draw_flips(keys.per_example(key, len(images))) ^ (epoch % 2 == 1)
  return jnp.where(flipped[:, None, None, None], images[:, :, ::-1, :], images)


@functools.partial(jax.jit, static_argnames="padding")
def draw_offsets(each: PRNGKeys, *, padding: int) -> Int[Array, "N 2"]:
  """Draws (top, left) of each window in the padded picture."""
  return jax.vmap(lambda k: jax.random.randint(k, (2,), 0, 2 * padding + 1))(each)


_CROP_RULES = {"fill": _options.number(0, high=1)}
"""The border has one value for all channels."""


@checks.inputs()
def random_crop(
  key: AnyKey, images: Images, *, padding: int, fill: Number = 0.0, border: str = "fill"
) -> Images:
  """Pads each picture by `padding` pixels and cuts out a window of the old size.

  All (2 padding + 1)^2 offsets are equally likely; the border is black by default, in pixel units.

  ```python
  images = augment.random_crop(key, images, padding=4)
  ```

  Args:
    key: one key, or one per example.
    images: values in [0, 1].
    padding: pixels, >= 0; 0 returns the pictures unchanged.
    fill: value of the border, in [0, 1].
    border: "fill", or "reflect": the picture mirrored at its outermost pixels.
  """
  _options.check("random_crop", _CROP_RULES, padding=padding, fill=fill, border=border)
  if padding == 0:
    return images
  number, height, width, _ = images.shape
  offsets = draw_offsets(keys.per_example(key, number), padding=padding)

  def one(image: jax.Array, offset: jax.Array) -> jax.Array:
    if border == "reflect":
      padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
    else:
      padded = kernels.pad(image, padding=padding, fill=fill)
    return kernels.crop(padded, offset[0], offset[1], height=height, width=width)

  return jax.vmap(one)(images, offsets)


@functools.partial(jax.jit, static_argnames=("height", "width"))
def draw_centres(each: PRNGKeys, *, height: int, width: int) -> Int[Array, "N 2"]:
  """Draws one (row, column) per example, uniform over the pixels."""
  key_row, key_column = keys.split_each(each, 2)
  row = jax.vmap(lambda k: jax.random.randint(k, (), 0, height))(key_row)
  column = jax.vmap(lambda k: jax.random.randint(k, (), 0, width))(key_column)
  return jnp.stack([row, column], axis=1)


@checks.inputs()
def cutout(
  key: AnyKey, images: Images, *, length: int, fill: Number | tuple[float, ...] = 0.5
) -> Images:
  """Fills one square per picture; its centre is uniform over the pixels.

  Paper: DeVries & Taylor 2017, arXiv:1708.04552, Sec. 3: side 16 (CIFAR-10), 8 (CIFAR-100),
    20 (SVHN). The square is [c - length // 2, c + length // 2) in each direction, clipped at the
    border, so an odd `length` loses one pixel. `fill` is one pixel value, or one per channel; the
    mean with which the model normalises is 0 there.

  ```python
  images = augment.cutout(key, images, length=8)
  ```
  """
  _options.check("cutout", length=length, fill=fill)
  number, height, width, _ = images.shape
  half = length // 2
  centres = draw_centres(keys.per_example(key, number), height=height, width=width)

  def one(image: jax.Array, centre: jax.Array) -> jax.Array:
    inside = kernels.box_mask(*(centre - half), *(centre + half), height=height, width=width)
    return kernels.fill_where(image, inside, fill=fill)

  return jax.vmap(one)(images, centres)


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

  `scale` is the least and greatest area of the window relative to the picture, `ratio` the least
  and greatest width / height, log-uniform.

  ```python
  small = augment.random_resized_crop(key, images, size=12)
  assert small.shape == (8, 12, 12, 3)
  ```
  """
  _options.check("random_resized_crop", size=size, scale=scale, ratio=ratio)
  number, height, width, _ = images.shape
  each, window = keys.per_example(key, number), {"scale": scale, "ratio": ratio}
  windows = draw_windows(each, height=height, width=width, **window)

  def one(window: Array, image: Image) -> Array:
    return to_nearest(linear.resize_window(image, *window, size=(size, size)))

  return jax.vmap(one)(windows, images)


def draw_windows(each: PRNGKeys, **how: Any) -> Float[Array, "N 4"]:
  """Draws (top, left, height, width) of each window, in pixels; `how` as for `place_window`."""
  return jax.vmap(lambda key: place_window(draw_attempts(key), **how))(each)


@checks.inputs()
def draw_attempts(key: PRNGKey) -> Float[Array, "4 A"]:
  """Draws what `place_window` makes one window of: all of its randomness, whatever the picture.

  ```python
  u = augment.draw_attempts(key)
  top, left, rows, columns = augment.place_window(u, height=32, width=48)
  ```
  """
  return jax.random.uniform(key, (4, _ATTEMPTS))


@checks.inputs()
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

  `u[4, attempts]` are uniform numbers: area, shape, top, left of every window that is tried;
  `scale` and `ratio` as for `random_resized_crop`. With `xp=numpy` the host cuts while it decodes.

  ```python
  u = np.asarray(augment.draw_attempts(key))
  top, left, rows, columns = augment.place_window(u, height=32, width=48, xp=np)
  assert top + rows <= 32 and left + columns <= 48
  ```
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
  corner = (height - middle_height) // 2, (width - middle_width) // 2
  middle = xp.array([*corner, middle_height, middle_width], xp.float32)
  return xp.where(fits.any(), windows[:, xp.argmax(fits)], middle)


Pixels = Float[Array, "*n 3"]
Factor = Float[Array, ""] | float | int

_GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # ITU-R 601-2


def to_grey(pixels: Pixels) -> Float[Array, "*n 1"]:
  """Returns the luminance of each pixel."""
  red, green, blue = (rounded(pixels[..., i : i + 1] * w) for i, w in enumerate(_GREY_WEIGHTS))
  return red + green + blue


@jax.jit
def mean_grey(pixels: Float[Array, "H W 3"]) -> Float[Array, ""]:
  """Returns the mean luminance of one picture.

  Added up in an order that is written down here: a plain mean is cut into pieces in another way
  for a picture alone than for one of a batch, and its last bits follow.
  """
  rest = to_grey(pixels).reshape(-1)
  number = len(rest)
  while len(rest) > 1:
    half = (len(rest) + 1) // 2
    rest = rest[:half] + jnp.pad(rest[half:], (0, 2 * half - len(rest)))
  return rest[0] * (1 / number)


def towards(pixels: Float[Array, "*n C"], other: Float[Array, "..."], factor: Factor) -> Array:
  """Returns `other + factor (pixels - other)` clipped to [0, 1]; factor 1 changes nothing."""
  return jnp.clip(rounded(factor * pixels) + rounded((1 - factor) * other), 0, 1)


def rgb_to_hsv(pixels: Pixels) -> Pixels:
  """Converts to hue, saturation, value, all in [0, 1]; grey has hue 0."""
  red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
  value = pixels.max(axis=-1)
  chroma = value - pixels.min(axis=-1)
  safe = jnp.where(chroma > 0, chroma, 1)
  hue = jnp.where(
    value == red,
    (green - blue) / safe,
    jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
  )
  hue = jnp.where(chroma > 0, jnp.mod(hue / 6, 1.0), 0.0)
  saturation = chroma / jnp.where(value > 0, value, 1)
  return jnp.stack([hue, saturation, value], axis=-1)


def hsv_to_rgb(pixels: Pixels) -> Pixels:
  """Inverts `rgb_to_hsv`."""
  hue, saturation, value = pixels[..., 0], pixels[..., 1], pixels[..., 2]

  def channel(offset: int) -> Array:
    k = jnp.mod(offset + rounded(6 * hue), 6.0)
    return value - rounded(value * saturation * jnp.clip(jnp.minimum(k, 4 - k), 0, 1))

  return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)


def shift_hue(pixels: Pixels, turns: Factor) -> Pixels:
  """Turns the hue by `turns` of the colour circle, in [-0.5, 0.5]."""
  hsv = rgb_to_hsv(pixels)
  hue = jnp.mod(hsv[..., :1] + turns, 1.0)
  return hsv_to_rgb(jnp.concatenate([hue, hsv[..., 1:]], axis=-1))


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
  """Changes brightness, contrast, saturation and hue of RGB in random order by random amounts.

  Factors are uniform on [max(0, 1 - b), 1 + b] for `brightness` b, `contrast` and `saturation`
  likewise; turns on [-hue, hue], hue in [0, 0.5].

  ```python
  images = augment.color_jitter(key, images, brightness=0.4, contrast=0.4)
  ```
  """
  strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
  _options.check("color_jitter", **strengths, hue=hue)
  each = keys.per_example(key, len(images))
  drawn = draw_jitter(each, strengths=tuple(strengths.values()), hue=hue)

  def one(image: Image, order: Array, factors: Array, turn: Array) -> Image:
    for position in range(4):
      adjusted = (
        towards(image, jnp.zeros(()), factors[0]),
        towards(image, mean_grey(image), factors[1]),
        towards(image, to_grey(image), factors[2]),
        image if hue == 0 else shift_hue(image, turn),
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
  """Makes each picture grey, in three channels, with probability `prob`.

  ```python
  images = augment.random_grayscale(key, images, prob=0.2)
  ```
  """
  _options.check("random_grayscale", prob=prob)
  chosen = draw_grey(keys.per_example(key, len(images)), prob=prob)
  grey = jnp.broadcast_to(to_grey(images), images.shape)
  return jnp.where(chosen[:, None, None, None], grey, images)


def draw_grey(each: PRNGKeys, *, prob: Number) -> Bool[Array, " N"]:
  """Draws which examples lose their colour."""
  return jax.vmap(jax.random.uniform)(each) < prob


@checks.inputs()
def gaussian_noise(key: AnyKey, images: Images, *, sigma: Number) -> Images:
  """Adds independent Gaussian noise of standard deviation `sigma` (pixel units), then clips.

  ```python
  images = augment.gaussian_noise(key, images, sigma=0.1)
  ```
  """
  _options.check("gaussian_noise", sigma=sigma)
  if sigma == 0:
    return images
  each = keys.per_example(key, len(images))
  noise = jax.vmap(lambda k: jax.random.normal(k, images.shape[1:]))(each)
  return jnp.clip(images + sigma * noise, 0, 1)


@checks.inputs()
def gaussian_blur(
  key: AnyKey, images: Images, *, sigmas: tuple[float, ...] = (0.1, 2.0), radius: int
) -> Images:
  """Blurs each picture with its own standard deviation, uniform on `sigmas` pixels, > 0.

  The kernel is cut at `radius` pixels, which must be smaller than the picture.

  ```python
  images = augment.gaussian_blur(key, images, sigmas=(0.1, 2.0), radius=3)
  ```
  """
  _options.check("gaussian_blur", sigmas=sigmas, radius=radius)

  def one(sigma: Array, image: Image) -> Image:
    return jnp.clip(linear.gaussian_blur(image, sigma, radius=radius), 0, 1)

  return jax.vmap(one)(draw_sigmas(keys.per_example(key, len(images)), sigmas=sigmas), images)


def draw_sigmas(each: PRNGKeys, *, sigmas: tuple[float, ...]) -> PerExample:
  """Draws the standard deviation of each example's blur, in pixels."""
  return jax.vmap(lambda k: jax.random.uniform(k, minval=sigmas[0], maxval=sigmas[1]))(each)


def _describe_flip(scene: Scene) -> Account:
  return [{"op": "flip", "applied": bool(draw_flips(scene.own)[0])}]


def _describe_crop(scene: Scene, *, padding: int, **_: Any) -> Account:
  top, left = np.asarray(draw_offsets(scene.own, padding=padding)[0]) - padding
  return [{"op": "crop", "down": int(top), "right": int(left), "unit": "pixels"}]


def _describe_cutout(scene: Scene, *, length: int, **_: Any) -> Account:
  height, width = scene.shape
  row, column = np.asarray(draw_centres(scene.own, height=height, width=width)[0])
  return [{"op": "cutout", "row": int(row), "column": int(column), "length": length}]


def _describe_resized_crop(scene: Scene, *, size: int, scale: Any, ratio: Any) -> Account:
  height, width = scene.shape
  window = {"scale": tuple(scale), "ratio": tuple(ratio)}
  drawn = np.asarray(draw_windows(scene.own, height=height, width=width, **window)[0])
  found = dict(zip(("top", "left", "height", "width"), map(int, drawn), strict=True))
  return [{"op": "resized_crop", **found, "unit": "pixels", "size": size}]


def _describe_jitter(scene: Scene, *, hue: Number, **strengths: Number) -> Account:
  order, factors, turn = draw_jitter(scene.own, strengths=tuple(strengths.values()), hue=hue)
  amounts = [{"factor": short(f)} for f in np.asarray(factors[0])] + [{"turn": short(turn[0])}]
  names = (*strengths, "hue")
  used = [i for i in np.asarray(order[0]) if names[i] != "hue" or hue > 0]
  return [{"op": names[i], **amounts[i]} for i in used]


def _describe_grayscale(scene: Scene, *, prob: Number) -> Account:
  return [{"op": "grayscale", "applied": bool(draw_grey(scene.own, prob=prob)[0])}]


def _describe_noise(scene: Scene, *, sigma: Number) -> Account:
  return [{"op": "gaussian_noise", "sigma": sigma, "unit": "pixel values in [0, 1]"}]


def _describe_blur(scene: Scene, *, radius: int, sigmas: tuple[float, ...]) -> Account:
  sigma = draw_sigmas(scene.own, sigmas=tuple(sigmas))[0]
  return [{"op": "gaussian_blur", "sigma": short(sigma), "radius": radius, "unit": "pixels"}]


ENTRIES = {
  "random_flip": Entry(random_flip, _describe_flip, examples=lambda side: {"flip": {}}),
  "random_crop": Entry(
    random_crop,
    _describe_crop,
    rules=_CROP_RULES,
    examples=lambda side: {"crop": {"padding": round(side / 8)}},
  ),
  "random_resized_crop": Entry(
    random_resized_crop,
    _describe_resized_crop,
    side="size",
    examples=lambda side: {"resized crop": {"size": side}},
  ),
  "color_jitter": Entry(
    color_jitter, _describe_jitter, examples=lambda side: {"color jitter": {"hue": 0.1}}
  ),
  "random_grayscale": Entry(
    random_grayscale, _describe_grayscale, examples=lambda side: {"grayscale": {"prob": 0.5}}
  ),
  "gaussian_noise": Entry(
    gaussian_noise, _describe_noise, examples=lambda side: {"noise": {"sigma": 0.1}}
  ),
  "gaussian_blur": Entry(
    gaussian_blur, _describe_blur, examples=lambda side: {"blur": {"radius": round(side / 8)}}
  ),
  "cutout": Entry(
    cutout, _describe_cutout, examples=lambda side: {"cutout": {"length": round(side / 2)}}
  ),
}
