# SPDX-License-Identifier: Apache-2.0
"""Train, measure and evaluate over two processes, as on two hosts, against one process."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import base
from mixboost_jax import jobs
from mixboost_jax.runtime import results

SCRIPT = """
import json, pathlib, sys
from configs import base
from mixboost_jax import jobs
config = base.override(base.get_config(), json.loads(sys.argv[2]))
for job in ("train", "interactions", "evaluate"):
  assert jobs.run(config, folder=pathlib.Path(sys.argv[1]), job=job, command="test") == 0
"""
TINY = {
  "name": "tiny",
  "data.train_examples": 64,
  "data.test_examples": 16,
  "model.name": "tiny-cnn",
  "model.dropout": 0.0,
  "augment.flip": False,
  "augment.crop_padding": 0,
  "train.batch_size": 16,
  "train.epochs": 0.0,
  "train.steps": 8,
  "train.checkpoint_every_epochs": 0.0,
  "evaluate.batch_size": 16,
  "evaluate.suite": "clean",
  "interactions.num_images": 2,
  "interactions.grid": 4,
  "interactions.ratios": (0.0, 0.5, 1.0),
  "interactions.pairs_per_image": 16,
  "interactions.contexts": 4,
  "interactions.map_grid": 0,
  "interactions.tree_grid": 0,
  "runtime.tensorboard": False,
  "runtime.keep_freed_memory": False,
  "report.num_samples": 0,
}


def on_two_processes(folder: pathlib.Path) -> None:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  variables = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  variables |= {"MIXBOOST_COORDINATOR": f"127.0.0.1:{port}", "MIXBOOST_NUM_PROCESSES": "2"}
  changes = json.dumps({**TINY, "runtime.cpu_devices": 1, "runtime.compile_cache": ""})
  children = [
    subprocess.Popen(
      [sys.executable, "-c", SCRIPT, str(folder), changes],
      cwd=pathlib.Path(__file__).parents[1],
      env=variables | {"MIXBOOST_PROCESS_ID": str(i)},
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  try:
    errors = [child.communicate(timeout=240)[1] for child in children]
  finally:
    for child in children:
      child.kill()
  assert [child.returncode for child in children] == [0, 0], errors


def assert_same(one, two):
  """Equal up to rounding, leaf by leaf."""
  first, shape = jax.tree.flatten(one)
  second, other = jax.tree.flatten(two)
  assert shape == other
  for a, b in zip(first, second, strict=True):
    if isinstance(a, str):
      assert a == b
    else:
      np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)


def test_two_processes_find_what_one_finds(tmp_path):
  before = jax.config.jax_compilation_cache_dir
  on_two_processes(tmp_path / "two")
  shutil.copytree(tmp_path / "two", tmp_path / "one")
  for name in ("interactions.json", "results.json"):
    (tmp_path / "one" / name).unlink()
  shutil.rmtree(tmp_path / "one" / "evaluation")
  config = base.override(base.get_config(), {**TINY, "runtime.compile_cache": ""})
  for job in ("interactions", "evaluate"):
    assert jobs.run(config, folder=tmp_path / "one", job=job, command="test") == 0
  jax.config.update("jax_compilation_cache_dir", before)
  for name in ("interactions.json", "results.json"):
    one, two = (results.read(tmp_path / side / name) for side in ("one", "two"))
    assert two.environment["hardware"]["process_count"] == 2
    assert_same(dict(one.curves), dict(two.curves))
    assert_same({m.name: m.value for m in one.metrics}, {m.name: m.value for m in two.metrics})
  assert one.metrics
  with pytest.raises(AssertionError):
    assert_same({"a": [1.0]}, {"a": [1.1]})
