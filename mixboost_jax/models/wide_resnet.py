# SPDX-License-Identifier: Apache-2.0
"""Wide residual networks for 32 x 32 images."""

from flax import nnx
from jaxtyping import Array, Float

from mixboost_jax.array_types import Logits
from mixboost_jax.models.layers import BatchNorm, Conv, Linear, Mode, Sequence, dropout, mean_pool
from mixboost_jax.models.network import Network, Spec
from mixboost_jax.models.weights import Weights
from mixboost_jax.rewrite import mark_residual

Hidden = Float[Array, "N H W C"]


class WideBlock(nnx.Module):
  """Pre-activation block: bn-relu-conv-bn-relu-dropout-conv plus shortcut.

  Where the width changes, the first bn-relu feeds both branches and the shortcut is a 1 x 1
  convolution; elsewhere the shortcut is the raw input.
  """

  def __init__(
    self, weights: Weights, inputs: int, outputs: int, *, stride: int, rate: float, index: int
  ):
    self.rate = rate
    self.index = index  # among the dropout layers of the network
    self.bn1 = BatchNorm(inputs)
    self.conv1 = Conv(weights, inputs, outputs, 3, stride=stride)
    self.bn2 = BatchNorm(outputs)
    self.conv2 = Conv(weights, outputs, outputs, 3)
    widens = inputs != outputs
    self.shortcut = Conv(weights, inputs, outputs, 1, stride=stride) if widens else None

  def __call__(self, inputs: Hidden, mode: Mode) -> Float[Array, "N P Q D"]:
    """Returns the sum of both branches."""
    hidden = nnx.relu(self.bn1(inputs, mode))
    shortcut = inputs if self.shortcut is None else self.shortcut(hidden)
    hidden = nnx.relu(self.bn2(self.conv1(hidden), mode))
    if mode.dropout_seeds is not None:
      hidden = dropout(mode.dropout_seeds, hidden, rate=self.rate, layer=self.index)
    return shortcut + mark_residual(self.conv2(hidden))


class WideResNet(Network):
  """WRN-d-k: 3 stages of (d - 4) / 6 blocks with 16k, 32k and 64k channels, strides 1, 2, 2.

  Paper: Zagoruyko & Komodakis 2016, arXiv:1605.07146, Table 1 and Sec. 2.4 (dropout between the
  convolutions of a block).

  Args:
    weights: source of the first weights.
    spec: see `Spec`; `dropout` acts inside the blocks.
    depth: d = 6 n + 4, at least 10.
    widen: k, at least 1.
  """

  def __init__(self, weights: Weights, spec: Spec, *, depth: int, widen: int):
    super().__init__(spec, num_stages=3)
    num_blocks = (depth - 4) // 6
    widths = (16, 16 * widen, 32 * widen, 64 * widen)
    self.conv1 = Conv(weights, spec.num_channels, 16, 3)
    for stage, name in enumerate(self.stages):
      blocks = [
        WideBlock(
          weights,
          widths[stage] if i == 0 else widths[stage + 1],
          widths[stage + 1],
          stride=2 if i == 0 and stage > 0 else 1,
          rate=spec.dropout,
          index=stage * num_blocks + i,
        )
        for i in range(num_blocks)
      ]
      setattr(self, name, Sequence(blocks))
    self.bn1 = BatchNorm(widths[3])
    self.fc = Linear(weights, widths[3], spec.num_classes, bias="zero")

  def stem(self, images: Hidden, mode: Mode) -> Float[Array, "N H W D"]:
    """First convolution."""
    del mode
    return self.conv1(images)

  def head(self, hidden: Hidden, mode: Mode) -> Logits:
    """Final bn-relu, mean over all positions, classifier in float32."""
    return self.fc(mean_pool(nnx.relu(self.bn1(hidden, mode))))
