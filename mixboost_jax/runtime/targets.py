# SPDX-License-Identifier: Apache-2.0
"""Accelerators by name, and their devices without having them: a TPU or CUDA compiler is enough.

What a chip can do is what its vendor publishes, without sparsity:

- TPU: docs.cloud.google.com/tpu/docs/v5e, /v5p, /v6e (bf16 FLOP/s, memory bandwidth, bidirectional
  interconnect per chip). Memory is what the compiler lets a program use.
- NVIDIA data sheets of H100 SXM, H200 SXM, A100 80GB SXM, RTX A5000 and A40: tensor cores in bf16
  and TF32, memory, NVLink in both directions (A5000 and A40: PCIe 4.0 x16, as only pairs have a
  bridge). JAX takes 75 % of a GPU's memory unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.

`HOP` is not published: an assumption about the time that a message needs from chip to chip.
"""

import dataclasses
import importlib
import importlib.util
import math
import os
import re
from collections.abc import Sequence
from typing import Any

import jax

GIB = 2**30
HOP = {"tpu": 1e-6, "gpu": 2e-6}
"""Seconds from chip to chip that are assumed for a message of any size."""
_TPU_ENVIRONMENT = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_ACCELERATOR_TYPE": "v5litepod-4",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_WORKER_ID": "0",
}
_NO_AUTOTUNING = "--xla_gpu_autotune_level=0"  # there is no GPU to try kernels on
PER_NODE = 8


@dataclasses.dataclass(frozen=True)
class Gpu:
  """What the CUDA compiler must know of a GPU; names as in XLA's `GpuDeviceInfoProto`."""

  device: str
  capability: tuple[int, int]
  core_count: int
  clock_rate_ghz: float
  l2_cache_size: int
  shared_memory_per_core: int
  shared_memory_per_block_optin: int
  threads_per_core_limit: int = 2048
  fpus_per_core: int = 128


@dataclasses.dataclass(frozen=True)
class Chip:
  """One accelerator.

  Attributes:
    platform: "tpu", "gpu" or "cpu".
    memory: bytes that a program may use by default.
    bfloat16: FLOP/s of matrix products and convolutions.
    float32: the same, as JAX computes them by default: one bf16 pass (TPU), TF32 (GPU).
    bandwidth: bytes/s of its memory.
    link: bytes/s to other chips, in one direction, all links together.
    axes: of the torus that chips are wired as; 0: each has a link to every other.
    gpu: see `Gpu`.
    enlarge: how to get at more of the memory.
    cores: by which Google counts the chips of a slice in its name.
  """

  platform: str
  memory: float
  bfloat16: float = 0.0
  float32: float = 0.0
  bandwidth: float = 0.0
  link: float = 0.0
  axes: int = 0
  gpu: Gpu | None = None
  enlarge: str = ""
  cores: int = 1


_FRACTION = 0.75
_MORE = "XLA_PYTHON_CLIENT_MEM_FRACTION=0.95 in the environment (JAX takes 75 % by default)"


def _nvidia(memory: float, gpu: Gpu, **numbers: Any) -> Chip:
  return Chip("gpu", memory * _FRACTION, gpu=gpu, enlarge=_MORE, **numbers)


_HOPPER: dict[str, Any] = {
  "capability": (9, 0),
  "core_count": 132,
  "clock_rate_ghz": 1.98,
  "l2_cache_size": 50 * 2**20,
  "shared_memory_per_core": 233472,
  "shared_memory_per_block_optin": 232448,
}
_GA102: dict[str, Any] = {
  "capability": (8, 6),
  "l2_cache_size": 6 * 2**20,
  "shared_memory_per_core": 102400,
  "shared_memory_per_block_optin": 101376,
  "threads_per_core_limit": 1536,
}
_AMPERE = Gpu("NVIDIA A100-SXM4-80GB", (8, 0), 108, 1.41, 40 * 2**20, 167936, 166912, 2048, 64)

