# SPDX-License-Identifier: Apache-2.0
"""How PyTorch implementations of the built-in networks name and lay out their weights."""

import re
from collections.abc import Callable, Mapping

import numpy as np

from mixboost_jax.models.network import Network
from mixboost_jax.models.preact_resnet import PreactResNet
from mixboost_jax.models.resnet import ResNet
from mixboost_jax.models.wide_resnet import WideResNet

Path = tuple[str, ...]
"""Keys of a nested dict of parameters or statistics, e.g. ("stage1", "block0", "bn1", "scale")."""

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
