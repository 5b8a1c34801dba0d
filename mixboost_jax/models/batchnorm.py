# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation that keeps the views of an example apart."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mixboost_jax.models.mode import Mode
from mixboost_jax.models.weights import constant

MOMENTUM = 0.1
"""Weight of the newest batch in the running statistics."""
EPSILON = 1e-5


class BatchNorm(nnx.Module):
  """Normalises each channel; all arithmetic in float32.

  Training uses the mean and the *biased* variance of the batch. The running statistics move by
  0.1 towards the batch mean and the *unbiased* variance; evaluation uses them.

  With several views per example (`mode.num_views`), `mode.batchnorm_views` says whose statistics
  count:

  - `clean`: each view is normalised by its own statistics; the running ones follow view 0 only.
    Equal to one train-mode forward per view of which only the first keeps its statistics.
  - `both`: the same, but the running statistics are updated once per view, in order. Equal to
    successive train-mode forwards.
  - `joint`: all rows are one batch.

  Paper: Ioffe & Szegedy 2015, arXiv:1502.03167, Alg. 1. Separate statistics for a second,
  differently distributed view: Xie et al. 2020, arXiv:1911.09665 (there with separate
  scale and bias too; here these are shared).

  Args:
    num_channels: size of the last axis.
  """

  def __init__(self, num_channels: int):
    self.scale = nnx.Param(constant((num_channels,), 1.0))
    self.bias = nnx.Param(constant((num_channels,), 0.0))
    self.mean = nnx.BatchStat(constant((num_channels,), 0.0))
    self.var = nnx.BatchStat(constant((num_channels,), 1.0))

  def __call__(self, inputs: Float[Array, "N H W C"], mode: Mode) -> Float[Array, "N H W C"]:
    """Returns `inputs` normalised, in their own dtype; train mode updates the statistics."""
    if not mode.train:
      return self._normalise(inputs[:, None], self.mean[...][None], self.var[...][None])[:, 0]
    views = 1 if mode.batchnorm_views == "joint" else mode.num_views
    rows, *shape = inputs.shape
    stacked = inputs.reshape(rows // views, views, *shape)
    mean, var = _moments(stacked)
    count = stacked.size // (views * shape[-1])
    self._track(mean, var, count, num_tracked=views if mode.batchnorm_views == "both" else 1)
    return self._normalise(stacked, mean, var).reshape(inputs.shape)

  def _track(
    self, mean: Float[Array, "V C"], var: Float[Array, "V C"], count: int, *, num_tracked: int
  ) -> None:
    if count < 2:
      raise ValueError(
        "batch normalisation: expected at least 2 values per channel and view to train on, got "
        "1 (one example of one pixel). Use a larger batch."
      )
    mean, var = jax.lax.stop_gradient((mean, var))
    unbiased = var * (count / (count - 1))
    for view in range(num_tracked):
      self.mean[...] = (1 - MOMENTUM) * self.mean[...] + MOMENTUM * mean[view]
      self.var[...] = (1 - MOMENTUM) * self.var[...] + MOMENTUM * unbiased[view]

  def _normalise(
    self, stacked: Float[Array, "N V H W C"], mean: Float[Array, "V C"], var: Float[Array, "V C"]
  ) -> Float[Array, "N V H W C"]:
    factor = self.scale[...][None] * jax.lax.rsqrt(var + EPSILON)
    offset = self.bias[...][None] - mean * factor
    factor, offset = factor[None, :, None, None], offset[None, :, None, None]
    return (stacked.astype(jnp.float32) * factor + offset).astype(stacked.dtype)


def _moments(stacked: Float[Array, "N V H W C"]) -> tuple[Float[Array, "V C"], Float[Array, "V C"]]:
  """Returns mean and biased variance of each view and channel."""
  values = stacked.astype(jnp.float32)
  mean = jnp.mean(values, axis=(0, 2, 3))
  centred = values - mean[None, :, None, None]
  return mean, jnp.mean(jnp.square(centred), axis=(0, 2, 3))
