# SPDX-License-Identifier: Apache-2.0
"""What `config.augment.policy` may name: every augmentation, and `corrupt` with a warning.

A network trained on a corruption of a benchmark no longer meets it unseen, so whoever asks for one
is told which scores that concerns.
"""

from collections.abc import Mapping
from typing import Any

from mixboost_jax import augment, corruptions
from mixboost_jax.array_types import AnyKey, Images
from mixboost_jax.augment.policy import build_from, problem_in


def corrupt(key: AnyKey, images: Images, *, corruption: str, severity: int) -> Images:
  """Corrupts every picture of a batch in the same way.

  Args:
    key: one key, or one per example.
    images: values in [0, 1].
    corruption: a key of `corruptions.CORRUPTIONS` with severities for this size of picture.
    severity: 1..5.
  """
  return corruptions.corrupt(key, images, name=corruption, severity=severity)


POLICIES = {**augment.AUGMENTATIONS, "corrupt": corrupt}


def policy_problem(policy: Mapping[str, Any]) -> str | None:
  """Returns what is wrong with a policy, or None: a check for `settings.resolve_runs`."""
  if wrong := problem_in(POLICIES, policy):
    return wrong
  for name, severity in _corruptions_in(policy):
    if name not in corruptions.CORRUPTIONS:
      return f"'corrupt': no corruption {name!r}; choose of {', '.join(corruptions.CORRUPTIONS)}"
    if severity not in (1, 2, 3, 4, 5):
      return f"'corrupt': severity must be 1, 2, 3, 4 or 5, got {severity!r}"
  return None


def build_policy(policy: Mapping[str, Any], **resources: Any) -> augment.Augmentation:
  """Returns what `augment.build` returns, for every name in `POLICIES`."""
  return build_from(POLICIES, policy, resources)


def policy_warnings(policy: Mapping[str, Any]) -> list[str]:
  """Returns one line for every corruption of a benchmark that a policy trains on."""
  names = dict.fromkeys(name for name, _ in _corruptions_in(policy))
  found = (corruptions.training_warning(name) for name in names)
  return [f"config.augment.policy: {line}" for line in found if line]


def _corruptions_in(policy: Any) -> list[tuple[str, Any]]:
  """Lists (corruption, severity) of a policy and of the policies within it."""
  if isinstance(policy, tuple | list):
    return [pair for member in policy for pair in _corruptions_in(member)]
  if not hasattr(policy, "items"):
    return []
  own = [(policy["corruption"], policy["severity"])] if policy.get("name") == "corrupt" else []
  return own + [pair for _, value in policy.items() for pair in _corruptions_in(value)]
