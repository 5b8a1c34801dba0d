# SPDX-License-Identifier: Apache-2.0
"""From `{"name": "cutout", "length": 16}` in a config to a function of a batch.

A policy may contain policies: `compose` (`steps`: a tuple of policies, applied in order),
`with_probability` (`p`, `policy`, `per`) and `choice` (`options`: a tuple of policies, `per`). As
functions these three take augmentations of either kind. What they return takes the labels as an
optional third argument: with them it returns the pair, without them (only if no member needs them)
the pictures.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from mixboost_jax import checks, keys, registry, schema
from mixboost_jax.array_types import AnyKey, Images
from mixboost_jax.augment import (
  _augmix,
  _autoaugment,
  _classical,
  _mixup,
  _options,
  _pixmix,
  _randaugment,
)
from mixboost_jax.augment._entry import Entry
from mixboost_jax.augment._options import Number
from mixboost_jax.image.levels import to_levels

Augmentation = Callable[..., Any]
"""`(key, images) -> images` or `(key, images, soft_labels) -> (images, soft_labels)`."""
Policy = Mapping[str, Any]
Table = Mapping[str, Entry]


class _Table(dict[str, Entry]):
  def __setitem__(self, name: str, entry: Entry) -> None:
    super().__setitem__(name, entry)
    if "mixing_images" in entry.needs:
      schema.TAKES_PICTURES.add(name)

  def __repr__(self) -> str:  # in signatures
    return "AUGMENTATIONS"


AUGMENTATIONS: dict[str, Entry] = _Table(
  _classical.ENTRIES
  | _mixup.ENTRIES
  | _autoaugment.ENTRIES
  | _randaugment.ENTRIES
  | _augmix.ENTRIES
  | _pixmix.ENTRIES
)
"""Every augmentation by the name that policies give it."""

MIXES_LABELS = frozenset(name for name, entry in AUGMENTATIONS.items() if entry.mixes)
"""Names whose function mixes examples, and takes and returns soft labels."""

COMPOSITES: Mapping[str, tuple[str, ...]] = {
  "choice": ("options", "per"),
  "compose": ("steps",),
  "none": (),
  "with_probability": ("p", "policy", "per"),
}
"""Policies made of policies (or of nothing), and their keywords."""

_MEMBERS = {"choice": "options", "compose": "steps", "with_probability": "policy"}


@checks.inputs()
def policy_problem(policy: Policy, *, table: Table = AUGMENTATIONS) -> str | None:
  """Returns what is wrong with a policy of `build` (name, keywords, their values), or None.

  ```python
  assert augment.policy_problem({"name": "cutout", "length": 8}) is None
  assert augment.policy_problem({"name": "cutout"}) == "'cutout' also needs length"
  ```
  """
  return _problem(policy, table)


def _problem(policy: Any, table: Table) -> str | None:
  if not isinstance(policy, Mapping) and not hasattr(policy, "items"):
    return f"expected a policy such as {{'name': 'cutout', 'length': 16}}, got {policy!r}"
  if "name" not in policy:
    return "a policy needs a name, e.g. {'name': 'cutout', 'length': 16}"
  name = policy["name"]
  if not isinstance(name, str) or (name not in table and name not in COMPOSITES):
    return registry.unknown_name(name, (*table, *COMPOSITES), field="name")
  if name in COMPOSITES:
    known, rules = COMPOSITES[name], {}
    needed = [key for key in known if key != "per"]
  else:
    known, rules = table[name].keywords, table[name].rules
    needed = [key for key, default in known.items() if default is inspect.Parameter.empty]
  given = keywords_of(policy)
  for key, value in given.items():
    if key not in known:
      if not known:
        return f"{name!r} takes no keywords, got {key!r}"
      return registry.unknown_name(key, known, field=f"keyword of {name!r}")
    if wrong := _options.problem(key, value, rules):
      return f"{key}: {wrong}"
  if missing := [key for key in needed if key not in given]:
    return f"{name!r} also needs {', '.join(missing)}"
  for place, member in _members(policy):
    if wrong := _problem(member, table):
      return f"{place}: {wrong}"
  return None


def keywords_of(policy: Policy) -> dict[str, Any]:
  """Returns a policy without its name."""
  return {key: value for key, value in policy.items() if key != "name"}


def _members(policy: Policy) -> list[tuple[str, Any]]:
  """Lists (place, policy) of the policies within a policy."""
  key = _MEMBERS.get(policy["name"])
  if key is None or key == "policy":
    return [(key, policy[key])] if key else []
  return [(f"{key}[{i}]", member) for i, member in enumerate(policy[key])]


@checks.inputs()
def entries_in(policy: Policy, *, table: Table = AUGMENTATIONS) -> list[tuple[Entry, Policy]]:
  """Lists the augmentations that a policy of `build` may apply, each with its own policy.

  ```python
  policy = {"name": "with_probability", "p": 0.5, "policy": {"name": "cutout", "length": 8}}
  [(entry, own)] = augment.entries_in(policy)
  assert own == {"name": "cutout", "length": 8} and not entry.mixes
  ```
  """
  refuse(policy, table)
  if policy["name"] in COMPOSITES:
    return [pair for _, member in _members(policy) for pair in entries_in(member, table=table)]
  return [(table[policy["name"]], policy)]


@checks.inputs()
def build(policy: Policy, *, table: Table = AUGMENTATIONS, **resources: Any) -> Augmentation:
  """Turns a policy into `fn(key, images, soft_labels) -> (images, soft_labels)`.

  ```python
  fn = augment.build({"name": "mixup", "alpha": 0.2})
  images, soft_labels = fn(key, images, soft_labels)
  ```

  Args:
    policy: `name` and exactly the keywords of that augmentation. Name "none" is the identity;
      `compose`, `with_probability` and `choice` contain policies.
    table: what a policy may name.
    **resources: what an `Entry.needs`: `mixing_images` (pixmix); `mesh` and optionally
      `batch_axes`: example-wise augmentations then run on every device's own part of the batch.

  Raises:
    ValueError: if the policy is wrong, or lacks a resource.
  """
  refuse(policy, table)
  name = policy["name"]
  if name in COMPOSITES:
    members = [build(member, table=table, **resources) for _, member in _members(policy)]
    per = {"per": policy["per"]} if "per" in policy else {}
    if name == "with_probability":
      return uniform(with_probability(policy["p"], members[0], **per))
    if name == "choice":
      return uniform(choice(*members, **per))
    return uniform(compose(*members))
  entry = table[name]
  fn = functools.partial(entry.fn, **keywords_of(policy))
  arrays = arrays_for(name, entry, resources)
  mesh = resources.get("mesh")
  if mesh is None or entry.mixes:
    return uniform(functools.partial(fn, **arrays))
  axes = resources.get("batch_axes")
  return uniform(over_mesh(fn, mesh=mesh, batch_axes=axes, resources=arrays))


def refuse(policy: Policy, table: Table) -> None:
  """Raises ValueError if the policy is wrong."""
  if wrong := _problem(policy, table):
    end = "" if wrong.endswith((".", "?")) else "."
    raise ValueError(f"policy {dict(policy)!r}: {wrong}{end}")


def arrays_for(name: str, entry: Entry, resources: Mapping[str, Any]) -> dict[str, jax.Array]:
  """Finds the arrays that an augmentation takes beside the batch; floats become 8-bit once."""
  arrays = {}
  for needed in entry.needs:
    if resources.get(needed) is None:
      raise ValueError(f"policy {name!r} needs {needed}; pass build(policy, {needed}=...).")
    array = jnp.asarray(resources[needed])
    arrays[needed] = array if array.dtype == jnp.uint8 else to_levels(array)
  return arrays


def uniform(fn: Augmentation) -> Augmentation:
  """Gives `fn`, which takes soft labels or not, the one signature `(key, images, labels=None)`."""
  known = inspect.signature(fn).parameters.values()
  labelled = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in known) > 2

  def run(key: jax.Array, images: jax.Array, soft_labels: jax.Array | None = None) -> Any:
    if soft_labels is None:
      return fn(key, images)
    return fn(key, images, soft_labels) if labelled else (fn(key, images), soft_labels)

  return run


@checks.inputs()
def identity(key: jax.Array, images: jax.Array, *soft_labels: jax.Array) -> Any:
  """Returns the batch as it is, whatever the key.

  ```python
  assert augment.identity(key, images) is images
  ```
  """
  del key
  return (images, *soft_labels) if soft_labels else images


@checks.inputs()
def compose(*fns: Augmentation) -> Augmentation:
  """Applies `fns` from left to right, each with its own keys.

  ```python
  fn = augment.compose(augment.random_flip, augment.mixup)
  images, soft_labels = fn(key, images, soft_labels)
  ```
  """
  members = [uniform(fn) for fn in fns]

  def composed(key: jax.Array, images: jax.Array, soft_labels: jax.Array | None = None) -> Any:
    batch = images if soft_labels is None else (images, soft_labels)
    if not members:
      return batch
    parts = keys.split_each(keys.per_example(key, len(images)), len(members))
    for part, member in zip(parts, members, strict=True):
      batch = member(part, batch) if soft_labels is None else member(part, *batch)
    return batch

  return composed


@checks.inputs()
def with_probability(p: Number, fn: Augmentation, *, per: str = "example") -> Augmentation:
  """Applies `fn` with probability `p`, else nothing; `p=0` is the bitwise identity.

  ```python
  fn = augment.with_probability(0.5, augment.mixup)
  images, soft_labels = fn(key, images, soft_labels)
  ```

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
  """Applies one of `fns`, each equally likely, drawn per example or per batch.

  ```python
  fn = augment.choice(augment.mixup, augment.cutmix, per="batch")
  images, soft_labels = fn(key, images, soft_labels)
  ```
  """
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


@checks.inputs()
def over_mesh(
  fn: Callable[..., Any],
  *,
  mesh: Mesh,
  batch_axes: Sequence[str] | None = None,
  resources: Mapping[str, jax.Array] | None = None,
) -> Callable[[AnyKey, Images], Images]:
  """Returns `fn` for batches whose first axis is sharded over `mesh`: each device does its part.

  The compiler cannot partition the loop over examples of the serial formulation: without this, each
  device would gather the batch and process all of it.

  ```python
  mesh = jax.sharding.Mesh(jax.devices(), ("data",))
  images = augment.over_mesh(augment.random_flip, mesh=mesh)(key, images)
  ```

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
  num_parts = math.prod(mesh.shape[axis] for axis in axes)
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
