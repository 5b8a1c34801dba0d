# SPDX-License-Identifier: Apache-2.0
import builtins
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from mixboost_jax.data import unpickle

ROWS = np.arange(24, dtype=np.uint8).reshape(4, 6)


@pytest.mark.parametrize("protocol", range(6))
def test_reads_what_python_3_writes(protocol):
  content = {b"data": ROWS, b"labels": [1, np.int64(2)], "text": "a", b"more": [None, 1.5, (2,)]}
  read = unpickle.load_dict(pickle.dumps(content, protocol=protocol), place="x")
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
  read = unpickle.load_dict(python_2_pickle(), place="x")
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
    unpickle.load_dict(raw, place="batch_1")
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
    unpickle.load_dict(raw, place="x")


def test_unusual_bytes_encodings_are_refused():
  raw = pickle.dumps({b"a": b"\xff"}, protocol=2)
  assert unpickle.load_dict(raw, place="x") == {"a": b"\xff"}
  with pytest.raises(ValueError, match="text encoding 'rot13'"):
    unpickle.load_dict(raw.replace(b"\x06\0\0\0latin1", b"\x05\0\0\0rot13"), place="x")


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
      unpickle.load_dict(raw, place="x")
    assert tracemalloc.get_traced_memory()[1] < 2**24
  finally:
    tracemalloc.stop()
