# SPDX-License-Identifier: Apache-2.0
import dataclasses
import hashlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mixboost_jax import data
from mixboost_jax.data import cifar, prepare, records


@pytest.fixture(autouse=True)
def keep_signal_handler():
  handler = signal.getsignal(signal.SIGTERM)
  yield
  signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("file_format", prepare.FORMATS)
def test_cifar_round_trip(settings, write_cifar, expected, tmp_path, capsys, name, file_format):
  out = tmp_path / "out"
  source = write_cifar(name)
  assert prepare.main([name, f"--source={source}", f"--out={out}", f"--format={file_format}"]) == 0
  assert "NOT the official archive" in capsys.readouterr().out
  dataset = data.load(settings(name=name, dir=out))
  (train_images, train_labels), (test_images, test_labels) = expected(name)
  np.testing.assert_array_equal(dataset.train.images, train_images)
  np.testing.assert_array_equal(dataset.train.labels, train_labels)
  np.testing.assert_array_equal(dataset.test.images, test_images)
  np.testing.assert_array_equal(dataset.test.labels, test_labels)
  assert dataset.class_names == tuple(f"class {i}" for i in range(dataset.num_classes))
  assert [path.name for path in out.iterdir()] == [name]


def test_tfds_reads_what_we_write_by_name(write_cifar, expected, tmp_path):
  import tensorflow_datasets as tfds

  prepare.prepare_cifar(
    "cifar10", source=write_cifar(), out=tmp_path / "out", log=lambda line: None
  )
  source = tfds.data_source("cifar10", data_dir=tmp_path / "out", split="test", download=False)
  _, (images, labels) = expected()
  assert len(source) == 4
  np.testing.assert_array_equal(source[2]["image"], images[2])
  assert source[2]["label"] == labels[2]
  assert source[2]["id"] == b"test_00002"


def test_an_official_archive_is_verified(write_cifar, tmp_path, monkeypatch):
  place = write_cifar(packed=True)
  md5 = hashlib.md5(place.read_bytes()).hexdigest()
  layout = dataclasses.replace(cifar.LAYOUTS["cifar10"], md5=md5)
  monkeypatch.setitem(cifar.LAYOUTS, "cifar10", layout)
  lines = []
  prepare.prepare_cifar(
    "cifar10", source=place, out=tmp_path / "out", file_format="npy", log=lines.append
  )
  assert "official CIFAR-10, MD5 verified" in lines[0]


def test_an_official_folder_is_verified_file_by_file(write_cifar, monkeypatch):
  place = write_cifar()
  sums = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in place.iterdir()}
  layout = dataclasses.replace(cifar.LAYOUTS["cifar10"], checksums=sums)
  assert cifar.is_official(place, layout)
  (place / "test_batch").write_bytes(b"other")
  assert not cifar.is_official(place, layout)


def test_checksums_are_the_published_ones():
  """The sums that the authors' page and other libraries name."""
  assert cifar.LAYOUTS["cifar10"].md5 == "c58f30108f718f92721af3b95e74349a"
  assert cifar.LAYOUTS["cifar100"].md5 == "eb9058c3a382ffc7106e4002c42a8d85"
  ten, hundred = (layout.files for layout in cifar.LAYOUTS.values())
  batches = tuple(f"data_batch_{i}" for i in range(1, 6))
  assert ten == (batches, "test_batch", "batches.meta")
  assert hundred == (("train",), "test", "meta")


@pytest.mark.parametrize("file_format", prepare.FORMATS)
@pytest.mark.parametrize("image_size", [0, 4])
def test_folder_round_trip(settings, write_pictures, tmp_path, file_format, image_size):
  root = write_pictures("train/cat", "train/dog", "test/dog", "test/cat", suffix=".jpg")
  out = tmp_path / "out"
  arguments = ["folder", f"--source={root}", f"--out={out}", f"--format={file_format}"]
  assert prepare.main([*arguments, f"--image_size={image_size}", "--name=pets"]) == 0
  direct = data.load(settings(name="folder", dir=root, image_size=image_size))
  if file_format == "npy":
    dataset = data.load(settings(name="npz", dir=out / "pets"))
  else:
    dataset = data.load(settings(name="tfds", tfds_name="pets", dir=out))
  for split in ("train", "test"):
    one, two = getattr(direct, split), getattr(dataset, split)
    np.testing.assert_array_equal(one.images, two.images)
    np.testing.assert_array_equal(one.labels, two.labels)
    np.testing.assert_array_equal(one.ids, two.ids)
  assert dataset.class_names == ("cat", "dog")


def test_the_name_of_a_folder_becomes_the_name_of_the_set(write_pictures, tmp_path):
  root = write_pictures("train/a", "train/b", "test/a", root=tmp_path / "My Pets-2")
  place = prepare.prepare_folder(
    source=root, out=tmp_path / "out", file_format="npy", log=lambda line: None
  )
  assert place == tmp_path / "out" / "my_pets_2"


