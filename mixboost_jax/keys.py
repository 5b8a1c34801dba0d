# SPDX-License-Identifier: Apache-2.0
"""Where randomness comes from: one root key, named streams, one key per example.

An example's draws depend on (seed, stream, epoch, example id) alone. They are therefore the same
for every batch size, number of devices, and before and after a restart. No key is ever stored.
"""

import enum

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mixboost_jax import checks
from mixboost_jax.array_types import AnyKey, ExampleIds, PRNGKey, PRNGKeys


class Stream(enum.IntEnum):
  """What a key is used for. Append only: renumbering changes every result."""

  INIT = 0
  ORDER = 1
  AUGMENT = 2
  MASK = 3
  DROPOUT = 4
  EVALUATE = 5
  CORRUPT = 6
  ATTACK = 7
  DEFEND = 8
  INTERACT = 9
  DATA = 10
  GENERATE = 11


_BATCH_TAG = 0x6D6978  # separates the draws shared by a batch from those of its first example


def root_key(seed: int) -> PRNGKey:
  """Returns the root of all randomness of a run."""
  return jax.random.key(seed)


@checks.inputs()
def stream_key(root: PRNGKey, stream: Stream, step: int | Int[Array, ""] = 0) -> PRNGKey:
  """Returns the key of one stream at one epoch or step."""
  return jax.random.fold_in(jax.random.fold_in(root, int(stream)), step)


@checks.inputs()
def example_keys(
  root: PRNGKey, stream: Stream, ids: ExampleIds, *, epoch: int | Int[Array, ""] = 0
) -> PRNGKeys:
  """Returns one key per example, a function of (root, stream, epoch, id) only."""
  return fold_in_each(stream_key(root, stream, epoch), ids)


@checks.inputs()
def fold_in_each(key: PRNGKey, ids: ExampleIds) -> PRNGKeys:
  """Folds each id into `key`."""
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)


@checks.inputs()
def per_example(key: AnyKey, num_examples: int) -> PRNGKeys:
  """Returns keys that are one per example; a single key gives example `i` `fold_in(key, i)`."""
  if key.ndim == 0:
    return fold_in_each(key, jnp.arange(num_examples))
  if key.shape != (num_examples,):
    raise ValueError(
      f"expected one key or {num_examples} keys (one per example), got keys of shape {key.shape}."
    )
  return key


@checks.inputs()
def for_batch(key: AnyKey) -> PRNGKey:
  """Returns the key of the draws that a whole batch shares (a common mixing weight, say).

  With one key per example it is derived from that of the first: the same on 1 or 8 devices.
  """
  first = key if key.ndim == 0 else key[0]
  return jax.random.fold_in(first, _BATCH_TAG)


@checks.inputs()
def split_each(keys: PRNGKeys, num: int) -> tuple[Array, ...]:
  """Splits every key: `keys[N] -> num` arrays of N keys, to be unpacked into names.

  A tuple and not one array: slicing an array of keys counts as its use where reuse is checked.
  """
  return jax.vmap(lambda key: tuple(jax.random.split(key, num)))(keys)
