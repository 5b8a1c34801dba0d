# SPDX-License-Identifier: Apache-2.0
"""Closed forms, moments and worked cases of single corruptions."""

import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax.corruptions import _bar, _blur, _digital, _films, _noise, _weather

GREY = jnp.full((64, 64, 3), 102 / 255, jnp.float32)
COUNT = GREY.size


def test_noise_moments(key):
  """Mean within 4 standard errors, variance within 4 of a normal sample's."""
  x = 102 / 255
  for fn, variance in (
    (lambda: _noise.gaussian_noise(key, GREY, sigma=0.1), 0.1**2),
    (lambda: _noise.speckle_noise(key, GREY, sigma=0.2), (0.2 * x) ** 2),
    (lambda: _noise.shot_noise(key, GREY, photons=50), x / 50),
    (lambda: _noise.shot_noise(key, GREY, photons=500), x / 500),
  ):
    out = np.asarray(fn(), np.float64)
    assert abs(out.mean() - x) < 4 * np.sqrt(variance / COUNT)
    assert abs(out.var() / variance - 1) < 4 * np.sqrt(2.2 / COUNT)  # kurtosis of Poisson(20): 3.05


def test_shot_noise_has_the_distribution_of_poisson(key):
  rate = 3 * 102 / 255
  counts = np.round(np.asarray(_noise.shot_noise(key, GREY, photons=3)) * 3).astype(int).reshape(-1)
  mass = np.exp(-rate)
  for k in range(6):
    share = (counts == k).mean()
    assert abs(share - mass) < 4 * np.sqrt(mass * (1 - mass) / COUNT), k
    mass *= rate / (k + 1)
  dark = _noise.shot_noise(key, jnp.zeros_like(GREY), photons=500)
  np.testing.assert_array_equal(dark, 0)


def test_impulse_noise_hits_values_not_pixels(key):
  out = np.asarray(_noise.impulse_noise(key, GREY, amount=0.3))
  for value in (0.0, 1.0):
    assert abs((out == value).mean() - 0.15) < 4 * np.sqrt(0.15 * 0.85 / COUNT)
  hit = out != np.float32(102 / 255)
  both = (hit[..., 0] & hit[..., 1]).mean()
  assert abs(both - 0.09) < 4 * np.sqrt(0.09 * 0.91 / (COUNT / 3))


@pytest.mark.parametrize(
  ("radius", "alias", "centre"), [(0.3, 0.4, 0.845), (0.4, 0.5, 0.619), (0.5, 0.6, 0.445)]
)
def test_small_disks_are_3x3_blurs(radius, alias, centre):
  kernel = _blur.disk_kernel(radius, alias)
  assert np.count_nonzero(kernel) == 9
  assert kernel[8, 8] == pytest.approx(centre, abs=6e-4)
  assert kernel.sum() == pytest.approx(1)


def test_larger_disks_by_hand():
  plus = _blur.disk_kernel(1, 0.2)[7:10, 7:10]
  np.testing.assert_allclose(plus, np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]) / 5, atol=1e-4)
  box = _blur.disk_kernel(1.5, 0.1)[7:10, 7:10]
  np.testing.assert_allclose(box, np.full((3, 3), 1 / 9), atol=1e-6)
  assert _blur.disk_kernel(10, 0.5).shape == (21, 21)


def sweep_one_by_one(values, partner, visited, *, true_swap):
  """Walks the pixels as the original does."""
  values = values.copy()
  for p in np.flatnonzero(visited)[::-1]:
    a, b = values[p], values[partner[p]]
    values[p] = b
    if true_swap:
      values[partner[p]] = a
  return values


@pytest.mark.parametrize("true_swap", [False, True])
@pytest.mark.parametrize(("height", "width", "delta"), [(12, 9, 1), (11, 14, 3), (3, 3, 2)])
def test_glass_follows_the_order_of_the_sweep(height, width, delta, true_swap, key):
  offsets = jax.random.randint(key, (2, height, width), -delta, delta)
  partner = _blur.partners(offsets, delta=delta)
  visited = _blur.swept(height, width, delta)
  step = _blur.swap_sources if true_swap else _blur.copy_sources
  wanted = sweep_one_by_one(
    np.arange(height * width), np.asarray(partner), visited.reshape(-1), true_swap=true_swap
  )
  np.testing.assert_array_equal(step(partner, visited), wanted)


def test_glass_follows_long_chains():
  partner = jnp.minimum(jnp.arange(700) + 1, 699)
  visited = np.ones((700, 1), bool)
  np.testing.assert_array_equal(_blur.copy_sources(partner, visited), 699)


