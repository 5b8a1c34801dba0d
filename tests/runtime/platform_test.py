# SPDX-License-Identifier: Apache-2.0
import dataclasses
import os
import pathlib
import stat
import subprocess
import sys
import tempfile
import types

import jax
import pytest
from jax._src import distributed
from jax._src.clusters import cloud_tpu_cluster

from mixboost_jax import schema, target
from mixboost_jax.runtime import platform

FLAG = "--xla_force_host_platform_device_count"
FUSIONS = "--xla_cpu_experimental_ynn_fusion_type"
# What the runtime adds of its own; checked by itself below.
ADDED = f" {FUSIONS}=" if (0, 10, 2) <= jax.version.__version_info__[:3] < (0, 13) else ""
RUNTIME = schema.Runtime(compile_cache="", keep_freed_memory=False)


@pytest.fixture(autouse=True)
def _restore_cache_options():
  names = ("dir", "min_compile_time_secs", "min_entry_size_bytes")
  names = ("jax_compilation_cache_dir", *(f"jax_persistent_cache_{n}" for n in names[1:]))
  before = {name: getattr(jax.config, name) for name in names}
  yield
  for name, value in before.items():
    jax.config.update(name, value)


def run_python(script, *arguments, **environment):
  """Runs a script in a fresh process without the device flag of the tests."""
  variables = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "XDG_CACHE_HOME")}
  return subprocess.run(
    [sys.executable, "-c", script, *arguments],
    env=variables | environment,
    capture_output=True,
    text=True,
    timeout=60,
  )


def prepare_script(before="", **changes):
  settings = dataclasses.asdict(RUNTIME) | changes
  return (
    "import os, jax\n"
    "from mixboost_jax import schema\n"
    "from mixboost_jax.runtime import platform\n"
    f"{before}\n"
    f"platform.prepare(schema.Runtime(**{settings!r}))\n"
    "print(jax.device_count(), os.environ['XLA_FLAGS'])\n"
  )


def test_fresh_process_gets_the_devices_of_the_config():
  done = run_python(prepare_script(cpu_devices=3))
  assert done.stdout == f"3 {FLAG}=3{ADDED}\n", done.stderr


def test_fresh_process_gets_the_default_and_keeps_other_flags():
  other = "--xla_cpu_enable_fast_math=false"
  done = run_python(prepare_script(), XLA_FLAGS=other)
  assert done.stdout == f"8 {other} {FLAG}=8{ADDED}\n", done.stderr


def test_the_flag_of_the_user_wins():
  done = run_python(prepare_script(cpu_devices=3), XLA_FLAGS=f"{FLAG}=5")
  assert done.stdout == f"5 {FLAG}=5{ADDED}\n", done.stderr
  assert "warning: config.runtime.cpu_devices=3 is ignored" in done.stderr


def test_the_fusions_that_the_user_wants_stay():
  flags = f"{FLAG}=2 {FUSIONS}=-reduce"
  done = run_python(prepare_script(), XLA_FLAGS=flags)
  assert done.stdout == f"2 {flags}\n", done.stderr


def test_sums_and_bfloat16_are_right_on_a_cpu():
  """jaxlib 0.10.2 loses addends of the sum (jax issue 39103), 0.11 and 0.12 give NaN for bfloat16.

  Fails also on a newer jaxlib that is still wrong but whose flags the runtime does not set.
  """
  script = prepare_script(cpu_devices=1) + (
    "import jax.numpy as jnp\n"
    "from mixboost_jax import models\n"
    "i = jnp.arange(32769.0)\n"
    "x = jnp.stack([i, 0 * i, 0 * i], axis=1)\n"
    "fn = jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2))\n"
    "print(float(abs(fn(x) - jax.jit(fn)(x)).max()))\n"
    "make = lambda t: models.create('wrn-10-1', num_classes=10, key=jax.random.key(0),"
    " compute_dtype=t)\n"
    "images = jax.random.uniform(jax.random.key(1), (16, 32, 32, 3))\n"
    "half, full = (jax.jit(models.logits_fn(make(t)))(images) for t in ('bfloat16', 'float32'))\n"
    "print(float(abs(half - full).max() / abs(full).max()))\n"
  )
  done = run_python(script)
  assert done.returncode == 0, done.stderr
  sums, half = done.stdout.splitlines()[1:]
  assert float(sums) == 0
  assert float(half) < 0.05


def test_too_late_is_an_error():
  done = run_python(prepare_script("jax.devices()", cpu_devices=3))
  assert done.returncode == 1
  assert "cpu_devices=3: JAX is already running with 1 CPU device(s)" in done.stderr


def test_too_late_is_harmless_when_nothing_is_asked(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "")
  assert jax.device_count() >= 1
  assert platform.backend_is_initialized()
  platform.prepare(RUNTIME)
  assert os.environ["XLA_FLAGS"] == ""


