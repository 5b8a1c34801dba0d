# SPDX-License-Identifier: Apache-2.0
"""`mixboost inspect` names what is there, and the line that it prints reads it."""

import shlex

import numpy as np
import pytest
from PIL import Image

from mixboost_jax import cli, data, settings
from mixboost_jax.data import inspection, prepare


def pictures(root, sizes, *, mode="RGB", num=8):
  for name in ("cat", "dog"):
    (root / name).mkdir(parents=True)
    for i in range(num):
      Image.new(mode, sizes[i % len(sizes)]).save(root / name / f"{i}.png")
  return root


def arrays(file, shape, num=300):
  images, labels = np.zeros((num, *shape), np.uint8), np.arange(num) % 3
  np.savez(file, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
  return file


def read_by_the_line(found):
  """Reads the data as the printed command does."""
  line = str(found).splitlines()[-1].removeprefix("read it with: mixboost ")
  (run,) = settings.resolve_runs(cli.read(shlex.split(line))["config"])
  return data.load(run.data), run


@pytest.mark.parametrize(
  ("sizes", "mode", "told", "shape"),
  [
    ([(32, 32)], "RGB", "all 32x32 (of 16 looked at)", (32, 32, 3)),
    ([(60, 40), (32, 50)], "RGB", "sizes from 40x60 to 50x32", (40, 40, 3)),
    ([(40, 30)], "RGB", "30x40, not square", (24, 24, 3)),
    ([(32, 32)], "L", "all grey: they are read as colour", (32, 32, 3)),
  ],
)
def test_folders(tmp_path, sizes, mode, told, shape):
  found = inspection.inspect(pictures(tmp_path / "my pets", sizes, mode=mode))
  assert told in str(found)
  assert "2 classes (cat, dog)" in found.words
  dataset, run = read_by_the_line(found)
  assert dataset.image_shape == shape
  assert run.train.batch_size <= len(dataset.train)
  assert data.load(tmp_path / "my pets").image_shape == shape


def test_arrays(tmp_path):
  found = inspection.inspect(arrays(tmp_path / "a.npz", (28, 28)))
  assert "300 training and 300 test pictures, grey, 28x28, 3 classes" in found.words
  dataset, _ = read_by_the_line(found)
  assert dataset.image_shape == (28, 28, 1)
  assert data.load(str(tmp_path / "a.npz")).num_classes == 3


def test_arrays_that_are_not_square(tmp_path):
  found = inspection.inspect(arrays(tmp_path / "a.npz", (24, 30, 3)))
  assert str(found).endswith("keep a square: images[:, 0:24, 3:27]")


def test_arrays_without_labels(tmp_path):
  np.savez(tmp_path / "a.npz", images=np.zeros(3))
  with pytest.raises(ValueError, match=r"lacks train_images, .*it has images float64\[3\]"):
    inspection.inspect(tmp_path / "a.npz")


def test_cifar(tmp_path, write_cifar):
  write_cifar(root=tmp_path)
  found = inspection.inspect(tmp_path)
  assert "CIFAR-10 (python archive)" in found.words
  assert str(found).endswith(f"mixboost --config=cifar10 --config.data.dir={tmp_path}")
  assert inspection.settings_for(tmp_path).name == "cifar10"


def test_prepared_sets(tmp_path):
  for name in ("pets", "zoo"):
    source, out = pictures(tmp_path / f"raw {name}", [(16, 16)]), tmp_path / "out"
    prepare.prepare_folder(source=source, out=out, name=name)
  found = inspection.inspect(out)
  assert "TFDS zoo 1.0.0, 14 training and 2 test pictures, 2 classes" in found.words
  assert "also there: pets" in found.notes
  dataset, _ = read_by_the_line(found)
  assert dataset.title == "zoo"
  assert data.load(out / "pets").title == "pets"


def test_what_is_nothing_to_train_on(tmp_path):
  (tmp_path / "flat").mkdir()
  Image.new("RGB", (8, 8)).save(tmp_path / "flat" / "x.png")
  assert "mixing_dir" in str(inspection.inspect(tmp_path / "flat"))
  with pytest.raises(ValueError, match="pictures without classes"):
    inspection.settings_for(tmp_path / "flat")
  (tmp_path / "CIFAR-10-C").mkdir()
  found = str(inspection.inspect(tmp_path / "CIFAR-10-C"))
  assert f"--config.evaluate.released_dir={tmp_path}" in found
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "config.json").write_text("{}")
  assert "a run folder, which is not measured yet" in str(inspection.inspect(tmp_path / "run"))
