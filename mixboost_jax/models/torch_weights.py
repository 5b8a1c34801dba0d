# SPDX-License-Identifier: Apache-2.0
"""Built-in networks from weights in PyTorch layout, and back."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax.models import torch_names
from mixboost_jax.models.catalogue import build
from mixboost_jax.models.functional import functional, merge
from mixboost_jax.models.network import Network, Spec
from mixboost_jax.models.preact_resnet import PreactResNet
from mixboost_jax.models.torch_files import read_arrays
from mixboost_jax.models.torch_names import Path
from mixboost_jax.models.weights import ZeroWeights


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
  if not torch_names.supports(network):
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
    torch_names.torch_name(network, leaf_path): (leaf_path, leaf.shape)
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

  Raises:
    ValueError: if no PyTorch layout is known for the network.
  """
  if not torch_names.supports(network):
    raise ValueError(f"models.to_torch: no PyTorch layout is known for {type(network).__name__}.")
  pure = functional(network)
  return {
    torch_names.torch_name(network, path): np.ascontiguousarray(
      torch_names.to_torch_layout(path[-1], np.asarray(leaf))
    )
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
    name = torch_names.canonical_name(network, full_name.removeprefix(prefix))
    if not inside or name not in wanted:
      if not torch_names.is_ignored(name):
        problems += _normaliser_problem(network.spec, full_name, array)
      continue
    path, shape = wanted[name]
    array = torch_names.from_torch_layout(path[-1], np.asarray(array, np.float32))
    if array.shape != shape:
      expected = torch_names.to_torch_layout(path[-1], np.empty(shape, np.bool_)).shape
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
  anchor = torch_names.ANCHOR
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
