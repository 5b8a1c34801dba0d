# SPDX-License-Identifier: Apache-2.0
"""AutoAugment: one of 25 learned pairs of operations per picture.

Paper: Cubuk et al. 2019, arXiv:1805.09501, appendix: the lists for CIFAR-10 and ImageNet, and
the other ImageNet list ("v0") of the released TPU code.
Deviation: the released CIFAR code holds 95 sub-policies; the 25 of the paper are used here.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import checks
from mixboost_jax.array_types import AnyKey, Images, PRNGKeys
from mixboost_jax.augment import _options, _steps
from mixboost_jax.augment._entry import Account, Entry, Scene
from mixboost_jax.augment._options import Number
from mixboost_jax.augment._randaugment import rand_magnitudes, with_signs
from mixboost_jax.augment._steps import ENHANCERS, SHEARS, Op, Steps, index

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


def original_magnitudes(k: int, shape: tuple[int, int]) -> dict[Op, float]:
  """Returns the magnitudes of the released TensorFlow code at `k` of 0..10, without their signs.

  Its posterize keeps 4 - int(0.4 k) bits, a known slip that is kept here; shifts are given for 32
  pixels and scale with the side; solarize-add adds up to 110 levels.
  """
  return {
    **dict.fromkeys(SHEARS, 0.03 * k),
    Op.TRANSLATE_X: k * shape[1] // 32,
    Op.TRANSLATE_Y: k * shape[0] // 32,
    Op.ROTATE: 3 * k,
    **dict.fromkeys(ENHANCERS, 0.18 * k + 0.1),
    Op.POSTERIZE: 4 - 4 * k // 10,
    Op.SOLARIZE: 256 - 256 * k // 10,
    Op.SOLARIZE_ADD: 11 * k,
  }


@functools.lru_cache(maxsize=32)
def auto_table(shape: tuple[int, int], *, policy: str, ranges: str) -> tuple[Steps, np.ndarray]:
  """Returns the steps [25 sub-policies, 2 operations, 2 signs] and the probabilities [25, 2]."""
  if ranges == "default":
    ranges = "original" if policy == "imagenet_v0" else "torchvision"
  grid = []
  for op, _, k in itertools.chain(*SUB_POLICIES[policy]):
    is_original = ranges == "original"
    found = original_magnitudes(k, shape) if is_original else rand_magnitudes(k / 9, ranges, shape)
    grid.append(with_signs(op, found, ranges))
  ops = np.array([[op for op, _, _ in pair] for pair in SUB_POLICIES[policy]])
  probabilities = np.array([[p for _, p, _ in pair] for pair in SUB_POLICIES[policy]], np.float32)
  grid = np.reshape(grid, (*ops.shape, 2))
  return _steps.tabulate(ops[..., None], grid, height=shape[0], width=shape[1]), probabilities


@jax.jit
def draw_auto(each: PRNGKeys, table: tuple[Steps, Any]) -> Steps:
  """Draws the two steps of each example, `[N, 2]`; a step that is not applied is the identity."""
  steps, probabilities = table
  u = jax.vmap(lambda k: jax.random.uniform(k, (5,)))(each)
  sub_policy = index(u[:, 0], probabilities.shape[0])
  applied = u[:, 1:3] < jnp.asarray(probabilities)[sub_policy]
  sign = index(u[:, 3:5], 2)
  drawn = _steps.pick(steps, (sub_policy[:, None] * 2 + jnp.arange(2)[None, :]) * 2 + sign)
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

  `policy` is "cifar10", "imagenet" or "imagenet_v0"; `ranges` is "torchvision", "original"
  (TensorFlow code), or "default": original for imagenet_v0, whose levels reach 10, torchvision for
  the others.

  ```python
  images = augment.autoaugment(key, images, policy="cifar10")
  ```
  """
  _options.check(
    "autoaugment", _RULES, policy=policy, ranges=ranges, fill=fill, formulation=formulation
  )
  if policy == "imagenet_v0" and ranges == "torchvision":
    raise ValueError(
      "autoaugment: ranges='torchvision' has 10 magnitudes, policy='imagenet_v0' needs 11; "
      "use ranges='original'."
    )
  table = auto_table(images.shape[1:3], policy=policy, ranges=ranges)
  return _steps.run_table(key, images, table, draw_auto, fill=fill, formulation=formulation)


def _describe(scene: Scene, *, policy: str, ranges: str, **_: Any) -> Account:
  table = auto_table(scene.shape, policy=policy, ranges=ranges)
  return _steps.describe(draw_auto(scene.own, table))


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
