# SPDX-License-Identifier: Apache-2.0
"""`--job=gan` on tiny runs: disturbed ones end bit for bit alike, and the pictures are used."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from mixboost_jax import jobs, settings
from mixboost_jax.jobs import gan as job
from mixboost_jax.runtime import interrupt, results, writers
from mixboost_jax.runtime.checkpoint import Checkpointer
from mixboost_jax.train import augmentation, generated

TINY = {
  "name": "tiny",
  "data.train_examples": 72,
  "data.test_examples": 16,
  "model.name": "tiny-cnn",
  "model.dropout": 0.0,
  "train.batch_size": 11,  # a prime: one device, less to compile
  "train.epochs": 0.0,
  "train.steps": 9,
  "train.log_every_steps": 2,
  "train.evaluate_every_epochs": 1.0,
  "train.checkpoint_every_epochs": 1.0,
  "train.ema_decay": 0.9,
  "gan.width": 2,
  "gan.latent": 4,
  "gan.critic_steps": 2,
  "report.num_samples": 2,
  "runtime.tensorboard": False,
}
TIMING = ("images_per_second",)


def config(**overrides):
  return base.override(base.get_config(), {**TINY, **overrides})


def resolved(**overrides):
  return settings.resolve_runs(config(**overrides), checks=jobs.CHECKS)[0]


def run(folder, name="gan", **overrides):
  return jobs.run(config(**overrides), folder=folder, job=name, command="test")


def final_state(item, folder):
  with Checkpointer(folder / "checkpoints") as saver:
    restored = saver.restore(item.trainer.state)
  assert restored is not None
  return int(restored.metadata["step"]), jax.device_get(restored.state)


def history(folder):
  return [
    {name: value for name, value in record.items() if name not in TIMING}
    for record in writers.read(folder / "metrics.jsonl")
  ]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
  folder = tmp_path_factory.mktemp("classifier")
  assert run(folder, "train", **{"train.ema_decay": 0.0, "train.evaluate_every_epochs": 0.0}) == 0
  return folder


@pytest.fixture(scope="module")
def judged(classifier):
  return {"gan.features": str(classifier), "gan.fid_examples": 40}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, judged):
  """A run that nobody disturbed, with what it ended with."""
  folder = tmp_path_factory.mktemp("finished")
  assert run(folder, **judged) == 0
  item = job.prepare(resolved(), folder)
  return folder, item, final_state(item, folder), history(folder)


def assert_same(folder, finished):
  _, item, (step, state), records = finished
  again, other = final_state(item, folder)
  assert again == step == 9
  jax.tree.map(np.testing.assert_array_equal, other, state)
  assert history(folder) == records


def test_writes_grids_curves_and_a_results_file(finished):
  folder, *_ = finished
  names = sorted(path.name for path in (folder / "samples").iterdir())
  assert names == ["gan_00000003.png", "gan_00000006.png", "gan_00000009.png"]
  found = results.read(folder / job.FILE)
  assert [metric.name for metric in found.metrics] == ["proxy_fid", "proxy_kid"]
  assert [point["step"] for point in found.curves["gan"]] == [3, 6, 9]
  assert found.metrics[0].value == found.curves["gan"][-1]["proxy_fid"] > 0
  assert "not Inception's" in found.flags[0].message
  assert {"loss", "critic_loss", "real_score"} <= found.curves["training"][-1].keys()


def test_a_stopped_run_goes_on_bit_for_bit(finished, judged, tmp_path, monkeypatch):
  asked = []
  monkeypatch.setattr(
    interrupt.StopRequest, "agreed", lambda self: asked.append(0) or len(asked) == 4
  )
  assert run(tmp_path, **judged) == interrupt.EXIT_PREEMPTED
  assert final_state(finished[1], tmp_path)[0] == 4
  assert not (tmp_path / job.FILE).exists()
  assert run(tmp_path, **judged) == 0
  assert_same(tmp_path, finished)


def test_a_killed_run_repeats_what_its_last_checkpoint_lacks(finished, judged, tmp_path):
  folder = tmp_path / "copy"
  shutil.copytree(finished[0], folder)
  shutil.rmtree(folder / "checkpoints" / "00000009")
  (folder / job.FILE).unlink()
  assert run(folder, **judged) == 0
  assert_same(folder, finished)


def test_several_steps_in_one_call_are_the_same_steps(finished, tmp_path):
  """Up to rounding: a loop is compiled otherwise."""
  changed = {"train.steps_per_call": 2, "train.steps": 4}
  assert run(tmp_path, **changed) == 0
  item = job.prepare(resolved(**changed), tmp_path)
  step, state = final_state(item, tmp_path)
  assert step == 4
  losses = [record["train/loss"] for record in history(tmp_path) if "train/loss" in record]
  wanted = [record["train/loss"] for record in finished[3] if "train/loss" in record]
  np.testing.assert_allclose(losses, wanted[:2], rtol=1e-3)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_its_pictures_make_a_pool_per_class(finished):
  folder, item, *_ = finished
  policy = {"name": "gan", "p": 1.0}
  options = {"augment.generator": str(folder), "augment.num_generated": 3}
  chosen = resolved(**options, **{"augment.policy": policy})
  made = augmentation.policy_arrays(chosen, item.dataset)["class_pictures"]
  assert made.shape == (10, 3, 32, 32, 3)
  assert made.dtype == np.uint8
  sample = generated.load_sampler(str(folder), item.dataset)
  key = jax.random.fold_in(generated.sampling_key(chosen), 0)
  wanted = sample(key, jnp.arange(100) // 3 % 10)
  levels = np.round(255 * np.asarray(wanted[:30])).reshape(made.shape)
  assert np.abs(levels - made).max() <= 1
  mixed = resolved(**options, **{"augment.policy": {"name": "pixmix"}})
  pool = augmentation.policy_arrays(mixed, item.dataset)["mixing_images"]
  np.testing.assert_array_equal(pool, made.reshape(30, 32, 32, 3))


def test_a_run_does_not_go_on_with_pictures_of_another_generator(finished, tmp_path, monkeypatch):
  source = tmp_path / "gan"
  shutil.copytree(finished[0], source)
  options = {
    "augment.generator": str(source),
    "augment.num_generated": 2,
    "augment.policy": {"name": "gan", "p": 1.0},
    "train.evaluate_every_epochs": 0.0,
  }
  asked = []
  monkeypatch.setattr(
    interrupt.StopRequest, "agreed", lambda self: asked.append(0) or len(asked) == 4
  )
  assert run(tmp_path / "run", "train", **options) == interrupt.EXIT_PREEMPTED
  newest = source / "checkpoints" / "00000009"
  newest.rename(tmp_path / "aside")
  with pytest.raises(ValueError, match=r"step 9 of that GAN up to its own step 4, .* step 6 today"):
    run(tmp_path / "run", "train", **options)
  (tmp_path / "aside").rename(newest)
  assert run(tmp_path / "run", "train", **options) == 0


def test_what_is_no_generator_is_refused(classifier, finished, tmp_path):
  dataset = finished[1].dataset
  with pytest.raises(ValueError, match=r"expected a run of --job=gan on pictures and classes"):
    generated.load_sampler(str(classifier), dataset)
  with pytest.raises(ValueError, match=r"not a run folder"):
    generated.load_sampler(str(tmp_path), dataset)
  with pytest.raises(ValueError, match=r"'gan' needs config.augment.generator"):
    augmentation.policy_arrays(resolved(**base.VARIANTS["gan"]), dataset)
  with pytest.raises(ValueError, match=r"one update takes 110 pictures, but .* has 72"):
    job.prepare(resolved(**{"gan.critic_steps": 10}), tmp_path)


def test_a_reference_of_another_network_is_refused(finished, tmp_path):
  path = tmp_path / "reference.npz"
  job.write_reference(path, np.zeros((4, 2)), name="inception")
  np.testing.assert_array_equal(job.read_reference(path, name="inception"), np.zeros((4, 2)))
  with pytest.raises(ValueError, match=r"features of inception, but config.gan.features is mine"):
    job.read_reference(path, name="mine")
