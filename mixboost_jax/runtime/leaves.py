# SPDX-License-Identifier: Apache-2.0
"""The leaves of a state as a checkpoint stores them: by name, with type and shape."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def plain_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a copy as it will be read back.

  Raises:
    ValueError: if JSON cannot say it.
  """
  try:
    return json.loads(json.dumps(dict(metadata), allow_nan=False))
  except (TypeError, ValueError) as error:
    raise ValueError(f"Checkpointer: metadata is not JSON: {error}.") from error


def by_name(tree: Any) -> dict[str, Any]:
  """Returns the leaves by readable unique names: no class of the tree needs to be stored."""
  named: dict[str, Any] = {}
  for path, leaf in jax.tree.leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator=".") or "value"
    while name in named:
      name += "_"
    named[name] = leaf
  return named


def describe(leaf: Any) -> str:
  """Returns type and shape, e.g. `float32[3,3,16,16]`, or `int` for a plain number.

  Raises:
    ValueError: if the leaf cannot be stored.
  """
  if hasattr(leaf, "dtype") and hasattr(leaf, "shape"):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      raise ValueError("Checkpointer: typed keys are not stored; derive them from the seed.")
    return f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"
  if isinstance(leaf, bool | int | float):
    return type(leaf).__name__
  raise ValueError(f"Checkpointer: expected arrays and numbers, got {type(leaf).__name__}.")


def target(leaf: Any) -> Any:
  """Returns the description of a leaf that is to be restored, with a place to go to."""
  if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
  return leaf


def check_fit(path: pathlib.Path, stored: Mapping[str, str], wanted: Mapping[str, Any]) -> None:
  """Compares what a checkpoint holds with what is wanted.

  Raises:
    ValueError: listing the arrays that differ.
  """
  asked = {name: describe(leaf) for name, leaf in wanted.items()}
  wrong = [
    f"{name}: {stored.get(name, 'absent')} stored, {asked.get(name, 'absent')} wanted"
    for name in [*asked, *(name for name in stored if name not in asked)]
    if stored.get(name) != asked.get(name)
  ]
  if wrong:
    more = f"\n  - and {len(wrong) - 8} more" if len(wrong) > 8 else ""
    raise ValueError(
      f"checkpoint {path} holds other arrays than this run:\n  - " + "\n  - ".join(wrong[:8]) + more
    )
