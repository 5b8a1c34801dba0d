# SPDX-License-Identifier: Apache-2.0
"""Whether the training step fits the devices of this host: told before the first step.

After memory ran out the batch that fits is told. The numbers are those of `--job=compile`.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
from jax.sharding import Mesh

from mixboost_jax.jobs import compile as compiling
from mixboost_jax.jobs.prepared import Run
from mixboost_jax.runtime import log
from mixboost_jax.runtime.targets import GIB


def tell(item: Run) -> None:
  """Says how much memory of a device a step takes, and warns if it is more than there is.

  Of a CPU host, which shares its memory among its devices, only the warning is given. Nothing is
  compiled for it: the first step takes the same program.
  """
  limit = available(item.mesh)
  if limit is None:
    return
  needed = compiling.compiled(step_program(item))[1]["total"]
  text = (
    f"{item.settings.name}: a training step takes {needed / GIB:.2f} of {limit / GIB:.2f} GiB per "
    "device"
  )
  if needed > limit:
    log.warn(f"{text}; if memory runs out, the batch that fits will be told.")
  elif item.mesh.devices.flat[0].platform != "cpu":
    log.info(f"{text}.")


def step_program(item: Run) -> Any:
  """Returns the lowered training step, of which `compile()` is shared with the first step."""
  case = compiling.step_case(item.trainer, item.mesh, item.dataset.image_shape)
  return case.program.lower(*case.arguments)


def available(mesh: Mesh) -> float | None:
  """Returns the bytes that programs may use on each device of this host; None if it is unknown."""
  return _of_device(mesh.local_devices[0], len(mesh.local_devices))


def _of_device(device: Any, count: int) -> float | None:
  limit = (device.memory_stats() or {}).get("bytes_limit")
  if limit is None and device.platform == "cpu":
    free = _of_host()
    return None if free is None else free / count
  return limit


def _of_host() -> float | None:
  """Returns what this process has and could still get, in bytes."""
  try:
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  except (OSError, ValueError):
    return None
  free = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
  return None if free is None else 1024 * free + 4096 * pages


def is_exhausted(error: Exception) -> bool:
  """Tells whether an error of JAX says that memory ran out."""
  return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def explained(item: Run, error: Exception) -> ValueError:
  """Returns the error for the user after memory ran out: what is needed, and what would fit."""
  batch, said = item.settings.train.batch_size, str(error).partition("\n")[0]
  start = f"{item.settings.name}: out of memory with config.train.batch_size={batch}"
  limit = available(item.mesh)
  try:
    advice = _advice(item, batch, limit) if limit else _no_limit()
  except jax.errors.JaxRuntimeError:  # not even the estimate finds memory
    advice = _no_limit()
  return ValueError(f"{start}: {advice} ({said})")


def _no_limit() -> str:
  return "use a smaller one, or --config.train.accumulate=2 or more (the same update in pieces)."


def _advice(item: Run, batch: int, limit: float) -> str:
  chips, train = item.mesh.size, item.settings.train
  at = functools.partial(_at, item)
  memory = compiling.compiled(step_program(item))[1]  # of the program that there is already
  one: dict[str, Any] = {"memory": memory, "key": "train.batch_size"}
  needed = memory["total"]
  if needed <= limit:
    return (
      f"a training step alone takes {needed / GIB:.2f} of {limit / GIB:.2f} GiB per device and "
      "fits; lower config.evaluate.batch_size or config.interactions.chunk_size, which "
      "monitors use, or end what else runs on the device."
    )
  one |= compiling.largest(
    one,
    batch,
    chips * train.accumulate,
    at,
    memory=limit,
    chips=chips,
    most=len(item.dataset.train),
  )
  return compiling.remedy(one, memory=limit, chips=chips, dtype=item.settings.model.compute_dtype)


def _at(item: Run, batch: int) -> dict[str, Any]:
  """Returns what a step with another batch needs, compiled on paper."""
  train = dataclasses.replace(item.settings.train, batch_size=batch)
  changed = dataclasses.replace(item.settings, train=train)
  trainer = compiling.build(changed, item.mesh, item.dataset)
  case = compiling.step_case(trainer, item.mesh, item.dataset.image_shape)
  return {"memory": compiling.compiled(case.program.lower(*case.arguments))[1]}