def test_large_sets_are_written_in_several_files(settings, write_cifar, tmp_path, monkeypatch):
  monkeypatch.setattr(prepare, "SHARD_BYTES", 10_000)
  out = tmp_path / "out"
  prepare.prepare_cifar("cifar10", source=write_cifar(), out=out, log=lambda line: None)
  files = sorted(path.name for path in out.rglob("*train.array_record*"))
  assert len(files) > 2
  assert files[0] == f"cifar10-train.array_record-00000-of-{len(files):05d}"
  assert len(data.load(settings(name="cifar10", dir=out)).train) == 20


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["cifar10"], "give either --source"),
    (["cifar10", "--source=SOURCE", "--download"], "give either --source"),
    (["cifar10", "--source=SOURCE/gone"], "gone: expected cifar-10-python.tar.gz, the folder"),
    (["cifar100", "--source=SOURCE"], "expected cifar-100-python.tar.gz"),
    (["folder", "--source=SOURCE/gone"], "no such folder"),
    (["folder", "--source=SOURCE", "--name=My Set"], "expected lower-case letters"),
    (["folder", "--source=SOURCE"], "no training pictures"),
  ],
)
def test_wrong_calls_give_one_line_and_leave_nothing(
  write_cifar, tmp_path, capsys, tree, arguments, message
):
  source, out = write_cifar(), tmp_path / "out"
  arguments = [argument.replace("SOURCE", str(source)) for argument in arguments]
  assert prepare.main([*arguments, f"--out={out}"]) == 1
  error = capsys.readouterr().err
  assert message in error
  assert error.startswith("error: ")
  assert error.count("\n") == 1
  assert not out.exists() or tree(out) == []


@pytest.mark.parametrize(
  "arguments",
  [
    ["mnist", "--source=x", "--out=x"],
    ["cifar10", "--source=x"],
    ["folder", "--out=x"],
    ["folder", "--out=x", "--source=x", "--download"],
    ["cifar10", "--out=x", "--source=x", "--image_size=4"],
    ["cifar10", "--out=x", "--source=x", "--format=tfrecord"],
  ],
)
def test_usage_errors(arguments, capsys):
  with pytest.raises(SystemExit) as caught:
    prepare.main(arguments)
  assert caught.value.code == 2
  assert "usage:" in capsys.readouterr().err


def test_an_altered_archive_is_refused(write_cifar, tmp_path, capsys, tree):
  out = tmp_path / "out"
  source = write_cifar(packed=True)
  assert prepare.main(["cifar10", f"--source={source}", f"--out={out}"]) == 1
  assert "MD5 differs from the official" in capsys.readouterr().err
  assert tree(out) == []


def test_a_folder_in_use_is_not_touched(write_cifar, tmp_path, capsys):
  place = tmp_path / "out" / "cifar10"
  place.mkdir(parents=True)
  (place / "precious").write_text("x")
  assert prepare.main(["cifar10", f"--source={write_cifar()}", f"--out={tmp_path / 'out'}"]) == 1
  assert "exists and is not empty" in capsys.readouterr().err
  assert [path.name for path in (tmp_path / "out").rglob("*")] == ["cifar10", "precious"]


def test_an_unreadable_target(write_cifar, tmp_path, capsys):
  (tmp_path / "file").write_text("")
  assert prepare.main(["cifar10", f"--source={write_cifar()}", f"--out={tmp_path / 'file'}"]) == 1
  assert "not written" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("file_format", prepare.FORMATS)
def test_an_interruption_leaves_nothing(
  write_cifar, tmp_path, monkeypatch, tree, error, file_format
):
  out = tmp_path / "out"

  def fail(folder, *arguments, **options):
    (folder / "half").write_text("x")
    raise error

  monkeypatch.setattr(prepare, "write_npy", fail)
  monkeypatch.setattr(prepare, "write_records", fail)
  arguments = ["cifar10", f"--source={write_cifar()}", f"--out={out}", f"--format={file_format}"]
  assert prepare.main(arguments) in (1, 130)
  assert tree(out) == []


def test_missing_rows_are_noticed(write_cifar, tmp_path, monkeypatch, tree, capsys):
  monkeypatch.setattr(records, "count", lambda folder: {"train": 20, "test": 3})
  out = tmp_path / "out"
  assert prepare.main(["cifar10", f"--source={write_cifar()}", f"--out={out}"]) == 1
  assert "is the disk full?" in capsys.readouterr().err
  assert tree(out) == []


SLOW = """
import sys, time
from mixboost_jax.data import prepare
quick = prepare.write_npy
def slow(folder, *arguments):
  quick(folder, *arguments)
  print("waiting", flush=True)
  time.sleep(60)
prepare.write_npy = slow
sys.exit(prepare.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_process_leaves_no_set(settings, write_cifar, tmp_path, tree, number):
  out = tmp_path / "out"
  arguments = ["cifar10", f"--source={write_cifar()}", f"--out={out}", "--format=npy"]
  process = subprocess.Popen(
    [sys.executable, "-c", SLOW, *arguments], stdout=subprocess.PIPE, text=True
  )
  assert process.stdout is not None
  deadline = time.monotonic() + 100
  while "waiting" not in process.stdout.readline() and time.monotonic() < deadline:
    pass
  process.send_signal(number)
  code = process.wait(timeout=30)
  process.stdout.close()
  if number == signal.SIGTERM:
    assert code == 128 + signal.SIGTERM
    assert tree(out) == []
  with pytest.raises(data.MissingDataError):
    data.load(settings(name="cifar10", dir=out))
  assert prepare.main(arguments) == 0
  assert len(data.load(settings(name="cifar10", dir=out)).train) == 20
