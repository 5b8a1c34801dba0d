# SPDX-License-Identifier: Apache-2.0
"""From `{"name": "cutout", "length": 16}` in a config to a function of a batch.

A policy may contain policies: `compose` (`steps`: a tuple of policies, applied in order),
`with_probability` (`p`, `policy`, `per`) and `choice` (`options`: a tuple of policies, `per`).
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from mixboost_jax import checks, keys, registry
from mixboost_jax.array_types import AnyKey, Images
from mixboost_jax.augment import _options
from mixboost_jax.augment._options import Number
from mixboost_jax.image.levels import to_levels

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
    if wrong := _options.problem(name, key, value):
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


# Augmentations as random functions: composition, gates and choice stay augmentations.
#
# Members may be of either kind: `fn(key, images) -> images`, or `fn(key, images, soft_labels) ->
# (images, soft_labels)`. What is returned takes the labels as an optional third argument: with them
# it returns the pair, without them (only if no member needs them) the pictures.

Augmentation = Callable[..., Any]
"""`(key, images) -> images` or `(key, images, soft_labels) -> (images, soft_labels)`."""


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
      return uniform(with_probability(policy["p"], members[0], **per))
    if name == "choice":
      return uniform(choice(*members, **per))
    return uniform(compose(*members))
  keywords = {key: value for key, value in policy.items() if key != "name"}
  fn = functools.partial(table[name], **keywords)
  arrays = _resources_of(table[name], name, resources)
  mesh = resources.get("mesh")
  mixes_examples = "soft_labels" in inspect.signature(fn).parameters
  if mesh is None or mixes_examples:
    return uniform(functools.partial(fn, **arrays))
  axes = resources.get("batch_axes")
  return uniform(over_mesh(fn, mesh=mesh, batch_axes=axes, resources=arrays))


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


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def takes_labels(fn: Augmentation) -> bool:
  """Tells whether `fn` is of the kind that receives and returns soft labels."""
  found = [p for p in inspect.signature(fn).parameters.values() if p.kind in _POSITIONAL]
  return len(found) > 2


def uniform(fn: Augmentation) -> Augmentation:
  """Gives `fn` the one signature `(key, images, soft_labels=None)`."""
  labelled = takes_labels(fn)

  def run(key: jax.Array, images: jax.Array, soft_labels: jax.Array | None = None) -> Any:
    if soft_labels is None:
      return fn(key, images)
    return fn(key, images, soft_labels) if labelled else (fn(key, images), soft_labels)

  return run


@checks.inputs()
def identity(key: jax.Array, images: jax.Array, *soft_labels: jax.Array) -> Any:
  """Returns the batch as it is, whatever the key."""
  del key
  return (images, *soft_labels) if soft_labels else images


@checks.inputs()
def compose(*fns: Augmentation) -> Augmentation:
  """Applies `fns` from left to right, each with its own keys."""
  members = [uniform(fn) for fn in fns]

  def composed(key: jax.Array, images: jax.Array, soft_labels: jax.Array | None = None) -> Any:
    if not members:
      return images if soft_labels is None else (images, soft_labels)
    parts = keys.split_each(keys.per_example(key, len(images)), len(members))
    batch = images if soft_labels is None else (images, soft_labels)
    for part, member in zip(parts, members, strict=True):
      batch = member(part, batch) if soft_labels is None else member(part, *batch)
    return batch

  return composed


@checks.inputs()
def with_probability(p: Number, fn: Augmentation, *, per: str = "example") -> Augmentation:
  """Applies `fn` with probability `p`, else nothing; `p=0` is the bitwise identity.

  Args:
    p: in [0, 1].
    fn: an augmentation of either kind.
    per: "example" (each example has its own gate) or "batch" (one gate for all).
  """
  _options.check("with_probability", p=p, per=per)
  member = uniform(fn)

  def gated(key: jax.Array, images: jax.Array, soft_labels: jax.Array | None = None) -> Any:
    labels = () if soft_labels is None else (soft_labels,)
    if p == 0:
      return identity(key, images, *labels)
    gate_keys, keys_fn = keys.split_each(keys.per_example(key, len(images)), 2)
    if per == "batch":
      applied = jax.random.uniform(keys.for_batch(gate_keys)) < p
      return jax.lax.cond(applied, member, identity, keys_fn, images, *labels)
    applied = jax.vmap(jax.random.uniform)(gate_keys) < p
    return _select(applied, member(keys_fn, images, *labels), identity(key, images, *labels))

  return gated


@checks.inputs()
def choice(*fns: Augmentation, per: str = "example") -> Augmentation:
  """Applies one of `fns`, each equally likely, drawn per example or per batch."""
  _options.check("choice", per=per)
  if not fns:
    raise ValueError("choice: expected at least one augmentation, got none.")
  members = [uniform(fn) for fn in fns]

  def chosen(key: jax.Array, images: jax.Array, soft_labels: jax.Array | None = None) -> Any:
    draw_keys, keys_fn = keys.split_each(keys.per_example(key, len(images)), 2)
    labels = () if soft_labels is None else (soft_labels,)
    if per == "batch":
      index = jax.random.randint(keys.for_batch(draw_keys), (), 0, len(members))
      return jax.lax.switch(index, members, keys_fn, images, *labels)
    index = jax.vmap(lambda k: jax.random.randint(k, (), 0, len(members)))(draw_keys)
    parts = keys.split_each(keys_fn, len(members))
    batch = members[0](parts[0], images, *labels)
    for i, member in enumerate(members[1:], start=1):
      batch = _select(index == i, member(parts[i], images, *labels), batch)
    return batch

  return chosen


def _select(condition: jax.Array, yes: Any, no: Any) -> Any:
  """Picks whole examples from two batches."""

  def pick(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(condition.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

  return jax.tree.map(pick, yes, no)


# Runs an example-wise augmentation on every device's own part of a batch.
#
# The loop over examples of the serial formulation cannot be partitioned by the compiler: without
# this, each device would gather the batch and process all of it.


@checks.inputs()
def over_mesh(
  fn: Callable[..., Any],
  *,
  mesh: Mesh,
  batch_axes: Sequence[str] | None = None,
  resources: Mapping[str, jax.Array] | None = None,
) -> Callable[[AnyKey, Images], Images]:
  """Returns `fn` for batches whose first axis is sharded over `mesh`.

  Args:
    fn: `fn(key, images, **resources) -> images`, where an example depends on its own key only.
    mesh: of the devices.
    batch_axes: mesh axes over which the batch is sharded; all of them by default.
    resources: arrays that every device needs whole.

  Returns:
    `(key, images) -> images`; a batch that the devices do not divide is computed as one piece.
  """
  axes = tuple(mesh.axis_names if batch_axes is None else batch_axes)
  batch, whole = PartitionSpec(axes), PartitionSpec()
  given = dict(resources or {})
  num_parts = 1
  for axis in axes:
    num_parts *= mesh.shape[axis]
  on_each = jax.shard_map(
    lambda each, images, extra: fn(each, images, **extra),
    mesh=mesh,
    in_specs=(batch, batch, whole),
    out_specs=batch,
    check_vma=False,
  )

  def run(key: AnyKey, images: Images) -> Images:
    each = keys.per_example(key, len(images))
    if num_parts == 1 or len(images) % num_parts:
      return fn(each, images, **given)
    return on_each(each, images, given)

  return run
