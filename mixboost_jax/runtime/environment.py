# SPDX-License-Identifier: Apache-2.0
"""What a result was made with: versions, hardware, commit. No host and no user is named."""

import importlib.metadata
import os
import pathlib
import platform as host
import re
import subprocess
from collections.abc import Iterable
from typing import Any

import jax

import mixboost_jax
from mixboost_jax.runtime import platform

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def describe() -> dict[str, Any]:
  """Returns everything that goes beside a result, as JSON. Starts JAX's backend."""
  return {"versions": versions(), "hardware": hardware(), "git": git_state()}


def versions() -> dict[str, str]:
  """Returns name -> version of what computes; absent packages are left out."""
  found = {"mixboost_jax": mixboost_jax.__version__, "python": host.python_version()}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def hardware() -> dict[str, Any]:
  """Returns what the run computes on. Starts JAX's backend."""
  devices = jax.devices()
  return {
    "platform": devices[0].platform,
    "device_kind": devices[0].device_kind,
    "device_count": len(devices),
    "process_count": jax.process_count(),
    "cpu": _cpu_model(),
    "cores": platform.num_cores(),
    "memory_gib": _memory_gib(),
    "system": f"{host.system()} {host.machine()}",
  }


def in_words(devices: Iterable[Any]) -> str:
  """Returns e.g. `2 CPU cores`, `4 TPU v5 lite`: what a person would count, not virtual devices."""
  every = list(devices)
  if every[0].platform == "cpu":
    count, kind = platform.num_cores(), "CPU core"
    words = f"{count} {kind}{'s' * (count > 1)}"
  else:
    words = f"{len(every)} {every[0].device_kind}"
  processes = jax.process_count()
  return words if processes == 1 else f"{words} in each of {processes} processes"


def git_state(folder: str | os.PathLike | None = None) -> dict[str, Any] | None:
  """Returns `commit` and `dirty` of the repository that the package is a part of, or None.

  An installed package that merely lies below some repository does not count.
  """
  path = pathlib.Path(folder or pathlib.Path(mixboost_jax.__file__).parent)
  tracked = _git(path, "ls-files", "--error-unmatch", "__init__.py") is not None
  commit = _git(path, "rev-parse", "HEAD") if tracked else None
  if commit is None:
    return None
  changes = _git(path, "status", "--porcelain", "--untracked-files=no")
  return {"commit": commit, "dirty": bool(changes)}


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
  try:
    done = subprocess.run(
      ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20
    )
  except (OSError, subprocess.SubprocessError):
    return None
  return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model() -> str:
  try:
    text = pathlib.Path("/proc/cpuinfo").read_text()
  except OSError:
    text = ""
  found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
  return found[1].strip() if found else host.processor() or host.machine()


def _memory_gib() -> float | None:
  try:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  except (AttributeError, ValueError, OSError):
    return None
  return round(size / 2**30, 1)