def test_motion_streak_by_hand():
  line = jnp.zeros((1, 7, 1)).at[0, 3, 0].set(1.0)
  weights = np.exp(-(np.arange(3) ** 2) / 2)
  weights /= weights.sum()
  out = _blur.motion_streak(line, jnp.float32(0.0), radius=1, sigma=1)[0, :, 0]
  # at 0 degrees tap i reads ceil(i - 1/2) = i pixels to the right, so light moves left
  np.testing.assert_allclose(out, [0, weights[2], weights[1], weights[0], 0, 0, 0], atol=1e-6)
  column = _blur.motion_streak(line.reshape(7, 1, 1), jnp.float32(-90.0), radius=1, sigma=1)
  np.testing.assert_allclose(column[3:6, 0, 0], weights, atol=1e-6)


def test_ties_of_known_angles_fall_as_in_double_precision():
  down, right = _blur.streak_offsets(np.array([-150.0, -120, -60, -30, 0]), radius=2)
  # sin 30 and cos 120 lie just inside 1/2 in double precision, cos 60 just outside
  assert down[[0, 3]].tolist() == [[0, 0, -1, -1, -2]] * 2
  assert right[1].tolist() == [0, 0, -1, -1, -2]
  assert right[2].tolist() == [0, 1, 1, 2, 2]
  assert right[4].tolist() == [0, 1, 2, 3, 4]
  image = jnp.asarray(np.random.default_rng(0).uniform(size=(12, 12, 1)), jnp.float32)
  for angle in (-140.0, -10.0, 75.0):  # without ties both ways agree
    offsets = (jnp.asarray(one[0]) for one in _blur.streak_offsets(np.array([angle]), radius=3))
    same = _blur.motion_streak(image, jnp.float32(angle), radius=3, sigma=2)
    np.testing.assert_allclose(_blur.shifted_mean(image, *offsets, sigma=2), same, atol=1e-6)


def test_films_turn_half_a_pixel_beyond_the_middle():
  image = jnp.zeros((10, 14, 3))
  for options in ({"turn": 9.0}, {"factor": 1.3}, {"slant": -12.0}):
    a, b, c, d, e, f = _films._about_middle(image, **options)
    assert (a * 7.5 + b * 5.5 + c, d * 7.5 + e * 5.5 + f) == pytest.approx((7.5, 5.5))
  a, b, _, d, e, _ = _films._about_middle(image, turn=90.0)  # clockwise: x reads from y
  assert (a, b, d, e) == pytest.approx((0, 1, -1, 0), abs=1e-12)
  a, b, _, d, e, _ = _films._about_middle(image, slant=45.0)
  assert (a, b, d, e) == pytest.approx((1, 1, 0, 2**0.5))


def test_brightness_and_saturation_are_those_of_hsv():
  rng = np.random.default_rng(0)
  pixels = np.concatenate([rng.uniform(size=(40, 3)), [[0, 0, 0], [0.4, 0.4, 0.4], [1, 1, 1]]])
  image = jnp.asarray(pixels[None], jnp.float32)

  def by_hsv(change):
    return np.array([colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*p))) for p in pixels])

  for shift in (0.3, -0.2):
    wanted = by_hsv(lambda h, s, v, shift=shift: (h, s, min(max(v + shift, 0), 1)))
    np.testing.assert_allclose(_digital.brightness(image, shift=shift)[0], wanted, atol=1e-6)
  for factor, shift in ((0.3, 0), (2.0, 0.1), (20, 0.2)):
    wanted = by_hsv(lambda h, s, v, f=factor, a=shift: (h, min(max(s * f + a, 0), 1), v))
    got = _digital.saturate(image, factor=factor, shift=shift)[0]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_contrast_keeps_the_mean(images):
  out = _digital.contrast(images[0], factor=0.15)
  np.testing.assert_allclose(out.mean((0, 1)), images[0].mean((0, 1)), atol=1e-6)
  np.testing.assert_allclose(out.std((0, 1)), 0.15 * images[0].std((0, 1)), rtol=1e-4)


def test_affine_from_points_by_hand():
  points = jnp.array([[10.0, 10], [10, -10], [-10, -10]])
  moved = points * 2 + jnp.array([[3.0, -1]])
  matrix = _digital.affine_from_points(points, moved)
  np.testing.assert_allclose(matrix, [[2, 0, 3], [0, 2, -1]], atol=1e-5)


