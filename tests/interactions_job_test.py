# SPDX-License-Identifier: Apache-2.0
"""`--job=interactions` and the training monitor on a tiny run, from config to report."""

import json
import os
import signal

import jax
import numpy as np
import pytest

from configs import base
from mixboost_jax import jobs, report, settings
from mixboost_jax.jobs import interactions, prepared
from mixboost_jax.report.interactions import CURVES
from mixboost_jax.runtime import interrupt, results, writers
from mixboost_jax.runtime.checkpoint import Checkpointer
from mixboost_jax.runtime.workdir import Parts

TINY = {
  "name": "tiny",
  "data.train_examples": 160,
  "data.test_examples": 40,
  "data.outliers": 40,
  "model.name": "tiny-cnn",
  "model.dropout": 0.0,
  "augment.flip": False,
  "augment.crop_padding": 0,
  "train.batch_size": 16,
  "train.epochs": 0.0,
  "train.steps": 24,
  "train.log_every_steps": 8,
  "train.checkpoint_every_epochs": 0.0,
  "evaluate.batch_size": 16,
  "interactions.num_images": 2,
  "interactions.grid": 4,
  "interactions.ratios": (0.0, 0.3, 0.6, 1.0),
  "interactions.pairs_per_image": 16,
  "interactions.contexts": 4,
  "interactions.max_contexts": 4,
  "interactions.map_grid": 3,
  "interactions.tree_grid": 2,
  "interactions.and_or_players": 6,
  "interactions.attack": True,
  "interactions.attack_steps": 4,
  "interactions.attack_epsilon": 0.5,
  "interactions.attack_step_size": 0.1,
  "interactions.attack_drop": 0.1,
  "interactions.chunk_size": 512,
  "runtime.tensorboard": False,
  "report.num_samples": 0,
}
WATCHED = {"interactions.monitor_every_steps": 6, "interactions.monitor_share": 0.9}


def run(folder, job="train", **overrides):
  config = base.override(base.get_config(), {**TINY, **overrides})
  return jobs.run(config, folder=folder, job=job, command="test")


def parameters(folder):
  (resolved,) = settings.resolve_runs(base.override(base.get_config(), TINY))
  item = prepared.prepare(resolved, folder)
  with Checkpointer(folder / "checkpoints") as saver:
    restored = saver.restore(item.trainer.state)
  assert restored is not None
  return jax.tree.leaves(jax.device_get(restored.state)), restored.metadata


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs") / "watched"
  assert run(folder, **WATCHED) == 0
  return folder


def watched(folder):
  return writers.curve(writers.read(folder / "metrics.jsonl"), "interactions/")


def test_the_monitor_logs_and_leaves_the_training_alone(trained, tmp_path):
  logged = watched(trained)
  assert logged[0]["step"] == 6
  assert {"proxy", "low", "high", "order_0", "order_14", "share_of_time"} <= set(logged[0])
  run(tmp_path / "plain")
  plain, _ = parameters(tmp_path / "plain")
  own, metadata = parameters(trained)
  for a, b in zip(own, plain, strict=True):
    np.testing.assert_array_equal(a, b)
  assert metadata["monitor"]["next"] > logged[-1]["step"]


def test_a_stopped_run_resumes_with_the_distance_it_had(trained, tmp_path, monkeypatch):
  asked = iter([False] * 13)
  with monkeypatch.context() as patch:
    patch.setattr(interrupt.StopRequest, "agreed", lambda self: next(asked, True))
    assert run(tmp_path / "run", **WATCHED) == interrupt.EXIT_PREEMPTED
  _, metadata = parameters(tmp_path / "run")
  expected = metadata["monitor"]["next"]
  assert run(tmp_path / "run", **WATCHED) == 0
  later = [row["step"] for row in watched(tmp_path / "run") if row["step"] > metadata["step"]]
  assert later[:1] == ([expected] if expected <= 24 else [])
  for a, b in zip(parameters(tmp_path / "run")[0], parameters(trained)[0], strict=True):
    np.testing.assert_array_equal(a, b)


