# SPDX-License-Identifier: Apache-2.0
"""The command line around the jobs: signals, pipes and names of paths."""

import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
INTERRUPTED = """
import os, signal, sys
class Finder:
  def find_spec(self, name, *_):
    if name == "mixboost_jax.jobs":
      try:
        os.kill(os.getpid(), signal.SIGINT)
      except BaseException:  # as some callbacks of libraries do
        pass
sys.meta_path.insert(0, Finder())
from mixboost_jax import main
main.run()
"""
ENCODING = """
import sys
print(sys.getfilesystemencoding(), sys.argv[1:], flush=True)
from mixboost_jax import main
main.run()
"""
TINY = {
  "data.train_examples": 160,
  "data.test_examples": 40,
  "model.name": "tiny-cnn",
  "model.dropout": 0.0,
  "train.batch_size": 16,
  "train.epochs": 0.0,
  "train.steps": 4,
  "runtime.tensorboard": False,
  "report.num_samples": 0,
}


def start(folder, *options, **popen):
  flags = [f"--config.{key}={value}" for key, value in TINY.items()]
  command = [sys.executable, "-m", "mixboost_jax.main", "--config=configs/base.py", *flags]
  return subprocess.Popen(
    [*command, f"--workdir={folder}", *options],
    cwd=ROOT,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    stdout=subprocess.DEVNULL,
    text=True,
    **popen,
  )


def run(script, *arguments, **environment):
  return subprocess.run(
    [sys.executable, "-c", script, *arguments],
    cwd=ROOT,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    timeout=60,
  )


def test_an_interrupt_during_the_imports_is_not_lost():
  assert run(INTERRUPTED).returncode == -signal.SIGINT


def test_paths_are_utf_8_whatever_the_locale_says():
  locale = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
  done = run(ENCODING, "--workdir=wörk", **locale)
  assert done.stdout.splitlines() == [
    "ascii ['--workdir=w\\udcc3\\udcb6rk']",
    "utf-8 ['--workdir=wörk']",
  ]
  assert "--config is missing" in done.stderr


def test_a_reader_that_leaves_does_not_end_the_run(tmp_path):
  reading, writing = os.pipe()
  child = start(tmp_path / "run", "--job=train", stderr=writing)
  os.close(writing)
  os.close(reading)  # nobody reads a single line
  assert child.wait(timeout=120) == 0
  assert (tmp_path / "run" / "checkpoints" / "00000004").is_dir()
