# SPDX-License-Identifier: Apache-2.0

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from mixboost_jax import jobs
from mixboost_jax.runtime.checkpoint import Checkpointer

TINY = {
  "name": "tiny",
  "data.train_examples": 32,
  "data.test_examples": 16,
  "model.name": "tiny-cnn",
  "model.dropout": 0.0,
  "train.batch_size": 16,
  "train.epochs": 0.0,
  "train.steps": 2,
  "train.log_every_steps": 2,
  "runtime.tensorboard": False,
  "report.num_samples": 0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  place = tmp_path_factory.mktemp("runs") / "tiny"
  config = base.override(base.get_config(), TINY)
  assert jobs.run(config, folder=place, job="train", command="test") == 0
  return place


def files(folder):
  return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_run_folder_gives_its_network_and_is_left_alone(folder):
  before = files(folder)
  trained = jobs.load_trained(folder)
  assert trained.step == 2
  assert trained.settings.model.name == "tiny-cnn"
  assert len(trained.dataset.test.images) == 16
  initial = jobs.load_trained(folder).run.trainer
  with Checkpointer(folder / "checkpoints") as saver:
    state = saver.restore(initial.state)[0]
  images = jnp.asarray(trained.dataset.test.images / 255, jnp.float32)
  expected = initial.predictor(state)(images)
  np.testing.assert_array_equal(trained.logits_fn(images), expected)
  untrained = initial.predictor(initial.state)(images)
  assert np.abs(np.asarray(untrained) - np.asarray(expected)).max() > 1e-3
  assert files(folder) == before


def test_the_network_computes_where_its_images_are(folder):
  trained = jobs.load_trained(folder)
  images = jnp.asarray(trained.dataset.test.images[:8] / 255, jnp.float32)
  assert jax.device_count() == 8
  for device in jax.devices()[:2]:
    logits = trained.logits_fn(jax.device_put(images, device))
    assert logits.devices() == {device}


def test_changes_are_laid_over_what_the_run_says(folder):
  trained = jobs.load_trained(folder, changes={"data": {"test_examples": 8}})
  assert len(trained.dataset.test.images) == 8
  assert trained.settings.data.train_examples == 32


def older(folder, tmp_path, *keys):
  """A copy of the folder whose config does not name the keys."""
  place = tmp_path / "older"
  place.mkdir()
  tree = json.loads((folder / "config.json").read_text())
  for key in keys:
    section, _, name = key.partition(".")
    del tree["settings"][section][name]
  (place / "config.json").write_text(json.dumps(tree))
  (place / "checkpoints").symlink_to(folder / "checkpoints")
  return place


def test_options_that_an_older_run_did_not_have_are_left_out(folder, tmp_path):
  place = older(folder, tmp_path, "augment.mixing_dir", "augment.start")
  assert jobs.load_trained(place).settings.augment.start == 0


def test_other_keys_need_defaults(folder, tmp_path):
  place = older(folder, tmp_path, "evaluate.confidence", "interactions.contexts")
  with pytest.raises(ValueError, match=r"evaluate.confidence: missing.*2 such.*defaults="):
    jobs.load_trained(place)
  trained = jobs.load_trained(place, defaults=base.get_config())
  assert trained.settings.interactions.contexts == base.get_config().interactions.contexts


def test_what_is_no_trained_run_is_refused(folder, tmp_path):
  with pytest.raises(ValueError, match="not a run folder"):
    jobs.load_trained(tmp_path)
  place = older(folder, tmp_path)
  (place / "checkpoints").unlink()
  with pytest.raises(ValueError, match="no checkpoint; run --job=train"):
    jobs.load_trained(place)
