# SPDX-License-Identifier: Apache-2.0
"""AugMix and PixMix against plain re-computations of what their draws say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mixboost_jax import augment
from mixboost_jax.augment import _augmix, _pixmix, _policy
from tests.augment import pil_reference

PICTURES = pil_reference.pictures(12, 14)
IMAGES = jnp.asarray(PICTURES, jnp.float32) / 255
BLACK = jnp.zeros(3, jnp.uint8)


def by_hand(pixels, op, magnitude):
  return pil_reference.apply(pixels, int(op), float(magnitude), bilinear=True)


def test_augmix_is_the_convex_mix_of_its_chains():
  each = jax.random.split(jax.random.key(1), 5)
  drawn = _augmix.draw_chains(
    each, severity=3.0, width=3, depth=-1, alpha=1.0, all_ops=True, shape=(12, 14)
  )
  drawn = drawn._replace(share=drawn.share.at[4].set(0))
  out = _augmix.mix_chains(
    IMAGES, drawn, ops=_augmix.ops_used(all_ops=True), fill=BLACK, serial=True
  )
  np.testing.assert_array_equal(out[4], IMAGES[4])  # no share of the chains: the identity
  for n in range(4):
    total = np.zeros((12, 14, 3))
    for i in range(3):
      x = PICTURES[n]
      for j in range(int(drawn.depth[n, i])):
        x = by_hand(x, drawn.steps.op[n, i, j], drawn.steps.magnitude[n, i, j])
      total += float(drawn.weights[n, i]) * x / 255
    m = float(drawn.share[n])
    want = (1 - m) * PICTURES[n] / 255 + m * total
    wrong = np.abs(np.asarray(out[n]) - want) > 1e-5
    assert wrong.mean() < 0.03  # bilinear steps: one level on few pixels
    assert np.abs(np.asarray(out[n]) - want).max() < 0.2


def test_augmix_views_are_independent_and_addressed_by_key(images):
  each = jax.random.split(jax.random.key(4), 8)
  first, second = augment.augmix_views(each, images)
  assert not np.array_equal(first, second)
  _, swapped = augment.augmix_views(each[::-1], images[::-1])
  np.testing.assert_allclose(swapped[::-1], second, atol=1e-6)


def test_general_alpha():
  drawn = _augmix.draw_chains(
    jax.random.split(jax.random.key(0), 500),
    severity=1.0,
    width=2,
    depth=2,
    alpha=0.5,
    all_ops=False,
    shape=(8, 8),
  )
  # Both the first weight and the share are Beta(1/2, 1/2).
  for values in (drawn.weights[:, 0], drawn.share):
    assert stats.kstest(np.asarray(values), stats.beta(0.5, 0.5).cdf).pvalue > 1e-4
  assert (np.asarray(drawn.depth) == 2).all()
  with pytest.raises(ValueError, match="augmix: alpha: expected a number > 0, got 0"):
    augment.augmix(jax.random.key(0), IMAGES, alpha=0)


def test_mixings_by_hand():
  u, v = jnp.array([[0.5, 0.25, 0.0]]), jnp.array([[0.5, 0.5, 0.25]])
  a, b, coin = jnp.float32(0.5), jnp.float32(0.25), jnp.float32(0.0)
  add = _pixmix.add(u, v, a, b, coin)
  np.testing.assert_allclose(add, [[0.5, 0.375, (-0.5 - 0.125 + 1) / 2]], rtol=1e-6)
  multiply = _pixmix.multiply(u, v, a, b, coin)
  np.testing.assert_allclose(multiply, [[0.5, 0.5**0.5 / 2, 0.0]], rtol=1e-6)
  screen = _pixmix.screen(u, v, a, b, coin)
  np.testing.assert_allclose(screen[0, 1], 1 - 1.5**0.5 / 2, rtol=1e-6)
  darker = _pixmix.darken_or_lighten(u, v, a, b, coin)
  np.testing.assert_array_equal(darker, [[0.5, 0.25, 0.0]])
  swapped = _pixmix.swap_channel(u, v, a, b, jnp.float32(0.99))
  np.testing.assert_array_equal(swapped, [[0.5, 0.25, 0.25]])
  overlay = _pixmix.overlay(u, v, a, b, coin)
  np.testing.assert_allclose(overlay[0, 1], multiply[0, 1])
  np.testing.assert_allclose(overlay[0, 0], screen[0, 0])


@pytest.mark.parametrize("name", ["add", "multiply"])
def test_factors_one_and_zero_are_the_identity(name):
  u = jnp.linspace(0, 1, 30).reshape(10, 3)
  v = jnp.linspace(1, 0, 30).reshape(10, 3)
  one, zero = jnp.float32(1), jnp.float32(0)
  out = _pixmix.MIXINGS[name](u, v, one, zero, zero)
  np.testing.assert_allclose(out, u, atol=1e-6)


def test_black_raised_to_a_negative_power_stays_finite():
  u, v = jnp.array([[0.0, 0.5, 1.0]]), jnp.zeros((1, 3))
  out = _pixmix.multiply(u, v, jnp.float32(1.0), jnp.float32(-1.0), jnp.float32(0))
  assert np.isfinite(np.asarray(out)).all()


def test_pixmix_is_what_its_rounds_say():
  each = jax.random.split(jax.random.key(3), 5)
  mixing = np.random.default_rng(0).integers(0, 256, (3, 15, 16, 3)).astype(np.uint8)
  drawn = _pixmix.draw_rounds(
    each,
    k=4,
    beta=3.0,
    severity=3.0,
    all_ops=True,
    num_mixings=2,
    shape=(12, 14),
    mixing_shape=(3, 15, 16),
  )
  # One example without rounds: its picture, processed or not.
  drawn = drawn._replace(count=drawn.count.at[2].set(0))
  out = _pixmix.mix_rounds(
    IMAGES,
    jnp.asarray(mixing),
    drawn,
    ops=_augmix.ops_used(all_ops=True),
    mixings=(_pixmix.add, _pixmix.multiply),
    fill=BLACK,
    serial=True,
  )
  r = jax.tree.map(np.asarray, drawn)
  for n in range(5):
    window = mixing[r.picture[n]][r.top[n] : r.top[n] + 12, r.left[n] : r.left[n] + 14] / 255
    mixed = by_hand(PICTURES[n], r.steps.op[n, 0], r.steps.magnitude[n, 0]) / 255
    for t in range(1, r.count[n] + 1):
      v = window
      if r.from_original[n, t]:
        v = by_hand(PICTURES[n], r.steps.op[n, t], r.steps.magnitude[n, t]) / 255
      a, b = float(r.a[n, t]), float(r.b[n, t])
      if r.mixing[n, t] == 1:
        mixed = (a * (2 * mixed - 1) + b * (2 * v - 1) + 1) / 2
      else:
        mixed = (2 * mixed) ** a * np.maximum(2 * v, 1e-37) ** b / 2
      mixed = np.clip(mixed, 0, 1)
    wrong = np.abs(np.asarray(out[n]) - mixed) > 1e-4
    assert wrong.mean() < 0.03


def test_build_turns_a_float_mixing_set_into_levels_once():
  mixing = np.random.default_rng(0).integers(0, 256, (3, 34, 34, 3)).astype(np.uint8)
  entry = augment.AUGMENTATIONS["pixmix"]
  for given in (mixing, mixing.astype(np.float32) / 255):
    found = _policy.arrays_for("pixmix", entry, {"mixing_images": given})
    np.testing.assert_array_equal(found["mixing_images"], mixing)
  with pytest.raises(ValueError, match="needs mixing_images; pass build"):
    augment.build({"name": "pixmix"})


@pytest.mark.parametrize("shape", [(0, 32, 32, 3), (2, 31, 40, 3)])
def test_unfit_mixing_sets(key, images, shape):
  with pytest.raises(ValueError, match="expected pictures of at least 32x32 with 3 channels"):
    augment.pixmix(key, images, jnp.zeros(shape))


def test_wrong_keywords(key, images):
  mixing = jnp.zeros((1, 32, 32, 3))
  for keywords, message in [
    ({"mixings": ("addd",)}, "pixmix: mixings: expected a tuple of some of add, multiply"),
    ({"severity": 11}, "pixmix: severity"),
    ({"beta": 0}, "pixmix: beta: expected a number > 0"),
    ({"formulation": "fast"}, "expected one of auto, serial, merged"),
  ]:
    with pytest.raises(ValueError, match=message):
      augment.pixmix(key, images, mixing, **keywords)
