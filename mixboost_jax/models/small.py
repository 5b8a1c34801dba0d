# SPDX-License-Identifier: Apache-2.0
"""Small networks: one that compiles and trains in a moment, and the small AlexNet."""

from flax import nnx
from jaxtyping import Array, Float

from mixboost_jax.array_types import Logits
from mixboost_jax.models.layers import (
  BatchNorm,
  Conv,
  Linear,
  Mode,
  Sequence,
  dropout,
  max_pool,
  mean_pool,
)
from mixboost_jax.models.network import Network, Spec
from mixboost_jax.models.weights import Weights

Hidden = Float[Array, "N H W C"]


class ConvBlock(nnx.Module):
  """3 x 3 convolution of stride 2, batch normalisation, relu."""

  def __init__(self, weights: Weights, inputs: int, outputs: int):
    self.conv = Conv(weights, inputs, outputs, 3, stride=2)
    self.bn = BatchNorm(outputs)

  def __call__(self, inputs: Hidden, mode: Mode) -> Float[Array, "N P Q D"]:
    """Returns a map of half the side."""
    return nnx.relu(self.bn(self.conv(inputs), mode))


class TinyCnn(Network):
  """Three convolutions (16, 32, 64 channels), mean over all positions, dropout, classifier.

  Args:
    weights: source of the first weights.
    spec: see `Spec`.
  """

  def __init__(self, weights: Weights, spec: Spec):
    super().__init__(spec, num_stages=3)
    widths = (spec.num_channels, 16, 32, 64)
    for i, name in enumerate(self.stages):
      setattr(self, name, Sequence([ConvBlock(weights, widths[i], widths[i + 1])]))
    self.fc = Linear(weights, widths[3], spec.num_classes)

  def stem(self, images: Hidden, mode: Mode) -> Hidden:
    """Nothing."""
    del mode
    return images

  def head(self, hidden: Hidden, mode: Mode) -> Logits:
    """Mean over all positions, dropout, classifier in float32."""
    features = mean_pool(hidden)
    if mode.dropout_seeds is not None:
      features = dropout(mode.dropout_seeds, features, rate=self.spec.dropout, layer=0)
    return self.fc(features)


class AlexNet(Network):
  """Five convolutions with three max pools, then three fully connected layers, not normalised.

  conv7 64 - pool - conv5 192 - pool - conv3 384 - conv3 256 - conv3 256 - pool - fc 512 - fc 512 -
  fc K, relu everywhere, dropout before the two hidden linear layers (the usual rate is 0.5). The
  stages for taps end at the pools. First weights and biases U(-b, b), b = 1 / sqrt(fan in).

  Paper: Krizhevsky et al. 2012, NeurIPS, in the size used by Deng et al. 2022, arXiv:2111.06236,
  for CIFAR-10.

  Args:
    weights: source of the first weights.
    spec: see `Spec`.
  """

  def __init__(self, weights: Weights, spec: Spec):
    super().__init__(spec, num_stages=3)
    self.conv1 = Conv(weights, spec.num_channels, 64, 7, init="fan_in")
    self.conv2 = Conv(weights, 64, 192, 5, init="fan_in")
    self.conv3 = Conv(weights, 192, 384, 3, init="fan_in")
    self.conv4 = Conv(weights, 384, 256, 3, init="fan_in")
    self.conv5 = Conv(weights, 256, 256, 3, init="fan_in")
    side = spec.image_size
    for _ in range(3):
      side = (side + 1) // 2
    self.fc1 = Linear(weights, 256 * side * side, 512)
    self.fc2 = Linear(weights, 512, 512)
    self.fc3 = Linear(weights, 512, spec.num_classes)

  def stem(self, images: Hidden, mode: Mode) -> Hidden:
    """Nothing: the first convolution belongs to `stage1`."""
    del mode
    return images

  def stage1(self, hidden: Hidden, mode: Mode) -> Float[Array, "N P Q D"]:
    """First convolution and pool."""
    del mode
    return _pooled(nnx.relu(self.conv1(hidden)))

  def stage2(self, hidden: Hidden, mode: Mode) -> Float[Array, "N P Q D"]:
    """Second convolution and pool."""
    del mode
    return _pooled(nnx.relu(self.conv2(hidden)))

  def stage3(self, hidden: Hidden, mode: Mode) -> Float[Array, "N P Q D"]:
    """Last three convolutions and pool."""
    del mode
    hidden = nnx.relu(self.conv4(nnx.relu(self.conv3(hidden))))
    return _pooled(nnx.relu(self.conv5(hidden)))

  def head(self, hidden: Hidden, mode: Mode) -> Logits:
    """Fully connected layers; the last one in float32."""
    features = hidden.reshape(hidden.shape[0], -1)
    features = nnx.relu(self.fc1(self._dropped(features, mode, 0)))
    features = nnx.relu(self.fc2(self._dropped(features, mode, 1)))
    return self.fc3(features.astype("float32"))

  def _dropped(self, features: Float[Array, "N C"], mode: Mode, layer: int) -> Float[Array, "N C"]:
    if mode.dropout_seeds is None:
      return features
    return dropout(mode.dropout_seeds, features, rate=self.spec.dropout, layer=layer)


def _pooled(hidden: Hidden) -> Float[Array, "N P Q C"]:
  return max_pool(hidden, size=3, stride=2, padding=1)
