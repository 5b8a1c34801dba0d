# SPDX-License-Identifier: Apache-2.0
"""Networks by name."""

import re
from collections.abc import Callable, Mapping
from functools import partial

from mixboost_jax import checks
from mixboost_jax.array_types import PRNGKey
from mixboost_jax.models.network import Network, Spec
from mixboost_jax.models.preact_resnet import PreactResNet
from mixboost_jax.models.resnet import ResNet
from mixboost_jax.models.small import AlexNet, TinyCnn
from mixboost_jax.models.speedrun import Speedrun
from mixboost_jax.models.weights import RandomWeights, Weights
from mixboost_jax.models.wide_resnet import WideResNet
from mixboost_jax.registry import unknown_name

NAMES: Mapping[str, str] = {
  "wrn-D-K": "wide residual network, depth D = 6 n + 4, K times wider: wrn-40-4, wrn-10-1, ...",
  "preact-resnet-10": "pre-activation ResNet for 32 px with one block per stage, for tests",
  "preact-resnet-18": "pre-activation ResNet-18 for 32 px",
  "preact-resnet-50": "pre-activation ResNet-50 (bottlenecks) for 32 px",
  "preact-resnet-D-activated": "the same as preact-resnet-D; says it of weights from a file",
  "preact-resnet-D-raw": "the same with shortcut convolutions before bn-relu: preact-resnet-18-raw",
  "mi-resnet-50": "three-stage ResNet of the Mixup Inference experiments for 32 px",
  "resnet-14": "ResNet-50 with one block per stage, for tests",
  "resnet-50": "ResNet-50 v1.5 for 224 px (give image_size=224)",
  "speedrun-F": "whitened patches and three stages, F times as wide: speedrun-0.5, speedrun-1, ...",
  "alexnet": "small AlexNet for 32 px, without normalisation layers",
  "tiny-cnn": "three convolutions, for tests and first trials",
}
"""Name (or pattern of names) -> what it is."""

_BUILDERS: dict[str, Callable[..., Network]] = {
  "preact-resnet-10": partial(PreactResNet, depths=(1, 1, 1, 1), bottleneck=False),
  "preact-resnet-18": partial(PreactResNet, depths=(2, 2, 2, 2), bottleneck=False),
  "preact-resnet-50": partial(PreactResNet, depths=(3, 4, 6, 3), bottleneck=True),
  "mi-resnet-50": partial(ResNet, depths=(5, 5, 5), expansion=1, small_images=True),
  "resnet-14": partial(ResNet, depths=(1, 1, 1, 1)),
  "resnet-50": partial(ResNet, depths=(3, 4, 6, 3)),
  "alexnet": AlexNet,
  "tiny-cnn": TinyCnn,
}
_WIDE = re.compile(r"wrn-(\d+)-(\d+)")
_SPEEDRUN = re.compile(r"speedrun-(\d*\.?\d+)")
_PREACT = re.compile(r"(preact-resnet-(?:10|18|50))-(activated|raw)")


def name_problem(name: str) -> str | None:
  """Returns what is wrong with the name of a network, or None.

  ```python
  assert models.name_problem("wrn-40-4") is None
  assert "nearest: wrn-40-4" in models.name_problem("wrn-41-4")
  ```
  """
  if name in _BUILDERS:
    return None
  if _PREACT.fullmatch(name):
    return None
  if speedrun := _SPEEDRUN.fullmatch(name):
    few = float(speedrun[1]) < 1 / 64
    return f"expected speedrun-F with F >= 1/64, got {name!r}" if few else None
  wide = _WIDE.fullmatch(name)
  if wide is None:
    return unknown_name(name, NAMES, field="network").removeprefix("network: ")
  depth, widen = int(wide[1]), int(wide[2])
  if depth < 10 or (depth - 4) % 6:
    near = max(10, round((depth - 4) / 6) * 6 + 4)
    return (
      f"expected wrn-D-K with depth D in 10, 16, 22, 28, 34, 40, ... (6 n + 4), got {name!r} "
      f"(nearest: wrn-{near}-{max(widen, 1)})"
    )
  if widen < 1:
    return f"expected wrn-D-K with K >= 1, got {name!r}"
  return None


@checks.inputs(caller="models.create")
def create(
  name: str,
  *,
  num_classes: int,
  key: PRNGKey,
  image_size: int = 32,
  num_channels: int = 3,
  dropout: float = 0.0,
  mean: tuple[float, ...] = (0.5, 0.5, 0.5),
  std: tuple[float, ...] = (0.5, 0.5, 0.5),
  compute_dtype: str = "float32",
) -> Network:
  """Returns a new network with random weights.

  ```python
  model = models.create("tiny-cnn", num_classes=4, key=key, image_size=16)
  assert model(images).shape == (8, 4)
  ```

  Args:
    name: one of `NAMES`.
    num_classes: logits per image.
    key: of the first weights; the same key gives the same weights on any number of devices.
    image_size: side of the images in pixels.
    num_channels: colour channels of the images.
    dropout: drop probability in [0, 1), for networks that have dropout layers.
    mean: per channel, in pixel units; the first layer computes (image - mean) / std.
    std: per channel, in pixel units.
    compute_dtype: `float32` or `bfloat16`, of the hidden layers; parameters, statistics and logits
      are float32 in any case.

  Raises:
    ValueError: if the name is unknown, the key is a seed, or an option does not fit the network.
  """
  spec = Spec(
    num_classes=num_classes,
    image_size=image_size,
    num_channels=num_channels,
    dropout=float(dropout),
    mean=tuple(mean),
    std=tuple(std),
    compute_dtype=compute_dtype,
  )
  return build(name, RandomWeights(key), spec)


def build(name: str, weights: Weights, spec: Spec) -> Network:
  """Returns the network `name` with weights from `weights`."""
  if problem := name_problem(name):
    raise ValueError(f"models.create: {problem}")
  if wide := _WIDE.fullmatch(name):
    return WideResNet(weights, spec, depth=int(wide[1]), widen=int(wide[2]))
  if speedrun := _SPEEDRUN.fullmatch(name):
    return Speedrun(weights, spec, factor=float(speedrun[1]))
  if preact := _PREACT.fullmatch(name):
    return _BUILDERS[preact[1]](weights, spec, raw_shortcut=preact[2] == "raw")
  return _BUILDERS[name](weights, spec)
