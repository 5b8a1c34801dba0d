# SPDX-License-Identifier: Apache-2.0
"""Policies without search: TrivialAugment (wide) and RandAugment."""

import functools
from typing import Any

import jax
import numpy as np

from mixboost_jax import checks
from mixboost_jax.array_types import AnyKey, Images, PRNGKeys
from mixboost_jax.augment import _options, _steps
from mixboost_jax.augment._entry import Account, Entry, Scene
from mixboost_jax.augment._options import Number
from mixboost_jax.augment._steps import ENHANCERS, GEOMETRIC, SHEARS, SHIFTS, Op, Steps, index

OPS = (
  Op.IDENTITY, Op.AUTOCONTRAST, Op.EQUALIZE, Op.ROTATE, Op.SOLARIZE, Op.COLOR, Op.POSTERIZE,
  Op.CONTRAST, Op.BRIGHTNESS, Op.SHARPNESS, Op.SHEAR_X, Op.SHEAR_Y, Op.TRANSLATE_X, Op.TRANSLATE_Y,
)  # fmt: skip
"""The 14 operations of both policies."""

_RULES = {"ranges": _options.one_of("torchvision", "official")}


def wide_magnitudes(strength: int, ranges: str) -> dict[Op, float]:
  """Returns the magnitudes of TrivialAugmentWide at `strength` of 0..30, without their signs."""
  share, official = strength / 30, ranges == "official"
  return {
    **dict.fromkeys(SHEARS, 0.99 * share),
    **dict.fromkeys(SHIFTS, 32 * strength // 30),
    Op.ROTATE: 135 * strength // 30 if official else 135 * share,
    **dict.fromkeys(ENHANCERS, 0.01 + 1.99 * share if official else 0.99 * share),
    Op.POSTERIZE: 8 - (6 * strength // 30 if official else round(strength / 5)),
    Op.SOLARIZE: 256 - 256 * strength // 30 if official else 255 - 255 * share,
  }


def rand_magnitudes(share: float, ranges: str, shape: tuple[int, int]) -> dict[Op, float]:
  """Returns the magnitudes of RandAugment at a `share` of the strongest, without their signs.

  Those of "torchvision" are AutoAugment's, too; `shape` is (height, width).
  """
  official = ranges == "official"
  down, right = (int((14.4 if official else 150 / 331 * side) * share) for side in shape)
  return {
    **dict.fromkeys(SHEARS, 0.3 * share),
    Op.TRANSLATE_X: right,
    Op.TRANSLATE_Y: down,
    Op.ROTATE: int(30 * share) if official else 30 * share,
    **dict.fromkeys(ENHANCERS, 0.1 + 1.8 * share if official else 0.9 * share),
    Op.POSTERIZE: 8 - (int(4 * share) if official else round(4 * share)),
    Op.SOLARIZE: 256 - int(256 * share) if official else 255 - 255 * share,
  }


def with_signs(op: Op, magnitudes: dict[Op, float], ranges: str) -> tuple[float, float]:
  """Returns the two equally likely magnitudes of an operation."""
  magnitude = magnitudes.get(op, 0.0)
  if op in GEOMETRIC:
    return magnitude, -magnitude
  if op in ENHANCERS and ranges == "torchvision":
    return 1 + magnitude, 1 - magnitude
  return magnitude, magnitude


@functools.lru_cache(maxsize=32)
def trivial_table(shape: tuple[int, int], *, ranges: str) -> Steps:
  """Returns the steps of TrivialAugmentWide, of shape [14, 31, 2]."""
  strengths = [wide_magnitudes(strength, ranges) for strength in range(31)]
  grid = [[with_signs(op, magnitudes, ranges) for magnitudes in strengths] for op in OPS]
  return _steps.tabulate(np.array(OPS)[:, None, None], grid, height=shape[0], width=shape[1])


@jax.jit
def draw_trivial(each: PRNGKeys, table: Steps) -> Steps:
  """Draws one step per example, `[N, 1]`: operation, strength and sign uniform."""
  shape = table.op.shape
  u = jax.vmap(lambda k: jax.random.uniform(k, (3,)))(each)
  op, strength, sign = (index(u[:, axis], size) for axis, size in enumerate(shape))
  return _steps.pick(table, ((op * shape[1] + strength) * shape[2] + sign)[:, None])


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

  `ranges` is "torchvision" (enhancers 1 +- 0.99 s) or "official" (0.01 .. 2, integer magnitudes).

  ```python
  images = augment.trivial_augment_wide(key, images)
  ```
  """
  _options.check("trivial_augment_wide", _RULES, ranges=ranges, fill=fill, formulation=formulation)
  table = trivial_table(images.shape[1:3], ranges=ranges)
  return _steps.run_table(key, images, table, draw_trivial, fill=fill, formulation=formulation)


@functools.lru_cache(maxsize=32)
def rand_table(shape: tuple[int, int], *, magnitude: Number, bins: int, ranges: str) -> Steps:
  """Returns the steps of RandAugment, of shape [14, 2]; magnitude bins - 1 is the strongest."""
  magnitudes = rand_magnitudes(magnitude / (bins - 1), ranges, shape)
  grid = [with_signs(op, magnitudes, ranges) for op in OPS]
  return _steps.tabulate(np.array(OPS)[:, None], grid, height=shape[0], width=shape[1])


@functools.partial(jax.jit, static_argnames="num_ops")
def draw_rand(each: PRNGKeys, table: Steps, *, num_ops: int) -> Steps:
  """Draws `num_ops` steps per example, `[N, num_ops]`: operation and sign uniform."""
  u = jax.vmap(lambda k: jax.random.uniform(k, (num_ops, 2)))(each)
  return _steps.pick(table, index(u[..., 0], len(OPS)) * 2 + index(u[..., 1], 2))


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

  Paper: Cubuk et al. 2020, arXiv:1909.13719, Sec. 3: N -> num_ops (0 only cuts to levels), M ->
    magnitude, in 0..bins - 1; CIFAR-10 WRN-28-10: N=3, M=5.

  `ranges` is "torchvision" or "official" (translations up to 14.4 pixels, integer magnitudes).

  ```python
  images = augment.randaugment(key, images, num_ops=2, magnitude=9)
  ```
  """
  given: dict[str, Any] = {"num_ops": num_ops, "magnitude": magnitude, "bins": bins}
  _options.check("randaugment", _RULES, **given, ranges=ranges, fill=fill, formulation=formulation)
  if magnitude > bins - 1:
    raise ValueError(
      f"randaugment: magnitude: expected at most bins - 1 = {bins - 1}, got {magnitude}."
    )
  table = rand_table(images.shape[1:3], magnitude=magnitude, bins=bins, ranges=ranges)
  how: dict[str, Any] = {"fill": fill, "formulation": formulation, "num_ops": num_ops}
  return _steps.run_table(key, images, table, draw_rand, **how)


def _describe_trivial(scene: Scene, *, ranges: str, **_: Any) -> Account:
  return _steps.describe(draw_trivial(scene.own, trivial_table(scene.shape, ranges=ranges)))


def _describe_rand(
  scene: Scene, *, num_ops: int, magnitude: Number, bins: int, ranges: str, **_: Any
) -> Account:
  table = rand_table(scene.shape, magnitude=magnitude, bins=bins, ranges=ranges)
  return _steps.describe(draw_rand(scene.own, table, num_ops=num_ops))


ENTRIES = {
  "randaugment": Entry(randaugment, _describe_rand, rules=_RULES),
  "trivial_augment_wide": Entry(
    trivial_augment_wide,
    _describe_trivial,
    rules=_RULES,
    examples=lambda side: {"trivial wide": {}},
  ),
}
