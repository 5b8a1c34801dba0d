# SPDX-License-Identifier: Apache-2.0
"""AutoAugment: one of 25 learned pairs of operations per picture.

Paper: Cubuk et al. 2019, arXiv:1805.09501, appendix: the lists for CIFAR-10 and ImageNet, and
the other ImageNet list ("v0") of the released TPU code.
Deviation: the released CIFAR code holds 95 sub-policies; the 25 of the paper are used here.
"""

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

SubPolicies = tuple[tuple[tuple[Op, float, int], tuple[Op, float, int]], ...]
"""Pairs of (operation, probability, magnitude index in 0..10)."""

CIFAR10: SubPolicies = (
  ((Op.INVERT, 0.1, 0), (Op.CONTRAST, 0.2, 6)),
  ((Op.ROTATE, 0.7, 2), (Op.TRANSLATE_X, 0.3, 9)),
  ((Op.SHARPNESS, 0.8, 1), (Op.SHARPNESS, 0.9, 3)),
  ((Op.SHEAR_Y, 0.5, 8), (Op.TRANSLATE_Y, 0.7, 9)),
  ((Op.AUTOCONTRAST, 0.5, 0), (Op.EQUALIZE, 0.9, 0)),
  ((Op.SHEAR_Y, 0.2, 7), (Op.POSTERIZE, 0.3, 7)),
  ((Op.COLOR, 0.4, 3), (Op.BRIGHTNESS, 0.6, 7)),
  ((Op.SHARPNESS, 0.3, 9), (Op.BRIGHTNESS, 0.7, 9)),
  ((Op.EQUALIZE, 0.6, 0), (Op.EQUALIZE, 0.5, 0)),
  ((Op.CONTRAST, 0.6, 7), (Op.SHARPNESS, 0.6, 5)),
  ((Op.COLOR, 0.7, 7), (Op.TRANSLATE_X, 0.5, 8)),
  ((Op.EQUALIZE, 0.3, 0), (Op.AUTOCONTRAST, 0.4, 0)),
  ((Op.TRANSLATE_Y, 0.4, 3), (Op.SHARPNESS, 0.2, 6)),
  ((Op.BRIGHTNESS, 0.9, 6), (Op.COLOR, 0.2, 8)),
  ((Op.SOLARIZE, 0.5, 2), (Op.INVERT, 0.0, 0)),
  ((Op.EQUALIZE, 0.2, 0), (Op.AUTOCONTRAST, 0.6, 0)),
  ((Op.EQUALIZE, 0.2, 0), (Op.EQUALIZE, 0.6, 0)),
  ((Op.COLOR, 0.9, 9), (Op.EQUALIZE, 0.6, 0)),
  ((Op.AUTOCONTRAST, 0.8, 0), (Op.SOLARIZE, 0.2, 8)),
  ((Op.BRIGHTNESS, 0.1, 3), (Op.COLOR, 0.7, 0)),
  ((Op.SOLARIZE, 0.4, 5), (Op.AUTOCONTRAST, 0.9, 0)),
  ((Op.TRANSLATE_Y, 0.9, 9), (Op.TRANSLATE_Y, 0.7, 9)),
  ((Op.AUTOCONTRAST, 0.9, 0), (Op.SOLARIZE, 0.8, 3)),
  ((Op.EQUALIZE, 0.8, 0), (Op.INVERT, 0.1, 0)),
  ((Op.TRANSLATE_Y, 0.7, 9), (Op.AUTOCONTRAST, 0.9, 0)),
)

IMAGENET: SubPolicies = (
  ((Op.POSTERIZE, 0.4, 8), (Op.ROTATE, 0.6, 9)),
  ((Op.SOLARIZE, 0.6, 5), (Op.AUTOCONTRAST, 0.6, 0)),
  ((Op.EQUALIZE, 0.8, 0), (Op.EQUALIZE, 0.6, 0)),
  ((Op.POSTERIZE, 0.6, 7), (Op.POSTERIZE, 0.6, 6)),
  ((Op.EQUALIZE, 0.4, 0), (Op.SOLARIZE, 0.2, 4)),
  ((Op.EQUALIZE, 0.4, 0), (Op.ROTATE, 0.8, 8)),
  ((Op.SOLARIZE, 0.6, 3), (Op.EQUALIZE, 0.6, 0)),
  ((Op.POSTERIZE, 0.8, 5), (Op.EQUALIZE, 1.0, 0)),
  ((Op.ROTATE, 0.2, 3), (Op.SOLARIZE, 0.6, 8)),
  ((Op.EQUALIZE, 0.6, 0), (Op.POSTERIZE, 0.4, 6)),
  ((Op.ROTATE, 0.8, 8), (Op.COLOR, 0.4, 0)),
  ((Op.ROTATE, 0.4, 9), (Op.EQUALIZE, 0.6, 0)),
  ((Op.EQUALIZE, 0.0, 0), (Op.EQUALIZE, 0.8, 0)),
  ((Op.INVERT, 0.6, 0), (Op.EQUALIZE, 1.0, 0)),
  ((Op.COLOR, 0.6, 4), (Op.CONTRAST, 1.0, 8)),
  ((Op.ROTATE, 0.8, 8), (Op.COLOR, 1.0, 2)),
  ((Op.COLOR, 0.8, 8), (Op.SOLARIZE, 0.8, 7)),
  ((Op.SHARPNESS, 0.4, 7), (Op.INVERT, 0.6, 0)),
  ((Op.SHEAR_X, 0.6, 5), (Op.EQUALIZE, 1.0, 0)),
  ((Op.COLOR, 0.4, 0), (Op.EQUALIZE, 0.6, 0)),
  ((Op.EQUALIZE, 0.4, 0), (Op.SOLARIZE, 0.2, 4)),
  ((Op.SOLARIZE, 0.6, 5), (Op.AUTOCONTRAST, 0.6, 0)),
  ((Op.INVERT, 0.6, 0), (Op.EQUALIZE, 1.0, 0)),
  ((Op.COLOR, 0.6, 4), (Op.CONTRAST, 1.0, 8)),
  ((Op.EQUALIZE, 0.8, 0), (Op.EQUALIZE, 0.6, 0)),
)

