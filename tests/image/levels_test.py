# SPDX-License-Identifier: Apache-2.0
"""Kernels on levels against hand-worked numbers; parity with Pillow is in tests/augment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import target
from mixboost_jax.image import affine
from mixboost_jax.image.levels import (
  autocontrast_tables,
  blend,
  equalize_tables,
  floor_divide,
  histograms,
  luminance,
  posterize,
  smooth,
  solarize,
)
from mixboost_jax.image.linear import triangle_weights


def test_histogram_counts_each_channel_of_each_picture():
  levels = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 2)).astype(np.uint8)
  counts = np.asarray(histograms(jnp.asarray(levels)))
  for n in range(3):
    for c in range(2):
      np.testing.assert_array_equal(
        counts[n, c], np.bincount(levels[n, :, :, c].ravel(), minlength=256)
      )


def test_autocontrast_table_equals_double_arithmetic_for_every_range():
  """All 32,640 ranges (low, high) and all levels within, as Python's doubles compute them."""
  low, high = np.triu_indices(256, 1)
  pairs = np.stack([low, high], -1).astype(np.uint8)
  run = jax.jit(lambda p: autocontrast_tables(p[:, None, :, None])[:, 0])
  got = np.concatenate([np.asarray(run(jnp.asarray(part))) for part in np.split(pairs, 16)])
  scale = 255.0 / (high - low)
  levels = np.arange(256)[None]
  want = np.clip(np.trunc(levels * scale[:, None] + (-low * scale)[:, None]), 0, 255)
  inside = (levels >= low[:, None]) & (levels <= high[:, None])
  assert (got == want)[inside].all()


def test_floor_divide_at_the_boundaries():
  numerator, divisor = np.meshgrid(np.arange(0, 70_000, 7), np.array([1, 3, 85, 254, 255, 65_535]))
  got = floor_divide(jnp.asarray(numerator), jnp.asarray(divisor))
  np.testing.assert_array_equal(got, numerator // divisor)


def test_equalize_by_hand():
  """Six pixels give step 0: the picture stays; 512 pixels of two levels become 0 and 255 apart."""
  few = jnp.asarray(np.array([[[[1], [2], [3], [4], [5], [6]]]], np.uint8))
  np.testing.assert_array_equal(equalize_tables(few)[0, 0], np.arange(256))
  two = jnp.asarray(np.repeat([10, 20], 256).astype(np.uint8).reshape(1, 16, 32, 1))
  table = np.asarray(equalize_tables(two))[0, 0]
  # step = (512 - 256) // 255 = 1, so lut[10] = 0 + 0 and lut[20] = min(256, 255).
  assert (table[10], table[20]) == (0, 255)


def test_luminance_weights_sum_to_one():
  levels = jnp.arange(256, dtype=jnp.uint8)
  grey = jnp.broadcast_to(levels[:, None], (256, 3))
  np.testing.assert_array_equal(luminance(grey), levels)
  assert luminance(jnp.asarray([[255, 0, 0]], jnp.uint8))[0] == 76
  with pytest.raises(ValueError, match="expected 1 or 3 channels, got 2"):
    luminance(jnp.zeros((4, 2), jnp.uint8))


def test_smooth_by_hand():
  levels = jnp.zeros((3, 3, 1), jnp.uint8).at[1, 1].set(130)
  out = np.asarray(smooth(levels))
  assert out[1, 1, 0] == 50  # 5 * 130 / 13
  assert out.sum() == 50, "the border stays"
  tiny = jnp.full((2, 5, 1), 9, jnp.uint8)
  np.testing.assert_array_equal(smooth(tiny), tiny)


def test_blend_cuts_towards_zero_and_clips():
  got = blend(jnp.array([10, 10, 200]), jnp.array([13, 7, 250]), 1.5)
  np.testing.assert_array_equal(got, [14, 5, 255])


def test_posterize_and_solarize_by_hand():
  levels = jnp.asarray([0b10110111, 100, 200], jnp.uint8)
  assert posterize(levels, 3)[0] == 0b10100000
  np.testing.assert_array_equal(solarize(levels, 100.5), [72, 100, 55])


def test_rotation_matrices_traced_and_not_agree():
  for degrees in (0.0, 30.0, 90.0, -135.0, 359.0):
    want = affine.rotation(degrees, height=20, width=30)
    got = affine.traced_rotation(jnp.float32(degrees), height=20, width=30)
    np.testing.assert_allclose(got, want, atol=2e-5)


def test_quarter_turns_are_exact_copies():
  levels = jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 6, 3)), jnp.uint8)
  for quarter in range(4):
    matrix = affine.rotation(90.0 * quarter, height=6, width=6)
    out = affine.warp(levels, matrix, interpolation="nearest", fill=jnp.zeros(3, jnp.uint8))
    np.testing.assert_array_equal(out, np.rot90(np.asarray(levels), quarter))


def test_triangle_weights_are_averages():
  weights = np.asarray(triangle_weights(2, 4, num_inputs=8, num_outputs=4))
  np.testing.assert_allclose(weights, np.eye(8)[2:6], atol=1e-6)
  halved = np.asarray(triangle_weights(0, 8, num_inputs=8, num_outputs=4))
  np.testing.assert_allclose(halved.sum(1), 1, rtol=1e-6)
  np.testing.assert_allclose(halved[1], np.array([0, 1, 3, 3, 1, 0, 0, 0]) / 8, atol=1e-6)


@pytest.mark.parametrize("interpolation", sorted(affine.SAMPLERS))
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 9, 2), (70, 70, 3), (71, 71, 3)])
def test_a_tpu_warps_to_the_same_bits(shape, interpolation):
  """Without gathers up to the size that is documented."""
  picture = jnp.asarray(np.random.default_rng(0).integers(0, 256, shape), jnp.uint8)
  matrix = affine.rotation(17.0, height=shape[0], width=shape[1]) + np.array(
    [0, 0, 0.3, 0, 0.2, -1.7]
  )
  fill = jnp.arange(shape[2], dtype=jnp.uint8)

  def warp():
    return affine.warp(picture, matrix, interpolation=interpolation, fill=fill)

  wanted = warp()
  with target.compiling_for("tpu"):
    assert ("gather" in str(jax.make_jaxpr(warp)())) == (shape[0] > 70)
    np.testing.assert_array_equal(warp(), wanted)
