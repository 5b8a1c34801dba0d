# SPDX-License-Identifier: Apache-2.0
"""From `{"name": "cutout", "length": 16}` in a config to a function of a batch."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mixboost_jax import registry
from mixboost_jax.augment import parameters
from mixboost_jax.augment.combine import Augmentation, identity, uniform

BATCH_ARGUMENTS = ("key", "images", "soft_labels")


def problem_in(table: Mapping[str, Callable[..., Any]], policy: Mapping[str, Any]) -> str | None:
  """Returns what is wrong with the name or a keyword of `policy`, or None."""
  if "name" not in policy:
    return "a policy needs a name, e.g. {'name': 'cutout', 'length': 16}"
  name = policy["name"]
  given = {key: value for key, value in policy.items() if key != "name"}
  known = {"none": identity, **table}
  if name not in known:
    return registry.unknown_name(name, known, field="name")
  keywords = keywords_of(known[name])
  for key, value in given.items():
    if key not in keywords:
      return (
        registry.unknown_name(key, keywords, field=f"keyword of {name!r}")
        if keywords
        else (f"{name!r} takes no keywords, got {key!r}")
      )
    if wrong := parameters.problem(key, value):
      return f"{key}: {wrong}"
  missing = [k for k, p in keywords.items() if p.default is p.empty and k not in given]
  return f"{name!r} also needs {', '.join(missing)}" if missing else None


def keywords_of(fn: Callable[..., Any]) -> dict[str, inspect.Parameter]:
  """Returns the keyword-only parameters of `fn`."""
  found = inspect.signature(fn).parameters.values()
  return {p.name: p for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY}


def build_from(
  table: Mapping[str, Callable[..., Any]], policy: Mapping[str, Any], resources: Mapping[str, Any]
) -> Augmentation:
  """Returns `fn(key, images, soft_labels) -> (images, soft_labels)`.

  Positional parameters of an augmentation beyond the batch are resources, found by name.

  Raises:
    ValueError: if the policy is wrong, or needs a resource that is not given.
  """
  if wrong := problem_in(table, policy):
    raise ValueError(f"policy {dict(policy)!r}: {wrong}.")
  name = policy["name"]
  if name == "none":
    return uniform(identity)
  fn = table[name]
  keywords = {key: value for key, value in policy.items() if key != "name"}
  for parameter in inspect.signature(fn).parameters.values():
    positional = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    if positional and parameter.name not in BATCH_ARGUMENTS:
      if parameter.name not in resources:
        raise ValueError(
          f"policy {name!r} needs {parameter.name}; pass build(policy, {parameter.name}=...)."
        )
      keywords[parameter.name] = resources[parameter.name]
  return uniform(functools.partial(fn, **keywords))