IMAGENET_V0: SubPolicies = (
  ((Op.EQUALIZE, 0.8, 0), (Op.SHEAR_Y, 0.8, 4)),
  ((Op.COLOR, 0.4, 9), (Op.EQUALIZE, 0.6, 0)),
  ((Op.COLOR, 0.4, 1), (Op.ROTATE, 0.6, 8)),
  ((Op.SOLARIZE, 0.8, 3), (Op.EQUALIZE, 0.4, 0)),
  ((Op.SOLARIZE, 0.4, 2), (Op.SOLARIZE, 0.6, 2)),
  ((Op.COLOR, 0.2, 0), (Op.EQUALIZE, 0.8, 0)),
  ((Op.EQUALIZE, 0.4, 0), (Op.SOLARIZE_ADD, 0.8, 3)),
  ((Op.SHEAR_X, 0.2, 9), (Op.ROTATE, 0.6, 8)),
  ((Op.COLOR, 0.6, 1), (Op.EQUALIZE, 1.0, 0)),
  ((Op.INVERT, 0.4, 0), (Op.ROTATE, 0.6, 0)),
  ((Op.EQUALIZE, 1.0, 0), (Op.SHEAR_Y, 0.6, 3)),
  ((Op.COLOR, 0.4, 7), (Op.EQUALIZE, 0.6, 0)),
  ((Op.POSTERIZE, 0.4, 6), (Op.AUTOCONTRAST, 0.4, 0)),
  ((Op.SOLARIZE, 0.6, 8), (Op.COLOR, 0.6, 9)),
  ((Op.SOLARIZE, 0.2, 4), (Op.ROTATE, 0.8, 9)),
  ((Op.ROTATE, 1.0, 7), (Op.TRANSLATE_Y, 0.8, 9)),
  ((Op.SHEAR_X, 0.0, 0), (Op.SOLARIZE, 0.8, 4)),
  ((Op.SHEAR_Y, 0.8, 0), (Op.COLOR, 0.6, 4)),
  ((Op.COLOR, 1.0, 0), (Op.ROTATE, 0.6, 2)),
  ((Op.EQUALIZE, 0.8, 0), (Op.EQUALIZE, 0.0, 0)),
  ((Op.EQUALIZE, 1.0, 0), (Op.AUTOCONTRAST, 0.6, 0)),
  ((Op.SHEAR_Y, 0.4, 7), (Op.SOLARIZE_ADD, 0.6, 7)),
  ((Op.POSTERIZE, 0.8, 2), (Op.SOLARIZE, 0.6, 10)),
  ((Op.SOLARIZE, 0.6, 8), (Op.EQUALIZE, 0.6, 0)),
  ((Op.COLOR, 0.8, 6), (Op.ROTATE, 0.4, 5)),
)

SUB_POLICIES = {"cifar10": CIFAR10, "imagenet": IMAGENET, "imagenet_v0": IMAGENET_V0}
_RULES = {
  "policy": _options.one_of(*SUB_POLICIES),
  "ranges": _options.one_of("default", "torchvision", "original"),
}


def torchvision_magnitude(op: Op, k: int, side: int) -> float:
  """Returns the magnitude at index `k` of 0..9, without its sign; `side` is that of a shift."""
  share = k / 9
  if op in (Op.SHEAR_X, Op.SHEAR_Y):
    return 0.3 * share
  if op in (Op.TRANSLATE_X, Op.TRANSLATE_Y):
    return float(int(150 / 331 * side * share))
  if op is Op.ROTATE:
    return 30 * share
  if op in ENHANCERS:
    return 0.9 * share
  if op is Op.POSTERIZE:
    return float(8 - round(4 * share))
  if op is Op.SOLARIZE:
    return 255 - 255 * share
  return 0.0


