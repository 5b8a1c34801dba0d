# SPDX-License-Identifier: Apache-2.0
"""What a policy did to one example, read off its key: operations, magnitudes, weights.

The same draw functions as in training are called, so the account is what happened, not a guess.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import keys
from mixboost_jax.array_types import PRNGKey, PRNGKeys
from mixboost_jax.augment import (
  chains,
  crops,
  learned_policies,
  picture_mixing,
  steps,
  uniform_policies,
)
from mixboost_jax.augment.parameters import Number

Account = list[dict[str, Any]]
Shape = tuple[int, int]


def _flip(each: PRNGKeys, shape: Shape) -> Account:
  return [{"op": "flip", "applied": bool(crops.draw_flips(each)[0])}]


def _crop(each: PRNGKeys, shape: Shape, *, padding: int, **_: Any) -> Account:
  top, left = np.asarray(crops.draw_offsets(each, padding=padding)[0]) - padding
  return [{"op": "crop", "down": int(top), "right": int(left), "unit": "pixels"}]


def _cutout(each: PRNGKeys, shape: Shape, *, length: int, **_: Any) -> Account:
  row, column = np.asarray(crops.draw_centres(each, height=shape[0], width=shape[1])[0])
  return [{"op": "cutout", "row": int(row), "column": int(column), "length": length}]


def _trivial(each: PRNGKeys, shape: Shape, *, ranges: str = "torchvision", **_: Any) -> Account:
  table = uniform_policies.trivial_table(ranges=ranges, height=shape[0], width=shape[1])
  return steps.describe(uniform_policies.draw_trivial(each, table))


def _rand(
  each: PRNGKeys,
  shape: Shape,
  *,
  num_ops: int = 2,
  magnitude: Number = 9,
  bins: int = 31,
  ranges: str = "torchvision",
  **_: Any,
) -> Account:
  table = uniform_policies.rand_table(
    magnitude=magnitude, bins=bins, ranges=ranges, height=shape[0], width=shape[1]
  )
  return steps.describe(uniform_policies.draw_rand(each, table, num_ops=num_ops))


def _auto(
  each: PRNGKeys, shape: Shape, *, policy: str = "cifar10", ranges: str = "default", **_: Any
) -> Account:
  table = learned_policies.auto_table(policy=policy, ranges=ranges, height=shape[0], width=shape[1])
  return steps.describe(learned_policies.draw_auto(each, table))


def _augmix(
  each: PRNGKeys,
  shape: Shape,
  *,
  severity: Number = 3,
  width: int = 3,
  depth: int = -1,
  alpha: Number = 1.0,
  all_ops: bool = False,
  **_: Any,
) -> Account:
  drawn = chains.draw_chains(
    each,
    severity=float(severity),
    width=width,
    depth=depth,
    alpha=float(alpha),
    all_ops=all_ops,
    shape=shape,
  )
  account: Account = [{"op": "mix", "share_of_chains": round(float(drawn.share[0]), 6)}]
  for i in range(width):
    own = jax.tree.map(lambda leaf, i=i: leaf[0, i, : int(drawn.depth[0, i])], drawn.steps)
    weight = round(float(drawn.weights[0, i]), 6)
    account.append({"op": "chain", "weight": weight, "steps": steps.describe(own)})
  return account


def _pixmix(
  each: PRNGKeys,
  shape: Shape,
  *,
  mixing_images: Any,
  k: int = 4,
  beta: Number = 3,
  severity: Number = 3,
  all_ops: bool = True,
  mixings: tuple[str, ...] = ("add", "multiply"),
  **_: Any,
) -> Account:
  drawn = picture_mixing.draw_rounds(
    each,
    k=k,
    beta=float(beta),
    severity=float(severity),
    all_ops=all_ops,
    num_mixings=len(mixings),
    shape=shape,
    mixing_shape=tuple(mixing_images.shape[:3]),
  )
  account: Account = []
  for r in range(int(drawn.count[0]) + 1):
    source: dict[str, Any] = {"mixing_picture": int(drawn.picture[0])}
    source |= {"top": int(drawn.top[0]), "left": int(drawn.left[0])}
    if bool(drawn.from_original[0, r]):
      own = jax.tree.map(lambda leaf, r=r: leaf[0, r], drawn.steps)
      source = {"original": steps.describe(own)[0]}
    if r == 0:
      account.append({"op": "start", **source})
      continue
    factors = {"a": round(float(drawn.a[0, r]), 6), "b": round(float(drawn.b[0, r]), 6)}
    account.append({"op": tuple(mixings)[int(drawn.mixing[0, r]) - 1], **factors, **source})
  return account


EXPLAINED = {
  "augmix": _augmix,
  "autoaugment": _auto,
  "cutout": _cutout,
  "pixmix": _pixmix,
  "randaugment": _rand,
  "random_crop": _crop,
  "random_flip": _flip,
  "trivial_augment_wide": _trivial,
}


def explain(
  key: PRNGKey, policy: Mapping[str, Any], *, shape: tuple[int, int], **resources: Any
) -> Account:
  """Lists what `build(policy, **resources)` does to the example whose key is `key`.

  Args:
    key: the example's own key, as `keys.example_keys` makes it.
    policy: as for `build`; inside a composition the keys are split as `compose` splits them.
    shape: (height, width) of the picture.
    **resources: as for `build`.

  Returns:
    One entry per operation. Policies that mix examples depend on the batch and say only so.
  """
  return _account(key[None], policy, shape, resources)


def _account(
  each: PRNGKeys, policy: Mapping[str, Any], shape: Shape, resources: Mapping[str, Any]
) -> Account:
  name = policy["name"]
  keywords = {k: v for k, v in policy.items() if k != "name"}
  if name == "none":
    return []
  if name == "compose":
    members = policy["steps"]
    parts = keys.split_each(each, len(members)) if members else ()
    return [
      entry
      for part, member in zip(parts, members, strict=True)
      for entry in _account(part, member, shape, resources)
    ]
  if name == "with_probability" and policy.get("per", "example") == "example":
    gate, rest = keys.split_each(each, 2)
    applied = policy["p"] > 0 and bool(jax.vmap(jax.random.uniform)(gate)[0] < policy["p"])
    return _account(rest, policy["policy"], shape, resources) if applied else []
  if name == "choice" and policy.get("per", "example") == "example":
    options = policy["options"]
    draw, rest = keys.split_each(each, 2)
    chosen = int(jnp.squeeze(jax.vmap(lambda k: jax.random.randint(k, (), 0, len(options)))(draw)))
    parts = keys.split_each(rest, len(options))
    return _account(parts[chosen], options[chosen], shape, resources)
  if name not in EXPLAINED:
    return [{"op": name, **keywords, "depends_on": "the other examples of the batch, or noise"}]
  arrays = {k: v for k, v in resources.items() if k == "mixing_images" and name == "pixmix"}
  return EXPLAINED[name](each, shape, **keywords, **arrays)
