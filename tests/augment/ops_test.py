# SPDX-License-Identifier: Apache-2.0
"""Every operation against Pillow, over every magnitude that a policy can draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import image as kernels
from mixboost_jax.augment import _autoaugment, _randaugment, _steps, ops
from mixboost_jax.augment._steps import Op
from mixboost_jax.data import shapes
from tests.augment import pil_reference

BLACK = jnp.zeros(3, jnp.uint8)


def table_steps(height, width):
  """All distinct (operation, magnitude) of the three table policies and both ranges."""
  tables = [
    _randaugment.trivial_table((height, width), ranges=r) for r in ("torchvision", "official")
  ]
  tables.append(
    _randaugment.rand_table((height, width), magnitude=9, bins=31, ranges="torchvision")
  )
  for policy in _autoaugment.SUB_POLICIES:
    table, _ = _autoaugment.auto_table((height, width), policy=policy, ranges="default")
    tables.append(table)
  pairs = sorted(
    {
      (int(op), float(m))
      for table in tables
      for op, m in zip(np.ravel(table.op), np.ravel(table.magnitude), strict=True)
      if op != Op.SOLARIZE_ADD and not (op == Op.POSTERIZE and m < 1)
    }
  )
  return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


def scenes(height, width):
  """Five odd pictures and, at 32 pixels, five scenes of the procedural data set."""
  pictures = pil_reference.pictures(height, width)
  if (height, width) != (32, 32):
    return pictures
  drawn = shapes.generate(np.arange(5), texture_agreement=0.9).images
  return np.concatenate([pictures, drawn])


def run(pictures, op, magnitude, *, interpolation="nearest", form=_steps.apply_serial):
  """Applies every step to every picture: uint8[S, P, H, W, 3]."""
  num_pictures, height, width, _ = pictures.shape
  table = _steps.tabulate(op, magnitude, height=height, width=width, interpolation=interpolation)
  drawn = jax.tree.map(lambda leaf: jnp.repeat(leaf, num_pictures, axis=0)[:, None], table)
  levels = jnp.tile(jnp.asarray(pictures), (len(op), 1, 1, 1))
  fn = jax.jit(
    lambda x, s: form(x, s, ops=_steps.ops_of(table), interpolation=interpolation, fill=BLACK)
  )
  return np.asarray(fn(levels, drawn)).reshape(len(op), *pictures.shape)


@pytest.mark.parametrize("shape", [(32, 32), (17, 23), (1, 1), (2, 7)])
def test_exact_over_all_magnitudes_of_all_policies(shape):
  pictures = scenes(*shape)
  op, magnitude = table_steps(*shape)
  # Single-precision magnitudes are what a picture gets; Pillow is given the same numbers.
  got = run(pictures, op, magnitude)
  for i, (o, m) in enumerate(zip(op, magnitude, strict=True)):
    want = np.stack([pil_reference.apply(p, int(o), float(m)) for p in pictures])
    np.testing.assert_array_equal(got[i], want, err_msg=f"{Op(int(o)).name} {m}")


def test_bilinear_within_one_level_on_two_percent_of_the_pixels():
  """Shears as they are drawn, not round ones: at 0.2, say, many exact results are whole levels.

  There the reference's accumulated rounding decides, and up to 7 % of the pixels differ by one.
  """
  pictures = scenes(32, 32)
  shears = np.random.default_rng(0).uniform(-0.3, 0.3, 26)
  op = np.repeat([Op.ROTATE, Op.SHEAR_X, Op.SHEAR_Y], [31, 13, 13])
  magnitude = np.concatenate([np.arange(-30, 31, 2), shears])
  got = run(pictures, op, magnitude, interpolation="bilinear").astype(int)
  want = np.stack(
    [
      [pil_reference.apply(p, int(o), float(m), bilinear=True) for p in pictures]
      for o, m in zip(op, magnitude, strict=True)
    ]
  )
  difference = np.abs(got - want)
  assert difference.max() <= 1
  # Worst step on the worst picture, and overall.
  assert (difference > 0).mean(axis=(2, 3, 4)).max() <= 0.02
  assert (difference > 0).mean() <= 0.005


def test_shifts_by_whole_pixels_are_exact_in_bilinear_policies():
  pictures = pil_reference.pictures(9, 11)
  op = np.repeat([Op.TRANSLATE_X, Op.TRANSLATE_Y], 5)
  magnitude = np.tile([-11.0, -3.0, 0.0, 2.0, 12.0], 2)
  got = run(pictures, op, magnitude, interpolation="bilinear")
  for i, (o, m) in enumerate(zip(op, magnitude, strict=True)):
    want = np.stack([pil_reference.apply(p, int(o), float(m), bilinear=True) for p in pictures])
    np.testing.assert_array_equal(got[i], want)


def test_merged_and_serial_give_the_same_bits():
  pictures = pil_reference.pictures(16, 20)
  op = np.repeat(list(Op), 4)
  magnitude = np.tile([0.3, 1.6, 3.0, 7.0], len(Op))
  np.testing.assert_array_equal(
    run(pictures, op, magnitude, interpolation="bilinear", form=_steps.apply_merged),
    run(pictures, op, magnitude, interpolation="bilinear", form=_steps.apply_serial),
  )


FLOAT_OPS = {
  "autocontrast": (Op.AUTOCONTRAST, None),
  "equalize": (Op.EQUALIZE, None),
  "invert": (Op.INVERT, None),
  "posterize": (Op.POSTERIZE, 3),
  "solarize": (Op.SOLARIZE, 100),
  "color": (Op.COLOR, 1.7),
  "contrast": (Op.CONTRAST, 0.4),
  "brightness": (Op.BRIGHTNESS, 0.4),
  "sharpness": (Op.SHARPNESS, 1.9),
  "rotate": (Op.ROTATE, 33.0),
  "shear_x": (Op.SHEAR_X, -0.3),
  "shear_y": (Op.SHEAR_Y, 0.3),
  "translate_x": (Op.TRANSLATE_X, 4),
  "translate_y": (Op.TRANSLATE_Y, -5),
}


@pytest.mark.parametrize("name", sorted(FLOAT_OPS))
def test_operations_on_pictures_in_0_1(name):
  op, magnitude = FLOAT_OPS[name]
  arguments = () if magnitude is None else (magnitude,)
  fn = jax.jit(lambda x: getattr(ops, name)(x, *arguments))
  for picture in pil_reference.pictures(12, 10)[:2]:
    want = pil_reference.apply(picture, op, 0.0 if magnitude is None else magnitude)
    got = fn(jnp.asarray(picture, jnp.float32) / 255)
    np.testing.assert_array_equal(np.rint(np.asarray(got) * 255), want)


@pytest.mark.parametrize("degrees", [0.0, 12.5, 90.0, -45.0, 180.0, 133.3])
def test_angle_known_at_run_time_only(degrees):
  picture = pil_reference.pictures(32, 32)[0]
  rotate = jax.jit(ops.rotate)
  got = np.rint(np.asarray(rotate(jnp.asarray(picture, jnp.float32) / 255, degrees)) * 255)
  want = pil_reference.apply(picture, Op.ROTATE, degrees)
  assert (got != want).mean() <= 0.002


@pytest.mark.parametrize(
  ("name", "arguments"),
  [
    ("rotate", (0.0,)),
    ("shear_x", (0.0,)),
    ("translate_y", (0,)),
    ("solarize", (256,)),
    ("posterize", (8,)),
    ("color", (1.0,)),
    ("contrast", (1.0,)),
    ("brightness", (1.0,)),
    ("sharpness", (1.0,)),
  ],
)
def test_neutral_magnitude_is_the_identity(images, name, arguments):
  np.testing.assert_allclose(getattr(ops, name)(images[0], *arguments), images[0], atol=1e-7)


def test_invert_is_an_involution(images):
  np.testing.assert_allclose(ops.invert(ops.invert(images[0])), images[0], atol=1e-7)


def test_posterize_to_no_bits_is_black_and_solarize_add_by_hand():
  picture = jnp.asarray([[[0, 100, 127], [128, 200, 255]]], jnp.float32) / 255
  assert not np.asarray(ops.posterize(picture, 0)).any()
  got = np.rint(np.asarray(ops.solarize_add(picture, 110)) * 255)
  np.testing.assert_array_equal(got, [[[110, 210, 237], [128, 200, 255]]])


def test_fill_colours_what_comes_from_outside():
  moved = ops.translate_x(jnp.ones((4, 4, 3)), 2, fill=(0.0, 0.2, 0.4))
  np.testing.assert_allclose(moved[:, 2:], np.broadcast_to([0, 0.2, 0.4], (4, 2, 3)), atol=1e-7)
  np.testing.assert_allclose(moved[:, :2], 1)


def test_every_stored_level_survives_the_round_trip():
  levels = jnp.arange(256, dtype=jnp.uint8)[:, None]
  for images in (levels / 255, levels * np.float32(1 / 255)):
    np.testing.assert_array_equal(kernels.to_levels(images.astype(jnp.float32)), levels)


def test_wrong_interpolation_and_huge_pictures():
  with pytest.raises(ValueError, match="expected nearest or bilinear"):
    ops.rotate(jnp.zeros((4, 4, 3)), 3.0, interpolation="cubic")
  with pytest.raises(ValueError, match="1024x1024"):
    ops.rotate(jnp.zeros((2, 1025, 1)), 3.0, interpolation="bilinear")
