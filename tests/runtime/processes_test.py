# SPDX-License-Identifier: Apache-2.0
"""Two processes of two devices each, as on two hosts."""

import os
import socket
import subprocess
import sys

SCRIPT = """
import sys, time
from mixboost_jax import schema
from mixboost_jax.runtime import checkpoint, interrupt, log, mesh, platform
platform.prepare(schema.Runtime(cpu_devices=2, fsdp=4, compile_cache="", keep_freed_memory=False))
import jax, jax.numpy as jnp, numpy as np
made = mesh.create(fsdp=4)
shardings = mesh.shard_params(made, {"w": np.zeros((4, 2**14)), "s": 0.0})
def init():
  return {"w": jnp.arange(4.0 * 2**14).reshape(4, -1), "s": jnp.float32(2)}
state = jax.jit(init, out_shardings=shardings)()
write = checkpoint.write
def slow_write(*args):  # the other process must not overtake the one that completes a checkpoint
  time.sleep(0.5)
  write(*args)
checkpoint.write = slow_write
with checkpoint.Checkpointer(sys.argv[1]) as saver:
  for step in (1, 2, 3):
    saver.save(step, state)
    saver.save(step, state)
  restored = saver.restore(jax.tree.map(jnp.zeros_like, state))
  same = [
    np.array_equal(a.data, b.data)
    for a, b in zip(restored.state["w"].addressable_shards, state["w"].addressable_shards)
  ]
stop = interrupt.StopRequest()
stop.requested = jax.process_index() == 1
print(jax.process_index(), jax.device_count(), restored.metadata["step"], saver.steps(), same,
      stop.agreed())
log.info("spoken once")
"""


def test_two_processes(tmp_path):
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  variables = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  variables |= {"MIXBOOST_COORDINATOR": f"127.0.0.1:{port}", "MIXBOOST_NUM_PROCESSES": "2"}
  children = [
    subprocess.Popen(
      [sys.executable, "-c", SCRIPT, str(tmp_path)],
      env=variables | {"MIXBOOST_PROCESS_ID": str(i)},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  try:
    outputs = [child.communicate(timeout=60) for child in children]
  finally:
    for child in children:
      child.kill()
  for i, (out, error) in enumerate(outputs):
    assert out.splitlines()[-1] == f"{i} 4 3 [2, 3] [True, True] True", error
  assert ["spoken once" in error for _, error in outputs] == [True, False]
  assert sorted(os.listdir(tmp_path)) == ["00000002", "00000003"]
