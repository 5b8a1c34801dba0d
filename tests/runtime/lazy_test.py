# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

SCRIPT = """
import sys
for name in ("orbax", "orbax.checkpoint", "tensorboardX", "tensorflow", "clu"):
  sys.modules[name] = None
import mixboost_jax.runtime as runtime
for name in runtime.__all__:
  getattr(runtime, name)
saver = runtime.checkpoint.Checkpointer("nowhere")
assert saver.restore({}) is None
saver.close()
"""


def test_everything_imports_without_the_optional_packages():
  done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
  assert done.returncode == 0, done.stderr
