# SPDX-License-Identifier: Apache-2.0
"""C-bar corruptions that add or multiply a field: coloured noises, waves, plasma, Perlin.

Paper: Mintun et al. 2021, arXiv:2102.11273; `severity` is its real-valued strength, 0..10. Fields
are made for a square of the longer side and cropped.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixboost_jax.array_types import Image, PRNGKey
from mixboost_jax.corruptions.fields import coloured, perlin_turbulence


def positions(height: int, width: int) -> tuple[Float[Array, "H W"], Float[Array, "H W"]]:
  """Returns the row and the column of every pixel."""
  rows = jnp.broadcast_to(jnp.arange(height, dtype=jnp.float32)[:, None], (height, width))
  columns = jnp.broadcast_to(jnp.arange(width, dtype=jnp.float32)[None, :], (height, width))
  return rows, columns


def blue_noise_sample(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Blackens pixels whose blue noise is at most .3 severity - 2.5."""
  height, width, _ = image.shape
  field = coloured(key, side=max(height, width), kind="blue")[:height, :width]
  return jnp.where(field[..., None] > 0.3 * severity - 2.5, image, 0.0)


def brownish_noise(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Adds brown noise of deviation 6.4 severity levels, independent per channel."""
  height, width, channels = image.shape
  side = max(height, width)
  fields = jax.vmap(lambda k: coloured(k, side=side, kind="brown"))(jax.random.split(key, channels))
  return image + 6.4 * severity / 255 * jnp.moveaxis(fields, 0, 2)[:height, :width]


def single_frequency_greyscale(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Adds one plane wave of amplitude 19.6 severity levels."""
  height, width, _ = image.shape
  key_first, key_second, key_swap, key_phase = jax.random.split(key, 4)
  first = jax.random.uniform(key_first, (), minval=-np.pi, maxval=np.pi)
  second = jnp.abs(first) * jax.random.uniform(key_second, (), minval=-1.0)
  swap = jax.random.bernoulli(key_swap)
  across, down = jnp.where(swap, second, first), jnp.where(swap, first, second)
  phase = jax.random.uniform(key_phase, (), maxval=2 * np.pi)
  rows, columns = positions(height, width)
  wave = jnp.sin(columns * across + rows * down + phase)
  return image + 19.6 * severity / 255 * wave[..., None]


def cocentric_sine_waves(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Adds saw-tooth rings around a random point, wavy along the angle, 12.8 severity levels high."""
  height, width, _ = image.shape
  side = max(height, width)
  draws = jax.random.uniform(key, (5,))
  rows, columns = positions(height, width)
  right, down = columns - side * draws[0], rows - side * draws[1]
  waves = jnp.sin(jnp.arctan2(right, down) * 10 * draws[2]) * side / 10 * draws[3]
  ring = jnp.maximum(side / 10 * draws[4], 1e-6)
  saw = jnp.mod(jnp.sqrt(right**2 + down**2) + waves, ring) / ring - 0.5
  return image + 12.8 * severity / 255 * saw[..., None]


def plasma_noise(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Mixes in colourful sines that were bent 4 to 6 times, weight 6.4 severity / 255."""
  height, width, channels = image.shape
  key_real, key_bends = jax.random.split(key)
  draws = jax.random.uniform(key_real, (3,))
  time, sharpness = 6 * np.pi * draws[0], 0.5 + 0.5 * draws[1]
  scale = (0.075 + 0.125 * draws[2]) * max(height, width)
  bends = jax.random.randint(key_bends, (), 4, 7)
  y, x = (place / scale for place in positions(height, width))
  for bend in range(6):
    size = (2.25 - sharpness) ** bend
    right = jnp.cos(y * 1.93**bend + time / 1.15**bend) / size
    down = jnp.sin(x * 1.93**bend + time / 1.15**bend) / size
    active = bend < bends
    x = jnp.where(active, x + right - 0.3 * down, x)
    y = jnp.where(active, y + down + 0.3 * right, y)
  red, blue = jnp.sin(x - time), jnp.sin(y + time)
  green = jnp.sin((x + y + jnp.sin(time)) * 0.5)
  pattern = jnp.stack([red, green, blue], -1)
  if channels != 3:
    pattern = pattern.mean(-1, keepdims=True)
  weight = 6.4 * severity / 255
  return (1 - weight) * image + weight * pattern


def perlin_noise(key: PRNGKey, image: Image, *, severity: float) -> Image:
  """Mixes in Perlin turbulence, weight .05 severity."""
  height, width, _ = image.shape
  turbulence = perlin_turbulence(key, height=height, width=width)
  weight = 0.05 * severity
  return (1 - weight) * image + weight * jnp.clip(0.5 * turbulence + 0.5, 0, 1)[..., None]