CHIPS: dict[str, Chip] = {
  "v5e": Chip("tpu", 15.75 * GIB, 197e12, 197e12, 819e9, 200e9, 2),
  "v5p": Chip("tpu", 95.74 * GIB, 459e12, 459e12, 2765e9, 600e9, 3, cores=2),
  "v6e": Chip("tpu", 31.25 * GIB, 918e12, 918e12, 1640e9, 400e9, 2),
  "h100": _nvidia(
    79.1 * GIB,
    Gpu("NVIDIA H100 80GB HBM3", **_HOPPER),
    bfloat16=989e12,
    float32=494e12,
    bandwidth=3350e9,
    link=450e9,
  ),
  "h200": _nvidia(
    139.8 * GIB,
    Gpu("NVIDIA H200", **_HOPPER),
    bfloat16=989e12,
    float32=494e12,
    bandwidth=4800e9,
    link=450e9,
  ),
  "a100": _nvidia(
    79.1 * GIB, _AMPERE, bfloat16=312e12, float32=156e12, bandwidth=2039e9, link=300e9
  ),
  "a5000": _nvidia(
    23.7 * GIB,
    Gpu("NVIDIA RTX A5000", core_count=64, clock_rate_ghz=1.695, **_GA102),
    bfloat16=111e12,
    float32=55.5e12,
    bandwidth=768e9,
    link=32e9,
  ),
  "a40": _nvidia(
    44.4 * GIB,
    Gpu("NVIDIA A40", core_count=84, clock_rate_ghz=1.74, **_GA102),
    bfloat16=149.7e12,
    float32=74.8e12,
    bandwidth=696e9,
    link=32e9,
  ),
  "cpu": Chip("cpu", math.inf),
}


@dataclasses.dataclass(frozen=True)
class Target:
  """So many chips of one kind."""

  name: str
  kind: str
  count: int

  @property
  def chip(self) -> Chip:
    """What one of them can do."""
    return CHIPS[self.kind]

  def with_count(self, count: int) -> "Target":
    """Returns another number of the same chips."""
    dash = "-" if self.chip.platform == "tpu" else "x"
    return Target(f"{self.kind}{dash}{count * self.chip.cores}", self.kind, count)


def problem(name: str) -> str | None:
  """Returns what is wrong with `config.runtime.target`, or None: a check for the settings."""
  try:
    parse(name) if name else None
  except ValueError as error:
    return str(error)
  return None


def parse(name: str) -> Target:
  """Reads `v5e-16` (16 chips), `v5p-8` (8 cores, 4 chips), `h100`, `h100x8` or `cpu`.

  Raises:
    ValueError: if there is no such target.
  """
  found = re.fullmatch(r"(.+?)(?:[-x](\d+))?", name)
  kind = found[1] if found else ""
  if kind not in CHIPS:
    raise ValueError(f"expected {', '.join(CHIPS)}, or several: v5e-16, h100x8; got {name!r}")
  chip = CHIPS[kind]
  number = int(found[2]) if found and found[2] else chip.cores
  count = number // chip.cores
  target = Target(name, kind, count)
  if chip.platform == "tpu" and (number % chip.cores or math.prod(torus(target)) != count):
    raise ValueError(f"expected a power of two of chips, got {count} by {name!r}")
  if chip.platform == "gpu" and not 1 <= count <= PER_NODE:
    raise ValueError(f"expected 1 to {PER_NODE} GPUs, those of one node, got {name!r}")
  if chip.platform == "cpu" and name != kind:
    raise ValueError(f"expected cpu, this host as one chip, got {name!r}")
  return target