@pytest.mark.parametrize(("asked", "place"), [(True, "cpu"), (False, "cpu"), (True, "gpu")])
def test_freed_memory_is_kept_on_a_cpu_if_asked(monkeypatch, asked, place):
  calls = []
  monkeypatch.setattr(platform, "keep_freed_memory", lambda: calls.append(1))
  with target.compiling_for(place):
    platform.prepare(dataclasses.replace(RUNTIME, keep_freed_memory=asked))
  assert len(calls) == (asked and place == "cpu")


def test_compile_cache_is_filled_and_used(tmp_path):
  script = (
    "import jax, jax.numpy as jnp, sys, logging\n"
    "from mixboost_jax.runtime import platform\n"
    "print(platform.use_compile_cache('auto'))\n"
    "hits = []\n"
    "jax.monitoring.register_event_listener(lambda e, **k: hits.append(e))\n"
    "jax.jit(lambda x: jnp.tanh(x @ x).sum())(jnp.ones((8, 8))).block_until_ready()\n"
    "print(sum(e.endswith('cache_hits') for e in hits))\n"
  )
  outputs = [
    run_python(script, XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR="") for _ in range(2)
  ]
  assert all(o.returncode == 0 for o in outputs), outputs[0].stderr
  folder, cold_hits = outputs[0].stdout.split()
  assert pathlib.Path(folder).parent == tmp_path / "mixboost_jax" / "xla"
  assert os.listdir(folder)
  assert int(cold_hits) == 0
  assert int(outputs[1].stdout.split()[1]) > 0
  assert outputs[1].stderr == ""


def test_cache_folder_of_the_config(tmp_path):
  assert platform.use_compile_cache(str(tmp_path / "x")) == tmp_path / "x"
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / "x")
  assert platform.use_compile_cache("") is None
  assert jax.config.jax_compilation_cache_dir is None


def test_auto_keeps_the_folder_that_the_user_gave_to_jax(tmp_path):
  jax.config.update("jax_compilation_cache_dir", str(tmp_path))
  assert platform.use_compile_cache("auto") == tmp_path
  assert jax.config.jax_compilation_cache_dir == str(tmp_path)


def test_a_cache_folder_that_cannot_be_written_is_one_warning(tmp_path, capsys):
  (tmp_path / "file").write_text("")
  assert platform.use_compile_cache(str(tmp_path / "file" / "x")) is None
  assert jax.config.jax_compilation_cache_dir is None
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1
  assert "warning: no compile cache" in lines[0]
  assert "config.runtime.compile_cache" in lines[0]


