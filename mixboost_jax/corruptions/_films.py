# SPDX-License-Identifier: Apache-2.0
"""Short films of one picture under a growing or moving perturbation (-P).

Paper: Hendrycks & Dietterich 2019, arXiv:1903.12261. Frames are 8-bit levels. The harder noises of
ImageNet-P end in _2 and _3. Turning, scaling and slanting leave a point half a pixel beyond the
middle where it is, (W/2 + 1/2, H/2 + 1/2), as did the release of torchvision (0.2.1) that was
current when the sets were made; later releases keep the middle.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixboost_jax import checks
from mixboost_jax.array_types import Image, Images, PRNGKey
from mixboost_jax.corruptions import _digital, _noise, _weather
from mixboost_jax.corruptions._blur import round_levels, shifted_mean, streak_offsets
from mixboost_jax.corruptions._table import choose_table
from mixboost_jax.image import affine
from mixboost_jax.image.levels import from_levels, to_levels
from mixboost_jax.image.linear import gaussian_blur_of_width
from mixboost_jax.image.sampling import bilinear, positions
from mixboost_jax.registry import lookup

Film = Float[Array, "F H W C"]


class Sequence(NamedTuple):
  """A function `(key, image, **keywords) -> film` and its keywords in the two tables."""

  function: Callable[..., Any]
  cifar: dict[str, Any]
  imagenet: dict[str, Any]
  samples: bool = True
  """Whether the function takes a key first."""


def noise_film(
  key: PRNGKey, image: Image, *, kind: str, strength: float, num_frames: int = 31
) -> Film:
  """The clean picture, then independent noise of one kind and strength (sigma, photons)."""
  draw = {
    "gaussian": functools.partial(_noise.gaussian_noise, sigma=strength),
    "speckle": functools.partial(_noise.speckle_noise, sigma=strength),
    "shot": functools.partial(_noise.shot_noise, photons=int(strength)),
  }[kind]
  noisy = jax.vmap(draw, in_axes=(0, None))(jax.random.split(key, num_frames - 1), image)
  return jnp.concatenate([image[None], noisy])


def motion_blur_film(
  image: Image, *, radius: int, sigma: float, first: float, step: float, num_frames: int
) -> Film:
  """Motion blur whose angle turns by `step` degrees a frame, from `first`."""
  offsets = streak_offsets(first + step * np.arange(num_frames), radius=radius)
  blur = functools.partial(shifted_mean, image, sigma=sigma)
  return jax.vmap(blur)(*map(jnp.asarray, offsets))


def zoom_blur_film(image: Image, *, step: float, num_frames: int = 31) -> Film:
  """Frame i averages the enlargements by 1, 1 + step, .. 1 + step i."""
  zoomed = affine_film(image, change="factor", first=1, step=step, num_frames=num_frames)
  return jnp.cumsum(zoomed, 0) / jnp.arange(1, num_frames + 1).reshape(-1, 1, 1, 1)


def snow_film(
  key: PRNGKey, image: Image, *, size: float, radius: int, sigma: float, num_frames: int = 31
) -> Film:
  """The same flakes, blown at 4 i - 150 degrees."""
  layer = _weather.snow_layer(
    key, shape=image.shape[:2], mean=0.05, deviation=0.3, size=size, cut=0.5
  )
  offsets = streak_offsets(4.0 * np.arange(num_frames) - 150, radius=radius)

  def fall(down: Array, right: Array) -> Image:
    return _weather.whiten(image, shifted_mean(layer, down, right, sigma=sigma), mix=0.85)

  return jax.vmap(fall)(*map(jnp.asarray, offsets))


def brightness_film(image: Image, *, step: float, num_frames: int = 31) -> Film:
  """V grows by `step` a frame and is untouched in the middle."""
  shifts = step * (jnp.arange(num_frames, dtype=jnp.float32) - num_frames // 2)
  return jax.vmap(lambda shift: _digital.brightness(image, shift=shift))(shifts)


def translate_film(image: Image, *, first: int, num_frames: int) -> Film:
  """Moves right by one pixel a frame, from `first`; black enters."""
  moved = [[1.0, 0, -float(first + i), 0, 1, 0] for i in range(num_frames)]
  return _warped(image, moved, "nearest")


def affine_film(
  image: Image, *, change: str, first: float, step: float, num_frames: int = 31
) -> Film:
  """Turns (clockwise), slants (degrees both) or enlarges by `first` + `step` i, black around.

  `change` is "turn", "slant" or "factor". A slant of 15 degrees shrinks heights by 4 %.
  """
  amounts = ({change: first + step * i} for i in range(num_frames))
  return _warped(image, [_about_middle(image, **amount) for amount in amounts], "bilinear")


def tilt_film(image: Image, *, step: float, num_frames: int = 31) -> Film:
  """Turns the picture in space about both of its axes by `step` degrees a frame.

  As in the original the plane lies one unit behind the focus, so the middle frame is not the
  picture: it is smaller by the factor d / (d + 1), d being the diagonal in pixels.
  """
  height, width, _ = image.shape
  angles = np.deg2rad(step * (np.arange(num_frames) - num_frames // 2))
  inverses = [np.linalg.inv(_perspective(angle, height, width)) for angle in angles]
  rows, columns = positions(height, width)

  def frame(matrix: Float[Array, "3 3"]) -> Image:
    x, y, z = (matrix[i, 0] * columns + matrix[i, 1] * rows + matrix[i, 2] for i in range(3))
    return bilinear(image, y / z, x / z, border="zero")

  return round_levels(jax.vmap(frame)(jnp.asarray(np.stack(inverses), jnp.float32)))


def gaussian_blur_film(
  image: Image, *, first: float, step: float, truncate: float, num_frames: int = 31
) -> Film:
  """Blurs by sigma `first` + `step` i, cut at `truncate` sigma."""
  sigmas = [first + step * i for i in range(num_frames)]
  return jnp.stack([gaussian_blur_of_width(image, sigma=s, truncate=truncate) for s in sigmas])


def spatter_film(
  key: PRNGKey, image: Image, *, drip: tuple[float, ...], num_frames: int = 31, **liquid: float
) -> Film:
  """Drops of water that run down the picture (approximate, as `spatter_approximate`).

  Columns of `_weather.liquid_layer(**liquid)` are convolved with `drip` from frame to frame.
  """
  height = image.shape[0]
  layer = _weather.liquid_layer(key, shape=image.shape[:2], **liquid)
  ahead = (len(drip) - 1) // 2

  def run_down(liquid: Array, _: None) -> tuple[Array, Image]:
    mask = _weather.water_mask(liquid, strength=0.6)
    wet = _weather.paint(image, mask, colour=_weather.WATER, cover=False)
    padded = jnp.pad(liquid, ((len(drip) - 1 - ahead, ahead), (0, 0)))
    rows = [padded[len(drip) - 1 - k :][:height] * share for k, share in enumerate(drip)]
    return jnp.stack(rows).sum(0), wet

  return jax.lax.scan(run_down, layer, None, length=num_frames)[1]


def _perspective(angle: float, height: int, width: int) -> np.ndarray:
  """Returns the homography of a plane turned by `angle` about x and y, seen from its diagonal."""
  far = np.hypot(width, height)
  cos, sin = np.cos(angle), np.sin(angle)
  lift = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1], [0, 0, 1]])
  about_x = np.array([[1, 0, 0, 0], [0, cos, -sin, 0], [0, sin, cos, 0], [0, 0, 0, 1]])
  about_y = np.array([[cos, 0, -sin, 0], [0, 1, 0, 0], [sin, 0, cos, 0], [0, 0, 0, 1]])
  away = np.eye(4)
  away[2, 3] = far
  project = np.array([[far, 0, width / 2, 0], [0, far, height / 2, 0], [0, 0, 1, 0]])
  return project @ away @ about_x @ about_y @ lift


def _about_middle(
  image: Image, *, turn: float = 0.0, factor: float = 1.0, slant: float = 0.0
) -> list[float]:
  """Returns the affine map from output to input; `turn` clockwise and `slant` in degrees."""
  height, width, _ = image.shape
  x, y = width / 2 + 0.5, height / 2 + 0.5
  turn, slant = np.deg2rad(turn), np.deg2rad(slant)
  rows = np.array([[np.cos(turn + slant), np.sin(turn + slant)], [-np.sin(turn), np.cos(turn)]])
  (a, b), (c, d) = rows / (factor * np.cos(slant))
  return [a, b, x - a * x - b * y, c, d, y - c * x - d * y]


def _warped(image: Image, matrices: list[list[float]], interpolation: str) -> Film:
  """Applies affine maps to the levels of a picture, as Pillow samples; black outside."""
  levels, fill = to_levels(image), jnp.zeros(image.shape[2], jnp.uint8)
  sample, bits = affine.SAMPLERS[interpolation]
  fixed = jnp.asarray(affine.fixed_point(np.array(matrices), bits=bits))
  return from_levels(jax.vmap(lambda matrix: sample(levels, matrix, fill=fill))(fixed))


def _noises(kind: str, cifar: tuple[float, ...], imagenet: tuple[float, ...]) -> dict:
  return {
    f"{kind}_noise{suffix}": Sequence(
      noise_film, {"kind": kind, "strength": small}, {"kind": kind, "strength": large}
    )
    for suffix, small, large in zip(("", "_2", "_3"), cifar, imagenet, strict=True)
  }


def _affine(change: str, cifar: tuple[float, float], imagenet: tuple[float, float]) -> Sequence:
  tables = ({"change": change, "first": first, "step": step} for first, step in (cifar, imagenet))
  return Sequence(affine_film, *tables, samples=False)


SEQUENCES: dict[str, Sequence] = {
  **_noises("gaussian", (0.02, 0.04, 0.06), (0.03, 0.05, 0.08)),
  **_noises("shot", (700, 400, 200), (300, 120, 60)),
  **_noises("speckle", (0.05, 0.07, 0.1), (0.05, 0.1, 0.15)),
  "motion_blur": Sequence(
    motion_blur_film,
    {"radius": 6, "sigma": 1.8, "first": -180.0, "step": 9.0, "num_frames": 21},
    {"radius": 10, "sigma": 3, "first": -120.0, "step": 4.0, "num_frames": 31},
    samples=False,
  ),
  "zoom_blur": Sequence(zoom_blur_film, {"step": 0.004}, {"step": 0.004}, samples=False),
  "snow": Sequence(
    snow_film, {"size": 2, "radius": 10, "sigma": 2}, {"size": 3, "radius": 14, "sigma": 4}
  ),
  "brightness": Sequence(brightness_film, {"step": 0.015}, {"step": 0.02}, samples=False),
  "translate": Sequence(
    translate_film,
    {"first": -7, "num_frames": 16},
    {"first": -20, "num_frames": 41},
    samples=False,
  ),
  "rotate": _affine("turn", (-15.0, 1.0), (-15.0, 1.0)),
  "tilt": Sequence(tilt_film, {"step": 0.75}, {"step": 1.0}, samples=False),
  "scale": _affine("factor", (0.7, 0.02), (0.4, 0.025)),
  "gaussian_blur": Sequence(
    gaussian_blur_film,
    {"first": 0.3, "step": 0.015, "truncate": 7.0},
    {"first": 0.25, "step": 0.035, "truncate": 6.0},
    samples=False,
  ),
  "spatter_approximate": Sequence(
    spatter_film,
    {"mean": 0.6, "deviation": 0.265, "sigma": 1.75, "cut": 0.7, "drip": (0.2, 0.8)},
    {"mean": 0.65, "deviation": 0.27, "sigma": 3.7, "cut": 0.69, "drip": (0.05, 0.1, 0.15, 0.7)},
  ),
  "shear": _affine("slant", (-15.0, 1.0), (-15.0, 1.0)),
}


@checks.inputs(values="always")
def perturb_sequence(key: PRNGKey, image: Image, *, name: str, table: str = "auto") -> Images:
  """Makes the film of one picture; lift with `jax.vmap` over keys and pictures.

  ```python
  film = corruptions.perturb_sequence(key, images[0], name="brightness")
  assert film.shape == (31, 16, 16, 3)
  ```

  Args:
    key: of this picture.
    image: values in [0, 1], at most 1024 pixels a side.
    name: a key of `SEQUENCES`.
    table: "cifar" or "imagenet" constants; "auto" chooses by the size.

  Returns:
    Frames in order, multiples of 1/255.

  Raises:
    ValueError: for an unknown name or table.
  """
  lookup(SEQUENCES, name, field="corruptions.sequence")
  table = choose_table(table, height=image.shape[0], width=image.shape[1])
  return _film(key, image, name=name, table=table)


@functools.partial(jax.jit, static_argnames=("name", "table"))
def _film(key: PRNGKey, image: Image, *, name: str, table: str) -> Images:
  sequence = SEQUENCES[name]
  keywords = sequence.cifar if table == "cifar" else sequence.imagenet
  given = (key, image) if sequence.samples else (image,)
  return from_levels(to_levels(sequence.function(*given, **keywords)))
