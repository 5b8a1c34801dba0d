# SPDX-License-Identifier: Apache-2.0

import builtins
import dataclasses
import io
import os
import pickle
import struct
import tarfile
import tracemalloc

import numpy as np
import pytest

from mixboost_jax import data
from mixboost_jax.data import cifar, prepare


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_reads_archives_and_folders(settings, write_cifar, expected, name, packed, inside):
  place = write_cifar(name, packed=packed)
  dataset = data.load(settings(name=name, dir=place if inside else place.parent))
  (train_images, train_labels), (test_images, test_labels) = expected(name)
  np.testing.assert_array_equal(dataset.train.images, train_images)
  np.testing.assert_array_equal(dataset.train.labels, train_labels)
  np.testing.assert_array_equal(dataset.train.ids, np.arange(len(train_labels)))
  np.testing.assert_array_equal(dataset.test.images, test_images)
  np.testing.assert_array_equal(dataset.test.labels, test_labels)
  assert dataset.class_names == tuple(f"class {i}" for i in range(dataset.num_classes))
  assert dataset.num_classes == cifar.LAYOUTS[name].num_classes
  assert dataset.source == "files"
  assert f"{len(train_labels)} training and 4 test" in dataset.title


def test_a_note_stands_behind_the_name(settings, write_cifar):
  dataset = data.load(settings(name="cifar10", dir=write_cifar(), note="JPEG"))
  assert dataset.name == "cifar10 (JPEG)"
  assert dataset.title.endswith(" (JPEG)")


@pytest.fixture
def whole(monkeypatch):
  """Makes the tiny copy one of full size."""
  layout = dataclasses.replace(cifar.LAYOUTS["cifar10"], num_train=20, num_test=4)
  monkeypatch.setitem(cifar.LAYOUTS, "cifar10", layout)
  return layout


@pytest.fixture
def authentic(whole, monkeypatch):
  """Returns a function that makes a written copy the official one."""

  def declare(place):
    if place.is_dir():
      sums = {file: cifar.md5_of(place / file) for file in whole.checksums}
      layout = dataclasses.replace(whole, checksums=sums)
    else:
      layout = dataclasses.replace(whole, md5=cifar.md5_of(place))
    monkeypatch.setitem(cifar.LAYOUTS, "cifar10", layout)
    return place

  return declare


@pytest.mark.parametrize("packed", [False, True])
def test_only_the_official_copy_has_the_plain_title(settings, write_cifar, authentic, packed):
  place = write_cifar(packed=packed)
  unofficial = data.load(settings(name="cifar10", dir=place))
  assert unofficial.title == "CIFAR-10 (unofficial copy)"
  assert unofficial.name == "cifar10 (unofficial copy)"
  noted = data.load(settings(name="cifar10", dir=place, note="JPEG"))
  assert (noted.title, noted.name) == ("CIFAR-10 (JPEG)", "cifar10 (JPEG)")
  official = data.load(settings(name="cifar10", dir=authentic(place)))
  assert (official.title, official.name) == ("CIFAR-10", "cifar10")


@pytest.mark.parametrize("file_format", prepare.FORMATS)
def test_a_prepared_copy_keeps_what_is_known_of_it(
  settings, write_cifar, authentic, tmp_path, file_format
):
  options = {"source": write_cifar(), "file_format": file_format, "log": lambda line: None}
  prepare.prepare_cifar("cifar10", out=tmp_path / "unknown", **options)
  unknown = data.load(settings(name="cifar10", dir=tmp_path / "unknown"))
  assert unknown.title == "CIFAR-10 (unverified copy)"
  authentic(options["source"])
  prepare.prepare_cifar("cifar10", out=tmp_path / "known", **options)
  assert data.load(settings(name="cifar10", dir=tmp_path / "known")).title == "CIFAR-10"
  seal = next((tmp_path / "known").rglob(cifar.SEAL))
  seal.write_text("0" * 64)
  with pytest.raises(ValueError, match=r"differ from the official ones that .* damaged"):
    data.load(settings(name="cifar10", dir=tmp_path / "known"))