def original_magnitude(op: Op, k: int, side: int) -> float:
  """Returns the magnitude of the released TensorFlow code at level `k` of 0..10, without its sign.

  Its posterize keeps 4 - int(0.4 k) bits, a known slip that is kept here; shifts are given for 32
  pixels and scale with the side; solarize-add adds up to 110 levels.
  """
  if op in (Op.SHEAR_X, Op.SHEAR_Y):
    return 0.03 * k
  if op in (Op.TRANSLATE_X, Op.TRANSLATE_Y):
    return float(k * side // 32)
  if op is Op.ROTATE:
    return float(3 * k)
  if op in ENHANCERS:
    return 0.18 * k + 0.1
  if op is Op.POSTERIZE:
    return float(4 - 4 * k // 10)
  if op is Op.SOLARIZE:
    return float(256 - 256 * k // 10)
  if op is Op.SOLARIZE_ADD:
    return float(11 * k)
  return 0.0


@functools.lru_cache(maxsize=32)
def auto_table(*, policy: str, ranges: str, height: int, width: int) -> tuple[Steps, np.ndarray]:
  """Returns the steps [25 sub-policies, 2 operations, 2 signs] and the probabilities [25, 2]."""
  if ranges == "default":
    ranges = "original" if policy == "imagenet_v0" else "torchvision"
  ops, magnitudes, probabilities = [], [], []
  for sub_policy in SUB_POLICIES[policy]:
    for op, probability, k in sub_policy:
      side = height if op is Op.TRANSLATE_Y else width
      if ranges == "original":
        magnitude = original_magnitude(op, k, side)
      else:
        magnitude = torchvision_magnitude(op, k, side)
      probabilities.append(probability)
      ops.append((op, op))
      if op in SIGNED:
        magnitudes.append((magnitude, -magnitude))
      elif op in ENHANCERS and ranges == "torchvision":
        magnitudes.append((1 + magnitude, 1 - magnitude))
      else:
        magnitudes.append((magnitude, magnitude))
  shape = (len(SUB_POLICIES[policy]), 2, 2)
  steps = tabulate(
    np.reshape(ops, shape), np.reshape(magnitudes, shape), height=height, width=width
  )
  return steps, np.asarray(probabilities, np.float32).reshape(shape[:2])


@jax.jit
def draw_auto(each: PRNGKeys, table: tuple[Steps, Any]) -> Steps:
  """Draws the two steps of each example, `[N, 2]`; a step that is not applied is the identity."""
  steps, probabilities = table
  u = jax.vmap(lambda k: jax.random.uniform(k, (5,)))(each)
  sub_policy = index(u[:, 0], probabilities.shape[0])
  applied = u[:, 1:3] < jnp.asarray(probabilities)[sub_policy]
  sign = index(u[:, 3:5], 2)
  flat = (sub_policy[:, None] * 2 + jnp.arange(2)[None, :]) * 2 + sign
  drawn = jax.tree.map(lambda leaf: jnp.asarray(leaf).reshape(-1, *leaf.shape[3:])[flat], steps)
  return drawn._replace(op=jnp.where(applied, drawn.op, int(Op.IDENTITY)))


@checks.inputs()
def autoaugment(
  key: AnyKey,
  images: Images,
  *,
  policy: str = "cifar10",
  ranges: str = "default",
  fill: Number | tuple[float, ...] = 0.0,
  formulation: str = "auto",
) -> Images:
  """Applies one of 25 sub-policies to each picture: two operations, each with its probability.

  Args:
    key: one key, or one per example.
    images: values in [0, 1], cut to 8-bit levels.
    policy: "cifar10", "imagenet" or "imagenet_v0".
    ranges: "torchvision", "original" (TensorFlow code), or "default": original for imagenet_v0,
      whose levels reach 10, torchvision for the others.
    fill: pixel value, or one per channel, of what a warp brings in from outside.
    formulation: "auto", "serial" or "merged"; changes the speed only.
  """
  _options.check(
    "autoaugment", _RULES, policy=policy, ranges=ranges, fill=fill, formulation=formulation
  )
  if policy == "imagenet_v0" and ranges == "torchvision":
    raise ValueError(
      "autoaugment: ranges='torchvision' has 10 magnitudes, policy='imagenet_v0' needs 11; "
      "use ranges='original'."
    )
  _, height, width, _ = images.shape
  table = auto_table(policy=policy, ranges=ranges, height=height, width=width)
  each = keys.per_example(key, len(images))
  return run_table(each, images, table, draw_auto, fill=fill, formulation=formulation)


def _describe(scene: Scene, *, policy: str, ranges: str, **_: Any) -> Account:
  height, width = scene.shape
  table = auto_table(policy=policy, ranges=ranges, height=height, width=width)
  return _ops.describe(draw_auto(scene.own, table))


ENTRIES = {
  "autoaugment": Entry(
    autoaugment,
    _describe,
    rules=_RULES,
    examples=lambda side: {
      "autoaugment": {},
      "autoaugment in": {"policy": "imagenet"},
      "autoaugment v0": {"policy": "imagenet_v0"},
    },
  ),
}
