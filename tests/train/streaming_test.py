# SPDX-License-Identifier: Apache-2.0
"""Training from picture files step by step: the same run as from memory, wherever it starts."""

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import base
from mixboost_jax import data, evaluate, settings, train
from mixboost_jax.data import folders, writing
from mixboost_jax.keys import Stream, example_keys
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.train import augmentation, samples

pytestmark = pytest.mark.usefixtures("quick_compilation")

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
      writing.Example(name, (listing.root / name).read_bytes(), label)
      for name, label in zip(listing.names, listing.labels, strict=True)
    ]
  facts = {"name": "pets", "version": "1.0.0", "class_names": list(CLASSES), "description": ""}
  writing.write_records(place, splits, image_shape=(None, None, 3), **facts)
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
  state, history = advance(trainer, last=4)
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


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (7, 5)])
def test_threads_change_nothing(folder, threads, ahead):
  def first_batches(**runtime):
    trainer = build(folder, **ON, **CROP, **runtime)
    with trainer.feed.start(2) as inputs:
      return [jax.device_get(inputs(step)[0]) for step in (2, 3, 4)]

  options = {"runtime.decode_threads": threads, "runtime.batches_ahead": ahead}
  assert_same(first_batches(**options), first_batches())


def test_devices_and_micro_batches_change_no_picture(folder):
  def batch(**options):
    trainer = build(folder, **ON, **CROP, **options)
    with trainer.feed.start(1) as inputs:
      pictures = inputs(1)[0]
    return pictures, jax.device_get(pictures)

  _, one = batch()
  on_four, four = batch(num_devices=4, **{"train.accumulate": 2})
  assert four.images.shape == (2, 4, 16, 16, 3)
  assert {shard.data.shape for shard in on_four.images.addressable_shards} == {(2, 1, 16, 16, 3)}
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a.reshape(b[0].shape), b[0]), four, one)


def test_accumulation_on_several_devices_is_the_run_from_memory(folder):
  options = {"train.accumulate": 2, "model.compute_dtype": "float32"}
  one, other = (
    advance(build(folder, num_devices=4, **options, **stream), last=2)[1] for stream in (ON, OFF)
  )
  assert one == pytest.approx(other, rel=1e-5)


def test_windows_are_those_of_the_compiled_augmentation(folder):
  """Same windows, mirrored alike; Pillow and the step round the resized levels differently."""
  run = resolve(folder, **ON, **CROP)
  dataset = data.load(run.data)
  trainer = build(folder, **ON, **CROP)
  rows = np.arange(4)
  host = trainer.feed.batch(rows, epoch=3)
  each = example_keys(trainer.root, Stream.AUGMENT, jnp.asarray(host.ids), epoch=3)
  labels = jnp.zeros((4, 3))
  ours, _ = trainer.parts.augment(each, jnp.asarray(host.images), labels)
  mesh = meshes.create(devices=jax.devices()[:1])
  compiled = augmentation.training_augmentation(
    run, data.load(resolve(folder, **OFF, **CROP).data), mesh
  )
  stored = dataset.train.images
  for row in rows:
    raw, _ = stored.source.read(int(row))
    whole = np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"), np.float32)[None] / 255
    theirs, _ = compiled(each[row : row + 1], jnp.asarray(whole), labels[:1])
    np.testing.assert_allclose(ours[row], theirs[0], atol=1.6 / 255)
    size = trainer.feed.size_of(int(row))
    assert size == whole.shape[1:3]
