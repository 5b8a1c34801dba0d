# SPDX-License-Identifier: Apache-2.0
"""Every cell of every notebook runs, with small numbers; what is committed was run to its end."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

COLABS = pathlib.Path(__file__).parents[1] / "colabs"
RESULTS = COLABS.parent / "results"
TRAINING = {
  "data.train_examples": 32,
  "data.test_examples": 16,
  "model.name": "tiny-cnn",
  "train.batch_size": 16,
  "train.epochs": 0.0,
  "train.steps": 2,
  "train.evaluate_every_epochs": 1.0,
  "evaluate.suite": "clean,occluded",
  "runtime.tensorboard": False,
  "report.num_samples": 0,
}
MIXED = TRAINING | {"augment.num_mixing_images": 16}
SMALL = {
  "train": {"CHANGES": MIXED},
  "evaluate_any_model": {
    "STEPS": 2,
    "EXAMPLES": 32,
    "ATTACKED": 16,
    "SUITE": "clean,c:gaussian_noise",
  },
  "interactions": {"CHANGES": MIXED, "PICTURES": 2, "PAIRS": 2, "GRID": 4},
  "mixup_inference": {"CHANGES": TRAINING, "TEST": 8, "SAMPLES": 1, "STEPS": 1},
  "table1": {"RUNS": f"{RESULTS}/studies/table1", "EVERYTHING": str(RESULTS)},
}
NOTEBOOKS = sorted(path.stem for path in COLABS.glob("*.ipynb"))


def cells(name):
  book = json.loads((COLABS / f"{name}.ipynb").read_text(encoding="utf-8"))
  return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def tags(cell):
  return cell["metadata"].get("tags", [])


def test_every_notebook_is_tried():
  assert sorted(SMALL) == NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_runs_with_small_numbers(name, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("MPLBACKEND", "Agg")
  space = {"pathlib": pathlib, "os": os, "sys": sys}
  for number, cell in enumerate(cells(name)):
    if "setup" in tags(cell):
      continue
    exec(compile("".join(cell["source"]), f"{name}.ipynb, code cell {number}", "exec"), space)
    if "parameters" in tags(cell):
      assert set(SMALL[name]) <= set(space)
      space |= SMALL[name]
  import matplotlib.pyplot as plt

  plt.close("all")
  assert capsys.readouterr().out


def set_up(name, folder, monkeypatch, *, missing=()):
  """Runs the setup cell in `folder` and returns the commands that it started."""
  started = []

  def run(command, *, check):
    assert check
    started.append(command)
    if command[0] == "git":
      pathlib.Path(command[-1]).symlink_to(COLABS.parent)

  found = importlib.util.find_spec
  monkeypatch.setattr(subprocess, "run", run)
  monkeypatch.setattr(
    importlib.util, "find_spec", lambda name: None if name in missing else found(name)
  )
  monkeypatch.setattr(sys, "path", list(sys.path))
  monkeypatch.chdir(folder)
  (cell,) = (cell for cell in cells(name) if "setup" in tags(cell))
  lines = [line for line in cell["source"] if not line.startswith("%")]
  exec(compile("".join(lines), f"{name}.ipynb, setup", "exec"), {})
  assert pathlib.Path(sys.path[0]).resolve() == pathlib.Path.cwd() == COLABS.parent
  return started


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_setup_finds_the_project(name, tmp_path, monkeypatch):
  assert set_up(name, COLABS, monkeypatch) == []
  (clone,) = set_up(name, tmp_path, monkeypatch)
  assert clone[:2] == ["git", "clone"]
  assert set_up(name, tmp_path, monkeypatch) == []  # after a restart of the runtime
  (install,) = set_up(name, tmp_path, monkeypatch, missing=["clu"])
  assert install[-1] == f"{tmp_path / 'mixboost_jax'}[notebooks]"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_was_run_from_top_to_bottom(name):
  counts = [cell["execution_count"] for cell in cells(name)]
  assert counts == list(range(1, len(counts) + 1))
  outputs = [output for cell in cells(name) for output in cell["outputs"]]
  assert not [output for output in outputs if output["output_type"] == "error"]
  assert any("image/png" in output.get("data", {}) for output in outputs)
  text = json.dumps(outputs)
  assert str(pathlib.Path.home()) not in text
  assert "Traceback" not in text
