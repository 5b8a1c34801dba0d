# SPDX-License-Identifier: Apache-2.0
"""A procedural set of structurally complex pictures for PixMix; nothing is downloaded.

Fractals: attractors of iterated function systems, escape-time sets. Textures: dead leaves, spectral
noise, random networks, Gabor mixtures.

Deviation: the PixMix paper uses about 14,000 downloaded fractals and 5,000 feature visualisations;
these families stand in for both and are measured separately.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax import checks, keys
from mixboost_jax.array_types import Image, Images, PRNGKey, PRNGKeys, Scalar
from mixboost_jax.augment import _options
from mixboost_jax.image.levels import from_levels, to_levels

_BURN_IN = 16


def palette(key: PRNGKey, values: Float[Array, "*n"]) -> Float[Array, "*n 3"]:
  """Colours numbers in [0, 1] with a random smooth cycle of hues."""
  key_base, key_span, key_rate, key_phase = jax.random.split(key, 4)
  shape = (*(1,) * values.ndim, 3)
  base = jax.random.uniform(key_base, shape, minval=0.3, maxval=0.7)
  span = jax.random.uniform(key_span, shape, minval=0.2, maxval=0.6)
  rate = jax.random.uniform(key_rate, shape, minval=0.5, maxval=2.5)
  turns = values[..., None] * rate + jax.random.uniform(key_phase, shape)
  return jnp.clip(base + span * jnp.cos(2 * jnp.pi * turns), 0, 1)


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


def coordinates(size: int) -> tuple[Float[Array, "S S"], Float[Array, "S S"]]:
  """Returns x and y of the pixel centres in (-1, 1)."""
  line = (jnp.arange(size) + 0.5) / size * 2 - 1
  x, y = jnp.meshgrid(line, line)
  return x, y


def turned(x: Array, y: Array, angle: Array) -> tuple[Array, Array]:
  """Returns coordinates along an angle and across it."""
  return jnp.cos(angle) * x + jnp.sin(angle) * y, -jnp.sin(angle) * x + jnp.cos(angle) * y


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
    along, across = turned(x - centre[0], y - centre[1], angle)
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


@checks.inputs()
def spectral_noise(key: PRNGKey, *, size: int) -> Image:
  """Draws noise whose amplitudes fall as 1 / f^a, a in [0.5, 2.5], stretched in one direction.

  ```python
  draw = jax.jit(augment.spectral_noise, static_argnames="size")
  picture = draw(key, size=20)
  assert picture.shape == (20, 20, 3)
  ```
  """
  key_noise, key_shape, key_mix, key_colour = jax.random.split(key, 4)
  u = jax.random.uniform(key_shape, (4,))
  line = jnp.fft.fftfreq(size) * size
  along, across = turned(line[None, :], line[:, None], jnp.pi * u[0])
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
    activated = jnp.select(
      [kind == 0, kind == 1, kind == 2], [jnp.sin(2 * h), jnp.tanh(h), jnp.exp(-(h**2))], jnp.cos(h)
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
  bent = warp[0] * jnp.sin(3 * y + 6 * warp[1]), warp[2] * jnp.sin(3 * x + 6 * warp[3])
  x, y = x + bent[0], y + bent[1]
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
    along, _ = turned(dx, dy, jnp.pi * u[1])
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


FAMILIES = {
  "ifs": ifs,
  "escape_time": escape_time,
  "dead_leaves": dead_leaves,
  "spectral_noise": spectral_noise,
  "pattern_network": pattern_network,
  "gabor_mixture": gabor_mixture,
}
"""Kind of picture of a mixing set -> the function that draws it."""


@checks.inputs()
def mixing_images(
  key: PRNGKey, num: int, *, size: int = 36, families: tuple[str, ...] = tuple(FAMILIES)
) -> Images:
  """Generates `num` pictures; picture i is of family i mod the number of families.

  Picture i is the same whatever `num` is. Values are whole 8-bit levels, so that a cache of
  `image.to_levels(...)` loses nothing.

  A `size` (side in pixels) a little above that of the training pictures leaves room for random
  windows.

  ```python
  pictures = augment.mixing_images(key, 2, size=20)
  assert pictures.shape == (2, 20, 20, 3)
  ```
  """
  _options.check("mixing_images", size=size)
  unknown = [name for name in families if name not in FAMILIES]
  if unknown or not families or num < 0:
    raise ValueError(
      f"mixing_images: expected num >= 0 and families among {', '.join(FAMILIES)}; "
      f"got num={num}, families={families!r}."
    )
  each, pictures = keys.per_example(key, num), jnp.zeros((num, size, size, 3))
  for first, name in enumerate(families[:num]):
    own = slice(first, None, len(families))
    pictures = pictures.at[own].set(_generate(each[own], family=name, size=size))
  return pictures


@functools.partial(jax.jit, static_argnames=("family", "size"))
def _generate(each: PRNGKeys, *, family: str, size: int) -> Images:
  def one(key: PRNGKey) -> Image:
    return from_levels(to_levels(FAMILIES[family](key, size=size)))

  return jax.lax.map(one, each)
