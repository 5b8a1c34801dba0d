# SPDX-License-Identifier: Apache-2.0
"""Eight fake CPU devices, strict shapes and values, warnings as errors, one fixed key.

The variables are set before anything imports JAX; subprocess tests inherit them.
"""

import atexit
import ctypes
import gc
import importlib.metadata
import os
import pathlib
import shutil
import tempfile

FLAGS = {"--xla_force_host_platform_device_count": 8}
# Compiling takes most of the time. `=0` compiles as users do, which takes much longer.
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") != "0":
  FLAGS["--xla_cpu_parallel_codegen_split_count"] = 1
  if importlib.metadata.version("jaxlib").split(".")[:2] in (["0", "8"], ["0", "9"], ["0", "10"]):
    FLAGS["--xla_cpu_use_fusion_emitters"] = "false"  # newer ones end the process over it
for flag, value in FLAGS.items():
  if flag not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}={value}".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("MIXBOOST_CHECKS", "1")

import jaxtyping

# What a process has compiled, it and the processes it starts do not compile again.
if "MIXBOOST_TESTS_CACHE" not in os.environ:
  given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
  cache = os.environ["MIXBOOST_TESTS_CACHE"] = given or tempfile.mkdtemp(prefix="mixboost-tests-")
  if not given:
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(
  os.environ["MIXBOOST_TESTS_CACHE"], os.environ.get("PYTEST_XDIST_WORKER", "alone")
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"  # writing costs, too
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"

# Much is alive at a time, little of it in cycles: looking for these often takes a twentieth.
gc.set_threshold(100_000, 50, 100)

# Every annotated function of the package is checked at run time, in tests only.
_HOOK = jaxtyping.install_import_hook("mixboost_jax", "typecheck.check")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import checks
from mixboost_jax.runtime import platform

platform.avoid_wrong_fusions()  # as every job does


SLOW = (
  *("colabs_test", "audit/", "gan_job_test", "study_test", "jobs_test", "audit_job_test"),
  *("influence_job_test", "interactions_job_test", "attacks/", "train/step_test", "golden_test"),
  *("augment/contract_test", "analysis/", "gan/", "jobs_processes_test", "runtime/processes_test"),
  *("examples_test", "corruptions/forms_test", "evaluate/corruption_test"),
  *("defenses/attacked_test", "train/adversary_test"),
)
"""Modules that take minutes, the longest first: about half of the time; `-m "not slow"` leaves them
out, `.ci/run` runs them apart."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
  tests = config.rootpath / "tests"
  found = {item: item.path.relative_to(tests).as_posix() for item in items}
  for item, path in found.items():
    if path.startswith(SLOW):
      item.add_marker(pytest.mark.slow)
  order = {item: [path.startswith(name) for name in SLOW] for item, path in found.items()}
  items.sort(key=order.__getitem__, reverse=True)  # so that no core waits for a long one at the end
  if jax.default_backend() != "gpu" and not os.environ.get("MIXBOOST_REHEARSE"):
    for item in items:
      if item.get_closest_marker("gpu"):  # keywords hold the names of folders, too
        item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
  """A file goes to one core, which makes its fixtures and compiles its programs once."""
  from xdist.scheduler import LoadFileScheduling

  config.option.loadscopereorder = False
  return LoadFileScheduling(config, log)


MOST_BYTES = 3 * 2**30


@pytest.fixture
def key() -> jax.Array:
  return jax.random.key(0)


@pytest.fixture(scope="module")
def unchecked():
  """Jobs that are stopped and resumed, as users run them: no look at values inside of programs."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(checks, "DEBUG", False)
    patch.setenv("MIXBOOST_CHECKS", "0")
    yield


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
