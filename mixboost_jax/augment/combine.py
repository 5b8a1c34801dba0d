# SPDX-License-Identifier: Apache-2.0
"""Augmentations as random functions: composition, gates and choice stay augmentations.

Members may be of either kind: `fn(key, images) -> images`, or `fn(key, images, soft_labels) ->
(images, soft_labels)`. What is returned takes the labels as an optional third argument: with them
it returns the pair, without them (only if no member needs them) the pictures.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mixboost_jax import checks, keys
from mixboost_jax.augment import parameters
from mixboost_jax.augment.parameters import Number

Augmentation = Callable[..., Any]
"""`(key, images) -> images` or `(key, images, soft_labels) -> (images, soft_labels)`."""

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
  parameters.check("with_probability", p=p, per=per)
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
  parameters.check("choice", per=per)
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
