# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
from PIL import Image

from mixboost_jax import corruptions, data, evaluate
from mixboost_jax.data import folders
from mixboost_jax.data.released import trees
from mixboost_jax.evaluate import _released
from mixboost_jax.report import groups as groups_lib
from mixboost_jax.report import tables
from mixboost_jax.report.groups import load


@dataclasses.dataclass(frozen=True)
class FakeUnit:
  corruption: str
  severity: int
  group: str = "benchmark"


class FakeSet:
  """Forty-five pictures per unit, darker with the severity; rows are examples."""

  def __init__(self, split, names, *, films=False):
    self.split, self.is_sequences, self.num_rows, self.title = split, films, len(split), "Fake"
    severities = (0,) if films else (1, 2, 3, 4, 5)
    self.units = tuple(FakeUnit(name, s) for name in names for s in severities)

  def load(self, unit, *, start=0, stop=None):
    images = (self.split.images[start:stop] * (1 - 0.1 * unit.severity)).astype(np.uint8)
    return data.Split(images, self.split.labels[start:stop], self.split.ids[start:stop])

  def load_films(self, unit, *, start=0, stop=None):
    images = self.split.images[start:stop]
    return np.stack([images, images[:, ::-1]], axis=1)


@pytest.fixture
def cifar(easy):
  images, labels = easy
  split = data.Split(images, labels.astype(np.int32), np.arange(90, dtype=np.int32))
  part = split.part(0, 45)  # published sets are numbered by rows of the whole split
  names = tuple("abcdef")
  return data.Dataset("cifar10", "CIFAR-10", "files", names, part, None, part, (0.5,) * 3)


def opened(monkeypatch, split, folder):
  asked = []

  def open_set(kind, place, *, groups):
    asked.append((kind, place.name, groups))
    return FakeSet(
      split,
      ("tilt", "scale") if kind.endswith("_p") else ("frost", "contrast"),
      films=kind.endswith("_p"),
    )

  for name in ("CIFAR-10-C", "cifar-10-p"):
    (folder / name).mkdir()
  original = _released.open_sets
  monkeypatch.setattr(
    _released, "open_sets", lambda *a, **k: original(*a, **{**k, "open_set": open_set})
  )
  return asked


def test_published_files_replace_pictures_made_here(linear_fn, cifar, tmp_path, monkeypatch):
  asked = opened(monkeypatch, cifar.test, tmp_path)
  suite = "clean,c,p:tilt,c_generated:contrast,c_bar:ripple:1"
  results = evaluate.evaluate(linear_fn, cifar, suite, batch_size=16, released_dir=str(tmp_path))
  assert asked == [
    ("cifar10_c", "CIFAR-10-C", ("benchmark",)),
    ("cifar10_p", "cifar-10-p", ("benchmark",)),
  ]
  sources = {metric.dataset: metric.source for metric in results.metrics}
  assert sources == {
    "cifar10": "files",
    "cifar10-c-released": "released",
    "cifar10-p-released": "released",
    "cifar10-c": "generated",
    "cifar10-c_bar": "generated",
  }
  found = {(m.dataset, m.name): m for m in results.metrics}
  assert ("cifar10-c-released", "mce") in found  # of both corruptions of the fake set
  assert ("cifar10-c", "mce") not in found
  flips = found["cifar10-p-released", "flip_rate:tilt"]
  frames = cifar.test.images.astype(np.float32) / 255
  upright, turned = (np.asarray(linear_fn(x)).argmax(-1) for x in (frames, frames[:, ::-1]))
  assert flips.value == pytest.approx(100 * (upright != turned).mean(), rel=1e-5)
  table = tables.deviation_table(groups_lib.group(load(results)))
  assert table is not None
  assert [row[0].text for row in table.rows] == ["Error, contrast, CIFAR-10-C"]


WNIDS = tuple(f"n0000000{i}" for i in range(6))


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
  """A folder data set of six wnids, and the root of sets that were made from its test split."""
  monkeypatch.setattr(trees, "NUM_CLASSES", len(WNIDS))
  rng = np.random.default_rng(0)
  for k, wnid in enumerate(WNIDS):
    for split, name in (("train", "a.png"), ("val", f"{k}.JPEG"), ("val", f"x{k}.JPEG")):
      place = tmp_path / "own" / split / wnid
      place.mkdir(parents=True, exist_ok=True)
      image = Image.fromarray(rng.integers(0, 256, (10, 10, 3)).astype(np.uint8))
      image.save(place / name, "PNG")
  published = tmp_path / "published"
  published.mkdir()
  train, test, names = folders.open_splits(tmp_path / "own", image_size=8)
  assert names == WNIDS
  own = data.Dataset("folder", "Own", "files", names, train, None, test, (0.5,) * 3)
  return own, tmp_path / "own" / "val", published


@pytest.mark.parametrize(
  ("family", "title", "kind"),
  [("c", "ImageNet-C", "c"), ("c_bar", "imagenet-c-bar", "c_bar_imagenet")],
)
def test_imagenet_gives_its_class_names_and_its_size(imagenet, family, title, kind):
  own, val, published = imagenet
  for name in corruptions.NAMES[kind]:
    for severity in range(1, 6):
      place = published / title / corruptions.BENCHMARK_NAMES.get(name, name) / str(severity)
      place.parent.mkdir(parents=True, exist_ok=True)
      place.symlink_to(val)
  examples = evaluate.from_dataset(own, split="test")
  found = _released.open_sets(str(published), examples, [family])
  assert found is not None
  member = found.members(family)[0]
  unit = evaluate.Unit("corruption", family, member, 3, "released")
  places = examples.order[2:5]
  part = found.pictures(unit, 2, 5)  # the corruption of this set does nothing
  np.testing.assert_array_equal(part.images, own.test.images[places])
  assert part.labels.tolist() == own.test.labels[places].tolist()
  few = dataclasses.replace(examples, class_names=WNIDS[:5])
  with pytest.raises(ValueError, match="expected 6 different class names, got 5"):
    _released.open_sets(str(published), few, [family])
  nameless = dataclasses.replace(examples, class_names=())
  with pytest.raises(ValueError, match="a data set with ImageNet's classes"):
    _released.open_sets(str(published), nameless, [family])


