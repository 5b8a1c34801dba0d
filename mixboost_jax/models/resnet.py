# SPDX-License-Identifier: Apache-2.0
"""Residual networks with the activation after the sum: ImageNet's, and a three-stage variant."""

from typing import ClassVar

from flax import nnx
from jaxtyping import Array, Float

from mixboost_jax.array_types import Logits
from mixboost_jax.models.layers import BatchNorm, Conv, Linear, Mode, Sequence, max_pool, mean_pool
from mixboost_jax.models.network import Network, Spec
from mixboost_jax.models.weights import Weights
from mixboost_jax.rewrite import mark_residual

Hidden = Float[Array, "N H W C"]


class Projection(nnx.Module):
  """Shortcut where the shape changes: 1 x 1 convolution and batch normalisation."""

  def __init__(self, weights: Weights, inputs: int, outputs: int, *, stride: int):
    self.conv = Conv(weights, inputs, outputs, 1, stride=stride)
    self.bn = BatchNorm(outputs)

  def __call__(self, inputs: Hidden, mode: Mode) -> Float[Array, "N P Q D"]:
    """Returns the projected inputs."""
    return self.bn(self.conv(inputs), mode)


class Bottleneck(nnx.Module):
  """conv 1 x 1, conv 3 x 3 (with the stride), conv 1 x 1, each with bn; relu after the sum."""

  def __init__(self, weights: Weights, inputs: int, width: int, outputs: int, *, stride: int):
    self.conv1 = Conv(weights, inputs, width, 1)
    self.bn1 = BatchNorm(width)
    self.conv2 = Conv(weights, width, width, 3, stride=stride)
    self.bn2 = BatchNorm(width)
    self.conv3 = Conv(weights, width, outputs, 1)
    self.bn3 = BatchNorm(outputs)
    changes = stride != 1 or inputs != outputs
    self.shortcut = Projection(weights, inputs, outputs, stride=stride) if changes else None

  def __call__(self, inputs: Hidden, mode: Mode) -> Float[Array, "N P Q D"]:
    """Returns relu(sum of both branches)."""
    hidden = nnx.relu(self.bn1(self.conv1(inputs), mode))
    hidden = nnx.relu(self.bn2(self.conv2(hidden), mode))
    hidden = self.bn3(self.conv3(hidden), mode)
    shortcut = inputs if self.shortcut is None else self.shortcut(inputs, mode)
    return nnx.relu(shortcut + mark_residual(hidden))


class ResNet(Network):
  """Bottleneck stages of width 64, 128, ...; mean over all positions; classifier.

  Paper: He et al. 2015, arXiv:1512.03385, Table 1; first weights: He et al. 2015,
  arXiv:1502.01852, backward case.
  Deviation: the stride of a block sits in its 3 x 3 convolution ("v1.5"), as in the weights that
  are shared in PyTorch layout; the paper strides the first 1 x 1 convolution.

  Args:
    weights: source of the first weights.
    spec: see `Spec`; there is no dropout.
    depths: blocks per stage.
    expansion: output channels of a block over its width.
    small_images: a 5 x 5 stem of stride 1 instead of 7 x 7, stride 2, and a 3 x 3 max pool of
      stride 2.
  """

  has_dropout: ClassVar[bool] = False

  def __init__(
    self,
    weights: Weights,
    spec: Spec,
    *,
    depths: tuple[int, ...],
    expansion: int = 4,
    small_images: bool = False,
  ):
    super().__init__(spec, num_stages=len(depths))
    self.small_images = small_images
    size, stride = (5, 1) if small_images else (7, 2)
    self.conv1 = Conv(weights, spec.num_channels, 64, size, stride=stride)
    self.bn1 = BatchNorm(64)
    inputs = 64
    for stage, depth in enumerate(depths):
      width = 64 * 2**stage
      blocks = []
      for i in range(depth):
        stride = 2 if i == 0 and stage > 0 else 1
        blocks.append(Bottleneck(weights, inputs, width, expansion * width, stride=stride))
        inputs = expansion * width
      setattr(self, self.stages[stage], Sequence(blocks))
    self.fc = Linear(weights, inputs, spec.num_classes)

  def stem(self, images: Hidden, mode: Mode) -> Float[Array, "N P Q D"]:
    """First convolution, bn-relu and, for large images, the max pool."""
    hidden = nnx.relu(self.bn1(self.conv1(images), mode))
    return hidden if self.small_images else max_pool(hidden, size=3, stride=2, padding=1)

  def head(self, hidden: Hidden, mode: Mode) -> Logits:
    """Mean over all positions, classifier in float32."""
    del mode
    return self.fc(mean_pool(hidden))
