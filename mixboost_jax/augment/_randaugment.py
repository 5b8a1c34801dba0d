# SPDX-License-Identifier: Apache-2.0
"""Policies without search: TrivialAugment (wide) and RandAugment."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import checks, keys
from mixboost_jax.array_types import AnyKey, Images, PRNGKeys
from mixboost_jax.augment import _ops, _options
from mixboost_jax.augment._entry import Account, Entry, Scene
from mixboost_jax.augment._ops import (
  ENHANCERS,
  SIGNED,
  Op,
  Steps,
  index,
  run_table,
  tabulate,
)
from mixboost_jax.augment._options import Number

OPS = (
  Op.IDENTITY,
  Op.AUTOCONTRAST,
  Op.EQUALIZE,
  Op.ROTATE,
  Op.SOLARIZE,
  Op.COLOR,
  Op.POSTERIZE,
  Op.CONTRAST,
  Op.BRIGHTNESS,
  Op.SHARPNESS,
  Op.SHEAR_X,
  Op.SHEAR_Y,
  Op.TRANSLATE_X,
  Op.TRANSLATE_Y,
)
"""The 14 operations of both policies."""

_RULES = {"ranges": _options.one_of("torchvision", "official")}


def wide_magnitude(op: Op, strength: int, ranges: str) -> float:
  """Returns the magnitude of TrivialAugmentWide at `strength` of 0..30, without its sign."""
  share = strength / 30
  official = ranges == "official"
  if op in (Op.SHEAR_X, Op.SHEAR_Y):
    return 0.99 * share
  if op in (Op.TRANSLATE_X, Op.TRANSLATE_Y):
    return float(32 * strength // 30)
  if op is Op.ROTATE:
    return float(135 * strength // 30) if official else 135 * share
  if op in ENHANCERS:
    return 0.01 + 1.99 * share if official else 0.99 * share
  if op is Op.POSTERIZE:
    return float(8 - (6 * strength // 30 if official else round(strength / 5)))
  if op is Op.SOLARIZE:
    return float(256 - 256 * strength // 30) if official else 255 - 255 * share
  return 0.0


def rand_magnitude(op: Op, magnitude: Number, bins: int, ranges: str, side: int) -> float:
  """Returns the magnitude of RandAugment at `magnitude` of 0..bins-1, without its sign.

  Args:
    op: which operation.
    magnitude: the policy's M.
    bins: number of magnitudes; M = bins - 1 is the strongest.
    ranges: "torchvision", or "official" (translations up to 14.4 pixels, integer magnitudes).
    side: length in pixels of the side along which a translation moves.
  """
  share = magnitude / (bins - 1)
  official = ranges == "official"
  if op in (Op.SHEAR_X, Op.SHEAR_Y):
    return 0.3 * share
  if op in (Op.TRANSLATE_X, Op.TRANSLATE_Y):
    return float(int((14.4 if official else 150 / 331 * side) * share))
  if op is Op.ROTATE:
    return float(int(30 * share)) if official else 30 * share
  if op in ENHANCERS:
    return 0.1 + 1.8 * share if official else 0.9 * share
  if op is Op.POSTERIZE:
    return float(8 - (int(4 * share) if official else round(4 * share)))
  if op is Op.SOLARIZE:
    return float(256 - int(256 * share)) if official else 255 - 255 * share
  return 0.0


def with_signs(op: Op, magnitude: float, ranges: str) -> tuple[float, float]:
  """Returns the two equally likely magnitudes of an operation."""
  if op in SIGNED:
    return magnitude, -magnitude
  if op in ENHANCERS and ranges == "torchvision":
    return 1 + magnitude, 1 - magnitude
  return magnitude, magnitude


@functools.lru_cache(maxsize=32)
def trivial_table(*, ranges: str, height: int, width: int) -> Steps:
  """Returns the steps of TrivialAugmentWide, of shape [14, 31, 2]."""
  ops = np.array([[[op, op] for _ in range(31)] for op in OPS])
  grid = [
    [with_signs(op, wide_magnitude(op, strength, ranges), ranges) for strength in range(31)]
    for op in OPS
  ]
  return tabulate(ops, np.array(grid), height=height, width=width)


@jax.jit
def draw_trivial(each: PRNGKeys, table: Steps) -> Steps:
  """Draws one step per example, `[N, 1]`: operation, strength and sign uniform."""
  shape = table.op.shape
  u = jax.vmap(lambda k: jax.random.uniform(k, (3,)))(each)
  picked = [index(u[:, axis], size) for axis, size in enumerate(shape)]
  flat = (picked[0] * shape[1] + picked[1]) * shape[2] + picked[2]
  return jax.tree.map(
    lambda leaf: jnp.asarray(leaf).reshape(-1, *leaf.shape[3:])[flat][:, None], table
  )


@checks.inputs()
def trivial_augment_wide(
  key: AnyKey,
  images: Images,
  *,
  ranges: str = "torchvision",
  fill: Number | tuple[float, ...] = 0.0,
  formulation: str = "auto",
) -> Images:
  """Applies one of 14 operations at one of 31 strengths, all uniform, to each picture.

  Paper: Müller & Hutter 2021, arXiv:2103.10158, Sec. 3 and Table 1 (wide).

  Args:
    key: one key, or one per example.
    images: values in [0, 1], cut to 8-bit levels.
    ranges: "torchvision" (enhancers 1 +- 0.99 s) or "official" (0.01 .. 2, integer magnitudes).
    fill: pixel value, or one per channel, of what a warp brings in from outside.
    formulation: "auto", "serial" or "merged"; changes the speed only.
  """
  _options.check("trivial_augment_wide", _RULES, ranges=ranges, fill=fill, formulation=formulation)
  _, height, width, _ = images.shape
  table = trivial_table(ranges=ranges, height=height, width=width)
  return run_table(
    keys.per_example(key, len(images)),
    images,
    table,
    draw_trivial,
    fill=fill,
    formulation=formulation,
  )


@functools.lru_cache(maxsize=32)
def rand_table(*, magnitude: Number, bins: int, ranges: str, height: int, width: int) -> Steps:
  """Returns the steps of RandAugment, of shape [14, 2]."""
  grid = []
  for op in OPS:
    side = height if op is Op.TRANSLATE_Y else width
    grid.append(with_signs(op, rand_magnitude(op, magnitude, bins, ranges, side), ranges))
  ops = np.array([[op, op] for op in OPS])
  return tabulate(ops, np.array(grid), height=height, width=width)


@functools.partial(jax.jit, static_argnames="num_ops")
def draw_rand(each: PRNGKeys, table: Steps, *, num_ops: int) -> Steps:
  """Draws `num_ops` steps per example, `[N, num_ops]`: operation and sign uniform."""
  u = jax.vmap(lambda k: jax.random.uniform(k, (num_ops, 2)))(each)
  flat = index(u[..., 0], len(OPS)) * 2 + index(u[..., 1], 2)
  return jax.tree.map(lambda leaf: jnp.asarray(leaf).reshape(-1, *leaf.shape[2:])[flat], table)


@checks.inputs()
def randaugment(
  key: AnyKey,
  images: Images,
  *,
  num_ops: int = 2,
  magnitude: Number = 9,
  bins: int = 31,
  ranges: str = "torchvision",
  fill: Number | tuple[float, ...] = 0.0,
  formulation: str = "auto",
) -> Images:
  """Applies `num_ops` of 14 operations, drawn with replacement, all at one magnitude.

  Paper: Cubuk et al. 2020, arXiv:1909.13719, Sec. 3 (N, M); CIFAR-10 WRN-28-10: N=3, M=5.

  Args:
    key: one key, or one per example.
    images: values in [0, 1], cut to 8-bit levels.
    num_ops: N >= 0; 0 only cuts to levels.
    magnitude: M in 0..bins - 1.
    bins: number of magnitudes >= 2.
    ranges: "torchvision" or "official" (see `rand_magnitude`).
    fill: pixel value, or one per channel, of what a warp brings in from outside.
    formulation: "auto", "serial" or "merged"; changes the speed only.
  """
  given: dict[str, Any] = {"num_ops": num_ops, "magnitude": magnitude, "bins": bins}
  _options.check("randaugment", _RULES, **given, ranges=ranges, fill=fill, formulation=formulation)
  if magnitude > bins - 1:
    raise ValueError(
      f"randaugment: magnitude: expected at most bins - 1 = {bins - 1}, got {magnitude}."
    )
  _, height, width, _ = images.shape
  table = rand_table(magnitude=magnitude, bins=bins, ranges=ranges, height=height, width=width)
  draw = functools.partial(draw_rand, num_ops=num_ops)
  return run_table(
    keys.per_example(key, len(images)), images, table, draw, fill=fill, formulation=formulation
  )


def _describe_trivial(scene: Scene, *, ranges: str, **_: Any) -> Account:
  height, width = scene.shape
  table = trivial_table(ranges=ranges, height=height, width=width)
  return _ops.describe(draw_trivial(scene.own, table))


def _describe_rand(
  scene: Scene, *, num_ops: int, magnitude: Number, bins: int, ranges: str, **_: Any
) -> Account:
  height, width = scene.shape
  table = rand_table(magnitude=magnitude, bins=bins, ranges=ranges, height=height, width=width)
  return _ops.describe(draw_rand(scene.own, table, num_ops=num_ops))


ENTRIES = {
  "randaugment": Entry(randaugment, _describe_rand, rules=_RULES),
  "trivial_augment_wide": Entry(
    trivial_augment_wide,
    _describe_trivial,
    rules=_RULES,
    examples=lambda side: {"trivial wide": {}},
  ),
}
