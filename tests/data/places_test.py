# SPDX-License-Identifier: Apache-2.0

import pathlib
import subprocess
import sys

import pytest

from mixboost_jax import data


@pytest.fixture
def home(tmp_path, monkeypatch):
  """A home, a working folder and a data variable of this test's own."""
  for name in ("home", "work", "data"):
    (tmp_path / name).mkdir()
  monkeypatch.setattr(pathlib.Path, "home", lambda: tmp_path / "home")
  monkeypatch.chdir(tmp_path / "work")
  monkeypatch.delenv("MIXBOOST_DATA_DIR", raising=False)
  return tmp_path


PLACES = ("data", "work/.data", "home/.cache/mixboost_jax/data", "home/tensorflow_datasets")


def test_missing_data_is_one_error_that_helps(settings, home, monkeypatch):
  monkeypatch.setenv("MIXBOOST_DATA_DIR", str(home / "data"))
  with pytest.raises(data.MissingDataError) as caught:
    data.load(settings(name="cifar10"))
  message = str(caught.value)
  positions = [message.index(str(home / place)) for place in PLACES]
  assert positions == sorted(positions)
  assert "python -m mixboost_jax.data.prepare cifar10" in message
  assert "--config.data.download=True" in message
  assert "--config.data.name=shapes" in message
  assert "--config=demo" in message
  assert len(message.splitlines()) <= 6
  assert message.count("(does not exist)") == 3


@pytest.mark.parametrize("place", PLACES)
def test_every_default_place_is_looked_at(settings, home, monkeypatch, write_cifar, place):
  monkeypatch.setenv("MIXBOOST_DATA_DIR", str(home / "data"))
  write_cifar(root=home / place)
  assert len(data.load(settings(name="cifar10")).train) == 20


def test_the_first_place_wins(settings, home, write_cifar):
  write_cifar(root=home / PLACES[1], rows=2)
  write_cifar(root=home / PLACES[3], rows=3)
  assert len(data.load(settings(name="cifar10")).test) == 2


def test_a_given_folder_is_the_only_place(settings, home, write_cifar):
  write_cifar(root=home / PLACES[1])
  with pytest.raises(data.MissingDataError) as caught:
    data.load(settings(name="cifar10", dir=home / "elsewhere"))
  assert str(home / "elsewhere") in str(caught.value)
  assert PLACES[1] not in str(caught.value)


@pytest.mark.parametrize("name", ["folder", "npz"])
def test_missing_folders_and_files(settings, home, name):
  with pytest.raises(data.MissingDataError, match=r"gone.*does not exist"):
    data.load(settings(name=name, dir=home / "gone"))


def test_missing_tfds_set(settings, home):
  with pytest.raises(
    data.MissingDataError, match=r"mnist(.|\n)*dataset_info.json(.|\n)*tfds build"
  ):
    data.load(settings(name="tfds", tfds_name="mnist", dir=home))


def test_nothing_optional_is_imported():
  """The package imports, and draws its own set, with none of the optional packages present."""
  code = """
import sys
for name in ("tensorflow", "tensorflow_datasets", "array_record", "PIL", "ml_collections", "clu"):
  sys.modules[name] = None
from mixboost_jax import data, schema
import mixboost_jax.data.prepare
settings = schema.Data(train_examples=20, validation_examples=5, test_examples=10)
assert len(data.load(settings).train) == 15
"""
  subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
