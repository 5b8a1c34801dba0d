# SPDX-License-Identifier: Apache-2.0
"""Snow, fog and frost of -C."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixboost_jax.array_types import Image, PRNGKey
from mixboost_jax.corruptions.blur import motion_streak
from mixboost_jax.corruptions.fields import coloured, diamond_square, power_of_two
from mixboost_jax.image.axes import zoom
from mixboost_jax.image.quantize import from_levels, to_levels

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
  haze = diamond_square(key, side=power_of_two(max(height, width)), decay=decay)
  brightest = image.max()
  return (image + amount * haze[:height, :width, None]) * brightest / (brightest + amount)


def grey(image: Image) -> Float[Array, "H W 1"]:
  """Returns .299 R + .587 G + .114 B (one channel: itself)."""
  if image.shape[2] == 1:
    return image
  return (image * jnp.array([0.299, 0.587, 0.114])[None, None, :]).sum(-1, keepdims=True)


def snow_layer(
  key: PRNGKey, *, shape: tuple[int, int], mean: float, deviation: float, size: float, cut: float
) -> Float[Array, "H W 1"]:
  """Draws flakes: enlarged normal noise, 0 where it is below `cut`, in 8-bit levels."""
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
  """Lets snow fall at an angle of U(-135, -45) degrees.

  Args:
    key: of this example.
    image: the picture.
    mean: of the normal noise that becomes flakes.
    deviation: of that noise.
    size: of the flakes, >= 1.
    cut: noise below it is no flake.
    radius: of their motion blur, pixels.
    sigma: of their motion blur, pixels.
    mix: weight of the picture against its whitened version.
  """
  height, width, _ = image.shape
  key_layer, key_angle = jax.random.split(key)
  layer = snow_layer(
    key_layer, shape=(height, width), mean=mean, deviation=deviation, size=size, cut=cut
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
