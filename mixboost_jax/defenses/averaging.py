# SPDX-License-Identifier: Apache-2.0
"""The frame of every defense here: predict on many random versions of an image and average.

Here, too, are the defenses that average over local transformations, the yardsticks of Mixup
Inference. They share one signature: `(key, logits_fn, images, *, <strength>, num_draws, max_rows,
has_gradient) -> probabilities`; see `average_over` for the last three. Each transformation is a
draw and a deterministic core; all but the noise work on images quantised to 8 bits by truncation,
as the published code does. The gradient passes straight through the rounding, so they can be
attacked end to end.

A draw depends on the example's key and its number alone. Rows (draw, example) are evaluated in
compiled chunks, so memory does not grow with the number of draws.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mixboost_jax import checks, loops
from mixboost_jax import keys as keys_lib
from mixboost_jax.array_types import (
  AnyKey,
  Image,
  Images,
  LogitsFn,
  PRNGKeys,
  Probabilities,
  Scalar,
)

ViewFn = Callable[[Array, Array], Array]
"""`(keys[R], example[R]) -> images[R, H, W, C]`: one random version of each example asked for."""
Index = int | Int[Array, ""]


@checks.inputs()
def draw_probabilities(
  key: AnyKey,
  logits_fn: LogitsFn,
  view_fn: ViewFn,
  *,
  num_examples: int,
  num_draws: int,
  max_rows: int | None = None,
  has_gradient: bool = False,
) -> Float[Array, "D N K"]:
  """Returns the softmax output of every draw.

  ```python
  dim = lambda keys, x: x * jax.vmap(jax.random.uniform)(keys)[:, None, None, None]
  view_fn = lambda keys, example: dim(keys, images[example])
  draws = defenses.draw_probabilities(key, logits_fn, view_fn, num_examples=8, num_draws=5)
  ```

  Args:
    key: one key, or one per example.
    logits_fn: the model.
    view_fn: makes the random versions.
    num_examples: N.
    num_draws: D, versions per example, >= 1.
    max_rows: versions per call of the model; see `loops.map_rows`.
    has_gradient: whether the caller differentiates the result (an adaptive attack).
  """
  if num_draws < 1:
    raise ValueError(f"defenses: num_draws must be >= 1, got {num_draws}.")
  each = keys_lib.per_example(key, num_examples)

  def evaluate(rows: Int[Array, " R"]) -> Float[Array, "R K"]:
    example = rows % num_examples
    draws = jax.vmap(jax.random.fold_in)(each[example], rows // num_examples)
    return jax.nn.softmax(logits_fn(view_fn(draws, example)))

  options = {"max_rows": max_rows, "has_gradient": has_gradient}
  outputs = loops.map_rows(evaluate, num_draws * num_examples, **options)
  return outputs.reshape(num_draws, num_examples, -1)


@checks.inputs()
def average_over(
  key: AnyKey,
  logits_fn: LogitsFn,
  images: Images,
  transform_fn: Callable[[PRNGKeys, Images], Images],
  *,
  num_draws: int,
  max_rows: int | None = None,
  has_gradient: bool = False,
) -> Probabilities:
  """Averages the softmax output over random transformations of each image.

  The result of `transform_fn` for an image depends on its key only; see `draw_probabilities` for
  the other arguments.

  ```python
  dim = lambda keys, x: x * jax.vmap(jax.random.uniform)(keys)[:, None, None, None]
  probabilities = defenses.average_over(key, logits_fn, images, dim, num_draws=5)
  ```
  """

  def view(keys: Array, example: Array) -> Array:
    return transform_fn(keys, images[example])

  options = {"num_draws": num_draws, "max_rows": max_rows, "has_gradient": has_gradient}
  return draw_probabilities(key, logits_fn, view, num_examples=len(images), **options).mean(axis=0)


@checks.inputs()
def gaussian_noise(
  key: AnyKey,
  logits_fn: LogitsFn,
  images: Images,
  *,
  noise_std: float,
  num_draws: int = 30,
  max_rows: int | None = None,
  has_gradient: bool = False,
) -> Probabilities:
  """Averages over Gaussian noise of standard deviation `noise_std` (pixels in [0, 1]).

  ```python
  probabilities = defenses.gaussian_noise(key, logits_fn, images, noise_std=0.1, num_draws=5)
  ```
  """
  transform = functools.partial(add_noise, noise_std=noise_std)
  options = {"num_draws": num_draws, "max_rows": max_rows, "has_gradient": has_gradient}
  return average_over(key, logits_fn, images, transform, **options)


@checks.inputs()
def rotation(
  key: AnyKey,
  logits_fn: LogitsFn,
  images: Images,
  *,
  max_degrees: float,
  num_draws: int = 30,
  max_rows: int | None = None,
  has_gradient: bool = False,
) -> Probabilities:
  """Averages over rotations by up to `max_degrees` either way.

  ```python
  probabilities = defenses.rotation(key, logits_fn, images, max_degrees=30.0, num_draws=5)
  ```
  """
  transform = functools.partial(random_rotation, max_degrees=max_degrees)
  options = {"num_draws": num_draws, "max_rows": max_rows, "has_gradient": has_gradient}
  return average_over(key, logits_fn, images, transform, **options)


@checks.inputs()
def crop_pad(
  key: AnyKey,
  logits_fn: LogitsFn,
  images: Images,
  *,
  min_size: int,
  max_size: int,
  num_draws: int = 30,
  max_rows: int | None = None,
  has_gradient: bool = False,
) -> Probabilities:
  """Averages over random crops, padded back at random places (Xie et al. 2018).

  ```python
  probabilities = defenses.crop_pad(key, logits_fn, images, min_size=10, max_size=14, num_draws=5)
  ```
  """
  transform = functools.partial(crop_and_pad, min_size=min_size, max_size=max_size)
  options = {"num_draws": num_draws, "max_rows": max_rows, "has_gradient": has_gradient}
  return average_over(key, logits_fn, images, transform, **options)


@checks.inputs()
def crop_resize(
  key: AnyKey,
  logits_fn: LogitsFn,
  images: Images,
  *,
  min_size: int,
  max_size: int,
  num_draws: int = 30,
  max_rows: int | None = None,
  has_gradient: bool = False,
) -> Probabilities:
  """Averages over random crops, enlarged to full size (Guo et al. 2018).

  ```python
  options = {"min_size": 10, "max_size": 14, "num_draws": 5}
  probabilities = defenses.crop_resize(key, logits_fn, images, **options)
  ```
  """
  transform = functools.partial(crop_and_resize, min_size=min_size, max_size=max_size)
  options = {"num_draws": num_draws, "max_rows": max_rows, "has_gradient": has_gradient}
  return average_over(key, logits_fn, images, transform, **options)


@jax.custom_jvp
def truncate(images: Float[Array, "..."]) -> Float[Array, "..."]:
  """Rounds down to a multiple of 1/255; its gradient is that of the identity."""
  return jnp.floor(images * 255 + 1e-3) / 255  # the slack keeps 8-bit values where they are


@truncate.defjvp
def _truncate_jvp(primals: tuple, tangents: tuple) -> tuple:
  return truncate(primals[0]), tangents[0]


def add_noise(key: AnyKey, images: Images, *, noise_std: float) -> Images:
  """Adds Gaussian noise, not clipped, of half the papers' deviation: their pixels span [-1, 1]."""
  keys = keys_lib.per_example(key, images.shape[0])
  noise = jax.vmap(lambda k: jax.random.normal(k, images.shape[1:]))(keys)
  return images + noise_std * noise