def test_no_flipped_bit_of_an_archive_is_read(settings, write_cifar):
  place = write_cifar(packed=True)
  sound = data.load(settings(name="cifar10", dir=place))
  raw, refused = place.read_bytes(), []
  for bit in np.random.default_rng(0).integers(0, 8 * len(raw), 40).tolist():
    damaged = bytearray(raw)
    damaged[bit // 8] ^= 1 << bit % 8
    place.write_bytes(damaged)
    try:
      found = data.load(settings(name="cifar10", dir=place))
    except ValueError as error:
      refused.append(str(error))
    else:  # in a field that says nothing about the content, as the time of writing
      np.testing.assert_array_equal(found.train.images, sound.train.images)
      np.testing.assert_array_equal(found.test.labels, sound.test.labels)
  assert len(refused) >= 39
  assert all(str(place) in message for message in refused)


def test_archives_that_unpack_without_end_are_refused(settings, tmp_path, monkeypatch):
  monkeypatch.setattr(cifar, "MAX_BYTES", 2**20)
  place = tmp_path / "cifar-10-python.tar.gz"
  for name in ("cifar-10-batches-py/test_batch", "something/else"):
    with tarfile.open(place, "w:gz") as tar:
      member = tarfile.TarInfo(name)
      member.size = 2**21
      tar.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(ValueError, match=r"unreadable or truncated archive \(.*(claims|more than)"):
      data.load(settings(name="cifar10", dir=place))


def test_a_pipe_in_place_of_a_batch(settings, write_cifar):
  place = write_cifar()
  (place / "data_batch_3").unlink()
  os.mkfifo(place / "data_batch_3")
  with pytest.raises(ValueError, match=r"data_batch_3: unreadable .*regular file"):
    data.load(settings(name="cifar10", dir=place))


def test_cuts_and_holds_out(settings, write_cifar, expected):
  place = write_cifar()
  dataset = data.load(
    settings(name="cifar10", dir=place, train_examples=10, validation_examples=3, test_examples=2)
  )
  (images, _), _ = expected()
  np.testing.assert_array_equal(dataset.train.ids, np.arange(7))
  assert dataset.validation is not None
  np.testing.assert_array_equal(dataset.validation.ids, [7, 8, 9])
  np.testing.assert_array_equal(dataset.validation.images, images[7:10])
  np.testing.assert_array_equal(dataset.test.ids, [0, 1])
  mean = images[:7].astype(float).mean(axis=(0, 1, 2)) / 255
  np.testing.assert_allclose(dataset.channel_mean, mean, atol=1e-12)


def change_file(file, **entries):
  def change(contents):
    for key, value in entries.items():
      if value is None:
        del contents[file][key.encode()]
      else:
        contents[file][key.encode()] = value

  return change


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
  ("change", "message"),
  [
    (change_file("data_batch_2", labels=[1, 2, 3]), "data_batch_2: 4 pictures but 3 labels"),
    (change_file("test_batch", labels=[1, 2, 3, 10]), r"test_batch: labels must lie in \[0, 10\)"),
    (change_file("test_batch", labels=[1, 2, 3, -1]), "got -1 to 3"),
    (change_file("data_batch_1", labels=[1.5, 2, 3, 4]), "labels as one list of integers"),
    (change_file("data_batch_1", labels=None), "lacks 'labels', has 'data'"),
    (change_file("data_batch_1", data=None), "lacks 'data', has 'labels'"),
    (
      change_file("data_batch_5", data=np.zeros((4, 784), np.uint8)),
      r"data_batch_5: expected 'data' as uint8\[N, 3072\] .* got uint8\[4, 784\]",
    ),
    (change_file("data_batch_5", data=np.zeros((4, 3072))), r"got float64\[4, 3072\]"),
    (change_file("data_batch_3", data=np.zeros((0, 3072), np.uint8), labels=[]), "no pictures"),
    (
      change_file("batches.meta", label_names=[b"cat"]),
      "expected 10 names in 'label_names', got 1",
    ),
    (change_file("batches.meta", label_names=None), "lacks 'label_names'"),
    (lambda contents: contents.pop("data_batch_4"), "lacks data_batch_4"),
  ],
)
def test_wrong_contents_give_one_error(settings, write_cifar, packed, change, message):
  place = write_cifar(packed=packed, change=change)
  with pytest.raises(ValueError, match=message):
    data.load(settings(name="cifar10", dir=place))


