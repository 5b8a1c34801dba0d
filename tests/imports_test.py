# SPDX-License-Identifier: Apache-2.0
"""The core and the train step run without optional packages; TensorFlow is never imported."""

import subprocess
import sys
import textwrap

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
  name="core", seed=0,
  data=schema.Data("shapes", "", False, "", 0, 32, 0, 16, "", 0.9, 0, 0.02, "auto", 0),
  model=schema.Model("tiny-cnn", 0.0, "float32", (0.5,) * 3, (0.5,) * 3, ""),
  augment=schema.Augment(True, 4, 0, 1, "", {"name": "cutmix", "alpha": 1.0, "prob": 0.5},
                         0.0, 1.0, 1, 0, 0.0, (0,)),
  mask=schema.Mask(8, 0.7, 0.3, "mean"),
  objective=schema.Objective("mixboost", 0.0, 1.0, "none", "logits", False, "clean", 0.0, 0.0, 0.0,
                             0.0, (0.0, 0.5), (0.3, 0.7), (0.7, 1.0), 0.0, "stage3", "entries",
                             0.05, 1),
  adversary=schema.Adversary("none", 0.03, 0.01, 1, True, "true", "evaluation", 0.5, 6.0, 1.0,
                             "batch", "roll"),
  optimizer=schema.Optimizer("sgd", 0.05, 0.9, True, 5e-4, "cosine", 1e-6, 0, (0.5,), 0.1, 0.0),
  train=schema.Train(16, 1.0, 0, 1, 1, "auto", "clean", False, 0.0, 50, 0.0, 1.0, 2, "none"),
  evaluate=schema.Evaluate("clean", "test", 16, 0, "", (), "", 15, 0.95),
  interactions=schema.Interactions(1, 4, (0.0, 1.0), "neighbour", 1, 1, 4, 4, 0.0, 1, "modified",
                                   "mean", 0.0, False, 0.1, 0.01, 1, 8.0, 0, 0, 4, 0, 1, 0.05),
  audit=schema.Audit(1, "cifar10/mixup", "none", "oblivious", 0.03, 0.01, 1, 0.01, 1, 1, 1, 1, 0, 1,
                     False, 1, 1, "", 1),
  runtime=schema.Runtime(0, 1, "", False, False, 0, 2),
  report=schema.Report(0),
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
