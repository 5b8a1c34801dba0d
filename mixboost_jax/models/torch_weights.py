# SPDX-License-Identifier: Apache-2.0
"""Built-in networks from weights in PyTorch layout, and back.

Files are safetensors, npz, or PyTorch's own where it is installed. Nothing here unpickles: `.npz`
is read without objects and `.pth` with `weights_only=True`.
"""

import math
import mmap
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import files
from mixboost_jax.models.catalogue import build
from mixboost_jax.models.functional import functional, merge
from mixboost_jax.models.network import Network, Spec
from mixboost_jax.models.preact_resnet import PreactResNet
from mixboost_jax.models.resnet import ResNet
from mixboost_jax.models.weights import ZeroWeights
from mixboost_jax.models.wide_resnet import WideResNet

Path = tuple[str, ...]
"""Keys of a nested dict of parameters or statistics, e.g. ("stage1", "block0", "bn1", "scale")."""


def from_torch(
  path: str | pathlib.Path, name: str, *, num_classes: int, **create_kwargs: Any
) -> Network:
  """Returns a network with the weights of a PyTorch state dict.

  Understands the usual WideResNet (`block1.layer.0.bn1.weight`; shortcuts named `convShortcut`,
  `conv_shortcut` or `shortcut`), torchvision's and timm's ResNet-50 (`layer1.0.conv1.weight`,
  `downsample.0`, `fc`), pre-activation ResNets (`layer1.0.bn1`, `shortcut.0`, `bn`, `linear`) and
  the three-stage ResNet (`fc_dense`). A pre-activation ResNet must be named
  `preact-resnet-18-activated` or `preact-resnet-18-raw`: public code has both, with the same
  tensors and other logits. A prefix of all names (`module.`, `model.`, ...) is
  dropped; counters and unused blocks are ignored. A normaliser stored in the file must agree with
  `mean` and `std`.

  ```python
  model = models.create("wrn-10-1", num_classes=4, key=key)
  np.savez("weights.npz", **models.to_torch(model))  # or any file of the formats below
  same = models.from_torch("weights.npz", "wrn-10-1", num_classes=4)
  ```

  Args:
    path: `.safetensors`, `.npz`, or `.pth`/`.pt`/`.tar`/`.ckpt`/`.bin` where torch is installed.
    name: see `models.NAMES`.
    num_classes: logits per image.
    **create_kwargs: the other options of `models.create`; above all `mean` and `std`, since most
      files do not say how the pixels were normalised (`mean=(0.0,) * 3, std=(1.0,) * 3` if they
      were not), and `image_size`.

  Raises:
    ValueError: if the file cannot be read, or one list of all names that are missing, unexpected
      or of the wrong shape.
  """
  network = build(name, ZeroWeights(), Spec(num_classes=num_classes, **create_kwargs))
  if not supports(network):
    raise ValueError(
      f"models.from_torch: no PyTorch layout is known for {name!r}; choose wrn-D-K or a ResNet."
    )
  if isinstance(network, PreactResNet) and not name.endswith(("-activated", "-raw")):
    raise ValueError(
      f"models.from_torch: the tensors of a {name} fit two networks with different logits. Say "
      f"which one was trained: '{name}-activated' if its shortcut convolutions see relu(bn1(x)) "
      f"(He et al.; PreActBlockV2 and PreActBottleneck of RobustBench), '{name}-raw' if they see x "
      "(PreActBlock of RobustBench)."
    )
  found = read_arrays(path)
  pure = functional(network)
  wanted = {
    torch_name(network, leaf_path): (leaf_path, leaf.shape)
    for leaf_path, leaf in _leaves((pure.params, pure.stats))
  }
  arrays, problems = _matched(network, found, wanted)
  if problems:
    raise ValueError(f"models.from_torch: {str(path)!r} is not a {name}: " + "; ".join(problems))
  flat = {wanted[name][0]: arrays[name] for name in wanted}
  params, stats = (
    jax.tree_util.tree_map_with_path(lambda keys, _: jnp.asarray(flat[_path(keys)]), tree)
    for tree in (pure.params, pure.stats)
  )
  return merge(network, params, stats)


def to_torch(network: Network) -> dict[str, np.ndarray]:
  """Returns the weights under PyTorch's names and in its layout.

  `numpy.savez(path, **to_torch(network))` is a file that `from_torch` reads; with every value
  through `torch.from_numpy` it is a state dict.

  ```python
  weights = models.to_torch(models.create("wrn-10-1", num_classes=4, key=key))
  assert weights["fc.weight"].shape == (4, 64)
  ```

  Raises:
    ValueError: if no PyTorch layout is known for the network.
  """
  if not supports(network):
    raise ValueError(f"models.to_torch: no PyTorch layout is known for {type(network).__name__}.")
  pure = functional(network)
  return {
    torch_name(network, path): np.ascontiguousarray(to_torch_layout(path[-1], np.asarray(leaf)))
    for path, leaf in _leaves((pure.params, pure.stats))
  }


def _leaves(trees: Any) -> list[tuple[Path, Any]]:
  leaves = []
  for tree in trees:
    leaves += [(_path(keys), leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)]
  return leaves


def _path(keys: Any) -> Path:
  return tuple(key.key for key in keys)


