# SPDX-License-Identifier: Apache-2.0
"""What must be decided before JAX touches a device: CPU devices, compile cache, other hosts."""

import ctypes
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import re
import stat
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.experimental import multihost_utils

from mixboost_jax import schema, target
from mixboost_jax.runtime import log, peers

DEFAULT_CPU_DEVICES = 8
"""Virtual devices of a CPU host, for any number of cores.

Several small convolutions side by side use caches and cores better than one large one: with 8
devices instead of 1 a training step took about 0.8 times the CPU time on 1 core, and WideResNet
steps ran 1.3 to 1.7 times faster on 2 cores. More would make the pieces of a usual batch too small.
"""
CACHE_MIN_COMPILE_SECONDS = 0.0
"""Programs that compile faster are not kept. Many small ones together cost seconds: keep all."""

START_SECONDS = 600
"""How long the processes of a distributed run wait for the last of them to start."""

_COUNT_FLAG = "--xla_force_host_platform_device_count"
_FUSION_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_FUSING_JAXLIBS = ((0, 10, 2), (0, 13))
"""From the first jaxlib that fuses reductions for YNNPACK on a CPU up to the first not looked at.

0.10.2 adds up wrong numbers (jax issue 39103) or crashes in ranks above 6 (39257, 40412); 0.11.2
and 0.12.0 give NaN for bfloat16. A flag that a jaxlib does not know ends the process, so later
ones are left alone until `benchmarks/compiler_agreement.py` has run on them.
"""
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # <malloc.h>
_NEVER = 2**31 - 1
_GROWTH = 256 * 2**20
_OWN_VARIABLES = ("MIXBOOST_COORDINATOR", "MIXBOOST_NUM_PROCESSES", "MIXBOOST_PROCESS_ID")


def prepare(settings: schema.Runtime) -> None:
  """Applies `config.runtime` to this process. Call it before any JAX computation.

  Joins the other processes of a distributed run, splits a CPU host into virtual devices, switches
  fusions off that this jaxlib miscompiles on a CPU, the persistent compilation cache on, and on a
  CPU keeps freed memory (`settings.keep_freed_memory`). Nothing here changes a right result beyond
  rounding.

  Raises:
    RuntimeError: if JAX has already started with another number of devices than the config wants,
      or the other hosts of a TPU slice cannot be joined.
    ValueError: if the variables of a distributed run contradict each other.
  """
  _set_cpu_devices(settings.cpu_devices)
  avoid_wrong_fusions()
  joined = initialize_distributed()
  use_compile_cache(settings.compile_cache)
  if joined:
    _meet()
  elif jax.process_count() > 1:
    raise RuntimeError(
      f"this host is one of {jax.process_count()} of a TPU slice, but could not join the others: "
      "set MIXBOOST_COORDINATOR, MIXBOOST_NUM_PROCESSES and MIXBOOST_PROCESS_ID on each of them."
    )
  if settings.keep_freed_memory and target.is_cpu():
    keep_freed_memory()


