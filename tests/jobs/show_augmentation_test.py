# SPDX-License-Identifier: Apache-2.0
"""What the job shows is what the compiled training step hands to the network, bit for bit."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import base
from mixboost_jax import augment, data, jobs, settings
from mixboost_jax.jobs import prepared, show_augmentation
from mixboost_jax.keys import Stream, example_keys
from mixboost_jax.train import step as steps

TINY = {
  "data.train_examples": 36,
  "data.test_examples": 16,
  "model.name": "tiny-cnn",
  "model.dropout": 0.0,
  "train.batch_size": 8,
  "train.epochs": 3.0,
  "runtime.tensorboard": False,
}
BOOST = {"objective.name": "mixboost", "mask.grid": 8, "train.batchnorm_views": "both"}
MIXES = {"name": "compose", "steps": ({"name": "mixup", "per": "example"}, {"name": "smote"})}


def config(**overrides):
  return base.override(base.get_config(), {**TINY, **overrides})


def prepare(folder, **overrides):
  return prepared.prepare(settings.resolve(config(**overrides)), folder)


def last_two_inputs(trainer, step):
  """Runs the real step, with a network that remembers its last two inputs among its statistics."""

  def spy(params, stats, images, **options):
    logits, updated = trainer.parts.apply(params, stats["network"], images, **options)
    return logits, {"network": updated, "before": stats["last"], "last": images}

  parts = trainer.parts._replace(apply=spy)
  blank = jnp.zeros((parts.batch_size // parts.accumulate, *trainer.split.images.shape[1:]))
  state = trainer.state
  state = state.replace(
    step=jnp.int32(step), stats={"network": state.stats, "before": blank, "last": blank}
  )
  order = trainer.order(trainer.root, state.step)
  run = jax.jit(functools.partial(steps.train_step, parts=parts))
  stats = run(state, trainer.split, order, trainer.root)[0].stats
  return np.asarray(stats["before"]), np.asarray(stats["last"])


@pytest.fixture(scope="module")
def mixing_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("mixing")
  rng = np.random.default_rng(0)
  for i in range(3):
    pixels = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f"{i}.png")
  return folder


def test_pixmix_and_mask_are_what_the_network_gets(tmp_path, mixing_dir, monkeypatch):
  monkeypatch.setattr(data.folders, "default_cache", lambda: tmp_path / "cache")
  item = prepare(
    tmp_path,
    **{
      "augment.policy": base.VARIANTS["pixmix"]["augment.policy"],
      "augment.mixing_dir": str(mixing_dir),
      "augment.alternate_flip": True,  # epoch 1 mirrors what epoch 0 did not
      "augment.crop_mode": "reflect",
      **BOOST,
    },
  )
  order = np.asarray(item.trainer.order(item.trainer.root, jnp.int32(4)))
  augmented, masked = last_two_inputs(item.trainer, 5)
  for row in (0, 6):  # the second batch of epoch 1
    example = int(item.trainer.split.ids[order[8 + row]])
    seen = show_augmentation.look(item, epoch=1, example=example)
    assert (seen.visit.step, seen.visit.row) == (5, row)
    np.testing.assert_array_equal(seen.views["augmented"], augmented[row])
    np.testing.assert_array_equal(seen.views["masked_keep_0.7"], masked[row])
    np.testing.assert_array_equal(
      np.rint(seen.views["original"] * 255), item.trainer.split.images[order[8 + row]]
    )
    assert [entry["op"] for entry in seen.account][:3] == ["flip", "crop", "start"]


def test_mixes_and_micro_batches_are_what_the_network_gets(tmp_path):
  overrides = {"augment.policy": MIXES, "train.accumulate": 2}
  item = prepare(tmp_path, **overrides)
  order = np.asarray(item.trainer.order(item.trainer.root, jnp.int32(0)))
  _, augmented = last_two_inputs(item.trainer, 2)
  example = int(item.trainer.split.ids[order[2 * 8 + 4 + 3]])  # row 3 of the second half
  seen = show_augmentation.look(item, epoch=0, example=example)
  assert seen.visit.row == 3
  np.testing.assert_array_equal(seen.views["augmented"], augmented[3])
  mixup = next(entry for entry in seen.account if entry["op"] == "mixup")
  assert mixup["partner_id"] == int(item.trainer.split.ids[order[2 * 8 + 4 + 2]])


def test_the_account_tells_of_the_whole_augmentation_of_a_run(tmp_path):
  """The policy that is explained is the one that training runs."""
  item = prepare(tmp_path, **{"augment.policy": {"name": "cutout", "length": 8}})
  parts = item.trainer.parts
  keys = example_keys(item.trainer.root, Stream.AUGMENT, jnp.arange(8), epoch=0)
  batch = (item.trainer.split.images[:8] / 255, jnp.ones((8, 1)))
  whole = augment.build(show_augmentation.whole_policy(item.settings, item.settings.augment.policy))
  told, run = jax.jit(lambda k, b: (whole(k, *b)[0], parts.augment(k, *b)[0]))(keys, batch)
  np.testing.assert_array_equal(told, run)


def test_an_alternating_flip_is_told_as_it_happens(tmp_path):
  item = prepare(tmp_path, **{"augment.alternate_flip": True, "augment.crop_padding": 0})
  told = []
  for epoch in (0, 1, 2):
    order = np.asarray(item.trainer.order(item.trainer.root, jnp.int32(4 * epoch)))
    for example in sorted(item.trainer.split.ids[order[:8]].tolist())[:4]:
      seen = show_augmentation.look(item, epoch=epoch, example=example)
      original, augmented = seen.views["original"], seen.views["augmented"]
      (entry,) = seen.account
      assert entry["op"] == "flip"
      np.testing.assert_array_equal(augmented, original[:, ::-1] if entry["applied"] else original)
      told.append(entry["applied"])
  assert len(set(told)) == 2


def test_the_job_prints_the_chain_and_writes_pictures(tmp_path, capsys):
  policy = base.VARIANTS["trivial"]["augment.policy"]
  cfg = config(**{"augment.policy": policy, **BOOST})
  options = {"job": "show_augmentation", "command": "test", "epoch": 2}
  with pytest.raises(ValueError, match=r"--example=99: not a training example; their 36 ids"):
    jobs.run(cfg, folder=tmp_path / "run", **options, example=99)
  with pytest.raises(ValueError, match=r"--epoch=3: the run has the epochs 0 to 2"):
    jobs.run(cfg, folder=tmp_path / "run", **{**options, "epoch": 3}, example=4)
  assert not (tmp_path / "run").exists()
  item = prepare(tmp_path / "run", **{"augment.policy": policy})
  visited = np.asarray(item.trainer.split.ids[item.trainer.order(item.trainer.root, jnp.int32(8))])
  with pytest.raises(ValueError, match=f"leaves example {visited[-1]} out"):
    jobs.run(cfg, folder=tmp_path / "run", **options, example=int(visited[-1]))
  shown = int(visited[9])
  assert jobs.run(cfg, folder=tmp_path / "run", **options, example=shown) == 0
  printed = capsys.readouterr()
  assert "  crop down=" in printed.out + printed.err
  folder = tmp_path / "run" / "augmentation" / f"epoch2_example{shown}"
  with np.load(folder / "views.npz") as views:
    assert set(views) == {"original", "augmented", "masked_keep_0.7"}
    for name, image in views.items():
      pixels = np.asarray(Image.open(folder / f"{name}.png"))
      np.testing.assert_array_equal(pixels, np.rint(image * 255))
  assert json.loads((folder / "account.json").read_text())[0]["op"] == "flip"


def test_entries_in_words():
  pixmix = {
    "op": "add",
    "a": 0.5,
    "original": {"op": "rotate", "magnitude": 3.0, "unit": "degrees"},
  }
  assert show_augmentation.describe(pixmix) == "add a=0.5 the original after rotate 3 degrees"
  chain = {"op": "chain", "weight": 0.25, "steps": [{"op": "equalize"}, {"op": "autocontrast"}]}
  assert show_augmentation.describe(chain) == "chain weight=0.25 [equalize; autocontrast]"


def test_copies_of_a_consistency_term_are_told_one_by_one(tmp_path):
  item = prepare(
    tmp_path,
    **{"augment.policy": {"name": "cutout", "length": 8}, "objective.jsd_weight": 12.0},
  )
  order = np.asarray(item.trainer.order(item.trainer.root, jnp.int32(0)))
  seen = show_augmentation.look(item, epoch=0, example=int(item.trainer.split.ids[order[3]]))
  clean = seen.views["augmented"]
  starts = [i for i, entry in enumerate(seen.account) if entry["op"] == "copy"]
  assert [entry["op"] for entry in seen.account[: starts[0]]] == ["flip", "crop"]
  for number, start in enumerate(starts, start=1):
    box = seen.account[start + 1]
    want = clean.copy()
    rows = slice(max(box["row"] - 4, 0), box["row"] + 4)
    want[rows, max(box["column"] - 4, 0) : box["column"] + 4] = 0.5
    np.testing.assert_array_equal(seen.views[f"augmented_copy{number}"], want)
  assert len(starts) == 2


def test_a_policy_that_is_off_in_an_epoch_is_not_told(tmp_path):
  chosen = {"name": "sample_pairing"}
  item = prepare(tmp_path, **{"augment.policy": chosen, "augment.start": 0.4, "augment.end": 0.7})
  told = []
  for epoch in (0, 1):
    order = np.asarray(item.trainer.order(item.trainer.root, jnp.int32(4 * epoch)))
    example = int(item.trainer.split.ids[order[3]])
    seen = show_augmentation.look(item, epoch=epoch, example=example)
    told.append([entry["op"] for entry in seen.account])
  assert told == [["flip", "crop"], ["flip", "crop", "sample_pairing"]]
