# SPDX-License-Identifier: Apache-2.0
"""Runs an example-wise augmentation on every device's own part of a batch.

The loop over examples of the serial formulation cannot be partitioned by the compiler: without
this, each device would gather the batch and process all of it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from mixboost_jax import checks, keys
from mixboost_jax.array_types import AnyKey, Images


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
