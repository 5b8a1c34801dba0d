# SPDX-License-Identifier: Apache-2.0
"""Networks for 32 x 32 images that train within minutes."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mixboost_jax.array_types import Logits
from mixboost_jax.models.layers import BatchNorm, Conv, Linear, Mode, conv2d, halve
from mixboost_jax.models.network import Network, Spec
from mixboost_jax.models.weights import Weights, constant

Hidden = Float[Array, "N H W C"]

SIDE = 2
"""Of the patches that the first layer whitens."""
LOGIT_SCALE = 1 / 9
_AT_ONCE = 256
"""Pictures whose patches are held in memory."""


class Whitening(nnx.Module):
  """Convolution whose kernels are the whitened directions of training patches, and their negatives.

  The kernels count as statistics: checkpoints hold them, no optimizer sees them. Before
  `Network.calibrate` they are those of white noise.

  Args:
    channels: of the pictures.
  """

  def __init__(self, channels: int):
    size = SIDE * SIDE * channels
    self.kernel = nnx.BatchStat(jnp.asarray(both_signs(np.eye(size, dtype=np.float32), channels)))
    self.bias = nnx.Param(constant((2 * size,), 0.0))

  def __call__(self, inputs: Hidden) -> Float[Array, "N P Q D"]:
    """Returns the projections; the border is not padded."""
    kernel = self.kernel[...].astype(inputs.dtype)
    outputs = conv2d(inputs, kernel, stride=1, padding=0)
    return outputs + self.bias[...].astype(inputs.dtype)[None, None, None]


def both_signs(directions: Float[np.ndarray, "K K"], channels: int) -> Float[np.ndarray, "R S C D"]:
  """Returns the columns of `directions`, then their negatives, as kernels."""
  kernel = np.concatenate([directions, -directions], axis=1)
  return kernel.reshape(SIDE, SIDE, channels, -1)


def whitening_directions(
  images: Float[np.ndarray, "N H W C"], *, epsilon: float = 5e-4
) -> Float[np.ndarray, "K K"]:
  """Returns a matrix W of columns such that W^T x has the covariance of identity for patches x.

  The columns are eigenvectors of the patches' covariance, divided by sqrt(eigenvalue + `epsilon`).

  Paper: Jordan 2024, arXiv:2404.00498, Sec. 3.2 (frozen patch-whitening layer).
  """
  _, height, width, channels = images.shape
  rows, columns, size = height - SIDE + 1, width - SIDE + 1, SIDE * SIDE * channels
  number, total, moment = 0, np.zeros(size), np.zeros((size, size))
  for start in range(0, len(images), _AT_ONCE):
    part = images[start : start + _AT_ONCE].astype(np.float64)
    shifted = [part[:, i : i + rows, j : j + columns] for i in range(SIDE) for j in range(SIDE)]
    patches = np.concatenate(shifted, axis=-1).reshape(-1, size)
    number += len(patches)
    total += patches.sum(0)
    moment += patches.T @ patches
  mean = total / number
  values, vectors = np.linalg.eigh(moment / number - np.outer(mean, mean))
  largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
  vectors *= np.sign(largest)  # the sign of an eigenvector is free
  return (vectors / np.sqrt(np.maximum(values, 0) + epsilon)).astype(np.float32)


class Stage(nnx.Module):
  """conv-maxpool-norm-GELU-conv-norm-GELU, 3 x 3."""

  def __init__(self, weights: Weights, inputs: int, outputs: int):
    self.conv1 = Conv(weights, inputs, outputs, 3, init="dirac")
    self.bn1 = BatchNorm(outputs, scaled=False, momentum=0.4, epsilon=1e-12)
    self.conv2 = Conv(weights, outputs, outputs, 3, init="dirac")
    self.bn2 = BatchNorm(outputs, scaled=False, momentum=0.4, epsilon=1e-12)

  def __call__(self, inputs: Hidden, mode: Mode) -> Float[Array, "N P Q D"]:
    """Returns a map of half the size."""
    hidden = nnx.gelu(self.bn1(halve(self.conv1(inputs)), mode))
    return nnx.gelu(self.bn2(self.conv2(hidden), mode))


class Speedrun(Network):
  """Whitened 2 x 2 patches, three stages of widths 64, 256, 256 times `factor`, largest values.

  Paper: Jordan 2024, arXiv:2404.00498, Sec. 3 and Listing 4.
  Deviation: patches are centred before their covariance is taken; GELU by its tanh form.

  Args:
    weights: source of the first weights.
    spec: see `Spec`; there is no dropout.
    factor: of the widths.
  """

  has_dropout: ClassVar[bool] = False
  calibration_images: ClassVar[int] = 5_000

  def __init__(self, weights: Weights, spec: Spec, *, factor: float):
    if spec.image_size < 16:
      raise ValueError(
        f"models.create: speedrun networks halve the side three times; expected image_size of at "
        f"least 16, got {spec.image_size}."
      )
    super().__init__(spec, num_stages=3)
    self.whitening = Whitening(spec.num_channels)
    inputs = 2 * SIDE * SIDE * spec.num_channels
    for name, width in zip(self.stages, (64, 256, 256), strict=True):
      outputs = max(1, round(width * factor))
      setattr(self, name, Stage(weights, inputs, outputs))
      inputs = outputs
    self.linear = Linear(weights, inputs, spec.num_classes, bias="none")

  def calibrate(self, images: Float[np.ndarray, "N H W C"]) -> None:
    """Takes the whitened directions of these pictures."""
    normalised = np.asarray(self._normalise(jnp.asarray(images)))
    directions = whitening_directions(normalised)
    self.whitening.kernel[...] = jnp.asarray(both_signs(directions, images.shape[-1]))

  def stem(self, images: Hidden, mode: Mode) -> Float[Array, "N P Q D"]:
    """Whitened patches."""
    del mode
    return nnx.gelu(self.whitening(images))

  def head(self, hidden: Hidden, mode: Mode) -> Logits:
    """Largest value of each channel, classifier without bias in float32."""
    del mode
    return LOGIT_SCALE * self.linear(hidden.astype(jnp.float32).max(axis=(1, 2)))