@pytest.mark.parametrize("keep", [0, 1, 200, 0.5, 0.99])
def test_truncated_archives_give_one_error(settings, write_cifar, keep):
  place = write_cifar(packed=True)
  size = place.stat().st_size
  os.truncate(place, int(keep * size) if isinstance(keep, float) else keep)
  with pytest.raises(ValueError, match=r"unreadable or truncated archive .*download it again"):
    data.load(settings(name="cifar10", dir=place))


def test_an_archive_of_something_else(settings, tmp_path):
  place = tmp_path / "cifar-10-python.tar.gz"
  with tarfile.open(place, "w:gz") as tar:
    tar.add(__file__, arcname="notes.txt")
  with pytest.raises(ValueError, match=r"lacks batches.meta, data_batch_1, .* in cifar-10-batches"):
    data.load(settings(name="cifar10", dir=place))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"train_examples": 21}, "train_examples=21: .* has only 20"),
    ({"test_examples": 5}, "test_examples=5: .* has only 4"),
    ({"validation_examples": 20}, "nothing is left to train on"),
    ({"image_size": 64}, "cifar10 has pictures of 32x32 pixels"),
  ],
)
def test_asking_for_what_is_not_there(settings, write_cifar, changes, message):
  with pytest.raises(ValueError, match=message):
    data.load(settings(name="cifar10", dir=write_cifar(), **changes))


def test_links_in_an_archive_are_not_followed(settings, write_cifar, tmp_path):
  place = write_cifar(packed=True, change=lambda contents: contents.pop("test_batch"))
  secret = tmp_path / "secret"
  secret.write_bytes(b"x")
  other = tmp_path / "cifar.tar"
  with tarfile.open(place) as source, tarfile.open(other, "w") as tar:
    for member in source:
      tar.addfile(member, source.extractfile(member))
    link = tarfile.TarInfo("cifar-10-batches-py/test_batch")
    link.type, link.linkname = tarfile.SYMTYPE, str(secret)
    tar.addfile(link)
  with pytest.raises(ValueError, match="lacks test_batch"):
    data.load(settings(name="cifar10", dir=other))


def test_names_that_are_not_utf8(settings, write_cifar):
  names = [b"caf\xe9", *(f"class {i}".encode() for i in range(9))]
  place = write_cifar(change=change_file("batches.meta", label_names=names))
  with pytest.raises(ValueError, match=r"batches.meta: expected class names in UTF-8, got b'caf"):
    data.load(settings(name="cifar10", dir=place))


ROWS = np.arange(24, dtype=np.uint8).reshape(4, 6)


@pytest.mark.parametrize("protocol", range(6))
def test_reads_what_python_3_writes(protocol):
  content = {b"data": ROWS, b"labels": [1, np.int64(2)], "text": "a", b"more": [None, 1.5, (2,)]}
  read = cifar.load_dict(pickle.dumps(content, protocol=protocol), place="x")
  np.testing.assert_array_equal(read["data"], ROWS)
  assert read["labels"] == [1, 2]
  assert read["text"] == "a"
  assert read["more"] == [None, 1.5, (2,)]


