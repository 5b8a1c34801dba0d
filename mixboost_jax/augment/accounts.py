# SPDX-License-Identifier: Apache-2.0
"""What the augmentations that look at one example only did to it; see `explain.py`.

Each function takes the keys of a batch of one, the shape of the picture and the keywords.
"""

from typing import Any

import jax
import numpy as np

from mixboost_jax.array_types import PRNGKeys
from mixboost_jax.augment import (
  chains,
  crops,
  learned_policies,
  photographic,
  picture_mixing,
  steps,
  uniform_policies,
)
from mixboost_jax.augment.parameters import Number

Account = list[dict[str, Any]]
"""One entry per operation, in order: `op` and its numbers with their unit."""
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
  account: Account = [{"op": "mix", "share_of_chains": _short(drawn.share[0])}]
  for i in range(width):
    own = jax.tree.map(lambda leaf, i=i: leaf[0, i, : int(drawn.depth[0, i])], drawn.steps)
    weight = _short(drawn.weights[0, i])
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
    factors = {"a": _short(drawn.a[0, r]), "b": _short(drawn.b[0, r])}
    account.append({"op": tuple(mixings)[int(drawn.mixing[0, r]) - 1], **factors, **source})
  return account


def _resized_crop(
  each: PRNGKeys,
  shape: Shape,
  *,
  size: int,
  scale: tuple[float, ...] = (0.08, 1.0),
  ratio: tuple[float, ...] = (3 / 4, 4 / 3),
) -> Account:
  drawn = photographic.draw_windows(
    each, height=shape[0], width=shape[1], scale=tuple(scale), ratio=tuple(ratio)
  )
  top, left, height, width = (int(v) for v in np.asarray(drawn[0]))
  window = {"top": top, "left": left, "height": height, "width": width, "unit": "pixels"}
  return [{"op": "resized_crop", **window, "size": size}]


def _jitter(
  each: PRNGKeys,
  shape: Shape,
  *,
  brightness: Number = 0.25,
  contrast: Number = 0.25,
  saturation: Number = 0.25,
  hue: Number = 0.0,
) -> Account:
  order, factors, turn = photographic.draw_jitter(
    each, strengths=(brightness, contrast, saturation), hue=hue
  )
  amounts = [{"factor": _short(f)} for f in np.asarray(factors[0])] + [{"turn": _short(turn[0])}]
  names = ("brightness", "contrast", "saturation", "hue")
  used = [i for i in np.asarray(order[0]) if names[i] != "hue" or hue > 0]
  return [{"op": names[i], **amounts[i]} for i in used]


def _grayscale(each: PRNGKeys, shape: Shape, *, prob: Number = 0.1) -> Account:
  return [{"op": "grayscale", "applied": bool(photographic.draw_grey(each, prob=prob)[0])}]


def _noise(each: PRNGKeys, shape: Shape, *, sigma: Number) -> Account:
  return [{"op": "gaussian_noise", "sigma": sigma, "unit": "pixel values in [0, 1]"}]


def _blur(
  each: PRNGKeys, shape: Shape, *, radius: int, sigmas: tuple[float, ...] = (0.1, 2.0)
) -> Account:
  sigma = photographic.draw_sigmas(each, sigmas=tuple(sigmas))[0]
  return [{"op": "gaussian_blur", "sigma": _short(sigma), "radius": radius, "unit": "pixels"}]


def _short(value: Any) -> float:
  return round(float(value), 6)


EXAMPLE_WISE = {
  "augmix": _augmix,
  "autoaugment": _auto,
  "color_jitter": _jitter,
  "cutout": _cutout,
  "gaussian_blur": _blur,
  "gaussian_noise": _noise,
  "pixmix": _pixmix,
  "randaugment": _rand,
  "random_crop": _crop,
  "random_flip": _flip,
  "random_grayscale": _grayscale,
  "random_resized_crop": _resized_crop,
  "trivial_augment_wide": _trivial,
}
"""`(keys[1], (height, width), **keywords) -> account`."""
