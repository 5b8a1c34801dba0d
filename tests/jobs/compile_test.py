# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import base, cifar10, imagenet
from mixboost_jax import jobs, settings
from mixboost_jax.jobs import compile as compiling
from mixboost_jax.runtime import mesh, targets

SMALL = {
  "model.name": "tiny-cnn",
  "model.dropout": 0.0,
  "train.batch_size": 16,
  "mask.grid": 8,
  "evaluate.batch_size": 16,
  "audit.batch_size": 8,
  "audit.num_draws": 3,
  "interactions.grid": 4,
  "interactions.chunk_size": 32,
  "runtime.target": "cpu",
}


def resolve(config, **changes):
  return settings.resolve(base.override(config, {**SMALL, **changes}))


def test_all_programs_of_a_run_without_data(tmp_path, capsys):
  names = ",".join(compiling.PROGRAMS)
  config = base.override(cifar10.get_config("boost"), {**SMALL, "runtime.programs": names})
  code = jobs.run(config, folder=tmp_path, job="compile", command="typed")
  found = json.loads((tmp_path / "compile" / "cpu.json").read_text())
  assert code == 0
  assert [path.name for path in tmp_path.iterdir()] == ["compile"]
  assert list(found["programs"]) == list(compiling.PROGRAMS)
  assert found["command"] == "typed"
  for name, one in found["programs"].items():
    assert one["fits"], name
    assert (one["flops"] > 0) == (name != "augment"), name  # no products on a CPU
    assert one["memory"]["total"] > 0, name
  # Two views, forward and backward, against one forward.
  per_picture = {name: one["flops"] / one["images"] for name, one in found["programs"].items()}
  assert 4 < per_picture["train"] / per_picture["evaluate"] <= 6
  assert per_picture["mi"] == pytest.approx((1 + 3) * per_picture["evaluate"])
  assert per_picture["interactions"] == pytest.approx(per_picture["evaluate"])
  # The set lies on the device: 50,000 pictures, and the state is updated in place.
  train = found["programs"]["train"]
  assert train["memory"]["arguments"] > 50_000 * 32 * 32 * 3
  assert train["memory"]["aliased"] > 0
  text = capsys.readouterr()
  assert "for cpu (1 chip)" in text.out + text.err


def test_stand_ins_take_no_memory():
  known = compiling.stand_in(resolve(cifar10.get_config("boost")).data)
  assert known.train.images.shape == (50_000, 32, 32, 3)
  assert isinstance(known.train.images, np.ndarray)
  assert known.train.images.strides == (0, 0, 0, 0)
  assert known.num_classes == 10
  imagenet_run = settings.resolve(
    base.override(imagenet.get_config("boost"), {"runtime.target": "cpu"})
  )
  large = compiling.stand_in(imagenet_run.data)
  assert large.is_streamed
  assert large.train.images.shape == (1_281_167, 224, 224, 3)
  assert "1,000 classes" in compiling.notes(imagenet_run)[0]


def test_a_streamed_set_gives_its_step_the_pictures_of_the_batch():
  changes = {"data.image_size": 16, "data.stream": "on", "augment.resized_crop": 0}
  found = compiling.describe(
    resolve(imagenet.get_config("boost"), **changes, **{"runtime.programs": "train"}), sizes=False
  )
  arguments = found["programs"]["train"]["memory"]["arguments"]
  assert arguments < 50 * 2**20, "no set among them"


def test_a_network_that_looks_at_pictures_first_needs_none_here():
  """Speedrun networks whiten by 5,000 training pictures; a streamed stand-in has none to read."""
  changes = {"model.name": "speedrun-0.05", "data.image_size": 16, "data.stream": "on"}
  run = resolve(imagenet.get_config("boost"), **changes, **{"augment.resized_crop": 0})
  assert compiling.stand_in(run.data).is_streamed
  trainer = compiling.build(run, mesh.create())
  shapes = [leaf.shape for leaf in jax.tree.leaves(trainer.state.stats)]
  assert (2, 2, 3, 24) in shapes, "the whitening kernel"
  assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(trainer.state))


def test_a_batch_that_cannot_be_split_is_refused():
  run = resolve(cifar10.get_config("boost"), **{"train.batch_size": 12})
  chosen = targets.parse("v5e-8")
  with pytest.raises(ValueError, match=r"config\.train\.batch_size=12.*multiple of 8"):
    compiling._of_program("train", run, chosen, mesh.create(), sizes=False)


