# SPDX-License-Identifier: Apache-2.0
"""The import of PyTorch weights against two oracles written here.

One works without torch: a forward pass in NumPy, straight from the dict of PyTorch names, with
convolutions as sums over taps. The other is PyTorch itself, where it is installed.
"""

import json
import re
import struct
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from mixboost_jax import models
from mixboost_jax.models.torch_weights import from_torch, read_arrays, to_torch


def random_state(name, rng, **kwargs):
  """A state dict of plausible size in every entry, biases and running statistics included."""
  network = models.create(name, key=jax.random.key(0), **kwargs)
  state = {}
  for full_name, array in to_torch(network).items():
    if full_name.endswith("running_var"):
      state[full_name] = rng.uniform(0.5, 2, array.shape)
    elif array.ndim == 1:
      state[full_name] = rng.normal(float(array.mean()), 0.2, array.shape)
    else:
      state[full_name] = array
    state[full_name] = state[full_name].astype(np.float32)
  return state


class NumpyForward:
  """Evaluation-mode layers on NCHW arrays, by their PyTorch names."""

  def __init__(self, state):
    self.state = {name: array.astype(np.float64) for name, array in state.items()}

  def conv(self, name, x, stride=1):
    kernel = self.state[f"{name}.weight"]
    side = kernel.shape[2]
    pad = side // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    rows = (x.shape[2] - side) // stride + 1
    total = 0
    for i in range(side):
      for j in range(side):
        part = x[:, :, i : i + stride * rows : stride, j : j + stride * rows : stride]
        total = total + np.einsum("nchw,oc->nohw", part[:, :, :rows, :rows], kernel[:, :, i, j])
    return total

  def bn(self, name, x):
    scale, bias, mean, var = (
      self.state[f"{name}.{leaf}"][None, :, None, None]
      for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(var + 1e-5) * scale + bias

  def bn_relu(self, name, x):
    return np.maximum(self.bn(name, x), 0)

  def linear(self, name, x):
    return x.mean((2, 3)) @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

  def wide_resnet(self, x, num_blocks, widen):
    x, inputs = self.conv("conv1", x), 16
    for group in (1, 2, 3):
      for i in range(num_blocks):
        block, stride = f"block{group}.layer.{i}", 2 if i == 0 and group > 1 else 1
        outputs = 8 * 2**group * widen
        hidden = self.bn_relu(f"{block}.bn1", x)
        if inputs != outputs:
          x = self.conv(f"{block}.convShortcut", hidden, stride)
        hidden = self.bn_relu(f"{block}.bn2", self.conv(f"{block}.conv1", hidden, stride))
        x, inputs = x + self.conv(f"{block}.conv2", hidden), outputs
    return self.linear("fc", self.bn_relu("bn1", x))

  def preact_resnet(self, x, depths, *, raw):
    """As RobustBench's PreActResNet with `bn_before_fc`, of PreActBlock (raw) or PreActBlockV2."""
    x = self.conv("conv1", x)
    for group, depth in enumerate(depths, 1):
      for i in range(depth):
        block, stride = f"layer{group}.{i}", 2 if i == 0 and group > 1 else 1
        hidden = self.bn_relu(f"{block}.bn1", x)
        if f"{block}.shortcut.0.weight" in self.state:
          x = self.conv(f"{block}.shortcut.0", x if raw else hidden, stride)
        hidden = self.bn_relu(f"{block}.bn2", self.conv(f"{block}.conv1", hidden, stride))
        x = x + self.conv(f"{block}.conv2", hidden)
    return self.linear("linear", self.bn_relu("bn", x))

  def resnet(self, x, depths):
    x = self.bn_relu("bn1", self.conv("conv1", x, 2))
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    half = (x.shape[2] - 3) // 2 + 1
    taps = [x[:, :, i::2, j::2][:, :, :half, :half] for i in range(3) for j in range(3)]
    x = np.max(taps, axis=0)
    for group, depth in enumerate(depths, 1):
      for i in range(depth):
        block, stride = f"layer{group}.{i}", 2 if i == 0 and group > 1 else 1
        hidden = self.bn_relu(f"{block}.bn1", self.conv(f"{block}.conv1", x))
        hidden = self.bn_relu(f"{block}.bn2", self.conv(f"{block}.conv2", hidden, stride))
        hidden = self.bn(f"{block}.bn3", self.conv(f"{block}.conv3", hidden))
        if i == 0:
          x = self.bn(f"{block}.downsample.1", self.conv(f"{block}.downsample.0", x, stride))
        x = np.maximum(x + hidden, 0)
    return self.linear("fc", x)


@pytest.fixture
def rng():
  return np.random.default_rng(5)


def nchw(images, mean=0.5, std=0.5):
  return ((np.asarray(images, np.float64) - mean) / std).transpose(0, 3, 1, 2)


@pytest.mark.parametrize(("name", "num_blocks", "widen"), [("wrn-10-2", 1, 2), ("wrn-16-1", 2, 1)])
def test_wide_resnet_equals_numpy(tmp_path, rng, name, num_blocks, widen):
  state = random_state(name, rng, num_classes=10, image_size=16)
  np.savez(tmp_path / "w.npz", **state)
  images = rng.uniform(size=(3, 16, 16, 3)).astype(np.float32)
  network = from_torch(tmp_path / "w.npz", name, num_classes=10, image_size=16)
  expected = NumpyForward(state).wide_resnet(nchw(images), num_blocks, widen)
  assert expected.std() > 0.1
  np.testing.assert_allclose(jax.jit(network)(images), expected, atol=1e-4)


def test_resnet_equals_numpy(tmp_path, rng):
  state = random_state("resnet-14", rng, num_classes=6, image_size=64)
  np.savez(tmp_path / "w.npz", **state)
  images = rng.uniform(size=(2, 64, 64, 3)).astype(np.float32)
  network = from_torch(tmp_path / "w.npz", "resnet-14", num_classes=6, image_size=64)
  expected = NumpyForward(state).resnet(nchw(images), (1, 1, 1, 1))
  np.testing.assert_allclose(jax.jit(network)(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "raw"), [("activated", False), ("raw", True)])
def test_pre_activation_resnet_equals_numpy(tmp_path, rng, kind, raw):
  name, depths = "preact-resnet-10", (1, 1, 1, 1)
  state = random_state(name, rng, num_classes=4, image_size=8)
  np.savez(tmp_path / "w.npz", **state)
  images = rng.uniform(size=(2, 8, 8, 3)).astype(np.float32)
  options = {"num_classes": 4, "image_size": 8}
  network = from_torch(tmp_path / "w.npz", f"{name}-{kind}", **options)
  forward = NumpyForward(state)
  expected, other = (
    forward.preact_resnet(nchw(images), depths, raw=which) for which in (raw, not raw)
  )
  np.testing.assert_allclose(jax.jit(network)(images), expected, atol=1e-4)
  assert np.abs(expected - other).max() > 0.01
  with pytest.raises(ValueError, match=r"'preact-resnet-10-activated' if .* '\S+-raw' if"):
    from_torch(tmp_path / "w.npz", name, **options)


@pytest.mark.parametrize(
  ("name", "left_out", "message"),
  [
    ("wrn-10-1", "fc.bias", "fc.bias: missing .a head without a bias is one of zeros: add them"),
    ("preact-resnet-10-raw", "linear.bias", "linear.bias: missing .a head without a bias"),
    ("preact-resnet-10-raw", "bn.", "bn.weight: missing .a variant without bn-relu before"),
  ],
)
def test_what_public_variants_leave_out(tmp_path, rng, name, left_out, message):
  state = random_state(name, rng, num_classes=4)
  kept = {name: array for name, array in state.items() if not name.startswith(left_out)}
  np.savez(tmp_path / "w.npz", **kept)
  with pytest.raises(ValueError, match=message):
    from_torch(tmp_path / "w.npz", name, num_classes=4)


@pytest.mark.parametrize(
  "name",
  ["wrn-16-2", "preact-resnet-10-raw", "preact-resnet-50-activated", "resnet-14", "mi-resnet-50"],
)
def test_there_and_back(tmp_path, rng, name):
  state = random_state(name, rng, num_classes=3)
  np.savez(tmp_path / "w.npz", **state)
  again = to_torch(from_torch(tmp_path / "w.npz", name, num_classes=3))
  assert again.keys() == state.keys()
  for full_name, array in state.items():
    np.testing.assert_array_equal(again[full_name], array)


def test_names_are_those_of_the_public_implementations(rng):
  wide = random_state("wrn-16-2", rng, num_classes=3)
  assert wide["block2.layer.0.convShortcut.weight"].shape == (64, 32, 1, 1)
  assert wide["block3.layer.1.bn2.running_var"].shape == (128,)
  assert wide["fc.weight"].shape == (3, 128)
  residual = random_state("resnet-50", rng, num_classes=1000)
  assert len(residual) == 267  # torchvision's 320 entries without 53 batch counters
  assert residual["conv1.weight"].shape == (64, 3, 7, 7)
  assert residual["layer4.0.downsample.0.weight"].shape == (2048, 1024, 1, 1)
  assert residual["layer3.5.bn3.running_mean"].shape == (1024,)


def spelled(state, changes, prefix=""):
  return {prefix + re.sub(*changes, name): array for name, array in state.items()}


@pytest.mark.parametrize("spelling", ["convShortcut", "conv_shortcut", "shortcut"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.module.", "1."])
def test_prefixes_spellings_and_leftovers(tmp_path, rng, prefix, spelling):
  state = random_state("wrn-10-2", rng, num_classes=4)
  file = spelled(state, ("convShortcut", spelling), prefix)
  file[f"{prefix}bn1.num_batches_tracked"] = np.asarray(3)
  file[f"{prefix}sub_block1.layer.0.bn1.weight"] = np.ones(16, np.float32)
  file["normalize.mean"] = np.full((3, 1, 1), 0.5, np.float32)
  np.savez(tmp_path / "w.npz", **file)
  again = to_torch(from_torch(tmp_path / "w.npz", "wrn-10-2", num_classes=4))
  for full_name, array in state.items():
    np.testing.assert_array_equal(again[full_name], array)


def test_everything_that_does_not_fit_is_in_one_error(tmp_path, rng):
  state = random_state("wrn-10-1", rng, num_classes=10)
  del state["block1.layer.0.bn2.bias"]
  state["block4.layer.0.bn1.weight"] = np.ones(3, np.float32)
  np.savez(tmp_path / "w.npz", **{f"module.{name}": array for name, array in state.items()})
  with pytest.raises(ValueError, match="is not a wrn-10-1") as caught:
    from_torch(tmp_path / "w.npz", "wrn-10-1", num_classes=100)
  message = str(caught.value)
  assert "module.block1.layer.0.bn2.bias: missing" in message
  assert "module.block4.layer.0.bn1.weight: unexpected" in message
  assert "module.fc.weight: expected shape [100, 64], got [10, 64]" in message
  assert "module.fc.bias: expected shape [100], got [10]" in message


def test_a_stored_normaliser_must_agree(tmp_path, rng):
  state = random_state("wrn-10-1", rng, num_classes=10)
  state["normalize.std"] = np.asarray([0.25, 0.25, 0.26], np.float32)
  np.savez(tmp_path / "w.npz", **state)
  with pytest.raises(ValueError, match=r"so pass std=\(0\.25, 0\.25, 0\.26\)"):
    from_torch(tmp_path / "w.npz", "wrn-10-1", num_classes=10)
  from_torch(tmp_path / "w.npz", "wrn-10-1", num_classes=10, std=(0.25, 0.25, 0.26))


def test_networks_without_a_torch_layout(tmp_path):
  with pytest.raises(ValueError, match="no PyTorch layout is known for 'tiny-cnn'"):
    from_torch(tmp_path / "w.npz", "tiny-cnn", num_classes=10)
  with pytest.raises(ValueError, match="no PyTorch layout is known for TinyCnn"):
    to_torch(models.create("tiny-cnn", num_classes=2, key=jax.random.key(0)))


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
