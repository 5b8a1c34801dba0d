# SPDX-License-Identifier: Apache-2.0
"""Reading files of named arrays: safetensors, npz, and PyTorch's own format where it is installed.

Nothing here unpickles: `.npz` is read without objects and `.pth` with `weights_only=True`.
"""

import math
import mmap
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mixboost_jax import files

_SAFETENSORS_DTYPES = {
  "F64": np.dtype("<f8"),
  "F32": np.dtype("<f4"),
  "F16": np.dtype("<f2"),
  "BF16": np.dtype("<u2"),  # the upper half of a float32
  "I64": np.dtype("<i8"),
  "I32": np.dtype("<i4"),
  "I16": np.dtype("<i2"),
  "I8": np.dtype("<i1"),
  "U8": np.dtype("<u1"),
  "BOOL": np.dtype("<?"),
}
_TORCH_SUFFIXES = (".pth", ".pt", ".tar", ".ckpt", ".bin")
_SMALL_BYTES, _MAX_RATIO = 2**26, 200
"""An array of more bytes may be packed at most so many times smaller: parameters are no zeros."""
_NESTED = ("state_dict", "model_state_dict", "model", "net")


def read_arrays(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """Returns the named arrays of a file.

  Args:
    path: `.safetensors`, `.npz`, or `.pth`, `.pt`, `.tar`, `.ckpt`, `.bin` (these through torch).

  Raises:
    ValueError: if the file is missing, damaged, of another kind, or needs torch.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f"weights: expected a file, got {str(path)!r}, which does not exist.")
  if path.suffix == ".safetensors":
    return _read_safetensors(path)
  if path.suffix == ".npz":
    return _read_npz(path)
  if path.suffix in _TORCH_SUFFIXES:
    return _read_torch(path)
  known = ", ".join((".safetensors", ".npz", *_TORCH_SUFFIXES))
  raise ValueError(f"weights: expected a file that ends in {known}, got {path.name!r}.")


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Layout: 8 bytes N (little endian), N bytes of JSON, then the data that the JSON points into."""
  try:
    with files.open_regular(path) as file:
      header_end = 8 + int.from_bytes(file.read(8), "little")
      if not 8 < header_end <= min(path.stat().st_size, 8 + files.MAX_JSON_BYTES):
        raise ValueError("the header does not fit into the file")
      header = files.parse_json(file.read(header_end - 8))
      mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    data = memoryview(mapped)[header_end:]
    return {
      name: _tensor(name, entry, data) for name, entry in header.items() if name != "__metadata__"
    }
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f"weights: {str(path)!r} is not a whole safetensors file ({error}). Copy it again."
    ) from error


def _tensor(name: str, entry: Mapping[str, Any], data: memoryview) -> np.ndarray:
  dtype, shape = _SAFETENSORS_DTYPES.get(entry["dtype"]), tuple(entry["shape"])
  if dtype is None:
    raise ValueError(f"{name} has dtype {entry['dtype']}, which cannot be read")
  begin, end = entry["data_offsets"]
  if not 0 <= begin <= end <= len(data) or end - begin != dtype.itemsize * math.prod(shape):
    raise ValueError(f"{name} {list(shape)} does not fit its data [{begin}, {end}]")
  array = np.frombuffer(data[begin:end], dtype).reshape(shape)
  if entry["dtype"] == "BF16":
    return (array.astype(np.uint32) << 16).view(np.float32)
  return array


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    # Opened here: NumPy leaves the file open when it is damaged.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
      for entry in file.zip.infolist():
        if entry.file_size > max(_SMALL_BYTES, _MAX_RATIO * entry.compress_size):
          raise ValueError(f"{entry.filename} unpacks to {entry.file_size} bytes")
      return {name: file[name] for name in file.files}
  except Exception as error:  # zipfile, zlib and NumPy each raise their own
    raise ValueError(
      f"weights: {str(path)!r} is not a whole .npz file of plain arrays ({error})."
    ) from error


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    import torch  # pyright: ignore[reportMissingImports]
  except ImportError as error:
    raise ValueError(
      f"weights: reading {path.name!r} needs torch, which is not installed. Where it is, run "
      f"`import numpy, torch; state = torch.load({path.name!r}, map_location='cpu', "
      "weights_only=True); numpy.savez('weights.npz', **{name: value.float().numpy() for name, "
      "value in state.get('state_dict', state).items()})` and give weights.npz instead."
    ) from error
  try:
    state = torch.load(path, map_location="cpu", weights_only=True)
  except Exception as error:  # pickle, zipfile and torch each raise their own
    raise ValueError(
      f"weights: {str(path)!r} cannot be read as plain tensors ({error}). Save "
      "`model.state_dict()` instead of the model."
    ) from error
  tensors = {n: value for n, value in _unnested(state).items() if isinstance(value, torch.Tensor)}
  if not tensors:
    raise ValueError(f"weights: {str(path)!r} holds no dict of tensors. Save `model.state_dict()`.")
  return {name: _to_numpy(value) for name, value in tensors.items()}


def _unnested(state: Any) -> Mapping[str, Any]:
  """Returns the state dict inside a training checkpoint."""
  if not isinstance(state, Mapping):
    return {}
  inner = [state[name] for name in _NESTED if isinstance(state.get(name), Mapping)]
  return _unnested(inner[0]) if inner else state


def _to_numpy(tensor: Any) -> np.ndarray:
  return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