def num_cores() -> int:
  """Returns how many cores this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def backend_is_initialized() -> bool:
  """Returns whether JAX has already looked for devices, without making it do so."""
  before = _option("num_cpu_devices")
  try:
    # JAX refuses to change this option once its backends exist: the public way to ask.
    jax.config.update("jax_num_cpu_devices", 1 if before != 1 else 2)
  except RuntimeError:
    return True
  jax.config.update("jax_num_cpu_devices", before)
  return False


def _option(name: str) -> Any:
  return getattr(jax.config, f"jax_{name}")  # options are made at run time, unknown to checkers


def _set_cpu_devices(wanted: int) -> None:
  flags = os.environ.get("XLA_FLAGS", "")
  found = re.search(rf"{_COUNT_FLAG}=(\d+)", flags)
  given = int(found[1]) if found else _option("num_cpu_devices")
  if given > 0:
    if wanted not in (0, given):
      log.warn(
        f"config.runtime.cpu_devices={wanted} is ignored: the environment (XLA_FLAGS or "
        f"JAX_NUM_CPU_DEVICES) asks for {given}."
      )
    return
  if backend_is_initialized():
    have = jax.local_device_count()
    if wanted and target.is_cpu() and have != wanted:
      raise RuntimeError(
        f"config.runtime.cpu_devices={wanted}: JAX is already running with {have} CPU device(s); "
        "call runtime.platform.prepare before any JAX computation, or start a new process."
      )
    return
  count = wanted or DEFAULT_CPU_DEVICES
  os.environ["XLA_FLAGS"] = f"{flags} {_COUNT_FLAG}={count}".strip()


def avoid_wrong_fusions() -> None:
  """Switches fusions off that this jaxlib miscompiles on a CPU, unless the user chose some.

  No effect once JAX looked for devices.
  """
  first, end = _FUSING_JAXLIBS
  numbers = re.findall(r"\d+", importlib.metadata.version("jaxlib"))
  version = tuple(int(number) for number in numbers[:3])
  flags = os.environ.get("XLA_FLAGS", "")
  if first <= version < end and _FUSION_FLAG not in flags and not backend_is_initialized():
    os.environ["XLA_FLAGS"] = f"{flags} {_FUSION_FLAG}=".strip()


def use_compile_cache(folder: str) -> pathlib.Path | None:
  """Keeps compiled programs on disk, so that the next run starts at once.

  Args:
    folder: where; `auto` takes `JAX_COMPILATION_CACHE_DIR` if it is set, otherwise a folder per
      CPU type in `default_cache_folder()`; empty switches the cache off.

  Returns:
    The folder in use, or None.
  """
  given = _option("compilation_cache_dir")
  if not folder:
    jax.config.update("jax_compilation_cache_dir", None)
    return None
  if folder == "auto":
    path = pathlib.Path(given) if given else default_cache_folder() / _cpu_fingerprint()
  else:
    path = pathlib.Path(folder).expanduser()
  ours = folder == "auto" and not given
  problem = None if given and folder == "auto" else _not_writable(path, private=ours)
  if problem is None and (others := _who_else_may_write((path, *path.parents[: 2 * ours]))):
    problem = others if ours else None
    if not ours:
      log.warn(f"compile cache: {others}; what lies there is run as machine code.")
  if problem:
    log.warn(
      f"no compile cache, programs are compiled anew by every run: {path}: {problem}; set "
      "config.runtime.compile_cache to a folder that can be written, or to '' to silence this."
    )
    jax.config.update("jax_compilation_cache_dir", None)
    return None
  jax.config.update("jax_compilation_cache_dir", str(path))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", CACHE_MIN_COMPILE_SECONDS)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
  return path


def default_cache_folder() -> pathlib.Path:
  """Returns `$XDG_CACHE_HOME/mixboost_jax/xla`, usually `~/.cache/mixboost_jax/xla`.

  Without a home folder, as in some containers, it is a temporary folder of this user; one that
  another user has made there before is not used.
  """
  base = os.environ.get("XDG_CACHE_HOME", "")
  try:
    root = pathlib.Path(base) if base else pathlib.Path.home() / ".cache"
  except RuntimeError:
    return pathlib.Path(tempfile.gettempdir()) / f"mixboost_jax-{os.getuid()}" / "xla"
  return root / "mixboost_jax" / "xla"


def _cpu_fingerprint() -> str:
  """Names the CPU type: machine code of one type may not run on another that shares the home."""
  features = platform.processor()
  try:
    text = pathlib.Path("/proc/cpuinfo").read_text()
  except OSError:
    text = ""
  if found := re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE):
    features = " ".join(sorted(found[1].split()))
  return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:8]}"


def _not_writable(folder: pathlib.Path, *, private: bool) -> str | None:
  try:
    for path in (*reversed(folder.parents), folder):  # `parents=True` would make none private
      if not path.exists():
        path.mkdir(mode=0o700 if private else 0o777, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      return None
  except OSError as error:
    return error.strerror or str(error)


def _who_else_may_write(folders: Sequence[pathlib.Path]) -> str | None:
  """Returns through which folder other users can change what is in it, and why; or None."""
  for path in folders:
    try:
      found = path.stat()
    except OSError:
      return None
    if found.st_uid not in (os.getuid(), 0):
      return f"{path} belongs to another user"
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
      return f"everyone may write to {path}"
  return None


def initialize_distributed(environment: Mapping[str, str] | None = None) -> bool:
  """Joins the other processes of a run, if the environment speaks of any.

  In this order: `MIXBOOST_COORDINATOR` (host:port), `MIXBOOST_NUM_PROCESSES` and
  `MIXBOOST_PROCESS_ID`; `JAX_COORDINATOR_ADDRESS`; a SLURM step or an Open MPI job of more than one
  task; a TPU slice of more than one host, told by the environment or, on a Google Cloud TPU VM, by
  the metadata server that JAX asks. Otherwise nothing happens. From then on the processes watch
  each other, see `peers`.

  Args:
    environment: variables to look at; those of the process if None.

  Returns:
    Whether this process is part of a distributed run.

  Raises:
    ValueError: if only some of the `MIXBOOST_*` variables are set or one is not a number.
  """
  if jax.distributed.is_initialized():
    return True
  given = os.environ if environment is None else environment
  arguments = distributed_arguments(given)
  if arguments is None and environment is None and _jax_knows_tpu_hosts():
    arguments = {}
  if arguments is None:
    return False
  jax.distributed.initialize(**arguments, initialization_timeout=START_SECONDS)
  peers.start()
  return True


def distributed_arguments(environment: Mapping[str, str]) -> dict[str, Any] | None:
  """Returns what `jax.distributed.initialize` needs to be told; None for a run of one process.

  An empty dict means that JAX finds out by itself.

  Raises:
    ValueError: see `initialize_distributed`.
  """
  own = {name: environment.get(name, "") for name in _OWN_VARIABLES}
  if any(own.values()):
    return _own_arguments(own)
  if environment.get("JAX_COORDINATOR_ADDRESS"):
    return {}
  # SLURM_STEP_NODELIST exists inside `srun` only; a bare sbatch script is one process.
  tasks = _count(environment, "SLURM_STEP_NUM_TASKS")
  if environment.get("SLURM_STEP_NODELIST") and tasks > 1:
    # JAX gives each task the one GPU of its number on the node. A task that is alone there takes
    # all that SLURM lets it see: no restriction is said by an empty list.
    alone = tasks == _count(environment, "SLURM_STEP_NUM_NODES")
    return {"local_device_ids": []} if alone else {}
  if _count(environment, "OMPI_COMM_WORLD_SIZE") > 1:
    return {}
  hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES", "")
  if "," in hosts or environment.get("MEGASCALE_COORDINATOR_ADDRESS"):
    return {}
  return None


def _jax_knows_tpu_hosts() -> bool:
  """Returns whether JAX finds other hosts of a TPU slice; asks a server on Google Cloud TPU VMs."""
  try:
    from jax._src.clusters import cloud_tpu_cluster  # what `jax.distributed.initialize` uses

    kinds = (cloud_tpu_cluster.GceTpuCluster, cloud_tpu_cluster.GkeTpuCluster)
    return any(kind.is_env_present() and kind.get_process_count() > 1 for kind in kinds)
  except Exception as error:  # no network, no such module: `prepare` finds hosts left alone
    log.warn(f"cannot ask for other hosts of a TPU slice ({type(error).__name__}: {error}).")
    return False


def _meet() -> None:
  """Lets all processes exchange something at the same time.

  On CPUs the first exchange fails if a process comes more than 30 s after another, as it may where
  compilation is slow; later ones wait 30 minutes.
  """
  from jax._src import distributed  # JAX offers no public barrier with a time limit

  for attempt in range(2):
    client: Any = distributed.global_state.client
    client.wait_at_barrier(f"mixboost_jax/meet{attempt}", START_SECONDS * 1000)
    try:
      multihost_utils.sync_global_devices("mixboost_jax/meet")
      return
    except jax.errors.JaxRuntimeError:
      if attempt:
        raise
      log.warn("the processes of this run could not exchange data; trying once more.")


def _own_arguments(own: Mapping[str, str]) -> dict[str, Any]:
  coordinator, number, index = (own[name] for name in _OWN_VARIABLES)
  shown = ", ".join(f"{name}={value!r}" for name, value in own.items())
  host, _, port = coordinator.rpartition(":")
  if not (host and port.isdigit() and number.isdigit() and index.isdigit()):
    raise ValueError(f"expected host:port, a count and an index in {shown}; set all three.")
  if not 0 <= int(index) < int(number):
    raise ValueError(f"expected 0 <= MIXBOOST_PROCESS_ID < MIXBOOST_NUM_PROCESSES, got {shown}.")
  return {
    "coordinator_address": coordinator,
    "num_processes": int(number),
    "process_id": int(index),
  }


def _count(environment: Mapping[str, str], name: str) -> int:
  value = environment.get(name, "")
  return int(value) if value.isdigit() else 0


def keep_freed_memory() -> bool:
  """Tells malloc to keep what is freed, for the whole process, on CPU hosts with glibc.

  XLA:CPU allocates the temporaries of a program anew for every call, hundreds of megabytes for a
  wide network. By default glibc hands such blocks back to the kernel, which then has to clear every
  page again on the next call.

  Returns:
    Whether this C library could be told; others are left as they are.
  """
  if (mallopt := _of_glibc("mallopt")) is None:
    return False
  options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _GROWTH), (_ARENA_MAX, 1))
  return all(mallopt(option, value) == 1 for option, value in options)


def give_freed_memory_back() -> None:
  """Hands what malloc has kept to the kernel: between runs that do not need the same again."""
  if (trim := _of_glibc("malloc_trim")) is not None:
    trim(0)


def _of_glibc(name: str) -> Any:
  """Returns a function of the C library; None if it is another library, or does not have it."""
  if platform.libc_ver()[0] != "glibc":
    return None
  try:
    return getattr(ctypes.CDLL(None), name)
  except (OSError, AttributeError):
    return None
