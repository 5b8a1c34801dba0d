# SPDX-License-Identifier: Apache-2.0
"""Training from picture files step by step: the same run as from memory, wherever it starts."""

import dataclasses
import io
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import base
from mixboost_jax import data, evaluate, settings, train
from mixboost_jax.data import folders, pictures, prepare
from mixboost_jax.jobs import compile as compiling
from mixboost_jax.jobs import prepared, training
from mixboost_jax.keys import Stream, example_keys
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.runtime.checkpoint import Restored
from mixboost_jax.train import augmentation

OPTIONS = {
  "data.name": "folder",
  "data.image_size": 16,
  "model.name": "tiny-cnn",
  "model.dropout": 0.0,
  "augment.crop_padding": 2,
  "mask.grid": 8,
  "objective.name": "mixboost",
  "train.batch_size": 8,
  "train.epochs": 0.0,
  "train.steps": 6,
  "train.log_every_steps": 1,
  "runtime.tensorboard": False,
}
CLASSES, EACH = ("ant", "bee", "cow"), 8


def jpeg(number):
  """A photograph-like file of no particular size."""
  rng = np.random.default_rng(number)
  height, width = rng.integers(17, 40, 2)
  coarse = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
  buffer = io.BytesIO()
  Image.fromarray(coarse).resize((int(width), int(height))).save(buffer, "JPEG")
  return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  root = tmp_path_factory.mktemp("pictures")
  for s, (split, each) in enumerate((("train", EACH), ("test", 3))):
    for c, name in enumerate(CLASSES):
      place = root / split / name
      place.mkdir(parents=True)
      for i in range(each):
        (place / f"{i}.jpg").write_bytes(jpeg(100 * s + 10 * c + i))
  return root


@pytest.fixture(scope="module")
def records(folder, tmp_path_factory):
  """The same pictures in the same order as TFDS array_record."""
  root = tmp_path_factory.mktemp("records")
  place = root / "pets" / "1.0.0"
  place.mkdir(parents=True)
  splits = {}
  for split, listing in zip(("train", "test"), folders.list_files(folder), strict=False):
    splits[split] = [
      prepare.Example(name, (listing.root / name).read_bytes(), label)
      for name, label in zip(listing.names, listing.labels, strict=True)
    ]
  facts = {"name": "pets", "version": "1.0.0", "class_names": list(CLASSES), "description": ""}
  prepare.write_records(place, splits, image_shape=(None, None, 3), **facts)
  return root


def resolve(place, **overrides):
  return settings.resolve(
    base.override(base.get_config(), {**OPTIONS, "data.dir": str(place), **overrides})
  )


def build(place, *, num_devices=1, **overrides):
  run = resolve(place, **overrides)
  mesh = meshes.create(devices=jax.devices()[:num_devices])
  return train.build(run, data.load(run.data), mesh)


ON, OFF = {"data.stream": "on"}, {"data.stream": "off"}
CROP = {"augment.crop_padding": 0, "augment.resized_crop": 16}


def advance(trainer, *, first=0, last=6, state=None):
  """Returns the state and the losses after steps `first` to `last` - 1."""
  state, history = jax.tree.map(jnp.copy, trainer.state if state is None else state), []
  with trainer.feed.start(first) as inputs:
    for step in range(first, last):
      state, metrics = trainer.step(state, *inputs(step))
      history.append(float(metrics["loss"]))
  return jax.device_get(state), history


def assert_same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def streamed(folder):
  trainer = build(folder, **ON)
  return trainer, *advance(trainer)


def test_a_streamed_run_is_the_run_from_memory_bit_for_bit(folder, streamed):
  trainer, state, history = streamed
  assert trainer.split is None
  resident = build(folder, **OFF)
  assert resident.split is not None
  kept, losses = advance(resident)
  assert losses == history
  assert_same(kept, state)


def test_records_are_the_same_run_as_folders(records, streamed):
  trainer = build(records, **ON, **{"data.name": "tfds", "data.tfds_name": "pets"})
  _, history = advance(trainer, last=4)
  assert history == streamed[2][:4]
  assert len(streamed[0].feed.ids) == 24