def torus(target: Target) -> tuple[int, ...]:
  """Returns the sides of the torus that TPU chips are wired as: 16 of v5e are 4 x 4."""
  axes = target.chip.axes
  power = max(target.count, 1).bit_length() - 1
  sides = sorted(2 ** ((power + axis) // axes) for axis in range(axes))
  return tuple(sorted(sides, key=lambda side: side == 1)) if axes == 3 else tuple(sides)


def is_installed(target: Target) -> bool:
  """Returns whether the compiler of the target is here; that of the CPU always is."""
  return target.chip.platform == "cpu" or _compiler(target) is not None


def _compiler(target: Target) -> str | None:
  """Returns the module that brings the compiler of an accelerator."""
  if target.chip.platform == "tpu":
    names = ["libtpu"]
  else:
    names = [f"jax_plugins.xla_cuda{version}" for version in (13, 12)]
  for name in names:
    try:
      if importlib.util.find_spec(name):
        return name
    except ModuleNotFoundError:  # of a parent
      continue
  return None


def devices(target: Target) -> list[Any]:
  """Returns the devices of a target to compile for; those of this host for "cpu".

  Raises:
    ValueError: if the compiler is not installed.
  """
  chip = target.chip
  if chip.platform == "cpu":
    return jax.devices("cpu")[: target.count]
  module = _compiler(target)
  if module is None:
    extra = "aot-tpu" if chip.platform == "tpu" else "aot-cuda"
    raise ValueError(
      f"config.runtime.target={target.name}: its compiler is not installed here (no such device is "
      f"needed); pip install 'mixboost-jax[{extra}]', or in a checkout: pip install '.[{extra}]'."
    )
  from jax.experimental import topologies

  if chip.platform == "tpu":
    sides = "x".join(map(str, torus(target)))
    topology = topologies.get_topology_desc(f"{target.kind}:{sides}", "tpu")
  else:
    importlib.import_module(module)
    topology = topologies.get_topology_desc(
      "", "cuda", target_config=_cuda_config(chip), topology=f"1x1x{target.count}"
    )
  return list(topology.devices)


def prepare_host() -> None:
  """Lets this process compile for absent devices; nothing that is set already is changed.

  Its own accelerators are left alone: a plugin that finds none, or another, would end the process.
  """
  if not jax.config.jax_platforms:  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_platforms", "cpu")
  for name, value in _TPU_ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  if "xla_gpu_autotune_level" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_NO_AUTOTUNING}".strip()


def _cuda_config(chip: Chip) -> str:
  """Returns XLA's description of a GPU as a text proto."""
  gpu = chip.gpu
  assert gpu is not None
  numbers = {
    "threads_per_block_limit": 1024,
    "threads_per_warp": 32,
    "shared_memory_per_block": 49152,
    "block_dim_limit_x": 2**31 - 1,
    "block_dim_limit_y": 65535,
    "block_dim_limit_z": 65535,
    "registers_per_core_limit": 65536,
    "registers_per_block_limit": 65536,
    "memory_bandwidth": int(chip.bandwidth),
    "device_memory_size": int(chip.memory / _FRACTION),
    **{
      field.name: getattr(gpu, field.name)
      for field in dataclasses.fields(gpu)
      if field.name not in ("device", "capability")
    },
  }
  major, minor = gpu.capability
  info = " ".join(f"{name}: {value}" for name, value in numbers.items())
  return (
    f"gpu_device_info {{ {info} cuda_compute_capability {{ major: {major} minor: {minor} }} }} "
    'platform_name: "CUDA" dnn_version_info { major: 9 minor: 7 } runtime_version { major: 13 } '
    f'device_description_str: "{gpu.device}"'
  )


def exchange_seconds(target: Target, kinds: Sequence[tuple[str, int, float]]) -> float:
  """Returns how long exchanges take one after the other, if nothing is computed meanwhile.

  All-reduce sends 2 (n - 1) / n of its bytes, all-gather and reduce-scatter half of that, each chip
  over all its links; a message waits for every neighbour of a ring (TPU: of each axis in turn).

  Args:
    target: so many chips.
    kinds: (kind, how many, bytes of all of them per chip).
  """
  count = target.count
  if count == 1:
    return 0.0
  sides = torus(target) if target.chip.axes else (count,)
  wait = sum(side - 1 for side in sides) * HOP[target.chip.platform]
  total = 0.0
  for kind, number, size in kinds:
    share = {"all-reduce": 2.0, "collective-permute": count / (count - 1)}.get(kind, 1.0)
    total += number * wait + share * (count - 1) / count * size / target.chip.link
  return total
