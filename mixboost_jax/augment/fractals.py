# SPDX-License-Identifier: Apache-2.0
"""Fractal pictures for PixMix: attractors of iterated function systems and escape-time sets."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax.array_types import Image, PRNGKey, Scalar

_BURN_IN = 16


def palette(key: PRNGKey, values: Float[Array, "*n"]) -> Float[Array, "*n 3"]:
  """Colours numbers in [0, 1] with a random smooth cycle of hues."""
  key_base, key_span, key_rate, key_phase = jax.random.split(key, 4)
  base = jax.random.uniform(key_base, (3,), minval=0.3, maxval=0.7)
  span = jax.random.uniform(key_span, (3,), minval=0.2, maxval=0.6)
  rate = jax.random.uniform(key_rate, (3,), minval=0.5, maxval=2.5)
  phase = jax.random.uniform(key_phase, (3,))
  shape = (*(1,) * values.ndim, 3)
  turns = values[..., None] * rate.reshape(shape) + phase.reshape(shape)
  return jnp.clip(base.reshape(shape) + span.reshape(shape) * jnp.cos(2 * jnp.pi * turns), 0, 1)


def ifs(key: PRNGKey, *, size: int) -> Image:
  """Draws the attractor of 2 to 6 random affine contractions by the chaos game.

  Many points wander at once; the picture shows how often a pixel was visited (logarithmically) and
  which maps led there, which gives each branch its own colour.
  """
  most = 6
  key_maps, key_shift, key_number, key_game, key_colour, key_ground = jax.random.split(key, 6)
  number = jax.random.randint(key_number, (), 2, most + 1)
  matrices = _contractions(key_maps, number, most=most)
  shifts = jax.random.uniform(key_shift, (most, 2), minval=-1, maxval=1)
  area = jnp.abs(jnp.linalg.det(matrices)) + 0.02
  logits = jnp.where(jnp.arange(most) < number, jnp.log(area), -jnp.inf)
  num_points, num_steps = max(256, size * size // 8), 96

  def step(carry: tuple[Array, Array], k: PRNGKey) -> tuple[tuple[Array, Array], Array]:
    points, tone = carry
    chosen = jax.random.categorical(k, logits, shape=(num_points,))
    points = jnp.einsum("nij,nj->ni", matrices[chosen], points) + shifts[chosen]
    tone = 0.5 * tone + 0.5 * chosen / most
    return (points, tone), jnp.concatenate([points, tone[:, None]], axis=1)

  start = (jnp.zeros((num_points, 2)), jnp.zeros(num_points))
  _, visited = jax.lax.scan(step, start, jax.random.split(key_game, _BURN_IN + num_steps))
  visited = visited[_BURN_IN:].reshape(-1, 3)
  low = jnp.quantile(visited[::7, :2], 0.002, axis=0)
  high = jnp.quantile(visited[::7, :2], 0.998, axis=0)
  place = (visited[:, :2] - low[None]) / jnp.maximum(high - low, 1e-6)[None]
  cells = jnp.floor(place * (size - 2)).astype(jnp.int32) + 1
  inside = ((cells >= 0) & (cells < size)).all(axis=1)
  index = jnp.where(inside, cells[:, 1] * size + cells[:, 0], size * size)
  counts = jnp.zeros(size * size + 1).at[index].add(1.0)[:-1]
  tones = jnp.zeros(size * size + 1).at[index].add(visited[:, 2])[:-1] / jnp.maximum(counts, 1)
  density = jnp.log1p(counts) / jnp.log1p(counts.max())
  bright = (density**0.6).reshape(size, size, 1)
  ground = jax.random.uniform(key_ground, (3,)) * 0.3
  return bright * palette(key_colour, tones.reshape(size, size)) + (1 - bright) * ground[None, None]


def _contractions(key: PRNGKey, number: Int[Array, ""], *, most: int) -> Float[Array, "M 2 2"]:
  """Draws matrices rotation x scale x rotation, scaled so that the attractor fills some area.

  The determinants of the first `number` maps add up to 0.5 to 1.1: less gives dust, more a blot.
  """
  key_turns, key_scales, key_signs, key_total = jax.random.split(key, 4)
  turns = jax.random.uniform(key_turns, (2, most), maxval=2 * jnp.pi)
  scales = jax.random.uniform(key_scales, (most, 2), minval=0.2, maxval=0.9)
  used = jnp.arange(most) < number
  total = jnp.sum(jnp.where(used, scales.prod(axis=1), 0.0))
  wanted = jax.random.uniform(key_total, minval=0.5, maxval=1.1)
  scales = jnp.minimum(scales * jnp.sqrt(wanted / total), 0.92)
  signs = jnp.where(jax.random.bernoulli(key_signs, shape=(most, 2)), 1.0, -1.0)

  def rotation(angle: Array) -> Array:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)

  return jnp.einsum("nij,nj,njk->nik", rotation(turns[0]), scales * signs, rotation(turns[1]))


def escape_time(key: PRNGKey, *, size: int, num_steps: int = 64) -> Image:
  """Draws a Julia set of z^p + c or a part of the Mandelbrot set near its boundary.

  c lies near the boundary of the Mandelbrot set (its cardioid or the disc to its left), where the
  sets are intricate; p is 2, 3 or 4; a third of the pictures fold z into one quadrant first.
  """
  key_kind, key_place, key_power, key_zoom, key_turn, key_colour = jax.random.split(key, 6)
  kind = jax.random.uniform(key_kind, (3,))
  is_julia, folded = kind[0] < 0.65, kind[1] < 0.33
  power = jax.random.choice(key_power, jnp.array([2.0, 2.0, 3.0, 4.0]))
  c_re, c_im = _boundary_point(key_place, outside=~is_julia)
  zoom_u, turn = jax.random.uniform(key_zoom), 2 * jnp.pi * jax.random.uniform(key_turn)
  half = jnp.where(is_julia, 1.5 * 0.25**zoom_u, 1.2 * 0.03**zoom_u)
  grid = (jnp.arange(size) + 0.5) / size * 2 - 1
  x, y = grid[None, :] * half, grid[:, None] * half
  u, v = jnp.cos(turn) * x - jnp.sin(turn) * y, jnp.sin(turn) * x + jnp.cos(turn) * y
  shift = 1 - is_julia.astype(jnp.float32)  # the Mandelbrot window is centred on c
  u, v = u + shift * c_re, v + shift * c_im
  start_re, start_im = is_julia * u, is_julia * v
  add_re = jnp.where(is_julia, c_re, u)
  add_im = jnp.where(is_julia, c_im, v)

  def step(_: Array, carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
    re, im, count, trap = carry
    fold_re, fold_im = jnp.where(folded, jnp.abs(re), re), jnp.where(folded, jnp.abs(im), im)
    radius, angle = jnp.hypot(fold_re, fold_im), jnp.arctan2(fold_im, fold_re)
    new_radius = radius**power
    new_re = new_radius * jnp.cos(power * angle) + add_re
    new_im = new_radius * jnp.sin(power * angle) + add_im
    alive = jnp.hypot(re, im) < 16.0
    smooth = jnp.clip(jnp.log(jnp.maximum(radius, 1e-6)) / jnp.log(16.0), 0, 1)
    count = jnp.where(alive, count + 1 - smooth * 0.5, count)
    trap = jnp.where(alive, jnp.minimum(trap, jnp.abs(re * im)), trap)
    return jnp.where(alive, new_re, re), jnp.where(alive, new_im, im), count, trap

  start = (start_re, start_im, jnp.zeros((size, size)), jnp.full((size, size), 4.0))
  _, _, count, trap = jax.lax.fori_loop(0, num_steps, step, start)
  tone = _spread(jnp.log1p(count)) + (0.3 + 0.7 * kind[2]) * _spread(jnp.log(trap + 1e-3))
  return palette(key_colour, 0.35 * tone)


def _spread(values: Float[Array, "S S"]) -> Float[Array, "S S"]:
  """Centres and scales values to a standard deviation of one; constants become zero."""
  return (values - values.mean()) / (values.std() + 1e-3)


def _boundary_point(key: PRNGKey, *, outside: Bool[Array, ""]) -> tuple[Scalar, Scalar]:
  """Returns a point slightly off the main cardioid (mostly) or the disc of period two.

  A window on the Mandelbrot set wants one outside: a window inside shows nothing.
  """
  key_angle, key_part, key_off = jax.random.split(key, 3)
  t = 2 * jnp.pi * jax.random.uniform(key_angle)
  off = 0.06 * jax.random.normal(key_off)
  off = 1 + jnp.where(outside, jnp.abs(off), off)
  cardioid = (jnp.cos(t) / 2 - jnp.cos(2 * t) / 4, jnp.sin(t) / 2 - jnp.sin(2 * t) / 4)
  disc = (-1 + jnp.cos(t) / 4, jnp.sin(t) / 4)
  main = jax.random.uniform(key_part) < 0.75
  return jnp.where(main, cardioid[0], disc[0]) * off, jnp.where(main, cardioid[1], disc[1]) * off