def test_default_cache_folder(monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", "/x")
  assert platform.default_cache_folder() == pathlib.Path("/x/mixboost_jax/xla")
  monkeypatch.delenv("XDG_CACHE_HOME")
  monkeypatch.setenv("HOME", "/home/someone")
  assert platform.default_cache_folder() == pathlib.Path("/home/someone/.cache/mixboost_jax/xla")


@pytest.mark.parametrize(
  ("variables", "arguments"),
  [
    ({}, None),
    ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"}, None),  # sbatch script without srun
    ({"SLURM_STEP_NODELIST": "n1", "SLURM_STEP_NUM_TASKS": "1"}, None),
    (
      {
        "SLURM_STEP_NODELIST": "n[1-2]",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "2",
      },
      {"local_device_ids": []},  # alone on its node: all GPUs
    ),
    (
      {
        "SLURM_STEP_NODELIST": "n[1-2]",
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_STEP_NUM_NODES": "2",
      },
      {},  # one of four there: JAX takes the GPU of its number
    ),
    ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
    ({"OMPI_COMM_WORLD_SIZE": "4"}, {}),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
    ({"TPU_WORKER_HOSTNAMES": "a,b"}, {}),
    ({"MEGASCALE_COORDINATOR_ADDRESS": "a"}, {}),
    ({"JAX_COORDINATOR_ADDRESS": "a:1"}, {}),
    (
      {
        "MIXBOOST_COORDINATOR": "host:123",
        "MIXBOOST_NUM_PROCESSES": "4",
        "MIXBOOST_PROCESS_ID": "3",
      },
      {"coordinator_address": "host:123", "num_processes": 4, "process_id": 3},
    ),
  ],
)
def test_distributed_arguments(variables, arguments):
  assert platform.distributed_arguments(variables) == arguments


@pytest.mark.parametrize(
  "values", [("host:1", "", ""), ("host", "2", "0"), ("h:1", "2", "2"), ("h:1", "two", "0")]
)
def test_contradictory_variables(values):
  names = ("MIXBOOST_COORDINATOR", "MIXBOOST_NUM_PROCESSES", "MIXBOOST_PROCESS_ID")
  with pytest.raises(ValueError, match="MIXBOOST_NUM_PROCESSES"):
    platform.initialize_distributed(dict(zip(names, values, strict=True)))


class FakeTpuHost:
  """A Google Cloud TPU VM with as many hosts as its metadata server names."""

  def __init__(self, hosts):
    self.hosts = hosts

  def get(self, url, **_):
    key = url.rpartition("/")[2]
    answers = {"agent-worker-number": "1", "worker-network-endpoints": self.hosts, "tpu-env": ""}
    return types.SimpleNamespace(text=answers[key], status_code=200)


NAMED_HOSTS = ("host1,host2", jax.__version_info__ >= (0, 10))
"""Older ones read addresses only; hosts that do not join are found by `prepare`."""


@pytest.mark.parametrize(
  ("hosts", "joins"),
  [("a:b:10.0.0.1", False), ("a:b:10.0.0.1,c:d:10.0.0.2", True), NAMED_HOSTS],
)
def test_hosts_of_a_tpu_slice_are_known_from_the_metadata_server(monkeypatch, hosts, joins):
  monkeypatch.setitem(sys.modules, "requests", FakeTpuHost(hosts))
  monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
  for name in ("TPU_SKIP_MDS_QUERY", "TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES"):
    monkeypatch.delenv(name, raising=False)
  asked = []
  monkeypatch.setattr(jax.distributed, "initialize", lambda **given: asked.append(given))
  monkeypatch.setattr(platform.peers, "start", lambda: None)
  assert platform.initialize_distributed() == joins
  assert asked == [{"initialization_timeout": platform.START_SECONDS}] * joins


def test_a_metadata_server_that_does_not_answer_is_said(monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, "requests", None)
  monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
  monkeypatch.delenv("TPU_SKIP_MDS_QUERY", raising=False)
  assert platform.initialize_distributed() is False
  assert "warning: cannot ask for other hosts of a TPU slice" in capsys.readouterr().err


def test_a_host_of_a_slice_that_did_not_join_is_refused(monkeypatch):
  monkeypatch.setattr(jax, "process_count", lambda: 4)
  with pytest.raises(RuntimeError, match="one of 4 of a TPU slice, but could not join the others"):
    platform.prepare(RUNTIME)


def test_without_a_home_the_cache_is_a_folder_of_this_user(monkeypatch, tmp_path):
  def no_home():
    raise RuntimeError("Could not determine home directory.")

  monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
  monkeypatch.setattr(pathlib.Path, "home", no_home)
  monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
  jax.config.update("jax_compilation_cache_dir", None)
  place = platform.use_compile_cache("auto")
  assert place is not None
  assert place.parents[1] == tmp_path / f"mixboost_jax-{os.getuid()}"
  for folder in (place, *place.parents[:2]):
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("how", ["owner", "mode"])
def test_a_cache_that_others_may_fill_is_not_used(monkeypatch, tmp_path, capsys, level, how):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  jax.config.update("jax_compilation_cache_dir", None)
  place = platform.use_compile_cache("auto")
  assert place is not None
  assert capsys.readouterr().err == ""
  if how == "mode":
    (place, *place.parents)[level].chmod(0o777)
  else:
    real = os.stat
    theirs = str((place, *place.parents)[level])

    def owned_by_another(path, **options):
      found = real(path, **options)
      if os.fspath(path) != theirs:
        return found
      return types.SimpleNamespace(st_mode=found.st_mode, st_uid=os.getuid() + 1)

    monkeypatch.setattr(os, "stat", owned_by_another)
  jax.config.update("jax_compilation_cache_dir", None)
  assert platform.use_compile_cache("auto") is None
  assert jax.config.jax_compilation_cache_dir is None
  said = {"mode": "everyone may write to", "owner": "belongs to another user"}[how]
  assert said in capsys.readouterr().err


def test_a_shared_cache_that_the_user_chose_is_used_with_a_word(tmp_path, capsys):
  tmp_path.chmod(0o777)
  assert platform.use_compile_cache(str(tmp_path)) == tmp_path
  assert "what lies there is run as machine code" in capsys.readouterr().err


def test_processes_meet_before_they_exchange_and_try_twice(monkeypatch, capsys):
  waited = []
  client = types.SimpleNamespace(wait_at_barrier=lambda *given: waited.append(given))
  monkeypatch.setattr(distributed.global_state, "client", client)
  failures = [1]

  def fails_once(name):
    if failures:
      failures.pop()
      raise jax.errors.JaxRuntimeError("Gloo context initialization failed: DEADLINE_EXCEEDED")

  monkeypatch.setattr(platform.multihost_utils, "sync_global_devices", fails_once)
  platform._meet()
  assert waited == [(f"mixboost_jax/meet{i}", platform.START_SECONDS * 1000) for i in range(2)]
  assert "could not exchange data; trying once more" in capsys.readouterr().err
  failures += [1, 1]
  with pytest.raises(jax.errors.JaxRuntimeError, match="DEADLINE_EXCEEDED"):
    platform._meet()


def test_one_process_stays_alone():
  assert platform.initialize_distributed({}) is False
