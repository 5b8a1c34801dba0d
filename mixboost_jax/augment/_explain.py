# SPDX-License-Identifier: Apache-2.0
"""What a policy did to one example, read off the keys: operations, magnitudes, weights, partners.

The same draw functions as in training are called, so the account is what happened, not a guess.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import keys
from mixboost_jax.array_types import AnyKey, Images, PRNGKey, PRNGKeys, SoftLabels
from mixboost_jax.augment import _mixup
from mixboost_jax.augment._augmix import describe_augmix
from mixboost_jax.augment._autoaugment import describe_auto
from mixboost_jax.augment._classical import (
  describe_blur,
  describe_crop,
  describe_cutout,
  describe_flip,
  describe_grayscale,
  describe_jitter,
  describe_noise,
  describe_resized_crop,
)
from mixboost_jax.augment._ops import Account, Shape
from mixboost_jax.augment._options import Number
from mixboost_jax.augment._pixmix import describe_pixmix
from mixboost_jax.augment._policy import Augmentation
from mixboost_jax.augment._randaugment import describe_rand, describe_trivial


@dataclasses.dataclass(frozen=True)
class Scene:
  """Where a policy meets the example: the keys and the pictures of its batch, as they come in."""

  each: PRNGKeys
  row: int
  shape: tuple[int, int]
  batch: tuple[Images, SoftLabels] | None
  build: Callable[[Mapping[str, Any]], Augmentation]
  mixing_images: Any

  def with_keys(self, each: PRNGKeys) -> "Scene":
    """Returns the same batch with the keys that a member of a composition gets."""
    return dataclasses.replace(self, each=each)

  def after(self, policy: Mapping[str, Any], *, rest: Any) -> "Scene":
    """Returns the batch as `policy` leaves it; its pictures only if `rest` looks at them."""
    shape = (policy["size"],) * 2 if policy["name"] == "random_resized_crop" else self.shape
    batch = self.batch
    if batch is not None and "'smote'" in repr(rest):
      batch = self.build(policy)(self.each, *batch)
    return dataclasses.replace(self, shape=shape, batch=batch)


def explain_with(
  key: AnyKey,
  policy: Mapping[str, Any],
  *,
  build: Callable[[Mapping[str, Any]], Augmentation],
  shape: tuple[int, int],
  row: int = 0,
  batch: tuple[Images, SoftLabels] | None = None,
  mixing_images: Any = None,
) -> Account:
  """Does what `augment.explain` says; `build` turns a policy into an augmentation."""
  each = key[None] if key.ndim == 0 else key
  if not 0 <= row < len(each):
    raise ValueError(f"explain: expected a row in [0, {len(each)}), got {row}.")
  return _account(Scene(each, row, shape, batch, build, mixing_images), policy)


def _account(scene: Scene, policy: Mapping[str, Any]) -> Account:
  name = policy["name"]
  keywords = {k: v for k, v in policy.items() if k != "name"}
  if name == "none":
    return []
  if name == "compose":
    return _compose(scene, tuple(policy["steps"]))
  if scene.batch is None and (name in MIXING or policy.get("per") == "batch"):
    return [{"op": name, **keywords, "depends_on": "the other examples of the batch"}]
  if name == "with_probability":
    gate, rest = keys.split_each(scene.each, 2)
    applied = policy["p"] > 0 and bool(
      jax.random.uniform(_drawn(gate, scene, policy)) < policy["p"]
    )
    return _account(scene.with_keys(rest), policy["policy"]) if applied else []
  if name == "choice":
    return _choice(scene, policy)
  if name in MIXING:
    return MIXING[name](scene.each, scene.row, scene.shape, scene.batch, **keywords)
  if name == "pixmix":
    keywords["mixing_images"] = scene.mixing_images
  own = scene.each[scene.row : scene.row + 1]
  return EXAMPLE_WISE[name](own, scene.shape, **keywords)


def _compose(scene: Scene, members: tuple[Mapping[str, Any], ...]) -> Account:
  account: Account = []
  if not members:
    return account
  for i, part in enumerate(keys.split_each(scene.each, len(members))):
    scene = scene.with_keys(part)
    account += _account(scene, members[i])
    scene = scene.after(members[i], rest=members[i + 1 :])
  return account


def _choice(scene: Scene, policy: Mapping[str, Any]) -> Account:
  options = tuple(policy["options"])
  draw, rest = keys.split_each(scene.each, 2)
  chosen = int(jax.random.randint(_drawn(draw, scene, policy), (), 0, len(options)))
  # One choice for a batch hands its keys on whole; a choice per example splits them.
  shared = policy.get("per", "example") == "batch"
  part = rest if shared else keys.split_each(rest, len(options))[chosen]
  return _account(scene.with_keys(part), options[chosen])


def _drawn(each: PRNGKeys, scene: Scene, policy: Mapping[str, Any]) -> PRNGKey:
  """Returns the key of a decision of the batch, or of the example."""
  shared = policy.get("per", "example") == "batch"
  return keys.for_batch(each) if shared else each[scene.row]


# What the augmentations that mix examples did to one row of a batch.
#
# Partners are rows of the batch, counted from 0.

Batch = tuple[Images, SoftLabels]


def _describe_mixup(
  each: PRNGKeys,
  row: int,
  shape: Shape,
  batch: Batch,
  *,
  alpha: Number = 1.0,
  per: str = "batch",
  partner: str = "roll",
) -> Account:
  weight_keys, pair_keys = keys.split_each(each, 2)
  weight = _mixup.mixing_weights(weight_keys, len(each), alpha=alpha, per=per)[row]
  return [{"op": "mixup", "own_weight": _short(weight), **_pair(pair_keys, row, partner)}]


def _describe_cutmix(
  each: PRNGKeys,
  row: int,
  shape: Shape,
  batch: Batch,
  *,
  alpha: Number = 1.0,
  prob: Number = 1.0,
  per: str = "batch",
) -> Account:
  height, width = shape
  boxes = _mixup.draw_boxes(each, height=height, width=width, alpha=alpha, prob=prob, per=per)
  top, left, bottom, right = (int(v) for v in np.asarray(boxes[row]))
  box = {
    "rows": (max(top, 0), min(bottom, height)),
    "columns": (max(left, 0), min(right, width)),
  }
  if bottom <= top or right <= left:
    return [{"op": "cutmix", "applied": False}]
  return [{"op": "cutmix", **box, "partner_row": (row - 1) % len(each)}]


def _describe_sample_pairing(
  each: PRNGKeys,
  row: int,
  shape: Shape,
  batch: Batch,
  *,
  weight: Number = 0.5,
  partner: str = "roll",
) -> Account:
  return [{"op": "sample_pairing", "own_weight": weight, **_pair(each, row, partner)}]


def _describe_smote(
  each: PRNGKeys, row: int, shape: Shape, batch: Batch, *, num_neighbors: int = 5
) -> Account:
  chosen, moved = _mixup.draw_neighbors(each, *batch, num_neighbors=num_neighbors)
  other = int(chosen[row])
  if other == row:
    return [{"op": "smote", "applied": False}]
  return [{"op": "smote", "own_weight": _short(1 - moved[row]), "partner_row": other}]


def _pair(pair_keys: PRNGKeys, row: int, partner: str) -> dict[str, int]:
  own, other = _mixup.pair_functions(keys.for_batch(pair_keys), len(pair_keys), partner)
  rows = jnp.arange(len(pair_keys))
  found = {"partner_row": int(other(rows)[row])}
  return found if partner != "two_permutations" else {"own_row": int(own(rows)[row]), **found}


def _short(value: Any) -> float:
  return round(float(value), 6)


MIXING = {
  "cutmix": _describe_cutmix,
  "mixup": _describe_mixup,
  "sample_pairing": _describe_sample_pairing,
  "smote": _describe_smote,
}
"""`(keys[N], row, (height, width), (images, soft labels), **keywords) -> account`."""

EXAMPLE_WISE = {
  "augmix": describe_augmix,
  "autoaugment": describe_auto,
  "color_jitter": describe_jitter,
  "cutout": describe_cutout,
  "gaussian_blur": describe_blur,
  "gaussian_noise": describe_noise,
  "pixmix": describe_pixmix,
  "randaugment": describe_rand,
  "random_crop": describe_crop,
  "random_flip": describe_flip,
  "random_grayscale": describe_grayscale,
  "random_resized_crop": describe_resized_crop,
  "trivial_augment_wide": describe_trivial,
}
"""`(keys[1], (height, width), **keywords) -> account`."""
