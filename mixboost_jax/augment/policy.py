# SPDX-License-Identifier: Apache-2.0
"""From `{"name": "cutout", "length": 16}` in a config to a function of a batch.

A policy may contain policies: `compose` (`steps`: a tuple of policies, applied in order),
`with_probability` (`p`, `policy`, `per`) and `choice` (`options`: a tuple of policies, `per`).
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from mixboost_jax import registry
from mixboost_jax.augment import combine, parameters, sharding
from mixboost_jax.augment.combine import Augmentation
from mixboost_jax.image.quantize import to_levels

Table = Mapping[str, Callable[..., Any]]
Policy = Mapping[str, Any]

COMPOSITES: Mapping[str, tuple[str, ...]] = {
  "choice": ("options", "per"),
  "compose": ("steps",),
  "none": (),
  "with_probability": ("p", "policy", "per"),
}
"""Policies made of policies (or of nothing), and their keywords."""

BATCH_ARGUMENTS = ("key", "images", "soft_labels")
_OPTIONAL = ("per",)
_MEMBERS = {"choice": "options", "compose": "steps"}


def problem_in(table: Table, policy: Any) -> str | None:
  """Returns what is wrong with the name or a keyword of `policy`, or None."""
  if not isinstance(policy, Mapping) and not hasattr(policy, "items"):
    return f"expected a policy such as {{'name': 'cutout', 'length': 16}}, got {policy!r}"
  if "name" not in policy:
    return "a policy needs a name, e.g. {'name': 'cutout', 'length': 16}"
  name = policy["name"]
  if not isinstance(name, str) or (name not in table and name not in COMPOSITES):
    return registry.unknown_name(name, (*table, *COMPOSITES), field="name")
  given = {key: value for key, value in policy.items() if key != "name"}
  known, needed = _keywords(table, name)
  for key, value in given.items():
    if key not in known:
      if not known:
        return f"{name!r} takes no keywords, got {key!r}"
      return registry.unknown_name(key, known, field=f"keyword of {name!r}")
    if wrong := parameters.problem(name, key, value):
      return f"{key}: {wrong}"
  missing = [key for key in needed if key not in given]
  if missing:
    return f"{name!r} also needs {', '.join(missing)}"
  for place, member in _members(policy):
    if wrong := problem_in(table, member):
      return f"{place}: {wrong}"
  return None


def _keywords(table: Table, name: str) -> tuple[list[str], list[str]]:
  """Returns the keywords that a policy accepts, and those that it needs."""
  if name in COMPOSITES:
    known = list(COMPOSITES[name])
    return known, [key for key in known if key not in _OPTIONAL]
  found = inspect.signature(table[name]).parameters.values()
  keyword = [p for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY]
  return [p.name for p in keyword], [p.name for p in keyword if p.default is p.empty]


def _members(policy: Policy) -> list[tuple[str, Any]]:
  """Lists (place, policy) of the policies within a policy."""
  name = policy["name"]
  if name == "with_probability":
    return [("policy", policy["policy"])]
  if name not in _MEMBERS:
    return []
  key = _MEMBERS[name]
  listed = policy[key] if isinstance(policy[key], tuple | list) else (policy[key],)
  return [(f"{key}[{i}]", member) for i, member in enumerate(listed)]


def build_from(table: Table, policy: Policy, resources: Mapping[str, Any]) -> Augmentation:
  """Returns `fn(key, images, soft_labels) -> (images, soft_labels)`.

  Raises:
    ValueError: if the policy is wrong, or needs a resource that is not given.
  """
  if wrong := problem_in(table, policy):
    raise ValueError(f"policy {dict(policy)!r}: {wrong}.")
  name = policy["name"]
  if name in COMPOSITES:
    members = [build_from(table, member, resources) for _, member in _members(policy)]
    per = {"per": policy["per"]} if "per" in policy else {}
    if name == "with_probability":
      return combine.uniform(combine.with_probability(policy["p"], members[0], **per))
    if name == "choice":
      return combine.uniform(combine.choice(*members, **per))
    return combine.uniform(combine.compose(*members))
  keywords = {key: value for key, value in policy.items() if key != "name"}
  fn = functools.partial(table[name], **keywords)
  arrays = _resources_of(table[name], name, resources)
  mesh = resources.get("mesh")
  mixes_examples = "soft_labels" in inspect.signature(fn).parameters
  if mesh is None or mixes_examples:
    return combine.uniform(functools.partial(fn, **arrays))
  axes = resources.get("batch_axes")
  return combine.uniform(sharding.over_mesh(fn, mesh=mesh, batch_axes=axes, resources=arrays))


def _resources_of(
  fn: Callable[..., Any], name: str, resources: Mapping[str, Any]
) -> dict[str, Any]:
  """Finds the arrays that an augmentation takes beside the batch; floats become 8-bit once."""
  arrays = {}
  for parameter in inspect.signature(fn).parameters.values():
    positional = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    if positional and parameter.name not in BATCH_ARGUMENTS:
      if resources.get(parameter.name) is None:
        raise ValueError(
          f"policy {name!r} needs {parameter.name}; pass build(policy, {parameter.name}=...)."
        )
      array = jnp.asarray(resources[parameter.name])
      arrays[parameter.name] = array if array.dtype == jnp.uint8 else to_levels(array)
  return arrays
