# SPDX-License-Identifier: Apache-2.0
"""Augmentations of batches: pictures in [0, 1] in, pictures in [0, 1] out.

Every function takes one key, or one key per example; what happens to an example depends on its
own key only. Functions named in `MIXES_LABELS` mix examples, and take and return soft labels; the
partner of an example is its predecessor in the shuffled batch (see `mixup`).

Bytes are refused. Floats of 0 to 255 are refused in NumPy arrays; in arrays of JAX only a run with
`MIXBOOST_CHECKS=1` notices them (see `checks`), because to look would wait for the device.

Gradients with respect to the pictures: policies of Pillow's operations (`autoaugment`,
`randaugment`, `trivial_augment_wide`, `ops`) have none, since they work on 8-bit levels; `augmix`
has that of the picture's own share alone and `pixmix` none. `attacks.bpda(fn)` differentiates any
of them straight through. The others (flip, crops, cutout, `color_jitter`, noise, blur, grey and
mixes) have the gradient of their formula.
"""

import functools
from collections.abc import Mapping
from typing import Any

from mixboost_jax import checks
from mixboost_jax.array_types import AnyKey, Images, SoftLabels
from mixboost_jax.augment import ops
from mixboost_jax.augment._augmix import augmix, augmix_views
from mixboost_jax.augment._autoaugment import autoaugment
from mixboost_jax.augment._classical import (
  color_jitter,
  cutout,
  draw_attempts,
  draw_flips,
  gaussian_blur,
  gaussian_noise,
  place_window,
  random_crop,
  random_flip,
  random_grayscale,
  random_resized_crop,
)
from mixboost_jax.augment._explain import explain_with
from mixboost_jax.augment._mixing_set import FAMILIES, mixing_images, spectral_noise
from mixboost_jax.augment._mixup import (
  ManifoldMix,
  cutmix,
  draw_manifold_mix,
  manifold_tap,
  mix_with_partner,
  mixup,
  sample_pairing,
  sample_pairing_active,
  smote,
)
from mixboost_jax.augment._pixmix import pixmix
from mixboost_jax.augment._policy import (
  COMPOSITES,
  Augmentation,
  build_from,
  choice,
  compose,
  identity,
  over_mesh,
  problem_in,
  with_probability,
)
from mixboost_jax.augment._randaugment import randaugment, trivial_augment_wide

AUGMENTATIONS = {
  "augmix": augmix,
  "autoaugment": autoaugment,
  "color_jitter": color_jitter,
  "cutmix": cutmix,
  "cutout": cutout,
  "gaussian_blur": gaussian_blur,
  "gaussian_noise": gaussian_noise,
  "mixup": mixup,
  "pixmix": pixmix,
  "randaugment": randaugment,
  "random_crop": random_crop,
  "random_flip": random_flip,
  "random_grayscale": random_grayscale,
  "random_resized_crop": random_resized_crop,
  "sample_pairing": sample_pairing,
  "smote": smote,
  "trivial_augment_wide": trivial_augment_wide,
}

MIXES_LABELS = frozenset({"cutmix", "mixup", "sample_pairing", "smote"})
"""Names whose function mixes examples, and takes and returns soft labels."""


@checks.inputs()
def policy_problem(policy: Mapping[str, Any]) -> str | None:
  """Returns what is wrong with a policy (name, keywords, their values), or None."""
  return problem_in(AUGMENTATIONS, policy)


@checks.inputs()
def build(policy: Mapping[str, Any], **resources: Any) -> Augmentation:
  """Turns a policy into `fn(key, images, soft_labels) -> (images, soft_labels)`.

  Args:
    policy: `name` and exactly the keywords of that augmentation. Name "none" is the identity;
      `compose`, `with_probability` and `choice` contain policies (see `_policy.py`).
    **resources: `mixing_images` (pixmix); `mesh` and optionally `batch_axes`: example-wise
      augmentations then run on every device's own part of the batch.

  Raises:
    ValueError: if the policy is wrong, or lacks a resource.
  """
  return build_from(AUGMENTATIONS, policy, resources)


@checks.inputs()
def explain(
  key: AnyKey,
  policy: Mapping[str, Any],
  *,
  shape: tuple[int, int],
  row: int = 0,
  batch: tuple[Images, SoftLabels] | None = None,
  **resources: Any,
) -> list[dict[str, Any]]:
  """Lists what `build(policy, **resources)` does to one example.

  Args:
    key: the example's own key, as `keys.example_keys` makes it; or those of its whole batch.
    policy: as for `build`.
    shape: (height, width) of the picture.
    row: which example of the batch.
    batch: pictures and soft labels of the batch. Without it, augmentations that mix examples say
      only that they do; with it, they name the partner's row.
    **resources: as for `build`.

  Returns:
    One entry per operation, in order: `op` and its magnitudes with their units.
  """
  return explain_with(
    key,
    policy,
    build=functools.partial(build, **resources),
    shape=shape,
    row=row,
    batch=batch,
    mixing_images=resources.get("mixing_images"),
  )


__all__ = [
  "AUGMENTATIONS",
  "COMPOSITES",
  "FAMILIES",
  "MIXES_LABELS",
  "Augmentation",
  "ManifoldMix",
  "augmix",
  "augmix_views",
  "autoaugment",
  "build",
  "choice",
  "color_jitter",
  "compose",
  "cutmix",
  "cutout",
  "draw_attempts",
  "draw_flips",
  "draw_manifold_mix",
  "explain",
  "gaussian_blur",
  "gaussian_noise",
  "identity",
  "manifold_tap",
  "mix_with_partner",
  "mixing_images",
  "mixup",
  "ops",
  "over_mesh",
  "pixmix",
  "place_window",
  "policy_problem",
  "randaugment",
  "random_crop",
  "random_flip",
  "random_grayscale",
  "random_resized_crop",
  "sample_pairing",
  "sample_pairing_active",
  "smote",
  "spectral_noise",
  "trivial_augment_wide",
  "with_probability",
]
