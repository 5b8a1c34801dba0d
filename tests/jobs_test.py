# SPDX-License-Identifier: Apache-2.0
"""Whole runs: stopped, killed, damaged and resumed ones end bit for bit like undisturbed ones."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from configs import base
from mixboost_jax import files, jobs, settings, train
from mixboost_jax.jobs import prepared
from mixboost_jax.runtime import interrupt, workdir, writers
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.runtime.checkpoint import Checkpointer

pytestmark = pytest.mark.usefixtures("unchecked")

ROOT = pathlib.Path(__file__).parents[1]
NUM_STEPS = 120
TINY = {
  "name": "tiny",
  "data.train_examples": 160,
  "data.test_examples": 40,
  "model.name": "tiny-cnn",
  "model.dropout": 0.0,
  "mask.grid": 8,
  "objective.name": "mixboost",
  "train.batch_size": 16,
  "train.epochs": 0.0,
  "train.steps": NUM_STEPS,
  "train.log_every_steps": 7,
  "train.evaluate_every_epochs": 6.0,
  "train.checkpoint_every_epochs": 2.0,
  "evaluate.batch_size": 16,
  "runtime.tensorboard": False,
  "report.num_samples": 2,
}
TIMING = ("images_per_second",)


def config(**overrides):
  return base.override(base.get_config(), {**TINY, **overrides})


def run(folder, job="train", **overrides):
  return jobs.run(config(**overrides), folder=folder, job=job, command="test")


def final_state(folder, **overrides):
  (resolved,) = settings.resolve_runs(config(**overrides))
  mesh = meshes.create(devices=meshes.devices_for_batch(16))
  trainer = train.build(resolved, prepared.load_data(resolved.data), mesh)
  with Checkpointer(folder / "checkpoints") as saver:
    restored = saver.restore(trainer.state)
  assert restored is not None
  assert restored.metadata["step"] == NUM_STEPS
  return jax.device_get(restored.state)


def history(folder):
  return [
    {name: value for name, value in record.items() if name not in TIMING}
    for record in writers.read(folder / "metrics.jsonl")
  ]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
  folder = tmp_path_factory.mktemp("reference")
  assert run(folder) == 0
  return folder, final_state(folder)


def assert_same(folder, reference):
  undisturbed, state = reference
  jax.tree.map(np.testing.assert_array_equal, final_state(folder), state)
  assert history(folder) == history(undisturbed)


def start(folder):
  """Starts the same run in another process."""
  flags = [f"--config.{key}={value}" for key, value in TINY.items()]
  command = [sys.executable, "-m", "mixboost_jax.main", "--config=configs/base.py", "--job=train"]
  return subprocess.Popen(
    [*command, f"--workdir={folder}", *flags],
    cwd=ROOT,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )


def send_after(process, folder, step, number):
  """Sends a signal once the log has passed `step`."""
  deadline = time.monotonic() + 120
  while time.monotonic() < deadline and process.poll() is None:
    records = writers.read(folder / "metrics.jsonl")
    if records and records[-1]["step"] >= step:
      process.send_signal(number)
      break
    time.sleep(0.005)
  _, errors = process.communicate(timeout=60)
  return process.returncode, errors


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
  """A run that was asked to stop somewhere between two checkpoints."""
  folder = tmp_path_factory.mktemp("stopped")
  code, errors = send_after(start(folder), folder, 35, signal.SIGTERM)
  return folder, code, errors


def test_sigterm_saves_and_says_so_and_the_run_resumes(stopped, reference):
  folder, code, errors = stopped
  assert code == interrupt.EXIT_PREEMPTED, errors
  assert "everything is saved. The same command goes on." in errors
  assert not (folder / ".lock").exists()
  assert run(folder) == 0
  assert_same(folder, reference)


def test_kill_9_loses_nothing_but_time(tmp_path, reference):
  code, errors = send_after(start(tmp_path), tmp_path, 49, signal.SIGKILL)
  assert code == -signal.SIGKILL, errors
  assert history(tmp_path)[-1]["step"] < NUM_STEPS
  assert run(tmp_path) == 0
  assert_same(tmp_path, reference)


def test_a_truncated_newest_checkpoint_falls_back(tmp_path, reference, capfd, monkeypatch):
  stop_at(monkeypatch, 70)
  assert run(tmp_path) == interrupt.EXIT_PREEMPTED
  monkeypatch.undo()
  newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
  assert newest.name == "00000070"
  largest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
  largest.write_bytes(largest.read_bytes()[:-7])
  assert run(tmp_path) == 0
  errors = capfd.readouterr().err
  assert "00000070 is damaged" in errors
  assert "resuming from step 60" in errors
  assert_same(tmp_path, reference)


def stop_at(monkeypatch, step):
  """Asks the run to stop after `step`, as a signal would."""
  asked = iter(range(1, NUM_STEPS + 1))
  monkeypatch.setattr(interrupt.StopRequest, "agreed", lambda self: next(asked) == step)


def test_a_finished_run_is_not_trained_again(capfd, reference):
  folder, _ = reference
  before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
  assert run(folder) == 0
  assert "already trained" in capfd.readouterr().err
  assert "Total:" in (folder / "parameters.txt").read_text()
  assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == before


def test_another_config_is_refused_with_the_difference(tmp_path):
  assert run(tmp_path, **{"train.steps": 10}) == 0
  before = sorted(p.name for p in tmp_path.iterdir())
  with pytest.raises(workdir.WorkdirError, match=r"train.steps: 10 -> 20"):
    run(tmp_path, **{"train.steps": 20})
  assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_nan_names_step_and_metric_and_keeps_the_last_checkpoint(tmp_path):
  hot = {"optimizer.learning_rate": 1e30, "train.checkpoint_every_epochs": 0.1}
  with pytest.raises(train.NonFiniteError, match=r"step \d+: metric '\w+' is (nan|inf)"):
    run(tmp_path, **hot)
  steps = sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
  for step in steps:
    assert int(step) < NUM_STEPS


def test_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
  real = os.rename

  def full(source, target, **kwargs):
    if str(target).endswith("00000060"):
      raise OSError(28, "No space left on device")
    return real(source, target, **kwargs)

  monkeypatch.setattr(os, "rename", full)
  with pytest.raises(jobs.USER_ERRORS, match="disk is full"):
    run(tmp_path)
  monkeypatch.undo()
  names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
  assert names == ["00000020", "00000040"]


def test_evaluate_needs_a_checkpoint(tmp_path):
  with pytest.raises(ValueError, match="no checkpoint to evaluate; run --job=train first"):
    run(tmp_path / "empty", job="evaluate")
  assert not (tmp_path / "empty").exists()
  (resolved,) = settings.resolve_runs(config())
  workdir.open_run(tmp_path / "begun", resolved).close()
  with pytest.raises(ValueError, match="no checkpoint to evaluate; run --job=train first"):
    run(tmp_path / "begun", job="evaluate", **{"train.steps": 7})  # takes nothing over


def test_a_run_without_a_name_has_no_folder(tmp_path):
  changed = config()
  changed.runs = {"": {"seed": 1}}
  with pytest.raises(ValueError, match="each run gets a folder of its name, which"):
    jobs.run(changed, folder=tmp_path / "here", job="train", command="test")
  assert os.listdir(tmp_path) == []


def test_parts_of_an_epoch_are_at_least_one_step():
  assert [train.loop.steps_of(epochs, 10) for epochs in (0.05, 0.03, 0.0, 0.25, 2.0)] == [
    1, 1, 0, 2, 20
  ]  # fmt: skip


def test_checkpoints_more_often_than_every_step_are_every_step(tmp_path):
  often = {"train.checkpoint_every_epochs": 0.03, "train.evaluate_every_epochs": 0.0}
  assert run(tmp_path, **often, **{"train.steps": 4, "train.keep_checkpoints": 9}) == 0
  names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
  assert names == [f"{step:08d}" for step in (1, 2, 3, 4)]


def test_selects_the_best_checkpoint_on_the_validation_split(tmp_path):
  overrides = {
    "data.validation_examples": 32,
    "train.select_on": "validation",
    "train.steps": 24,
    "train.evaluate_every_epochs": 1.0,
    "train.checkpoint_every_epochs": 1.0,
    "train.keep_checkpoints": 1,
  }
  assert run(tmp_path, job="all", **overrides) == 0
  errors = {
    record["step"]: record["validation/clean_error"]
    for record in history(tmp_path)
    if "validation/clean_error" in record
  }
  kept = {int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
  best = min(errors.values())
  assert any(errors[step] == best for step in kept)
  assert 24 in kept


def test_wrong_things_are_found_before_anything_is_written(tmp_path):
  wrong = [
    ({"model.name": "wrn-41-4"}, "wrn"),
    ({"augment.policy": {"name": "cutot"}}, "did you mean|Did you mean"),
    ({"augment.policy": {"name": "cutout", "size": 3}}, "unknown name 'size'"),
    ({"evaluate.suite": "clena"}, "unknown name 'clena'"),
    ({"data.name": "cifar10", "data.dir": str(tmp_path / "nowhere")}, "data.prepare cifar10"),
    ({"data.name": "folder", "data.dir": str(tmp_path / "nowhere")}, "nowhere"),
    ({"data.name": "npz", "data.dir": str(tmp_path / "none.npz")}, "none.npz"),
    ({"model.weights": str(tmp_path / "no.npz"), "model.name": "wrn-10-1"}, "no.npz"),
    ({"train.batch_size": 200}, "train.batch_size"),
    ({"mask.grid": 40}, "config.mask.grid=40 is finer"),
    ({"runtime.fsdp": 3}, "fsdp"),
    ({"optimizer.warmup_steps": 5000}, "warmup_steps=5000"),
    ({"interactions.monitor_every_steps": 9, "interactions.grid": 33}, "interactions.grid=33"),
  ]
  for overrides, message in wrong:
    folder = tmp_path / "run"
    with pytest.raises(jobs.USER_ERRORS, match=message):
      run(folder, **overrides)
    assert not folder.exists(), overrides


def test_a_foreign_folder_is_left_alone(tmp_path):
  (tmp_path / "thesis.tex").write_text("precious")
  with pytest.raises(workdir.WorkdirError, match="not a run folder"):
    run(tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_write_errors_are_user_errors():
  assert issubclass(files.WriteError, jobs.USER_ERRORS)
