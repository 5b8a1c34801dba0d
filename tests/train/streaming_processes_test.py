# SPDX-License-Identifier: Apache-2.0
"""Two processes of two devices each stream one batch: each decodes its own half."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

SCRIPT = """
import json, sys
from configs import base
from mixboost_jax import settings
run = settings.resolve(base.override(base.get_config(), json.loads(sys.argv[1])))
from mixboost_jax.runtime import mesh as meshes, platform
platform.prepare(run.runtime)
import jax
import numpy as np
from mixboost_jax import data, train
from mixboost_jax.data import stored
read, names = stored.StoredPictures.read, []
def noted(self, place, **options):
  names.append(int(self.rows[place]))
  return read(self, place, **options)
dataset = data.load(run.data)
stored.StoredPictures.read = noted
trainer = train.build(run, dataset, meshes.create())
state, losses, own = trainer.state, [], {}
with trainer.feed.start(0) as inputs:
  for step in (0, 1):
    batch, root = inputs(step)
    if step == 1:
      for images, ids in zip(batch.images.addressable_shards, batch.ids.addressable_shards):
        sums = np.asarray(images.data, np.int64).sum(axis=(2, 3, 4))
        own |= dict(zip(np.asarray(ids.data).ravel().tolist(), sums.ravel().tolist()))
    state, metrics = trainer.step(state, batch, root)
    losses.append(float(metrics["loss"]))
print(json.dumps([jax.device_count(), own, losses, len(names)]))
"""


@pytest.fixture
def folder(tmp_path):
  rng = np.random.default_rng(0)
  for split, count in (("train", 32), ("test", 2)):
    for i in range(count):
      place = tmp_path / "pictures" / split / "ab"[i % 2]
      place.mkdir(parents=True, exist_ok=True)
      height, width = rng.integers(12, 20, 2)
      image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
      Image.fromarray(image).save(place / f"{i}.png")
  return tmp_path / "pictures"


def run(folder, *, num_processes):
  options = {
    "data.name": "folder",
    "data.dir": str(folder),
    "data.stream": "on",
    "data.image_size": 8,
    "model.name": "tiny-cnn",
    "model.dropout": 0.0,
    "augment.crop_padding": 0,
    "augment.resized_crop": 8,
    "train.batch_size": 8,
    "train.epochs": 0.0,
    "train.steps": 2,
    "runtime.cpu_devices": 4 // num_processes,
    "runtime.compile_cache": "",
    "runtime.batches_ahead": 1,
  }
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  variables = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  variables |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
  if num_processes > 1:
    variables |= {"MIXBOOST_COORDINATOR": f"127.0.0.1:{port}"}
    variables |= {"MIXBOOST_NUM_PROCESSES": str(num_processes)}
  children = [
    subprocess.Popen(
      [sys.executable, "-c", SCRIPT, json.dumps(options)],
      env=variables | ({"MIXBOOST_PROCESS_ID": str(i)} if num_processes > 1 else {}),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(num_processes)
  ]
  try:
    outputs = [child.communicate(timeout=180) for child in children]
  finally:
    for child in children:
      child.kill()
  for out, error in outputs:
    assert out, error
  return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


def test_processes_decode_disjoint_halves_of_the_same_batch(folder):
  ((devices, whole, losses, _),) = run(folder, num_processes=1)
  first, second = run(folder, num_processes=2)
  assert devices == first[0] == second[0] == 4
  assert len(whole) == 8
  assert (len(first[1]), len(second[1])) == (4, 4)
  assert first[1] | second[1] == whole
  assert first[2] == second[2] == pytest.approx(losses, rel=1e-5)
  assert first[3] == second[3] == 8  # two steps, half of eight pictures each
