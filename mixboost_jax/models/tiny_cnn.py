# SPDX-License-Identifier: Apache-2.0
"""A network that compiles and trains in a moment, for tests and first trials."""

from flax import nnx
from jaxtyping import Array, Float

from mixboost_jax.array_types import Logits
from mixboost_jax.models.batchnorm import BatchNorm
from mixboost_jax.models.conv import mean_pool
from mixboost_jax.models.dropout import dropout
from mixboost_jax.models.layers import Conv, Linear
from mixboost_jax.models.mode import Mode
from mixboost_jax.models.network import Network, Spec
from mixboost_jax.models.sequence import Sequence
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
