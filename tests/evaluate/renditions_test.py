# SPDX-License-Identifier: Apache-2.0
"""ImageNet-R and published films from small files on disk, through the whole evaluation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mixboost_jax import corruptions, data, evaluate
from mixboost_jax.data import released as released_data
from mixboost_jax.data.released import trees
from mixboost_jax.evaluate import _suites
from mixboost_jax.report import groups, tables
from mixboost_jax.runtime import interrupt as pieces
from mixboost_jax.runtime import mesh as mesh_lib

WNIDS = tuple(f"n0000000{i}" for i in range(6))
OCCURRING = (1, 4, 5)
SIDE = 8


def brightness_votes(images, count=6):
  """A network whose best column is the red level in steps of 40, then the others by distance."""
  level = images[:, 0, 0, :1] * 255 / 40
  return -jnp.abs(level - jnp.arange(count, dtype=jnp.float32)[None])


@pytest.fixture
def renditions(tmp_path, monkeypatch):
  """Seven pictures of three classes; the red level names the class that the network sees."""
  monkeypatch.setattr(trees, "NUM_CLASSES", len(WNIDS))
  monkeypatch.setattr(trees, "RENDITION_CLASSES", len(OCCURRING))
  root = tmp_path / "imagenet-r"
  seen = {1: (1, 1, 0), 4: (4, 2), 5: (5, 5)}  # 0 -> 1 (right among these), 2 -> 1 (wrong)
  for k, levels in seen.items():
    (root / WNIDS[k]).mkdir(parents=True)
    for i, level in enumerate(levels):
      picture = Image.new("RGB", (SIDE, SIDE), (40 * level, k, i))
      picture.save(root / WNIDS[k] / f"art_{i}.png")
  return tmp_path


def own_set(names=WNIDS):
  images = np.full((12, SIDE, SIDE, 3), 40, np.uint8)
  split = data.Split(images, np.ones(12, np.int32), np.arange(12, dtype=np.int32))
  return data.Dataset("folder", "Own", "files", names, split, None, split, (0.5,) * 3)


def errors(results):
  return {(m.dataset, m.name): m for m in results.metrics}


@pytest.fixture(scope="module")
def one():
  return mesh_lib.create(devices=jax.devices()[:1])


def test_only_the_classes_that_occur_compete(renditions, one):
  options = {"batch_size": 4, "released_dir": str(renditions), "mesh": one}
  results = evaluate.evaluate(brightness_votes, own_set(), "clean,r", **options)
  found = errors(results)
  error = found["folder-r-released", "error"]
  assert (error.source, error.count) == ("released", 7)
  assert error.value == pytest.approx(100 / 7)  # level 2 is nearer to 1 than to 4
  assert found["folder", "error"].count == 12  # a count of its own
  assert "reliability/folder-r-released" in results.curves
  few = evaluate.evaluate(brightness_votes, own_set(), "r", max_examples=3, **options)
  assert errors(few)["folder-r-released", "error"].count == 3


def test_a_network_of_the_subset_and_data_without_names(renditions, one):
  def subset(images):
    return brightness_votes(images)[:, np.asarray(OCCURRING)]

  options = {"released_dir": str(renditions), "mesh": one}
  named = own_set(tuple(WNIDS[k] for k in OCCURRING))
  arrays = (named.test.images, named.test.labels)
  for dataset in (named, arrays, own_set()):
    results = evaluate.evaluate(subset, dataset, "r", **options)
    error = next(m for m in results.metrics if m.name == "error")
    assert error.value == pytest.approx(100 / 7)
  with pytest.raises(ValueError, match=r"which of the 6 columns .* put wnids.txt"):
    evaluate.evaluate(brightness_votes, arrays, "r", **options)
  (renditions / "wnids.txt").write_text("\n".join(reversed(WNIDS)))
  results = evaluate.evaluate(brightness_votes, arrays, "r", **options)
  assert results.metrics[0].value == pytest.approx(100 / 7)


def test_wrong_networks_folders_and_words(renditions, one):
  other = functools.partial(brightness_votes, count=4)
  options = {"released_dir": str(renditions), "mesh": one}
  with pytest.raises(ValueError, match="needs a network of 6 or 3 classes, got 4"):
    evaluate.evaluate(other, own_set(), "r", **options)
  with pytest.raises(ValueError, match=r"'r' is read from published files only; set"):
    evaluate.evaluate(brightness_votes, own_set(), "clean,r", mesh=one)
  with pytest.raises(ValueError, match="unknown name 'r_generated'"):
    evaluate.expand("r_generated")
  assert evaluate.suite_problem("clean,r") is None
  bigger = dataclasses.replace(
    own_set(),
    test=data.Split(
      np.zeros((2, 4, 8, 3), np.uint8), np.ones(2, np.int32), np.arange(2, dtype=np.int32)
    ),
  )
  with pytest.raises(ValueError, match=r"expected pictures of the size .*\[4, 8, 3\]"):
    evaluate.evaluate(brightness_votes, bigger, "r", **options)


def test_renditions_are_measured_once(renditions, one, tmp_path, monkeypatch):
  options = {"batch_size": 4, "released_dir": str(renditions), "folder": tmp_path / "kept"}
  small = dataclasses.replace(_suites.KINDS["renditions"], piece=4)
  monkeypatch.setitem(_suites.KINDS, "renditions", small)
  asked = []

  def stop_after_two():
    asked.append(1)
    return len(asked) > 2

  whole = evaluate.evaluate(
    brightness_votes, own_set(), "r", batch_size=4, released_dir=str(renditions), mesh=one
  )
  with pytest.raises(pieces.Stopped):
    evaluate.evaluate(
      brightness_votes, own_set(), "clean,r", mesh=one, should_stop=stop_after_two, **options
    )
  again = evaluate.evaluate(brightness_votes, own_set(), "r", mesh=one, **options)
  assert again.metrics == whole.metrics
  lines = (tmp_path / "kept" / "units.jsonl").read_text().splitlines()
  assert [line.split('"')[7] for line in lines] == ["clean", "r released", "r released"]
  budgeted = evaluate.evaluate(
    brightness_votes, own_set(), "r", mesh=one, budget="1h", batch_size=4,
    released_dir=str(renditions),
  )  # fmt: skip
  assert errors(budgeted)["folder-r-released", "error"].count == 7


def write_films(root, names, count, frames=3):
  root.mkdir()
  rng = np.random.default_rng(0)
  films = {}
  for name in names:
    films[name] = rng.integers(0, 256, (count, frames, 32, 32, 3)).astype(np.uint8)
    np.save(root / f"{name}.npy", films[name])
  return films


@pytest.fixture(scope="module")
def wide_fn():
  weights = jnp.asarray(np.random.default_rng(2).normal(size=(32 * 32 * 3, 10)), jnp.float32)
  return lambda images: (images - 0.5).reshape(len(images), -1) @ weights


def predicted(logits_fn, films):
  frames = films.reshape(-1, *films.shape[2:]).astype(np.float32) / 255
  return np.asarray(logits_fn(jnp.asarray(frames))).reshape(*films.shape[:2], -1)


def top5_distance(logits, noise):
  """By the definition: places of the first five of one frame in the other."""
  total = []
  for film in logits:
    order = np.argsort(-film, axis=1, kind="stable")
    for j in range(1, len(film)):
      before = order[0 if noise else j - 1]
      place = {k: i for i, k in enumerate(order[j])}
      total.append(sum(abs(i - min(place[k], 5)) for i, k in enumerate(before[:5])))
  return np.mean(total)


def published(names) -> list[str]:
  return [str(corruptions.BENCHMARK_NAMES.get(name, name)) for name in names]


@pytest.mark.parametrize("suite", ["p", "p_code"])
def test_films_of_cifar_10_p(wide_fn, one, tmp_path, suite):
  names = published([*corruptions.NAMES["p"], *corruptions.NAMES["p_extra"]])
  films = write_films(tmp_path / "CIFAR-10-P", names, 6)
  np.save(tmp_path / "CIFAR-10-P" / "gaussian_noise_2.npy", films["gaussian_noise"])  # harder
  split = data.Split(
    np.zeros((6, 32, 32, 3), np.uint8), np.zeros(6, np.int32), np.arange(6, dtype=np.int32)
  )
  names_of_classes = tuple(map(str, range(10)))
  own = data.Dataset("cifar10", "C", "files", names_of_classes, split, None, split, (0.5,) * 3)
  words = f"clean,{suite},p_generated:brightness"
  results = evaluate.evaluate(
    wide_fn, own, words, batch_size=24, released_dir=str(tmp_path), mesh=one
  )
  found = errors(results)
  wanted = published(corruptions.NAMES[suite])
  assert ("spatter" in wanted) == (suite == "p_code")
  flips, distances = [], []
  for name in wanted:
    logits, noise = predicted(wide_fn, films[name]), "noise" in name
    best = logits.argmax(-1)
    before = best[:, :1] if noise else best[:, :-1]
    flips.append(100 * (best[:, 1:] != before).mean())
    distances.append(top5_distance(logits, noise))
    rate = found[f"cifar10-{suite}-released", f"flip_rate:{name}"]
    assert rate.value == pytest.approx(flips[-1], abs=1e-4)
    assert (rate.count, rate.source) == (6, "released")
  mfr = found[f"cifar10-{suite}-released", "mfr"]
  assert mfr.value == pytest.approx(np.mean(flips), abs=1e-4)
  assert mfr.low is not None
  assert mfr.high is not None
  assert mfr.low <= mfr.value <= mfr.high
  mt5d = found[f"cifar10-{suite}-released", "mt5d"]
  assert mt5d.value == pytest.approx(np.mean(distances), abs=1e-4)
  assert {m.source for (d, _), m in found.items() if d == "cifar10-p"} == {"generated"}
  assert ("cifar10-p", "mfr") not in found  # one sequence made here makes no mean
  table = tables.deviation_table(groups.group(groups.load(results)))
  rows = [row[0].text for row in table.rows] if table else []
  assert bool(rows) == (suite == "p")


def test_films_of_imagenet_p_come_in_the_order_of_the_pictures(tmp_path, monkeypatch):
  monkeypatch.setattr(trees, "NUM_CLASSES", len(WNIDS))
  names = published(corruptions.NAMES["p"])
  for name in names:
    for k, wnid in enumerate(WNIDS):
      place = tmp_path / "films" / "blur" / name / wnid
      place.mkdir(parents=True)
      for i in range(2):
        np.save(place / f"val_{i}.npy", np.full((2, 4, 4, 3), 10 * k + i, np.uint8))
  for k, wnid in enumerate(WNIDS):
    place = tmp_path / "val" / wnid
    place.mkdir(parents=True)
    for i in range(2):
      Image.new("RGB", (4, 4), (10 * k + i, 0, 0)).save(place / f"val_{i}.JPEG", "PNG")
  root = tmp_path / "films"
  opened = released_data.open_set("imagenet_p", root, groups=("benchmark",), wnids=WNIDS)
  assert opened.num_rows == 12
  split = trees._read(
    tmp_path / "val",
    trees._names(tmp_path / "val", WNIDS, (".jpeg",)),
    WNIDS, 0, 0, None,
  )  # fmt: skip
  films = opened.load_films(opened.units[0])
  np.testing.assert_array_equal(films[:, 0, 0, 0, 0], split.images[:, 0, 0, 0])
  (root / "blur" / names[3] / WNIDS[2] / "val_1.npy").unlink()
  with pytest.raises(ValueError, match=f"{names[3]}: expected 12 films .*, got 11"):
    released_data.open_set("imagenet_p", root, groups=("benchmark",), wnids=WNIDS)