def test_films_come_in_the_order_of_the_examples(cifar):
  examples = evaluate.from_dataset(cifar, split="test")
  opened_sets = _released.Released({"p": FakeSet(cifar.test, ("tilt",), films=True)}, examples)
  films = opened_sets.films(evaluate.Unit("sequence", "p", "tilt", 0, "released"), 10, 20)
  np.testing.assert_array_equal(films[:, 0], cifar.test.images[examples.order[10:20]])


def test_films_of_noise_are_compared_with_their_first_frame(
  linear_fn, cifar, tmp_path, monkeypatch
):
  class ThereAndBack(FakeSet):
    def load_films(self, unit, *, start=0, stop=None):
      films = super().load_films(unit, start=start, stop=stop)
      return np.concatenate([films, films[:, :1]], axis=1)

  (tmp_path / "CIFAR-10-P").mkdir()
  fake = ThereAndBack(cifar.test, ("tilt", "gaussian_noise"), films=True)
  original = _released.open_sets
  monkeypatch.setattr(
    _released, "open_sets", lambda *a, **k: original(*a, **k, open_set=lambda *a, **k: fake)
  )
  suite = "p:tilt,p:gaussian_noise"
  results = evaluate.evaluate(linear_fn, cifar, suite, batch_size=48, released_dir=str(tmp_path))
  found = {m.name: m.value for m in results.metrics}
  assert found["flip_rate:tilt"] > 0
  assert found["flip_rate:tilt"] == pytest.approx(2 * found["flip_rate:gaussian_noise"], rel=1e-5)


def test_frames_of_another_size_are_refused(cifar):
  examples = evaluate.from_dataset(cifar, split="test")
  small = dataclasses.replace(cifar.test, images=cifar.test.images[:, :4, :4])
  opened_sets = _released.Released({"p": FakeSet(small, ("tilt",), films=True)}, examples)
  unit = evaluate.Unit("sequence", "p", "tilt", 0, "released")
  with pytest.raises(ValueError, match=r"expected frames of the size of the pictures, \[8, 8, 3\]"):
    opened_sets.films(unit, 0, 3)


def test_the_form_of_tfds_is_taken_where_there_is_no_other(cifar, tmp_path):
  examples = evaluate.from_dataset(cifar, split="test")
  asked = []

  def open_set(kind, place, *, groups):
    asked.append(kind)
    return FakeSet(cifar.test, ("frost",))

  (tmp_path / "cifar10_corrupted").mkdir()
  _released.open_sets(str(tmp_path), examples, ["c"], open_set=open_set)
  (tmp_path / "CIFAR-10-C").mkdir()
  _released.open_sets(str(tmp_path), examples, ["c"], open_set=open_set)
  assert asked == ["cifar10_corrupted", "cifar10_c"]


def test_rows_are_put_back_in_the_order_of_the_examples(cifar):
  examples = evaluate.from_dataset(cifar, split="test")
  opened_sets = _released.Released({"c": FakeSet(cifar.test, ("fog",))}, examples)
  places = examples.order[7:19]
  assert (np.diff(places) < 0).any()
  unit = evaluate.Unit("corruption", "c", "fog", 2, "released")
  part = opened_sets.pictures(unit, 7, 19)
  np.testing.assert_array_equal(part.labels, cifar.test.labels[places])
  np.testing.assert_array_equal(part.images, (cifar.test.images[places] * 0.8).astype(np.uint8))


def test_other_labels_are_refused(cifar):
  examples = evaluate.from_dataset(cifar, split="test")
  wrong = dataclasses.replace(cifar.test, labels=np.roll(cifar.test.labels, 1))
  opened_sets = _released.Released({"c": FakeSet(wrong, ("fog",))}, examples)
  unit = evaluate.Unit("corruption", "c", "fog", 2, "released")
  with pytest.raises(ValueError, match="labels differ from those of cifar10"):
    opened_sets.pictures(unit, 0, 45)


@pytest.mark.parametrize("rows", [45, 30])
def test_all_labels_are_compared_when_a_set_is_opened(cifar, tmp_path, rows):
  (tmp_path / "CIFAR-10-C").mkdir()
  examples = evaluate.from_dataset(cifar, split="test")
  labels = cifar.test.labels.copy()
  labels[[3, 44]] = (labels[[3, 44]] + 1) % 6
  wrong = dataclasses.replace(cifar.test, labels=labels).part(0, rows)

  def open_set(kind, place, *, groups):
    return FakeSet(wrong, ("frost",))

  count = 2 if rows == 45 else 45
  with pytest.raises(ValueError, match=f"same order, got {count} of 45 that differ"):
    _released.open_sets(str(tmp_path), examples, ["c"], open_set=open_set)


def test_a_folder_without_published_sets(linear_fn, cifar, tmp_path):
  with pytest.raises(ValueError, match="expected a folder named CIFAR-10-C"):
    evaluate.evaluate(linear_fn, cifar, "clean,c", released_dir=str(tmp_path))
