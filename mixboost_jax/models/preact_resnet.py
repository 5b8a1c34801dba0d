# SPDX-License-Identifier: Apache-2.0
"""Pre-activation residual networks for 32 x 32 images."""

from typing import ClassVar

from flax import nnx
from jaxtyping import Array, Float

from mixboost_jax.array_types import Logits
from mixboost_jax.models.layers import BatchNorm, Conv, Linear, Mode, Sequence, mean_pool
from mixboost_jax.models.network import Network, Spec
from mixboost_jax.models.weights import Weights
from mixboost_jax.rewrite import mark_residual

Hidden = Float[Array, "N H W C"]


class PreactBlock(nnx.Module):
  """bn-relu-conv twice (3 x 3, 3 x 3) or, as a bottleneck, three times (1 x 1, 3 x 3, 1 x 1).

  Where the shape changes, the first bn-relu also feeds a 1 x 1 shortcut convolution, or with
  `raw_shortcut` the input itself does.
  """

  def __init__(
    self,
    weights: Weights,
    inputs: int,
    width: int,
    outputs: int,
    *,
    stride: int,
    bottleneck: bool,
    raw_shortcut: bool,
  ):
    self.bottleneck, self.raw_shortcut = bottleneck, raw_shortcut
    first, second = ((1, 1), (3, stride)) if bottleneck else ((3, stride), (3, 1))
    self.bn1 = BatchNorm(inputs)
    self.conv1 = Conv(weights, inputs, width, first[0], stride=first[1])
    self.bn2 = BatchNorm(width)
    self.conv2 = Conv(weights, width, width, second[0], stride=second[1])
    self.bn3 = BatchNorm(width) if bottleneck else None
    self.conv3 = Conv(weights, width, outputs, 1) if bottleneck else None
    changes = stride != 1 or inputs != outputs
    self.shortcut = Conv(weights, inputs, outputs, 1, stride=stride) if changes else None

  def __call__(self, inputs: Hidden, mode: Mode) -> Float[Array, "N P Q D"]:
    """Returns the sum of both branches."""
    hidden = nnx.relu(self.bn1(inputs, mode))
    shortcut = inputs if self.raw_shortcut else hidden
    shortcut = inputs if self.shortcut is None else self.shortcut(shortcut)
    hidden = self.conv2(nnx.relu(self.bn2(self.conv1(hidden), mode)))
    if self.bn3 is not None and self.conv3 is not None:
      hidden = self.conv3(nnx.relu(self.bn3(hidden, mode)))
    return shortcut + mark_residual(hidden)


class PreactResNet(Network):
  """3 x 3 stem with 64 channels, stages of width 64, 128, ..., final bn-relu, mean, classifier.

  Paper: He et al. 2016, arXiv:1603.05027, Fig. 4(e) and appendix (final bn-relu; the first block
  of a stage pre-activates both branches).
  Deviation: four stages of the ImageNet depths (2, 2, 2, 2 and 3, 4, 6, 3) on the stem for small
  images, as is usual for "pre-activation ResNet-18/50" on CIFAR; the paper's own CIFAR networks
  have three narrower stages. First weights N(0, 2 / (k^2 outputs)), as the wide networks.

  Args:
    weights: source of the first weights.
    spec: see `Spec`; there is no dropout.
    depths: blocks per stage.
    bottleneck: three convolutions per block and four times as many output channels.
    raw_shortcut: shortcut convolutions see the input of the block, before bn-relu; not the paper's.
  """

  has_dropout: ClassVar[bool] = False

  def __init__(
    self,
    weights: Weights,
    spec: Spec,
    *,
    depths: tuple[int, ...],
    bottleneck: bool,
    raw_shortcut: bool = False,
  ):
    super().__init__(spec, num_stages=len(depths))
    self.conv1 = Conv(weights, spec.num_channels, 64, 3)
    inputs = 64
    for stage, depth in enumerate(depths):
      width = 64 * 2**stage
      outputs = 4 * width if bottleneck else width
      blocks = []
      for i in range(depth):
        stride = 2 if i == 0 and stage > 0 else 1
        options = {"bottleneck": bottleneck, "raw_shortcut": raw_shortcut}
        blocks.append(PreactBlock(weights, inputs, width, outputs, stride=stride, **options))
        inputs = outputs
      setattr(self, self.stages[stage], Sequence(blocks))
    self.bn = BatchNorm(inputs)
    self.linear = Linear(weights, inputs, spec.num_classes)

  def stem(self, images: Hidden, mode: Mode) -> Float[Array, "N H W D"]:
    """First convolution."""
    del mode
    return self.conv1(images)

  def head(self, hidden: Hidden, mode: Mode) -> Logits:
    """Final bn-relu, mean over all positions, classifier in float32."""
    return self.linear(mean_pool(nnx.relu(self.bn(hidden, mode))))
