# SPDX-License-Identifier: Apache-2.0
"""The command line: configs by path and by name, from any folder; help that needs no JAX."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FORKED = """
import os, sys
from mixboost_jax import jobs, main
for argument in sys.argv[1:]:
  if not (child := os.fork()):
    sys.argv[1:] = ["--job=report", *argument.split(" ")]
    main.run()
  print(f"exit {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}", file=sys.stderr, flush=True)
"""
EMPTY = "cannot read results"  # the config was found and resolved; there is no run yet
CASES = {
  "--config=configs/demo.py:smoke": EMPTY,
  "--config=demo:smoke": EMPTY,
  "--config=cifar10:pixmix+boost": EMPTY,
  "--config mine.py": EMPTY,
  "--config=mine.py:boost --config.mask.grid=8": EMPTY,
  "--config=mine.py --noconfig.augment.flip -config.seed 3": EMPTY,
  "--config=empty.py": "empty.py: expected a function get_config",
  "--config=nothing.py": "nothing.py: get_config returned None; expected a ConfigDict",
  "--config=broken.py": "broken.py, line 2: NameError: name 'x' is not defined",
  "--config=demo --config.runs=3": "--config.runs: expected a mapping such as",
  f"--config=demo --config.seed={10**400}": "config.seed: expected an integer in",
  "--config=demo --config.data.note=\udcff": "config.data.note: expected text that UTF-8 can hold",
}
OWN = """
from mixboost_jax.configs import base


def get_config(arg=""):
  config = base.get_config(arg)
  config.name = "mine"
  return config
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
  folder = tmp_path_factory.mktemp("elsewhere")
  (folder / "mine.py").write_text(OWN)
  (folder / "empty.py").write_text("")
  (folder / "nothing.py").write_text("def get_config(arg=''): pass\n")
  (folder / "broken.py").write_text("def get_config(arg=''):\n  return x\n")
  return folder


def started(code, *arguments, site, cwd):
  environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
  command = [sys.executable, "-c", code, *(os.fsencode(word) for word in arguments)]
  done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, check=False)
  return done.stderr.decode(errors="surrogateescape")


def test_configs_are_found_from_another_folder_and_mistakes_give_one_line(elsewhere):
  told = started(FORKED, *CASES, site=ROOT, cwd=elsewhere)
  for (arguments, message), lines in zip(CASES.items(), told.split("exit 2\n"), strict=False):
    assert message in lines, f"{arguments[:80]}: {told}"
    assert len(lines.splitlines()) <= 2, lines
  assert told.count("exit 2\n") == len(CASES)
  assert "Traceback" not in told


def test_as_installed_by_a_wheel(elsewhere, tmp_path):
  """A wheel holds the files of `configs/` as `mixboost_jax/configs/`."""
  package = tmp_path / "mixboost_jax"
  package.mkdir()
  for entry in (ROOT / "mixboost_jax").iterdir():
    if entry.name not in ("configs", "__pycache__"):
      (package / entry.name).symlink_to(entry)
  (package / "configs").symlink_to(ROOT / "configs")
  arguments = ("--config=configs/demo.py:smoke", "--config=mine.py:boost")
  told = started(FORKED, *arguments, site=tmp_path, cwd=elsewhere)
  assert [line for line in told.splitlines() if EMPTY not in line] == ["exit 2", "exit 2"], told