def _matched(
  network: Network, found: dict[str, np.ndarray], wanted: dict[str, tuple[Path, tuple[int, ...]]]
) -> tuple[dict[str, np.ndarray], list[str]]:
  """Returns the arrays in our layout, and everything that does not fit."""
  prefix, arrays, problems = _prefix(found), {}, []
  for full_name, array in found.items():
    inside = full_name.startswith(prefix)
    name = canonical_name(network, full_name.removeprefix(prefix))
    if not inside or name not in wanted:
      if not is_ignored(name):
        problems += _normaliser_problem(network.spec, full_name, array)
      continue
    path, shape = wanted[name]
    array = from_torch_layout(path[-1], np.asarray(array, np.float32))
    if array.shape != shape:
      expected = to_torch_layout(path[-1], np.empty(shape, np.bool_)).shape
      problems.append(
        f"{full_name}: expected shape {list(expected)}, got {list(found[full_name].shape)}"
      )
    arrays[name] = array
  missing = [f"{prefix}{name}: missing{_remedy(name)}" for name in wanted if name not in arrays]
  return arrays, [*missing, *problems]


def _remedy(name: str) -> str:
  """Says what to do about tensors that public variants of the networks leave out."""
  if name in ("fc.bias", "linear.bias"):
    return " (a head without a bias is one of zeros: add them to the file under this name)"
  if name == "bn.weight":
    return " (a variant without bn-relu before the head, bn_before_fc=False, cannot be expressed)"
  return ""


def _prefix(found: dict[str, np.ndarray]) -> str:
  """Returns what stands before the first kernel: "" or "module." or "model.module." and so on."""
  anchor = ANCHOR
  ends = [name for name in found if name == anchor or name.endswith("." + anchor)]
  return min(ends, key=len, default=anchor).removesuffix(anchor)


def _normaliser_problem(spec: Spec, name: str, array: np.ndarray) -> list[str]:
  """Judges a name that the network does not have; a matching normaliser is no problem."""
  field = {"mean": "mean", "mu": "mean", "std": "std", "sigma": "std"}.get(name.split(".")[-1])
  if field is None or array.size not in (1, spec.num_channels):
    return [f"{name}: unexpected"]
  values = np.broadcast_to(array.ravel(), (spec.num_channels,))
  if np.allclose(values, getattr(spec, field), atol=1e-3):
    return []
  stored = tuple(round(float(value), 4) for value in values)
  return [f"{name}: the file normalises with {stored}, so pass {field}={stored}"]


_LEAVES = {
  "kernel": "weight",
  "scale": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}
# Pattern in our dotted module name -> PyTorch's, per family.
_MODULES: Mapping[type[Network], tuple[tuple[str, str], ...]] = {
  WideResNet: ((r"^stage(\d)\.block(\d+)", r"block\1.layer.\2"), (r"shortcut$", "convShortcut")),
  PreactResNet: ((r"^stage(\d)\.block(\d+)", r"layer\1.\2"), (r"shortcut$", "shortcut.0")),
  ResNet: (
    (r"^stage(\d)\.block(\d+)", r"layer\1.\2"),
    (r"shortcut\.conv$", "downsample.0"),
    (r"shortcut\.bn$", "downsample.1"),
  ),
}
# Other spellings found in files -> the one above.
_SPELLINGS: Mapping[type[Network], tuple[tuple[str, str], ...]] = {
  WideResNet: ((r"(layer\.\d+)\.(conv_shortcut|shortcut)\.", r"\1.convShortcut."),),
  PreactResNet: ((r"^fc\.", "linear."),),
  ResNet: ((r"^fc_dense\.", "fc."),),
}
# Present in some files and without effect on the logits.
_IGNORED = re.compile(r"(.*\.)?num_batches_tracked|sub_block1\..*")
ANCHOR = "conv1.weight"
"""The first kernel of every family; what stands before it is the prefix of all names."""


def supports(network: Network) -> bool:
  """Returns whether there is a PyTorch layout for this network."""
  return type(network) in _MODULES


def torch_name(network: Network, path: Path) -> str:
  """Returns PyTorch's name of a parameter or statistic."""
  module = ".".join(path[:-1])
  for pattern, replacement in _MODULES[type(network)]:
    module = re.sub(pattern, replacement, module)
  return f"{module}.{_LEAVES[path[-1]]}"


def canonical_name(network: Network, name: str) -> str:
  """Returns the spelling that `torch_name` uses for a name without prefix."""
  for pattern, replacement in _SPELLINGS[type(network)]:
    name = re.sub(pattern, replacement, name)
  return name


def is_ignored(name: str) -> bool:
  """Returns whether a name without prefix may be dropped."""
  return _IGNORED.fullmatch(name) is not None


def from_torch_layout(leaf: str, array: np.ndarray) -> np.ndarray:
  """[out, in, height, width] -> [height, width, in, out], [out, in] -> [in, out]."""
  return _transposed(leaf, array, lambda a: a.transpose(2, 3, 1, 0))


def to_torch_layout(leaf: str, array: np.ndarray) -> np.ndarray:
  """The inverse of `from_torch_layout`."""
  return _transposed(leaf, array, lambda a: a.transpose(3, 2, 0, 1))


def _transposed(
  leaf: str, array: np.ndarray, transpose_kernel: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
  if leaf != "kernel" or array.ndim not in (2, 4):
    return array
  return array.T if array.ndim == 2 else transpose_kernel(array)


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
