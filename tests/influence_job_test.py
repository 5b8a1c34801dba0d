# SPDX-License-Identifier: Apache-2.0
"""`--job=influence` on a tiny run, from config to sheet and report."""

import json

import numpy as np
import pytest
from PIL import Image

from mixboost_jax import data, jobs, report, settings
from mixboost_jax.configs import base
from mixboost_jax.jobs import influence
from mixboost_jax.runtime import interrupt, results

TINY = {
  "name": "tiny",
  "data.train_examples": 96,
  "data.test_examples": 32,
  "model.name": "tiny-cnn",
  "model.dropout": 0.0,
  "augment.flip": False,
  "augment.crop_padding": 0,
  "augment.policy": {"name": "with_probability", "p": 0.5, "policy": {"name": "random_flip"}},
  "train.batch_size": 16,
  "train.epochs": 0.0,
  "train.steps": 30,
  "evaluate.batch_size": 32,
  "influence.num_test": 4,
  "influence.num_train": 20,
  "influence.num_shown": 3,
  "influence.batch_size": 16,
  "runtime.tensorboard": False,
  "report.num_samples": 0,
}


def run(folder, job="influence", **overrides):
  config = base.override(base.get_config(), {**TINY, **overrides})
  return jobs.run(config, folder=folder, job=job, command="test")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs") / "tiny"
  assert run(folder, "train") == 0
  return folder


def test_a_stopped_job_goes_on(trained, monkeypatch):
  blocks, asked, whole = [], iter([False, True]), influence._Measured.block

  def counted(self, tests, start):
    blocks.append(start)
    return whole(self, tests, start)

  monkeypatch.setattr(influence, "BLOCK", 2)
  monkeypatch.setattr(influence._Measured, "block", counted)
  chosen = {"influence.method": "last_layer"}
  with monkeypatch.context() as stopping:
    stopping.setattr(interrupt.StopRequest, "agreed", lambda self: next(asked, True))
    assert run(trained, **chosen) == interrupt.EXIT_PREEMPTED
  assert list(json.loads((trained / influence.PARTS_FILE).read_text())["parts"]) == ["clean:0"]
  assert run(trained, **chosen) == 0
  assert blocks == [0, 2, 0, 2]  # clean and attacked; nothing twice
  assert not (trained / influence.PARTS_FILE).exists()


@pytest.fixture(scope="module")
def measured(trained):
  assert run(trained) == 0
  return trained


def test_numbers(measured):
  found = results.read(measured / influence.FILE)
  metrics = {metric.name: metric for metric in found.metrics}
  for kind in ("clean", "attacked"):
    for origin in ("real", "augmented"):
      effects = [row["effect"] for row in found.curves[f"influence/{origin} on {kind}"]]
      assert effects == sorted(effects)
      assert effects[0] < 0 < effects[-1]
      cosine = metrics[f"influence_cosine:{origin}_on_{kind}"].value
      assert 0 < cosine < 1
    for row in found.curves[f"influence_top/{kind}"]:
      assert row["helpful0_effect"] >= row["helpful4_effect"] > row["harmful0_effect"]
      assert 0 <= row["helpful0"] < 20
  one = metrics["influence_size:real_on_clean"]
  assert (one.count, one.interval) == (4, "student over test pictures")
  assert metrics["influence_norm:real_training"].count == 20
  # An attack raises the loss, and with it the gradient.
  norms = [metrics[f"influence_norm:{kind}_test"].value for kind in ("clean", "attacked")]
  assert norms[0] < norms[1]


def test_sheet_and_report(measured):
  with Image.open(measured / influence.SHEET) as sheet:
    assert sheet.size == (112 + (1 + 1 + 3 + 1 + 3) * 66, 8 * 66)
    pixels = np.asarray(sheet)
  shown = results.read(measured / influence.FILE).curves["influence_top/clean"][0]
  pictures = data.load(settings.resolve(base.override(base.get_config(), TINY)).data).train.images
  for word, column in (("helpful0", 2), ("harmful0", 6)):
    tile = pixels[:64:2, 112 + column * 66 :][:, :64:2]
    own = np.asarray(pictures[shown[word] : shown[word] + 1])[0]
    flips = [own, own[:, ::-1]] if shown[f"{word}_augmented"] else [own]
    assert any(np.array_equal(tile, one) for one in flips)
  page = report.write(str(measured), measured / "report.html").read_text()
  assert "Rise of the test loss without a training picture" in page
  assert "Mean size of influence, real on clean" in page


def test_wrong_settings(trained, monkeypatch):
  with pytest.raises(ValueError, match=r"influence.num_train=97: .* has 96 training pictures"):
    run(trained, **{"influence.num_train": 97})
  with pytest.raises(ValueError, match=r"influence.num_steps=3 is set but not read"):
    run(trained, **{"influence.num_steps": 3})
  monkeypatch.setattr(influence, "_solver", lambda *_: lambda problem, vectors: vectors / 0)
  with pytest.raises(ValueError, match=r"method='tracin' gave no finite numbers; raise"):
    run(trained, **{"influence.method": "tracin"})
