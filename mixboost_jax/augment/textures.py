# SPDX-License-Identifier: Apache-2.0
"""Textures for PixMix: dead leaves, spectral noise, random networks and Gabor mixtures."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixboost_jax.array_types import Image, PRNGKey
from mixboost_jax.augment.fractals import palette


def coordinates(size: int) -> tuple[Float[Array, "S S"], Float[Array, "S S"]]:
  """Returns x and y of the pixel centres in (-1, 1)."""
  line = (jnp.arange(size) + 0.5) / size * 2 - 1
  return jnp.broadcast_to(line[None, :], (size, size)), jnp.broadcast_to(
    line[:, None], (size, size)
  )


def dead_leaves(key: PRNGKey, *, size: int, num_leaves: int = 160) -> Image:
  """Paints occluding discs, boxes and bars with sizes of a power law, each with its own shading.

  Paper: Lee, Mumford & Huang 2001, the dead leaves model; r^-3 sizes as in natural pictures.
  """
  x, y = coordinates(size)
  key_ground, key_leaves = jax.random.split(key)
  ground = jnp.broadcast_to(jax.random.uniform(key_ground, (3,))[None, None], (size, size, 3))

  def paint(image: Array, k: PRNGKey) -> tuple[Array, None]:
    key_place, key_shape, key_colour, key_stripes = jax.random.split(k, 4)
    centre = jax.random.uniform(key_place, (2,), minval=-1.2, maxval=1.2)
    u = jax.random.uniform(key_shape, (5,))
    radius = 0.08 / jnp.sqrt(1 - 0.99 * u[0])
    angle = 2 * jnp.pi * u[1]
    along = jnp.cos(angle) * (x - centre[0]) + jnp.sin(angle) * (y - centre[1])
    across = -jnp.sin(angle) * (x - centre[0]) + jnp.cos(angle) * (y - centre[1])
    flat = 0.25 + 0.75 * u[2]
    disc = along**2 + (across / flat) ** 2 < radius**2
    box = (jnp.abs(along) < radius) & (jnp.abs(across) < radius * flat)
    inside = jnp.where(u[3] < 0.6, disc, box)
    colours = jax.random.uniform(key_colour, (2, 3))
    rate, phase = jax.random.uniform(key_stripes, (2,), minval=0.0, maxval=1.0)
    stripes = 0.5 + 0.5 * jnp.sin(2 * jnp.pi * ((2 + 14 * rate) * along + phase))
    shade = jnp.where(u[4] < 0.5, stripes, 0.5 + 0.5 * along / radius)[..., None]
    leaf = jnp.clip(shade * colours[0][None, None] + (1 - shade) * colours[1][None, None], 0, 1)
    return jnp.where(inside[..., None], leaf, image), None

  return jax.lax.scan(paint, ground, jax.random.split(key_leaves, num_leaves))[0]


def spectral_noise(key: PRNGKey, *, size: int) -> Image:
  """Draws noise whose amplitudes fall as 1 / f^a, a in [0.5, 2.5], stretched in one direction."""
  key_noise, key_shape, key_mix, key_colour = jax.random.split(key, 4)
  u = jax.random.uniform(key_shape, (4,))
  line = jnp.fft.fftfreq(size) * size
  angle = jnp.pi * u[0]
  fx, fy = line[None, :], line[:, None]
  along = jnp.cos(angle) * fx + jnp.sin(angle) * fy
  across = -jnp.sin(angle) * fx + jnp.cos(angle) * fy
  stretch = 1 + 3 * u[1] ** 2
  radius = jnp.sqrt(along**2 * stretch + across**2 / stretch)
  amplitude = jnp.where(radius > 0, 1 / jnp.maximum(radius, 0.5) ** (0.5 + 2 * u[2]), 0.0)
  white = jax.random.normal(key_noise, (3, size, size))
  fields = jnp.real(jnp.fft.ifft2(jnp.fft.fft2(white) * amplitude[None]))
  fields = fields / (fields.std(axis=(1, 2), keepdims=True) + 1e-6)
  mix = jnp.eye(3) + 0.7 * jax.random.normal(key_mix, (3, 3))
  coloured = jnp.einsum("ij,jhw->hwi", mix, fields)
  cyclic = palette(key_colour, 0.3 * fields[0])
  return jnp.where(u[3] < 0.5, jax.nn.sigmoid(1.2 * coloured), cyclic)


def pattern_network(key: PRNGKey, *, size: int, width: int = 16, depth: int = 3) -> Image:
  """Draws what a random network of mixed activations computes from the coordinates (a CPPN)."""
  x, y = coordinates(size)
  key_in, key_layers, key_out, key_scale = jax.random.split(key, 4)
  scale = 2 ** jax.random.uniform(key_scale, (), minval=0.0, maxval=2.2)
  radius = jnp.hypot(x, y)
  inputs = jnp.stack([x, y, radius, jnp.abs(x), jnp.abs(y), jnp.ones_like(x)], axis=-1)
  hidden = inputs @ (scale * jax.random.normal(key_in, (6, width)))

  def layer(h: Array, k: PRNGKey) -> tuple[Array, None]:
    key_kind, key_weights = jax.random.split(k)
    kind = jax.random.randint(key_kind, (width,), 0, 4)[None, None]
    activated = jnp.where(
      kind == 0,
      jnp.sin(2 * h),
      jnp.where(kind == 1, jnp.tanh(h), jnp.where(kind == 2, jnp.exp(-(h**2)), jnp.cos(h))),
    )
    weights = jax.random.normal(key_weights, (width, width)) * (1.5 / width**0.5)
    return activated @ weights, None

  hidden, _ = jax.lax.scan(layer, hidden, jax.random.split(key_layers, depth))
  out = jnp.sin(hidden) @ (jax.random.normal(key_out, (width, 3)) * (2.0 / width**0.5))
  return jax.nn.sigmoid(2 * out)


def gabor_mixture(key: PRNGKey, *, size: int, num_waves: int = 32) -> Image:
  """Draws overlapping wave packets in opponent colours, like pictures that excite early filters.

  Every picture has its own scale, from fine to coarse. Some packets are repeated on a lattice,
  which gives the periodic motifs that visualised network features show.
  """
  x, y = coordinates(size)
  key_waves, key_warp, key_scale = jax.random.split(key, 3)
  warp = 0.15 * jax.random.normal(key_warp, (4,))
  x, y = (
    x + warp[0] * jnp.sin(3 * y + 6 * warp[1]),
    y + warp[2] * jnp.sin(3 * x + 6 * warp[3]),
  )
  finest = max(4 / size, 0.03)
  scale = finest * (0.68 / finest) ** jax.random.uniform(key_scale)

  def add(image: Array, k: PRNGKey) -> tuple[Array, None]:
    key_place, key_wave, key_colour = jax.random.split(k, 3)
    centre = jax.random.uniform(key_place, (2,), minval=-1, maxval=1)
    u = jax.random.uniform(key_wave, (6,))
    half = 0.4 + 0.6 * u[4]  # of the period of the lattice
    dx, dy = (
      jnp.where(u[0] < 0.3, jnp.mod(d + half, 2 * half) - half, d)
      for d in (x - centre[0], y - centre[1])
    )
    angle = jnp.pi * u[1]
    along = jnp.cos(angle) * dx + jnp.sin(angle) * dy
    spread = scale * 3 ** u[2]
    envelope = jnp.exp(-(dx**2 + dy**2) / (2 * spread**2))
    wave = jnp.cos(2 * jnp.pi * (along * (1 + u[3]) / (2 * spread) + u[5]))
    colour = jax.random.normal(key_colour, (3,))
    return image + (envelope * wave)[..., None] * colour[None, None], None

  key_base, key_waves = jax.random.split(key_waves)
  ground = 0.5 * jax.random.normal(key_base, (3,))
  start = jnp.zeros((size, size, 3))
  image, _ = jax.lax.scan(add, start, jax.random.split(key_waves, num_waves))
  return jax.nn.sigmoid(1.5 * image / (image.std() + 1e-6) + ground[None, None])