def test_the_job_asks_for_a_target(tmp_path):
  config = base.override(cifar10.get_config(), {"model.name": "tiny-cnn"})
  with pytest.raises(ValueError, match=r"config\.runtime\.target"):
    jobs.run(config, folder=tmp_path, job="compile", command="")


@pytest.mark.parametrize(
  ("key", "value", "words"),
  [("target", "v5e-3", "power of two"), ("programs", "train,fly", "expected some of train")],
)
def test_wrong_words_are_told_with_the_config(key, value, words):
  changes = {"runtime.target": "cpu", f"runtime.{key}": value}
  config = base.override(cifar10.get_config(), changes)
  with pytest.raises(settings.ConfigError, match=words):
    settings.resolve(config, checks=jobs.CHECKS)


def test_the_largest_batch_lies_on_the_line_through_two():
  """Memory is 1 GiB and 0.1 GiB per picture: 15.75 GiB hold 147 on one of 4 chips."""
  gib = 2**30

  def at(batch):
    return {"memory": {"temporaries": 0, "total": gib * (1 + 0.1 * batch / 4)}}

  found = compiling.largest(at(64), 64, 4, at, memory=15.75 * gib, chips=4)
  assert found["largest_per_chip"] == 147
  assert "32 and 64" in found["largest_by"]


def test_what_does_not_fit_tries_smaller_batches_and_names_remedies():
  gib = 2**30
  tried: list[int] = []

  def at(batch):
    tried.append(batch)
    total = gib * batch / 8
    return {"memory": {"total": total, **({"temporaries": 0} if total <= 16 * gib else {})}}

  one = at(512) | {"key": "train.batch_size"}
  one |= compiling.largest(one, 512, 1, at, memory=15.75 * gib, chips=1)
  assert tried == [512, 256, 128, 64]
  assert one["largest_per_chip"] == 126
  told = compiling.remedy(one, memory=15.75 * gib, chips=1, dtype="float32")
  assert "needs 64.0 of 15.8 GiB" in told
  assert "--config.train.batch_size=126" in told
  assert "accumulate" in told
  assert "bfloat16" in told


def test_the_need_is_read_from_what_the_tpu_compiler_says():
  message = (
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
    "Used 31.52G of 15.75G hbm. Exceeded hbm capacity by 15.77G."
  )
  assert compiling._needed(message) == 31.52 * 2**30
  assert compiling._needed("INTERNAL: something else") is None


def test_time_and_scaling_against_a_table_worked_by_hand():
  """1.97 TFLOP take 10 ms of a v5e, 16.38 GB of traffic 20 ms: memory bounds it."""
  exchanges = [("all-reduce", 10, 2e9)]
  found = compiling.roofline(
    targets.parse("v5e-4"), 1.97e12, 16.38e9, exchanges, images=512, dtype="bfloat16"
  )
  alone, together = found["scaling"]
  assert alone["seconds"] == pytest.approx(20e-3)
  assert alone["images_per_second"] == pytest.approx(128 / 20e-3)
  exchange = 2 * 3 / 4 * 2e9 / 200e9 + 10 * 2e-6
  assert together["seconds"] == pytest.approx(20e-3 + exchange)
  assert together["efficiency"] == pytest.approx(20 / (20 + 1e3 * exchange))
  assert found["bound_by"] == "memory"
  assert found["mfu_at_most"] == pytest.approx(10e-3 / together["seconds"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v5e-4", "h100"])
def test_absent_accelerators(name, tmp_path):
  """In a process of its own: it must not look for devices of this host."""
  if not targets.is_installed(targets.parse(name)):
    pytest.skip("its compiler is not installed")
  small = [f"--config.{key}={value}" for key, value in SMALL.items() if key != "runtime.target"]
  command = [sys.executable, "-m", "mixboost_jax.main", "--job=compile", f"--workdir={tmp_path}"]
  command += ["--config=configs/cifar10.py:boost", f"--config.runtime.target={name}", *small]
  command += ["--config.model.compute_dtype=bfloat16", "--config.runtime.programs=train"]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-3000:]
  found = json.loads((tmp_path / "compile" / f"{name}.json").read_text())["programs"]["train"]
  assert found["fits"]
  assert found["program"]["host_transfers"] == 0
  assert all(types.startswith("bf16,bf16->") for types in found["program"]["convolutions"])
  assert ("all-reduce" in found["collectives"]) is (name == "v5e-4")
