# SPDX-License-Identifier: Apache-2.0
"""The core and the train step run without optional packages; TensorFlow is never imported."""

import importlib
import subprocess
import sys
import textwrap

import pytest

BLOCK = """
import builtins
import sys

class Blocked:
  names = {names!r}
  usual = staticmethod(builtins.__import__)
  def __call__(self, name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and name.split(".")[0] in self.names:
      raise ModuleNotFoundError(f"blocked: {{name}}", name=name)
    return self.usual(name, globals, locals, fromlist, level)

builtins.__import__ = Blocked()
"""

OPTIONAL = (
  "tensorflow", "tensorflow_datasets", "ml_collections", "clu", "grain", "array_record", "orbax",
  "tensorboardX", "PIL", "matplotlib", "torch", "safetensors", "scipy", "sklearn", "absl",
)  # fmt: skip
# JAX, Flax and Optax themselves need some of these.
NEEDED_BY_OTHERS = ("scipy", "absl", "orbax")

STEP = """
import jax
import mixboost_jax as mb
from mixboost_jax import schema
from mixboost_jax.runtime import mesh
from mixboost_jax import train

settings = schema.Settings(
  data=schema.Data(train_examples=32, test_examples=16),
  model=schema.Model(name="tiny-cnn", dropout=0.0),
  augment=schema.Augment(policy={"name": "cutmix", "alpha": 1.0, "prob": 0.5}),
  mask=schema.Mask(grid=8),
  objective=schema.Objective(name="mixboost"),
  train=schema.Train(batch_size=16, epochs=1.0),
)
dataset = mb.data.load(settings.data)
trainer = train.build(settings, dataset, mesh.create(devices=jax.devices()[:1]))
order = trainer.order(trainer.root, trainer.state.step)
state, metrics = trainer.step(trainer.state, trainer.split, order, trainer.root)
assert int(state.step) == 1 and float(metrics["loss"]) == float(metrics["loss"])
for name in ("image", "augment", "masks", "losses", "metrics", "models"):
  getattr(mb, name)
loaded = sorted({name.split(".")[0] for name in sys.modules} & set(Blocked.names))
print("step done; loaded:", loaded)
"""


def python(code):
  return subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
  )


def test_a_train_step_runs_without_the_optional_packages():
  names = set(OPTIONAL) - set(NEEDED_BY_OTHERS)
  done = python(BLOCK.format(names=names) + textwrap.dedent(STEP))
  assert done.returncode == 0, done.stderr[-3000:]
  assert done.stdout.strip() == "step done; loaded: []"


def test_the_block_works():
  done = python(BLOCK.format(names={"clu"}) + "import clu")
  assert done.returncode != 0
  assert "blocked: clu" in done.stderr


def test_a_whole_run_never_imports_tensorflow(tmp_path):
  code = BLOCK.format(names={"tensorflow"}) + textwrap.dedent(f"""
    import pathlib
    from configs import base
    from mixboost_jax import jobs
    config = base.get_config("boost")
    base.override(config, {{
      "data.train_examples": 32, "data.test_examples": 16, "model.name": "tiny-cnn",
      "model.dropout": 0.0, "mask.grid": 8, "train.batch_size": 16, "train.epochs": 1.0,
    }})
    assert jobs.run(config, folder=pathlib.Path({str(tmp_path)!r}), job="all", command="x") == 0
    assert "tensorflow" not in sys.modules
    assert "clu" in sys.modules
  """)
  done = python(code)
  assert done.returncode == 0, done.stderr[-3000:]
  assert (tmp_path / "report.html").exists()


def test_importing_the_package_starts_no_backend():
  """Devices are chosen by `runtime.platform.prepare`, after all imports."""
  done = python(
    "import mixboost_jax.jobs; from mixboost_jax.runtime import platform; "
    "assert not platform.backend_is_initialized()"
  )
  assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("name", ["mixboost_jax", "mixboost_jax.jobs", "mixboost_jax.train"])
def test_a_door_shows_its_public_names_only(name):
  module = importlib.import_module(name)
  assert dir(module) == sorted(module.__all__)
  assert [key for key in module.__all__ if not hasattr(module, key)] == []
