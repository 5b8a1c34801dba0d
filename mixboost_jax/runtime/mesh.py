# SPDX-License-Identifier: Apache-2.0
"""Devices as a mesh, and the few shardings that the trainer needs.

Every mesh has the axes `data` and `fsdp`. A batch is split over both; parameters are replicated
over `data` and, if `fsdp` is larger than 1, split over `fsdp`. The axes are of type Auto: shardings
are stated at `jit` boundaries only and the compiler does the rest.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp")
SMALLEST_SPLIT = 2**14
"""Elements; smaller parameters stay whole, moving them costs more than their memory."""


def create(*, fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
  """Arranges devices as (`data`, `fsdp`).

  Args:
    fsdp: devices over which parameters are split; 1 replicates them.
    devices: all devices of all processes if None.

  Raises:
    ValueError: if `fsdp` does not divide the number of devices.
  """
  devices = list(jax.devices() if devices is None else devices)
  if fsdp < 1 or len(devices) % fsdp:
    raise ValueError(
      f"config.runtime.fsdp: expected a divisor of the number of devices ({len(devices)} of kind "
      f"{devices[0].device_kind if devices else 'none'}), got {fsdp}."
    )
  shape = (len(devices) // fsdp, fsdp)
  return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def devices_for_batch(batch_size: int, *, fsdp: int = 1) -> list[Any]:
  """Returns devices that a batch can be split over evenly.

  On a CPU the devices are virtual, so the largest number that divides the batch is taken; the
  result of a step does not depend on it beyond rounding. Accelerators are all used or refused.

  Args:
    batch_size: examples per update (per micro-batch, with accumulation), over all processes.
    fsdp: must divide the number of devices.

  Raises:
    ValueError: if the batch cannot be split over the accelerators.
  """
  devices = jax.devices()
  if batch_size % len(devices) == 0:
    return devices
  if devices[0].platform != "cpu" or jax.process_count() > 1:
    raise ValueError(
      f"config.train.batch_size: expected a multiple of the {len(devices)} devices (after division "
      f"by config.train.accumulate), got {batch_size}; "
      f"{batch_size // len(devices) * len(devices) or len(devices)} would fit."
    )
  fitting = [n for n in range(1, len(devices)) if batch_size % n == 0 and n % fsdp == 0]
  if not fitting:
    raise ValueError(
      f"config.runtime.fsdp={fsdp}: no number of devices up to {len(devices)} is a multiple of it "
      f"and divides config.train.batch_size={batch_size}; choose another batch size or fsdp=1."
    )
  return devices[: fitting[-1]]


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Splits the leading axis, the examples, over all devices."""
  return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
  """Gives every device the whole array."""
  return NamedSharding(mesh, PartitionSpec())


def over_examples(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
  """Lets every device run `function(shared, *per_example)` on its own examples, without exchange.

  Sharding by the compiler would gather the examples where a function repeats rows (draws of a
  random defense); here each device sees its own part as a whole batch. No result of an example may
  depend on the others.

  Args:
    function: the first argument is the same everywhere, all others and the results have the
      examples as leading axis, a multiple of the number of devices.
    mesh: from `create`.
  """
  each = PartitionSpec(AXES)

  def split(shared: Any, *per_example: Any) -> Any:
    specs = (PartitionSpec(), *(each for _ in per_example))
    mapped = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=each, check_vma=False)
    return mapped(shared, *per_example)

  return split


def shard_params(mesh: Mesh, tree: Any) -> Any:
  """Returns the sharding of every parameter (or optimiser moment) of a tree.

  The largest dimension that `fsdp` divides is split over it; an array that is small, or has no
  such dimension, is replicated, and so is everything if `fsdp` is 1.

  Args:
    mesh: from `create`.
    tree: arrays, or anything with a `shape`.

  Returns:
    A tree of the same structure with a `NamedSharding` per leaf.
  """
  return jax.tree.map(lambda leaf: NamedSharding(mesh, _spec(mesh, np.shape(leaf))), tree)


def _spec(mesh: Mesh, shape: tuple[int, ...]) -> PartitionSpec:
  fsdp = mesh.shape["fsdp"]
  fitting = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
  if fsdp == 1 or math.prod(shape) < SMALLEST_SPLIT or not fitting:
    return PartitionSpec()
  # Of equal dimensions the last: output channels of a convolution, whose sums stay local.
  largest = max(fitting, key=lambda axis: (shape[axis], axis))
  return PartitionSpec(*(["fsdp" if axis == largest else None for axis in range(len(shape))]))
