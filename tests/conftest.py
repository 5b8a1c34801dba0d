# SPDX-License-Identifier: Apache-2.0
"""Eight fake CPU devices, strict shapes and values, warnings as errors, one fixed key.

The variables are set before anything imports JAX; subprocess tests inherit them.
"""

import ctypes
import gc
import os
import pathlib

_FLAG = "--xla_force_host_platform_device_count"
if _FLAG not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}=8".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("MIXBOOST_CHECKS", "1")

import jaxtyping

# Every annotated function of the package is checked at run time, in tests only.
_HOOK = jaxtyping.install_import_hook("mixboost_jax", "typecheck.check")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax.runtime import platform

platform.avoid_wrong_fusions()  # as every job does


SLOW = (
  *("analysis/", "attacks/", "audit/", "augment/contract_test", "gan/", "train/step_test"),
  *("audit_job_test", "gan_job_test", "influence_job_test", "interactions_job_test"),
  *("jobs_processes_test", "jobs_test", "runtime/processes_test", "study_test"),
)
"""Modules that take minutes; `-m "not slow"` leaves them out."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
  tests = config.rootpath / "tests"
  for item in items:
    if item.path.relative_to(tests).as_posix().startswith(SLOW):
      item.add_marker(pytest.mark.slow)
  if jax.default_backend() != "gpu" and not os.environ.get("MIXBOOST_REHEARSE"):
    for item in items:
      if item.get_closest_marker("gpu"):  # keywords hold the names of folders, too
        item.add_marker(pytest.mark.skip(reason="needs a GPU"))


MOST_BYTES = 3 * 2**30


@pytest.fixture
def key() -> jax.Array:
  return jax.random.key(0)


@pytest.fixture(scope="module")
def quick_compilation():
  """Compiles small programs without polish."""
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True, scope="module")
def bounded_memory():
  """Compiled programs of hundreds of modules do not fit: forgets them when they take too much."""
  yield
  pages = pathlib.Path("/proc/self/statm")
  if pages.exists() and int(pages.read_text().split()[1]) * 4096 > MOST_BYTES:
    jax.clear_caches()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture
def images() -> jax.Array:
  """Eight smooth but busy 32x32 pictures with exact 8-bit values."""
  rng = np.random.default_rng(0)
  coarse = rng.uniform(size=(8, 8, 8, 3))
  fine = np.kron(coarse, np.ones((1, 4, 4, 1))) * 0.7 + 0.3 * rng.uniform(size=(8, 32, 32, 3))
  return jnp.asarray(np.floor(fine * 255) / 255, jnp.float32)


@pytest.fixture
def compiled():
  """Seconds of each compilation while the test runs."""
  found = []

  def listen(event, duration, **_):
    if event == "/jax/core/compile/backend_compile_duration":
      found.append(duration)

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield found
  jax.monitoring.unregister_event_duration_listener(listen)