def test_diamond_square_spans_its_range_and_decays():
  @functools.partial(jax.jit, static_argnames="decay")
  def draw(key, decay):
    return _weather.diamond_square(key, side=32, decay=decay)

  smooth, rough = (np.asarray(draw(jax.random.key(1), decay)) for decay in (3.0, 1.5))
  assert smooth.min() == pytest.approx(0, abs=1e-6)
  assert smooth.max() == pytest.approx(1, abs=1e-6)
  assert np.abs(np.diff(smooth)).mean() < np.abs(np.diff(rough)).mean() / 2
  with pytest.raises(ValueError, match="power of two"):
    _weather.diamond_square(jax.random.key(0), side=12, decay=2.0)


@pytest.mark.parametrize("side", [8, 9])
def test_coloured_fields_have_their_spectrum(side):
  field = np.asarray(_weather.coloured(jax.random.key(0), side=side, kind="brown"), np.float64)
  assert field.std() == pytest.approx(1, rel=1e-4)
  amplitude = _weather.spectrum(8, "blue")
  assert amplitude[4, 4] == 0
  assert amplitude[4, 7] == 3
  assert amplitude[0, 4] == 4
  assert _weather.spectrum(8, "brown")[4, 4] == 1


def test_fog_keeps_the_brightest_possible(images):
  out = _weather.fog(jax.random.key(0), images[0], amount=1.5, decay=1.75)
  assert float(out.max()) <= float(images[0].max()) + 1e-6


def test_frost_has_the_colour_of_its_models():
  texture = np.asarray(_weather.frost_texture(jax.random.key(0), height=64, width=48))
  distance = np.abs(np.array(_weather.FROST_COLOURS) - texture.mean((0, 1))[None]).max(1)
  assert distance.min() < 4  # clipping moves the mean a little
  assert texture.min() >= 0
  assert texture.max() <= 255


def test_distance_by_hand():
  inside = jnp.zeros((30, 30), bool).at[2, 3].set(True)
  distance = np.asarray(jax.jit(_weather.distance_to)(inside))
  assert distance[2, 3] == 0
  assert distance[5, 7] == 5
  assert distance[29, 29] == 20


def test_dry_pictures_stay_dry(images):
  mask = jax.jit(functools.partial(_weather.water_mask, strength=0.5))(jnp.zeros((32, 32)))
  np.testing.assert_array_equal(mask, 0)


def test_line_cover_by_hand():
  cover = _bar.line_cover(jnp.array([1.0, 1]), jnp.array([1.0, 4]), height=4, width=7)
  np.testing.assert_allclose(cover, np.outer([0, 1, 0, 0], [0, 1, 1, 1, 1, 0, 0]), atol=1e-6)
  diagonal = _bar.line_cover(jnp.array([0.0, 0]), jnp.array([3.0, 3]), height=4, width=4)
  assert float(diagonal[2, 2]) == 1
  assert float(diagonal[1, 2]) == pytest.approx(1 - 1 / np.sqrt(2), abs=1e-6)


def test_stars_are_white_in_the_middle_and_dark_far_away(key):
  light = _bar._star(
    key, jnp.array([16.0, 16]), shape=(33, 33), radius=2.0, exponent=1.0, shortest=1.0
  )
  assert float(light[16, 16]) == 1
  assert float(light[0, 0]) < 16 / 512 * 2  # length^2 / distance^2, lengths below 2.8 or so


def test_films_move_as_they_say(images, key):
  image = images[0]
  film = _films.perturb_sequence(key, image, name="translate")
  np.testing.assert_allclose(film[9][:, 2:], image[:, :-2], atol=1e-6)
  np.testing.assert_array_equal(film[9][:, :2], 0)
  bright = np.asarray(_films.perturb_sequence(key, image, name="brightness")).max((1, 2, 3))
  assert (np.diff(bright) >= 0).all()


@pytest.mark.parametrize("photons", [3, 60, 700])
def test_counts_of_photons_are_those_of_the_whole_table(photons, key):
  key_level, key_draw = jax.random.split(key)
  level = jax.random.randint(key_level, (200_000,), 0, 256)
  draw = jnp.maximum(jax.random.uniform(key_draw, level.shape), _noise.SMALLEST)
  edges = jnp.array([_noise.SMALLEST, 2.0**-23, 0.25, 0.375, 0.5, 0.75, 1 - 2.0**-23, 1 - 2.0**-24])
  draw = draw.at[: len(edges)].set(edges)
  found = np.asarray(_noise.poisson_counts(level, draw, photons=photons))
  table, draws = _noise._poisson_table(photons), np.asarray(draw)
  wanted = [np.searchsorted(table[k], u, side="right") for k, u in zip(level, draws, strict=True)]
  np.testing.assert_array_equal(found, wanted)
