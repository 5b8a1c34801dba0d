# SPDX-License-Identifier: Apache-2.0
"""Augmentations of batches: pictures in [0, 1] in, pictures in [0, 1] out.

Every function takes one key, or one key per example; what happens to an example depends on its
own key only. Functions named in `MIXES_LABELS` mix examples, and take and return soft labels.
"""

from collections.abc import Mapping
from typing import Any

from mixboost_jax.augment.combine import Augmentation, choice, compose, identity, with_probability
from mixboost_jax.augment.crops import cutout, random_crop, random_flip
from mixboost_jax.augment.mixing import cutmix, mixup
from mixboost_jax.augment.policy import build_from, problem_in

AUGMENTATIONS = {
  "cutmix": cutmix,
  "cutout": cutout,
  "mixup": mixup,
  "random_crop": random_crop,
  "random_flip": random_flip,
}

MIXES_LABELS = frozenset({"cutmix", "mixup"})
"""Names whose function takes and returns soft labels."""


def policy_problem(policy: Mapping[str, Any]) -> str | None:
  """Returns what is wrong with a policy (name, keywords, their values), or None."""
  return problem_in(AUGMENTATIONS, policy)


def build(policy: Mapping[str, Any], **resources: Any) -> Augmentation:
  """Turns a policy into `fn(key, images, soft_labels) -> (images, soft_labels)`.

  Args:
    policy: `name` and exactly the keywords of that augmentation; name "none" is the identity.
    **resources: arrays that an augmentation needs beside the batch.

  Raises:
    ValueError: if the policy is wrong, or lacks a resource.
  """
  return build_from(AUGMENTATIONS, policy, resources)


__all__ = [
  "AUGMENTATIONS",
  "MIXES_LABELS",
  "Augmentation",
  "build",
  "choice",
  "compose",
  "cutmix",
  "cutout",
  "identity",
  "mixup",
  "policy_problem",
  "random_crop",
  "random_flip",
  "with_probability",
]
