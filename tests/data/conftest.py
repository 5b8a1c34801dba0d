# SPDX-License-Identifier: Apache-2.0
"""Tiny data sets in every form that the readers know."""

import io
import pathlib
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from mixboost_jax import schema
from mixboost_jax.data import cifar


@pytest.fixture
def settings():
  """Returns a function: the resolved `data` section with some changes."""

  def make(**changes) -> schema.Data:
    changes = {k: str(v) if isinstance(v, pathlib.Path) else v for k, v in changes.items()}
    return schema.Data(**changes)

  return make


def cifar_contents(name: str, *, rows: int = 4) -> dict[str, dict]:
  """Returns what each file of a small copy unpickles to."""
  layout = cifar.LAYOUTS[name]
  rng = np.random.default_rng(3)
  train, test, meta = layout.files
  contents = {}
  for file in (*train, test):
    data = rng.integers(0, 256, size=(rows, 3072), dtype=np.uint8)
    labels = [int(y) for y in rng.integers(0, layout.num_classes, size=rows)]
    contents[file] = {b"data": data, layout.labels_key.encode(): labels}
    if name == "cifar100":
      contents[file][b"coarse_labels"] = [0] * rows
  names = [f"class {i}".encode() for i in range(layout.num_classes)]
  contents[meta] = {layout.names_key.encode(): names}
  return contents


@pytest.fixture
def write_cifar(tmp_path):
  """Returns a function that writes a small copy and returns its folder (or archive)."""

  def write(name="cifar10", *, root=tmp_path, packed=False, rows=4, change=None):
    layout = cifar.LAYOUTS[name]
    contents = cifar_contents(name, rows=rows)
    if change is not None:
      change(contents)
    raw = {file: pickle.dumps(content, protocol=2) for file, content in contents.items()}
    if not packed:
      folder = root / layout.folder
      folder.mkdir(parents=True)
      for file, content in raw.items():
        (folder / file).write_bytes(content)
      return folder
    path = root / layout.archive
    with tarfile.open(path, "w:gz") as tar:
      for file, content in reversed(raw.items()):
        member = tarfile.TarInfo(f"{layout.folder}/{file}")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return path

  return write


@pytest.fixture
def write_pictures(tmp_path):
  """Returns a function that writes pictures of one colour each into folders below a root."""

  def write(*folders, count=3, size=(8, 8), suffix=".png", root=tmp_path / "pictures"):
    for k, folder in enumerate(folders):
      path = root / folder
      path.mkdir(parents=True, exist_ok=True)
      for i in range(count):
        color = (10 * k + i, 200 - i, 30)
        Image.new("RGB", size, color).save(path / f"{i}{suffix}")
    return root

  return write


@pytest.fixture
def expected():
  """Returns a function: the images and labels that a small copy of CIFAR must be read as."""

  def make(name="cifar10", *, rows=4):
    layout = cifar.LAYOUTS[name]
    contents = cifar_contents(name, rows=rows)

    def join(files):
      data = np.concatenate([contents[file][b"data"] for file in files])
      labels = np.concatenate([contents[file][layout.labels_key.encode()] for file in files])
      images = np.empty((len(data), 32, 32, 3), np.uint8)
      for channel in range(3):  # planes of 1,024 pixels, rows first
        images[..., channel] = data[:, 1024 * channel : 1024 * (channel + 1)].reshape(-1, 32, 32)
      return images, labels

    train, test, _ = layout.files
    return join(train), join([test])

  return make


def tree(root: pathlib.Path) -> list[str]:
  """Returns everything below a folder."""
  return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.fixture(name="tree")
def tree_fixture():
  return tree