def test_the_job_writes_what_the_report_shows(trained, monkeypatch, capfd):
  # Stop after the curve, in the middle of the map, which never asks whether to stop: the next run
  # goes on with the map and measures the curve no more.
  monkeypatch.setattr(interactions, "_map", lambda *_: [os.kill(os.getpid(), signal.SIGTERM)])
  assert run(trained, "interactions", **WATCHED) == interrupt.EXIT_PREEMPTED
  assert "what is finished is kept. The same command goes on." in capfd.readouterr().err
  assert "map" not in json.loads((trained / interactions.PARTS_FILE).read_text())["parts"]
  assert (trained / interactions.PARTS_FILE).exists()
  monkeypatch.undo()
  monkeypatch.setattr(interactions, "_strength", lambda *_: 1 / 0)
  assert run(trained, "interactions", **WATCHED) == 0
  assert not (trained / interactions.PARTS_FILE).exists()

  found = results.read(trained / "interactions.json")
  rows = found.curves["interactions"]
  assert [row["step"] for row in rows] == [0, 4, 8, 14]
  np.testing.assert_allclose(np.mean([row["relative"] for row in rows]), 1.0, atol=1e-6)
  assert [row["step"] for row in found.curves["interaction_and_or"]] == list(range(12))
  errors = found.curves["interaction_and_or_error"]
  assert errors[-1]["step"] == 2 * 2**6
  assert errors[-1]["error"] < 0.1  # but for the noise, the patterns are faithful
  assert errors[-1]["harsanyi"] < 1e-4
  assert sum(row["chosen"] for row in found.curves["interaction_map"]) == 1
  assert len(found.curves["interaction_map"]) == 9
  assert len(found.curves["interaction_tree"]) == 7
  check_contrasts(found)
  assert found.command == "test"
  metrics = {metric.name: metric for metric in found.metrics}
  proxy = metrics["interaction_proxy"]
  assert proxy.low is not None
  assert proxy.low <= proxy.value
  page = report.write(str(trained), trained / "report.html").read_text()
  assert "Interaction strength J" in page
  assert "while training" in page
  assert "Strongest AND and OR patterns" in page
  assert "Error of the strongest patterns" in page
  assert set(found.curves) <= set(CURVES)


def check_contrasts(found):
  """Attacking utility and outliers: rows per order; parts that cannot be measured are empty."""
  (reached,) = [m for m in found.metrics if m.name == "interaction_attack_reached"]
  attack, outliers = (found.curves[f"interaction_{n}"] for n in ("attack", "outliers"))
  assert bool(attack) == (reached.value > 0)
  for rows, fields in ((attack, ("utility", "size")), (outliers, ("average", "positive"))):
    assert [row["step"] for row in rows] in ([], [0, 4, 8, 14])
    for row in rows:
      for name in fields:
        assert row[f"{name}_low"] is None or row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
  assert attack
  assert outliers


def test_parts_belong_to_one_identity(tmp_path):
  path = tmp_path / "parts.json"
  assert Parts(path, identity=1).get("a", lambda: [1, 2]) == [1, 2]
  assert Parts(path, identity=1).get("a", lambda: 1 / 0) == [1, 2]
  assert Parts(path, identity=2).get("a", lambda: 3) == 3
  for damaged in ("{", "[" * 10**5, '{"identity": 1}', "[]"):
    path.write_text(damaged)
    assert Parts(path, identity=2).get("a", lambda: 4) == 4
  with pytest.raises(interrupt.Stopped, match="before b; what is finished is kept"):
    Parts(path, identity=2, should_stop=lambda: True).get("b", lambda: 5)


def test_pictures_are_correct_ones_of_all_classes_in_turn(trained):
  (resolved,) = settings.resolve_runs(base.override(base.get_config(), TINY))
  item = prepared.prepare(resolved, trained)
  labels = item.dataset.test.labels
  known = item.dataset.test.images.astype(np.float32) / 255
  wrong = {3, 20}

  def network(images):
    """Right everywhere but on two pictures."""
    distance = ((images[:, None] - known[None]) ** 2).sum((2, 3, 4))
    shifts = np.isin(np.arange(len(labels)), list(wrong))
    return jax.nn.one_hot(np.where(shifts, labels + 1, labels) % 10, 10)[distance.argmin(1)]

  found = interactions.correct_pictures(item, jax.tree_util.Partial(network), num=len(labels))
  assert set(found.rows) == set(range(len(labels))) - wrong
  np.testing.assert_array_equal(found.labels, labels[found.rows])
  np.testing.assert_array_equal(found.images, known[found.rows])
  kinds = len(set(found.labels))
  assert len(set(found.labels[:kinds])) == kinds
  with pytest.raises(ValueError, match="gets none of 40 pictures right"):
    interactions.correct_pictures(item, jax.tree_util.Partial(lambda x: -network(x)), num=2)


def test_grids_must_fit_the_pictures(trained):
  with pytest.raises(ValueError, match=r"interactions\.grid=40"):
    run(trained, "interactions", **{"interactions.grid": 40})
  with pytest.raises(ValueError, match="multiple of 4"):
    run(trained, "interactions", **{"interactions.contexts": 6})


def test_bias_for_want_of_contexts_is_a_flag_of_the_results():
  per_game = np.ones((1, 5, 3))
  per_game[0, 4] = (0.0, 0.02, 0.2)
  covariance = 1e-6 * np.eye(15).reshape(5, 3, 5, 3)
  strength = interactions.Strength((0, 2, 4), 9, per_game, covariance, 99, 8, 16)
  (flag,) = interactions._flags(strength)
  assert (flag.name, flag.level) == ("interaction_bias", "amber")
  assert "of order 4 are too large by 20 % or more: 16 contexts" in flag.message
  per_game[0, 4, 2] = 0.02
  assert interactions._flags(strength) == ()