def rotate(image: Image, degrees: float | Scalar) -> Image:
  """Turns counter-clockwise about the centre; nearest pixel, black outside."""
  height, width, _ = image.shape
  angle = jnp.deg2rad(degrees)
  rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
  y, x = rows + 0.5 - height / 2, columns + 0.5 - width / 2
  source_x = jnp.floor(jnp.cos(angle) * x - jnp.sin(angle) * y + width / 2 + 1e-4)
  source_y = jnp.floor(jnp.sin(angle) * x + jnp.cos(angle) * y + height / 2 + 1e-4)
  inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
  column = jnp.clip(source_x, 0, width - 1).astype(jnp.int32)
  row = jnp.clip(source_y, 0, height - 1).astype(jnp.int32)
  return jnp.where(inside[..., None], image[row, column], 0.0)


def random_rotation(key: AnyKey, images: Images, *, max_degrees: float) -> Images:
  """Rotates each image by an angle drawn uniformly from [-max_degrees, max_degrees].

  Paper: Tabacof & Valle 2016 and Engstrom et al. 2019, as configured by Pang et al. 2020, Table 4.
  """
  keys = keys_lib.per_example(key, images.shape[0])
  low, high = -max_degrees, max_degrees
  angles = jax.vmap(lambda k: jax.random.uniform(k, minval=low, maxval=high))(keys)
  return jax.vmap(rotate)(truncate(images), angles)


