# SPDX-License-Identifier: Apache-2.0
"""Processes that end, each in its way, and what the others do about it."""

import os
import random
import socket
import subprocess
import sys
import time

import pytest

SCRIPT = """
import sys, time
from mixboost_jax import schema
from mixboost_jax.runtime import peers, platform
platform.prepare(schema.Runtime(cpu_devices=1, compile_cache="", keep_freed_memory=False))
import jax, numpy as np
from jax.experimental import multihost_utils
rank, how = jax.process_index(), sys.argv[1]
peers.on_sudden_end.append(lambda: print("cleaned up", flush=True))
print("ready", jax.config.read("jax_cuda_visible_devices"), flush=True)
if rank == 1 and how == "error":
  print("error: no such data", file=sys.stderr)
  peers.leave(2)
if rank == 1 and how == "bug":
  raise KeyError("bug")
for step in range(200000 if how != "end" else 3):
  try:
    multihost_utils.process_allgather(np.arange(step % 3))
  except BaseException:
    peers.settle()
    raise
print("done", flush=True)
"""


def free_port():
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def start(num, how, variables_of):
  clean = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS" and not k.startswith("SLURM")}
  return [
    subprocess.Popen(
      [sys.executable, "-c", SCRIPT, how],
      env=clean | variables_of(rank),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for rank in range(num)
  ]


def own_variables(num):
  place = {"MIXBOOST_COORDINATOR": f"127.0.0.1:{free_port()}", "MIXBOOST_NUM_PROCESSES": str(num)}
  return lambda rank: place | {"MIXBOOST_PROCESS_ID": str(rank)}


def first_lines(children):
  lines = []
  for child in children:
    assert child.stdout is not None
    while (line := child.stdout.readline()) and not line.startswith("ready"):
      pass
    lines.append(line.split())
  return lines


def ends(children):
  try:
    outputs = [child.communicate(timeout=60) for child in children]
  finally:
    for child in children:
      child.kill()
  return [child.returncode for child in children], outputs


@pytest.mark.parametrize("victim", [0, 2])
def test_the_others_end_soon_after_one_is_killed(victim):
  children = start(3, "run", own_variables(3))
  assert all(first_lines(children))
  children[victim].kill()
  killed = time.monotonic()
  codes, outputs = ends(children)
  assert time.monotonic() - killed < 30  # JAX takes 50 to 100 s
  others = [rank for rank in range(3) if rank != victim]
  assert [codes[rank] for rank in others] == [75, 75], outputs
  for rank in others:
    out, errors = outputs[rank]
    assert out == "cleaned up\n"
    assert "Traceback" not in errors
    assert "stack trace" not in errors
  first = outputs[others[0]][1]
  assert f"error: process {victim} of this run is gone: killed, or its machine is lost" in first
  assert "exit code 75; the same command goes on from the last checkpoint" in first


@pytest.mark.parametrize(("how", "code"), [("error", 2), ("bug", 1)])
def test_an_error_of_one_ends_the_others_with_its_code(how, code):
  codes, outputs = ends(start(2, how, own_variables(2)))
  assert codes == [code, code], outputs
  assert f"process 1 of this run has ended with exit code {code}, it says why" in outputs[0][1]
  assert ("no such data" if how == "error" else "KeyError: 'bug'") in outputs[1][1]


def test_tasks_of_a_slurm_step_join_with_all_devices_of_their_nodes():
  def variables(rank):
    return {
      "SLURM_JOB_ID": str(port - 61440),
      "SLURM_STEP_NODELIST": "127.0.0.1,127.0.0.2",
      "SLURM_STEP_NUM_TASKS": "2",
      "SLURM_STEP_NUM_NODES": "2",
      "SLURM_NTASKS": "2",
      "SLURM_PROCID": str(rank),
      "SLURM_LOCALID": "0",
    }

  port = random.randrange(61440, 65536)  # where JAX puts the coordinator of a SLURM job
  children = start(2, "end", variables)
  lines = first_lines(children)
  codes, outputs = ends(children)
  assert codes == [0, 0], outputs
  assert lines == [["ready", "all"], ["ready", "all"]]
