# SPDX-License-Identifier: Apache-2.0
"""What the augmentations that mix examples did to one row of a batch; see `explain.py`.

Partners are rows of the batch, counted from 0.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from mixboost_jax import keys
from mixboost_jax.array_types import Images, PRNGKeys, SoftLabels
from mixboost_jax.augment import mixing, pairs
from mixboost_jax.augment.accounts import Account, Shape
from mixboost_jax.augment.parameters import Number

Batch = tuple[Images, SoftLabels]


def _mixup(
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
  weight = mixing.mixing_weights(weight_keys, len(each), alpha=alpha, per=per)[row]
  return [{"op": "mixup", "own_weight": _short(weight), **_pair(pair_keys, row, partner)}]


def _cutmix(
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
  boxes = mixing.draw_boxes(each, height=height, width=width, alpha=alpha, prob=prob, per=per)
  top, left, bottom, right = (int(v) for v in np.asarray(boxes[row]))
  box = {
    "rows": (max(top, 0), min(bottom, height)),
    "columns": (max(left, 0), min(right, width)),
  }
  if bottom <= top or right <= left:
    return [{"op": "cutmix", "applied": False}]
  return [{"op": "cutmix", **box, "partner_row": (row - 1) % len(each)}]


def _sample_pairing(
  each: PRNGKeys,
  row: int,
  shape: Shape,
  batch: Batch,
  *,
  weight: Number = 0.5,
  partner: str = "roll",
) -> Account:
  return [{"op": "sample_pairing", "own_weight": weight, **_pair(each, row, partner)}]


def _smote(
  each: PRNGKeys, row: int, shape: Shape, batch: Batch, *, num_neighbors: int = 5
) -> Account:
  chosen, moved = pairs.draw_neighbors(each, *batch, num_neighbors=num_neighbors)
  other = int(chosen[row])
  if other == row:
    return [{"op": "smote", "applied": False}]
  return [{"op": "smote", "own_weight": _short(1 - moved[row]), "partner_row": other}]


def _pair(pair_keys: PRNGKeys, row: int, partner: str) -> dict[str, int]:
  own, other = mixing.pair_functions(keys.for_batch(pair_keys), len(pair_keys), partner)
  rows = jnp.arange(len(pair_keys))
  found = {"partner_row": int(other(rows)[row])}
  return found if partner != "two_permutations" else {"own_row": int(own(rows)[row]), **found}


def _short(value: Any) -> float:
  return round(float(value), 6)


MIXING = {
  "cutmix": _cutmix,
  "mixup": _mixup,
  "sample_pairing": _sample_pairing,
  "smote": _smote,
}
"""`(keys[N], row, (height, width), (images, soft labels), **keywords) -> account`."""