def short_string(text: bytes) -> bytes:
  return b"U" + bytes([len(text)]) + text  # what only Python 2 writes


def python_2_pickle() -> bytes:
  """Protocol 2 of {'data': uint8[4, 6], 'labels': [3, 1]} as Python 2 and old numpy wrote it."""
  dtype = b"cnumpy\ndtype\n" + short_string(b"u1") + b"K\x00K\x01\x87R"
  state = b"(K\x03" + short_string(b"|") + b"NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"
  array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
  array += short_string(b"b") + b"\x87R"
  array += b"(K\x01K\x04K\x06\x86" + dtype + state + b"\x89"
  array += b"T" + struct.pack("<i", ROWS.size) + ROWS.tobytes() + b"tb"
  labels = b"]" + b"(K\x03K\x01e"
  entries = short_string(b"data") + array + short_string(b"labels") + labels
  return b"\x80\x02}(" + entries + b"u."


def test_reads_what_python_2_wrote():
  read = cifar.load_dict(python_2_pickle(), place="x")
  np.testing.assert_array_equal(read["data"], ROWS)
  assert read["labels"] == [3, 1]


class Call:
  """Pickles to a call of any function."""

  def __init__(self, function, *arguments):
    self.function, self.arguments = function, arguments

  def __reduce__(self):
    return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize(
  "call",
  [
    lambda file: Call(os.system, f"touch {file}"),
    lambda file: Call(builtins.eval, f"open({str(file)!r}, 'w')"),
    lambda file: Call(builtins.getattr, Call(builtins.__import__, "os"), "system"),
    lambda file: Call(open, str(file), "w"),
    lambda file: Call(pickle.loads, pickle.dumps(Call(os.mkdir, str(file)))),
    lambda file: Call(np.load, str(file)),
  ],
)
def test_refuses_to_run_anything(tmp_path, protocol, call):
  file = tmp_path / "written"
  raw = pickle.dumps({b"data": ROWS, b"labels": call(file)}, protocol=protocol)
  with pytest.raises(ValueError, match=r"batch_1: not a readable pickle .*refused: it asks for"):
    cifar.load_dict(raw, place="batch_1")
  assert not file.exists()


@pytest.mark.parametrize(
  ("raw", "message"),
  [
    (b"", "not a readable pickle"),
    (b"no pickle at all", "not a readable pickle"),
    (pickle.dumps({b"data": ROWS})[:-20], "not a readable pickle"),
    (pickle.dumps([1, 2]), "expected a pickled dict, got list"),
    (b"\x80\x02cnumpy\nndarray\nI-1\n\x85R.", "not a readable pickle"),
    (b"Pelsewhere\n.", "refused: it refers to an object elsewhere"),
  ],
)
def test_damaged_files_give_one_error(raw, message):
  with pytest.raises(ValueError, match=message):
    cifar.load_dict(raw, place="x")


def test_unusual_bytes_encodings_are_refused():
  raw = pickle.dumps({b"a": b"\xff"}, protocol=2)
  assert cifar.load_dict(raw, place="x") == {"a": b"\xff"}
  with pytest.raises(ValueError, match="text encoding 'rot13'"):
    cifar.load_dict(raw.replace(b"\x06\0\0\0latin1", b"\x05\0\0\0rot13"), place="x")


@pytest.mark.parametrize(
  ("raw", "message"),
  [
    (b"cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.", "_ArrayType"),
    (b"}r\xff\xff\xff\x7f.", "2147483647 places in memory"),
    (b"}p9999999999\n.", "9999999999 places in memory"),
  ],
)
def test_small_files_take_little_memory(raw, message):
  tracemalloc.start()
  try:
    with pytest.raises(ValueError, match=f"not a readable pickle .*{message}"):
      cifar.load_dict(raw, place="x")
    assert tracemalloc.get_traced_memory()[1] < 2**24
  finally:
    tracemalloc.stop()