def test_a_run_goes_on_in_the_middle_of_an_epoch(streamed):
  trainer, whole, history = streamed
  assert trainer.parts.steps_per_epoch == 3
  state, first = advance(trainer, last=4)
  state = jax.device_put(state, jax.tree.map(lambda x: x.sharding, trainer.state))
  state, rest = advance(trainer, first=4, state=state)
  assert first + rest == history
  assert_same(state, whole)


def pictures_of_an_epoch(trainer, *, epoch=1):
  """Returns id -> (picture, label) of every example that the epoch takes."""
  per_epoch, found = trainer.parts.steps_per_epoch, {}
  first = epoch * per_epoch
  with trainer.feed.start(first) as inputs:
    for step in range(first, first + per_epoch):
      batch = inputs(step)[0]
      pictures, labels, ids = (
        np.reshape(values, (-1, *values.shape[2:])) for values in jax.device_get(batch)
      )
      found |= {i: (picture, y) for i, picture, y in zip(ids, pictures, labels, strict=True)}
  return found, batch


@pytest.fixture(scope="module")
def seen(folder):
  return pictures_of_an_epoch(build(folder, **ON, **CROP))[0]


@pytest.mark.parametrize(
  ("num_devices", "options"),
  [
    (1, {"runtime.decode_threads": 1, "runtime.batches_ahead": 1}),
    (1, {"runtime.decode_threads": 7, "runtime.batches_ahead": 5}),
    (1, {"train.batch_size": 12}),
    (4, {"train.accumulate": 2}),
  ],
)
def test_threads_batches_and_devices_change_no_picture(folder, seen, num_devices, options):
  trainer = build(folder, num_devices=num_devices, **ON, **CROP, **options)
  again, batch = pictures_of_an_epoch(trainer)
  assert set(again) == set(seen) == set(range(24))
  for example, (picture, label) in again.items():
    np.testing.assert_array_equal(picture, seen[example][0])
    assert label == seen[example][1]
  if num_devices > 1:
    assert {shard.data.shape for shard in batch.images.addressable_shards} == {(2, 1, 16, 16, 3)}


def test_windows_differ_between_epochs(folder, seen):
  other, _ = pictures_of_an_epoch(build(folder, **ON, **CROP), epoch=0)
  assert sum(np.array_equal(other[i][0], seen[i][0]) for i in seen) < 3


def test_a_damaged_picture_ends_the_run_at_its_step(folder, tmp_path):
  root = shutil.copytree(folder, tmp_path / "copy")
  trainer = build(root, **ON)
  stored = data.load(trainer.settings.data).train.images
  victim = int(trainer.feed.request(1).places[0, 3])
  name = pathlib.Path(stored.source.name(victim))
  name.write_bytes(name.read_bytes()[:200])
  with trainer.feed.start(0) as inputs:
    inputs(0)
    with pytest.raises(ValueError, match=rf"{name.name}: not a readable picture.*replace it"):
      inputs(1)
  name.unlink()
  with (
    trainer.feed.start(1) as inputs,
    pytest.raises(ValueError, match="put it back \\(a run then goes on by the same"),
  ):
    inputs(1)


def test_the_memory_of_a_step_is_estimated_for_what_the_feed_gives(streamed):
  trainer, mesh = streamed[0], meshes.create(devices=jax.devices()[:1])
  known = compiling.step_case(trainer, mesh, (16, 16, 3)).arguments[-2:]
  with trainer.feed.start(0) as inputs:
    given = inputs(0)
  assert jax.tree.structure(known) == jax.tree.structure(given)
  for one, other in zip(jax.tree.leaves(known), jax.tree.leaves(given), strict=True):
    assert (one.shape, one.dtype) == (other.shape, other.dtype)
    assert one.sharding.is_equivalent_to(other.sharding, other.ndim)


def test_a_changed_folder_is_not_resumed(folder, tmp_path, streamed):
  root = shutil.copytree(folder, tmp_path / "copy")
  trainer, mesh = streamed[0], meshes.create(devices=jax.devices()[:1])
  before = data.load(resolve(root, **ON).data)
  restored = Restored(None, {"step": 3, "data": before.fingerprint})
  item = prepared.Run(trainer.settings, tmp_path, trainer, before, mesh)
  training.check_same_files(item, restored)
  (root / "train" / "bee" / "0.jpg").rename(root / "train" / "bee" / "new.jpg")
  after = data.load(resolve(root, **ON).data)
  with pytest.raises(ValueError, match=r"24 files \w+ up to step 3, but .* has 24 files \w+ today"):
    training.check_same_files(dataclasses.replace(item, dataset=after), restored)


