# SPDX-License-Identifier: Apache-2.0
import json
import struct
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from mixboost_jax.models.torch_files import read_arrays

ARRAYS = {
  "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
  "a.half": np.asarray([1.5, -2.25], np.float16),
  "a.brain": np.asarray([[1.0, -3.5]], ml_dtypes.bfloat16),
  "a.count": np.asarray(7, np.int64),
  "a.empty": np.zeros((0, 3), np.float32),
}


def test_safetensors_as_the_reference_writes_it(tmp_path):
  path = tmp_path / "weights.safetensors"
  safetensors.numpy.save_file(ARRAYS, path, metadata={"format": "pt"})
  found = read_arrays(path)
  assert found.keys() == ARRAYS.keys()
  for name, array in ARRAYS.items():
    np.testing.assert_array_equal(found[name], array.astype(found[name].dtype))
    assert found[name].shape == array.shape
  assert found["a.brain"].dtype == np.float32


def test_npz(tmp_path):
  path = tmp_path / "weights.npz"
  plain = {name: array for name, array in ARRAYS.items() if name != "a.brain"}
  np.savez(path, **plain)
  found = read_arrays(str(path))
  assert found.keys() == plain.keys()
  np.testing.assert_array_equal(found["a.weight"], plain["a.weight"])


def header(entries):
  content = json.dumps(entries).encode()
  return struct.pack("<Q", len(content)) + content


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "header does not fit"),
    (struct.pack("<Q", 10**12) + b"{}", "header does not fit"),
    (struct.pack("<Q", 2) + b"{x", "not a whole safetensors file"),
    (header([]) + b"", "not a whole safetensors file"),
    (struct.pack("<Q", 10**5) + b"[" * 10**5, r"not a whole safetensors file \(.*at most 50 lists"),
    (header({"a": ONE}) + b"1234", r"a \[2\] does not fit its data"),
    (header({"a": {**ONE, "shape": [3]}}) + b"12345678", r"a \[3\] does not fit its data"),
    (header({"a": {**ONE, "dtype": "F8_E4M3"}}) + b"12345678", "dtype F8_E4M3"),
    (header({"a": {"dtype": "F32"}}) + b"12345678", "not a whole safetensors file"),
  ],
)
def test_damaged_safetensors(tmp_path, content, message):
  path = tmp_path / "weights.safetensors"
  path.write_bytes(content)
  with pytest.raises(ValueError, match=message):
    read_arrays(path)


def test_damaged_and_pickled_npz(tmp_path):
  path = tmp_path / "weights.npz"
  np.savez(path, a=np.asarray([{"not": "plain"}], object))
  with pytest.raises(ValueError, match=r"not a whole \.npz file of plain arrays"):
    read_arrays(path)
  path.write_bytes(b"PK\x03\x04 and then nothing")
  with pytest.raises(ValueError, match=r"not a whole \.npz file of plain arrays"):
    read_arrays(path)


def test_missing_file_and_unknown_kind(tmp_path):
  with pytest.raises(ValueError, match="which does not exist"):
    read_arrays(tmp_path / "absent.npz")
  (tmp_path / "weights.h5").write_bytes(b"")
  with pytest.raises(ValueError, match=r"ends in \.safetensors, \.npz, \.pth.*got 'weights\.h5'"):
    read_arrays(tmp_path / "weights.h5")


def test_pth_without_torch_names_the_remedy(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  path = tmp_path / "model.pth.tar"
  path.write_bytes(b"")
  with pytest.raises(ValueError, match=r"needs torch, which is not installed.*numpy\.savez"):
    read_arrays(path)


def test_pth_with_torch(tmp_path):
  torch = pytest.importorskip("torch")
  path = tmp_path / "checkpoint.pth.tar"
  weights = {"module.a": torch.ones(2, 3), "module.b": torch.ones(2).bfloat16()}
  torch.save({"epoch": 3, "model": {"state_dict": weights}, "lr": 0.1}, path)
  found = read_arrays(path)
  assert found.keys() == weights.keys()
  assert found["module.b"].dtype == np.float32
  torch.save([1, 2], path)
  with pytest.raises(ValueError, match="holds no dict of tensors"):
    read_arrays(path)
  torch.save(torch.nn.Linear(2, 2), path)
  with pytest.raises(ValueError, match="cannot be read as plain tensors"):
    read_arrays(path)