def place_crop(
  image: Image, source: Int[Array, "2"], target: Int[Array, "2"], size: Index
) -> Image:
  """Moves the square of side `size` at `source` to `target` on black."""
  height, width, _ = image.shape
  rows, columns = jnp.arange(height) - target[0], jnp.arange(width) - target[1]
  inside = ((rows >= 0) & (rows < size))[:, None] & ((columns >= 0) & (columns < size))[None, :]
  row = jnp.clip(rows + source[0], 0, height - 1)
  column = jnp.clip(columns + source[1], 0, width - 1)
  return jnp.where(inside[..., None], image[row[:, None], column[None, :]], 0.0)


def crop_and_pad(key: AnyKey, images: Images, *, min_size: int, max_size: int) -> Images:
  """Crops a random square and pads it with black at a random place.

  Paper: Xie et al. 2018, arXiv:1711.01991, adapted to small images by Pang et al. 2020, Table 4.
  The side of the square is drawn from [min_size, max_size], in pixels.
  """
  _check_sizes(images, min_size, max_size)
  keys = keys_lib.per_example(key, images.shape[0])

  def one(key: Array, image: Array) -> Array:
    key_size, key_source, key_target = jax.random.split(key, 3)
    size = jax.random.randint(key_size, (), min_size, max_size + 1)
    limits = jnp.array(image.shape[:2]) - size + 1
    source = jax.random.randint(key_source, (2,), 0, limits)
    return place_crop(image, source, jax.random.randint(key_target, (2,), 0, limits), size)

  return jax.vmap(one)(keys, truncate(images))


def stretch_matrix(length: int, start: Index, size: Index) -> Float[Array, "L L"]:
  """Returns the matrix that enlarges pixels `start .. start + size - 1` to `length` (bilinear)."""
  position = (jnp.arange(length) + 0.5) * size / length - 0.5
  source = jnp.clip(position, 0, size - 1) + start
  distance = jnp.abs(source[:, None] - jnp.arange(length)[None, :])
  return jnp.maximum(0.0, 1.0 - distance)


def crop_and_resize(key: AnyKey, images: Images, *, min_size: int, max_size: int) -> Images:
  """Crops a random square and enlarges it to the full size (bilinear, rounded to 8 bits).

  Paper: Guo et al. 2018, arXiv:1711.00117, adapted to small images by Pang et al. 2020, Table 4.
  The side of the square is drawn from [min_size, max_size], in pixels.
  """
  _check_sizes(images, min_size, max_size)
  keys = keys_lib.per_example(key, images.shape[0])

  def one(key: Array, image: Array) -> Array:
    key_size, key_source = jax.random.split(key)
    size = jax.random.randint(key_size, (), min_size, max_size + 1)
    limits = jnp.array(image.shape[:2]) - size + 1
    top, left = jax.random.randint(key_source, (2,), 0, limits)
    rows = stretch_matrix(image.shape[0], top, size)
    columns = stretch_matrix(image.shape[1], left, size)
    return jnp.einsum("ih,hwc,jw->ijc", rows, image, columns)

  return truncate(jax.vmap(one)(keys, truncate(images)) + 0.5 / 255)


def _check_sizes(images: Images, min_size: int, max_size: int) -> None:
  if not 1 <= min_size <= max_size <= min(images.shape[1:3]):
    raise ValueError(
      f"defenses: expected 1 <= min_size <= max_size <= {min(images.shape[1:3])} (the image), got "
      f"{min_size}, {max_size}."
    )
