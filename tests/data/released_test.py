# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from PIL import Image

from mixboost_jax.data import pictures, prepare, released
from mixboost_jax.data.released import cifar, trees

ROWS = 4
LABELS = np.array([3, 1, 4, 1], np.uint8)


@pytest.fixture
def arrays(tmp_path):
  """Writes small copies of the array sets: value = 10 * corruption + severity - 1, then the row."""

  def write(kind, *, title="", rows=ROWS):
    root = tmp_path / title if title else tmp_path
    root.mkdir(exist_ok=True)
    for i, name in enumerate(names_of(kind)):
      images = np.zeros((5, rows, 32, 32, 3), np.uint8)
      images[..., 0] = 10 * i + np.arange(5)[:, None, None, None]
      images[..., 1] = np.arange(rows)[None, :, None, None]
      np.save(root / f"{name}.npy", images.reshape(-1, 32, 32, 3))
    np.save(root / "labels.npy", np.tile(LABELS[:rows], 5))
    return tmp_path

  return write


def names_of(kind):
  return [name for name, _ in released.resolve(kind, ())[1]]


def test_corrupted_arrays_are_read_by_block(arrays):
  opened = released.open_set("cifar10_c", arrays("cifar10_c", title="CIFAR-10-C"))
  assert opened.title == "CIFAR-10-C (copy with 4 test pictures)"
  assert (opened.num_classes, opened.num_rows) == (10, 4)
  assert [len([u for u in opened.units if u.group == g]) for g in ("benchmark", "extra")] == [
    75,
    20,
  ]
  assert opened.units[0] == released.ReleasedUnit("gaussian_noise", 1, "benchmark")
  assert {"frost", "spatter"} <= {unit.corruption for unit in opened.units}
  for i, unit in enumerate(opened.units):
    split = opened.load(unit)
    assert (split.images[..., 0] == 10 * (i // 5) + unit.severity - 1).all()
  assert split.images.dtype == np.uint8
  assert split.images[:, 5, 7, 1].tolist() == [0, 1, 2, 3]
  assert split.labels.tolist() == LABELS.tolist()
  assert split.ids.tolist() == [0, 1, 2, 3]
  part = opened.load(opened.units[1], start=1, stop=3)
  assert part.ids.tolist() == [1, 2]
  assert part.images[:, 0, 0, :2].tolist() == [[1, 1], [1, 2]]
  assert part.labels.tolist() == [1, 4]


def test_the_bar_set_and_the_published_number_of_rows(arrays):
  root = arrays("cifar100_c_bar")
  opened = released.open_set("cifar100_c_bar", root)
  assert len(opened.units) == 50
  assert opened.num_classes == 100
  with pytest.raises(ValueError, match=r"labels.npy: expected 50000 labels, got 20"):
    released.open_set("cifar100_c_bar", root, num_rows=10_000)


def short(root):
  np.save(root / "fog.npy", np.load(root / "fog.npy")[:-1])


def wrong_type(root):
  np.save(root / "fog.npy", np.load(root / "fog.npy").astype(np.float32))


def cut_off(root):
  raw = (root / "fog.npy").read_bytes()
  (root / "fog.npy").write_bytes(raw[: len(raw) // 2])


def pickled(root):
  np.save(root / "fog.npy", np.array([{}], dtype=object), allow_pickle=True)


def other_labels(root):
  labels = np.load(root / "labels.npy")
  labels[ROWS * 2] += 1
  np.save(root / "labels.npy", labels)


def labels_of_another_set(root):
  np.save(root / "labels.npy", np.load(root / "labels.npy") + 20)


def float_labels(root):
  np.save(root / "labels.npy", np.load(root / "labels.npy").astype(float))


@pytest.mark.parametrize(
  ("harm", "message"),
  [
    (short, r"fog.npy: expected uint8\[20, 32, 32, 3\].*got uint8\[19, 32, 32, 3\]; extract"),
    (wrong_type, r"fog.npy: expected uint8\[20, 32, 32, 3\].*got float32\[20"),
    (cut_off, r"fog.npy: expected a complete .npy array"),
    (pickled, r"fog.npy: expected a complete .npy array without pickled objects"),
    (other_labels, r"labels.npy: expected 5 equal blocks, .*severity \['3'\]"),
    (labels_of_another_set, r"labels.npy: expected labels in \[0, 10\), got 21 to 24"),
    (float_labels, r"labels.npy: expected integers in one dimension, got float64\[20\]"),
    (lambda root: (root / "labels.npy").unlink(), "labels.npy: expected the labels .* no such"),
    (lambda root: (root / "fog.npy").unlink(), "fog.npy: expected an array of the group 'benchm"),
    (lambda root: (root / "saturate.npy").unlink(), r"'extra', got no.*groups=\('benchmark',\)"),
    (lambda root: (root / "fog.npy").rename(root / "ripple.npy"), "ripple.npy: expected only arr"),
  ],
)
def test_damaged_arrays_give_one_error(arrays, harm, message):
  root = arrays("cifar10_c")
  harm(root)
  with pytest.raises(ValueError, match=rf"CIFAR-10-C: not as released.[\s\S]*{message}"):
    released.open_set("cifar10_c", root)


def test_groups_that_are_not_wanted_may_be_missing(arrays):
  root = arrays("cifar10_c")
  for name in ("saturate", "spatter", "gaussian_blur", "speckle_noise"):
    (root / f"{name}.npy").unlink()
  opened = released.open_set("cifar10_c", root, groups=("benchmark",))
  assert len(opened.units) == 75
  with pytest.raises(ValueError, match=r"\.\.\. and \d+ more"):
    released.open_set("cifar10_p", root)


def test_films(tmp_path):
  names = names_of("cifar10_p")
  for i, name in enumerate(names):
    np.save(tmp_path / f"{name}.npy", np.full((3, 2 + i % 2, 32, 32, 3), i, np.uint8))
  opened = released.open_set("cifar10_p", tmp_path)
  assert opened.is_sequences
  assert opened.num_rows == 3
  assert [unit.corruption for unit in opened.units] == names
  films = opened.load_films(opened.units[1], start=1)
  assert films.shape == (2, 3, 32, 32, 3)
  assert (films == 1).all()
  with pytest.raises(ValueError, match="use load_films"):
    opened.load(opened.units[0])
  np.save(tmp_path / f"{names[2]}.npy", np.zeros((2, 4, 32, 32, 3), np.uint8))
  np.save(tmp_path / f"{names[3]}.npy", np.zeros((3, 32, 32, 3), np.uint8))
  with pytest.raises(ValueError, match=r"expected 3 films.*, got 2[\s\S]*") as caught:
    released.open_set("cifar10_p", tmp_path)
  assert f"{names[3]}.npy: expected uint8[videos, 2 or more frames" in str(caught.value)


def test_wrong_requests(tmp_path, arrays):
  with pytest.raises(ValueError, match="Did you mean 'cifar10_c'"):
    released.open_set("cifar10c", tmp_path)
  with pytest.raises(ValueError, match="no such folder; expected CIFAR-10-C"):
    released.open_set("cifar10_c", tmp_path / "nowhere")
  with pytest.raises(ValueError, match="unknown groups"):
    released.open_set("cifar10_c", tmp_path, groups=("extras",))
  with pytest.raises(ValueError, match="no units in groups"):
    released.open_set("cifar10_c_bar", tmp_path, groups=("extra",))
  opened = released.open_set("cifar10_c_bar", arrays("cifar10_c_bar"))
  with pytest.raises(ValueError, match="has no unit"):
    opened.load(released.ReleasedUnit("fog", 1, "benchmark"))
  with pytest.raises(ValueError, match="use load"):
    opened.load_films(opened.units[0])


WNIDS = ("n01440764", "n01443537", "n02007558", "n10565667")


@pytest.fixture
def small(monkeypatch):
  monkeypatch.setattr(trees, "NUM_CLASSES", len(WNIDS))
  monkeypatch.setattr(trees, "RENDITION_CLASSES", 2)


def write_tree(root, wnids=WNIDS, value=0, count=2):
  for k, wnid in enumerate(wnids):
    (root / wnid).mkdir(parents=True)
    for i in range(count):
      picture = Image.new("RGB", (8, 8), (value, k, i))
      picture.save(root / wnid / f"{i}.png")


@pytest.fixture
def imagenet_c(tmp_path, small):
  for i, name in enumerate(names_of("imagenet_c")):
    category = ("noise", "blur", "extra", "")[i % 4]
    for severity in range(1, 6):
      root = tmp_path / category / name / str(severity)
      write_tree(root, value=10 * i + severity, count=1 if i else 2)
  return tmp_path


def test_folders_of_imagenet_c(imagenet_c):
  opened = released.open_set("imagenet_c", imagenet_c, groups=("benchmark",))
  assert len(opened.units) == 75
  assert opened.num_rows == 8
  split = opened.load(opened.units[0])
  assert (split.images[..., 0] == 1).all()
  assert split.images[:, 0, 0, 1].tolist() == split.labels.tolist()
  assert sorted(split.labels.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
  again = opened.load(opened.units[1], start=2, stop=5)
  np.testing.assert_array_equal(again.images[..., 1:], split.images[2:5, ..., 1:])
  assert again.ids.tolist() == [2, 3, 4]

  (imagenet_c / "blur" / "shot_noise" / "3" / WNIDS[1] / "0.png").unlink()
  (imagenet_c / "blur" / "shot_noise" / "3" / WNIDS[1]).rmdir()
  (imagenet_c / "melting").mkdir()
  with pytest.raises(ValueError, match="not as released") as caught:
    released.open_set("imagenet_c", imagenet_c, groups=("benchmark",), wnids=WNIDS)
  assert "shot_noise/3: expected one folder for each of 4 classes, got 1 missing" in str(
    caught.value
  )
  assert "expected only folders of ImageNet-C" in str(caught.value)
  assert "'melting'" in str(caught.value)


def test_renditions_use_the_numbers_of_all_classes(tmp_path, small):
  root, val = tmp_path / "imagenet-r", tmp_path / "val"
  write_tree(val, count=0)
  write_tree(root, wnids=(WNIDS[3], WNIDS[1]))
  opened = released.open_set("imagenet_r", tmp_path, wnids=val)
  assert opened.class_indices == (1, 3)
  assert (opened.num_classes, opened.num_rows) == (4, 4)
  alone = released.open_set("imagenet_r", tmp_path, wnids=(WNIDS[3], WNIDS[1]))
  assert (alone.num_classes, alone.class_indices) == (2, (0, 1))
  split = opened.load(opened.units[0])
  assert sorted(split.labels.tolist()) == [1, 1, 3, 3]
  assert all(split.images[split.labels == 3, 0, 0, 1] == 0)  # written first
  (tmp_path / "names.txt").write_text("\n".join(reversed(WNIDS)))
  again = released.open_set("imagenet_r", root, wnids=tmp_path / "names.txt")
  np.testing.assert_array_equal(again.load(opened.units[0]).labels, split.labels)
  with pytest.raises(ValueError, match=r"expected `wnids`, to know which"):
    released.open_set("imagenet_r", root)
  framed = np.zeros((16, 16, 3), np.uint8)
  framed[1:-1, 1:-1] = 200  # resized to 16 of which the middle 14 is kept: no frame is left
  Image.fromarray(framed).save(root / WNIDS[1] / "framed.png")
  cut = released.open_set("imagenet_r", root, wnids=WNIDS, image_size=14)
  part = cut.load(cut.units[0])
  assert part.images.shape == (5, 14, 14, 3)
  assert (part.images == 200).all((1, 2, 3)).sum() == 1
  write_tree(root, wnids=("n99999999",))
  with pytest.raises(ValueError, match="like the 4 wnids, got n99999999") as caught:
    released.open_set("imagenet_r", root, wnids=WNIDS)
  assert "expected 2 class folders, got 3" in str(caught.value)


def test_films_of_imagenet_p(tmp_path, small):
  for i, name in enumerate(names_of("imagenet_p")):
    for k, wnid in enumerate(WNIDS):
      (tmp_path / name / wnid).mkdir(parents=True)
      np.save(tmp_path / name / wnid / "0.npy", np.full((3, 4, 4, 3), 10 * i + k, np.uint8))
  opened = released.open_set("imagenet_p", tmp_path)
  films = opened.load_films(opened.units[1])
  assert films.shape == (4, 3, 4, 4, 3)
  assert sorted(films[:, 0, 0, 0, 0].tolist()) == [10, 11, 12, 13]
  np.save(tmp_path / opened.units[1].corruption / WNIDS[0] / "0.npy", np.zeros((3, 4, 4, 3)))
  with pytest.raises(ValueError, match=r"0.npy: expected uint8\[2 or more frames"):
    opened.load_films(opened.units[1])


def test_the_order_in_which_tfds_stores_rows():
  from tensorflow_datasets.core import hashing

  hasher = hashing.Hasher("test")
  wanted = sorted(range(40), key=hasher.hash_key)
  assert cifar.published_rows(40).tolist() == wanted
  assert wanted != sorted(wanted)


def test_prepared_records(tmp_path):
  for i, name in enumerate(names_of("cifar10_corrupted")[:15]):
    tfds_name = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}.get(name, name)
    for severity in range(1, 6):
      write_config(tmp_path, f"{tfds_name}_{severity}", 10 * i + severity)
  opened = released.open_set("cifar10_corrupted", tmp_path, groups=("benchmark",))
  unit = next(u for u in opened.units if u.corruption == "glass_blur" and u.severity == 2)
  split = opened.load(unit, start=1)
  assert (split.images[..., 0] == 42).all()
  assert split.ids.tolist() == [1, 2]
  assert split.labels.tolist() == [1, 2]  # back in the published order
  kept = tmp_path / "cifar10_corrupted" / "fog_1" / "1.0.0" / "dataset_info.json"
  content = json.loads(kept.read_text())
  kept.write_text(json.dumps({**content, "disableShuffling": True}))
  unit = next(u for u in opened.units if u.corruption == "fog")
  assert opened.load(unit).labels.tolist() == cifar.published_rows(3).tolist()
  with pytest.raises(ValueError, match="tfds build cifar10_corrupted --config=speckle_noise_1"):
    released.open_set("cifar10_corrupted", tmp_path)
  info = tmp_path / "cifar10_corrupted" / "fog_3" / "1.0.0" / "dataset_info.json"
  content = json.loads(info.read_text())
  content["splits"][0]["shardLengths"] = ["2"]
  info.write_text(json.dumps(content))
  with pytest.raises(ValueError, match=r"fog_3/1.0.0: expected 3 rows in split 'test', got 2"):
    released.open_set("cifar10_corrupted", tmp_path / "cifar10_corrupted", groups=("benchmark",))


def write_config(root, config, value):
  folder = root / "cifar10_corrupted" / config / "1.0.0"
  folder.mkdir(parents=True)
  raw = pictures.encode_png(np.full((32, 32, 3), value, np.uint8))
  prepare.write_records(
    folder,
    {"test": [prepare.Example(f"{i}", raw, int(i)) for i in cifar.published_rows(3)]},
    name="cifar10_corrupted",
    version="1.0.0",
    class_names=[str(i) for i in range(10)],
    image_shape=(32, 32, 3),
    description="",
  )