def test_samples_of_a_streamed_run(streamed):
  views = training.sample_views(streamed[0], num=3)
  assert {name: view.shape for name, view in views.items()} == dict.fromkeys(
    ("clean", "augmented", "masked"), (3, 16, 16, 3)
  )


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    ({"train.steps_per_call": 2}, "decoded step by step .*; set 1"),
    ({**CROP, "augment.crop_padding": 2}, "resized crops of .* are cut while .* decoded"),
  ],
)
def test_what_streams_cannot_do(folder, overrides, message):
  with pytest.raises(ValueError, match=message):
    build(folder, **ON, **overrides)


def test_every_test_picture_is_scored_once(folder, monkeypatch):
  """In batches of 4, the last of one picture and three rows of padding."""
  weights = np.random.default_rng(0).normal(size=(16 * 16 * 3, 3))
  mesh = meshes.create(devices=jax.devices()[:2])
  decoded, decode = [], pictures.decode

  def counted(raw, **options):
    decoded.append(options["place"])
    return decode(raw, **options)

  def measure(stream):
    dataset = data.load(resolve(folder, **stream).data)
    decoded.clear()
    monkeypatch.setattr(pictures, "decode", counted)
    found = evaluate.evaluate(
      jax.tree_util.Partial(
        lambda w, x: x.reshape(len(x), -1) @ w, jnp.asarray(weights, "float32")
      ),
      dataset,
      batch_size=4,
      mesh=mesh,
    )
    monkeypatch.undo()
    return found

  one, other = measure(ON), None
  everyone = sorted(map(str, folder.glob("test/*/*.jpg")))
  assert sorted(map(str, decoded[: len(everyone)])) == everyone  # a first look at the outputs
  assert sorted(map(str, decoded[len(everyone) :])) == everyone
  other = measure(OFF)
  assert {metric.count for metric in one.metrics} == {9}
  assert one.metrics == other.metrics


def test_accumulation_on_several_devices_is_the_run_from_memory(folder):
  options = {"train.accumulate": 2, "model.compute_dtype": "float32"}
  one, other = (
    advance(build(folder, num_devices=4, **options, **stream), last=2)[1] for stream in (ON, OFF)
  )
  assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("alternate", [False, True])
def test_windows_are_those_of_the_compiled_augmentation(folder, alternate):
  """Same windows, mirrored alike; Pillow and the step round the resized levels differently."""
  options = {**CROP, "augment.alternate_flip": alternate}
  run = resolve(folder, **ON, **options)
  trainer, rows, mirrored = build(folder, **ON, **options), np.arange(4), {}
  windows = augmentation.host_windows(run, trainer.root)
  for epoch in range(1, 20, 2):
    mirrored[epoch] = [place.keywords["mirrored"] for place in windows(rows, epoch)]
  epoch = next(epoch for epoch, each in mirrored.items() if len(set(each)) == 2)
  host = trainer.feed.batch(rows, epoch=epoch)
  each, first = (
    example_keys(trainer.root, Stream.AUGMENT, host.ids, epoch=one) for one in (epoch, 0)
  )
  labels = jnp.zeros((4, 3))
  ours, _ = jax.jit(trainer.parts.augment)(each, host.images, labels, epoch, first)
  resident = data.load(resolve(folder, **OFF, **options).data)
  mesh = meshes.create(devices=jax.devices()[:1])
  compiled = jax.jit(augmentation.training_augmentation(run, resident, mesh))
  stored = data.load(run.data).train.images
  for row in rows:
    ((raw, _),) = stored.source.read([int(row)])
    whole = np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"), np.float32)[None] / 255
    own, own_first = (keys[row : row + 1] for keys in (each, first))
    theirs, _ = compiled(own, jnp.asarray(whole), labels[:1], epoch, own_first)
    np.testing.assert_allclose(ours[row], theirs[0], atol=1.6 / 255)
    assert trainer.feed.size_of(int(row)) == whole.shape[1:3]
