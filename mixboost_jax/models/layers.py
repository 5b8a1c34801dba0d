# SPDX-License-Identifier: Apache-2.0
"""The layers of all networks: float32 parameters, computed in the dtype of their inputs.

The mask of dropout belongs to the example, not to the batch. A threefry generator costs more than
the convolution it regularises on some backends, and asking it for 16 bits costs as much as asking
for 32. So threefry gives 64 bits per row and forward pass, and a keyed mixing function of the
position turns them into the bits of every mask.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt32

from mixboost_jax import target
from mixboost_jax.array_types import PRNGKeys
from mixboost_jax.models.weights import Weights, constant


class Conv(nnx.Module):
  """Square convolution.

  Args:
    weights: source of the first weights.
    inputs: input channels.
    outputs: output channels.
    size: side of the kernel.
    stride: of the window.
    padding: zeros on each side; half the size if None.
    init: `fan_out`: N(0, 2 / (size^2 outputs)) and no bias (He et al. 2015, arXiv:1502.01852,
      Sec. 2.2, backward case); `fan_in`: U(-b, b) with b = 1 / sqrt(size^2 inputs), kernel and
      bias, which is what PyTorch layers start from; `dirac`: the same kernel without a bias, but
      the first outputs copy the inputs, as far as there are as many of both.
  """

  def __init__(
    self,
    weights: Weights,
    inputs: int,
    outputs: int,
    size: int,
    *,
    stride: int = 1,
    padding: int | None = None,
    init: Literal["fan_out", "fan_in", "dirac"] = "fan_out",
  ):
    self.stride = stride
    self.padding = size // 2 if padding is None else padding
    shape = (size, size, inputs, outputs)
    if init == "fan_out":
      kernel = weights.normal(shape, std=math.sqrt(2 / (size * size * outputs)))
    else:
      bound = 1 / math.sqrt(size * size * inputs)
      kernel = weights.uniform(shape, bound=bound)
    self.kernel = nnx.Param(_copying(kernel) if init == "dirac" else kernel)
    self.bias = nnx.Param(weights.uniform((outputs,), bound=bound)) if init == "fan_in" else None

  def __call__(self, inputs: Float[Array, "N H W C"]) -> Float[Array, "N P Q D"]:
    """Returns the filtered batch."""
    kernel = self.kernel[...].astype(inputs.dtype)
    outputs = conv2d(inputs, kernel, stride=self.stride, padding=self.padding)
    if self.bias is None:
      return outputs
    return outputs + self.bias[...].astype(inputs.dtype)[None, None, None]


def _copying(kernel: Float[Array, "R S C D"]) -> Float[Array, "R S C D"]:
  """Lets the first outputs be the inputs at the same place."""
  changed = np.array(kernel)
  count = min(changed.shape[2:])
  changed[..., :count] = 0
  changed[changed.shape[0] // 2, changed.shape[1] // 2, range(count), range(count)] = 1
  return jax.device_put(changed)


class Linear(nnx.Module):
  """Matrix product and bias; the first weights are U(-b, b), b = 1 / sqrt(inputs).

  Args:
    weights: source of the first weights.
    inputs: features in.
    outputs: features out.
    bias: `fan_in`: U(-b, b) at first; `zero`: 0 at first; `none`: there is no bias.
  """

  def __init__(
    self,
    weights: Weights,
    inputs: int,
    outputs: int,
    *,
    bias: Literal["fan_in", "zero", "none"] = "fan_in",
  ):
    bound = 1 / math.sqrt(inputs)
    self.kernel = nnx.Param(weights.uniform((inputs, outputs), bound=bound))
    if bias == "fan_in":
      self.bias = nnx.Param(weights.uniform((outputs,), bound=bound))
    else:
      self.bias = nnx.Param(constant((outputs,), 0.0)) if bias == "zero" else None

  def __call__(self, inputs: Float[Array, "N C"]) -> Float[Array, "N D"]:
    """Returns `inputs @ kernel + bias`."""
    kernel = self.kernel[...].astype(inputs.dtype)
    if self.bias is None:
      return inputs @ kernel
    return inputs @ kernel + self.bias[...].astype(inputs.dtype)[None]


def conv2d(
  inputs: Float[Array, "N H W C"], kernel: Float[Array, "R S C D"], *, stride: int, padding: int
) -> Float[Array, "N P Q D"]:
  """Cross-correlates `inputs` with `kernel`, as deep-learning libraries do; no bias, no groups.

  On a CPU its gradient is several times slower inside `lax.scan` or `lax.fori_loop` than outside:
  use `mixboost_jax.loops` there, or wrap the body in `mixboost_jax.rewrite.fast_on_cpu`.

  ```python
  box = jnp.ones((3, 3, 3, 1)) / 27  # the mean of a window, over all channels
  assert models.conv2d(images, box, stride=2, padding=1).shape == (8, 8, 8, 1)
  ```

  Args:
    inputs: batch, channels last.
    kernel: [height, width, input channels, output channels].
    stride: of the window, in both directions, >= 1.
    padding: zeros added on each of the four sides, smaller than the kernel.

  Raises:
    ValueError: if an option is out of range.
  """
  if stride < 1 or not 0 <= padding < min(kernel.shape[:2]):
    raise ValueError(
      f"conv2d: expected stride >= 1 and 0 <= padding < {min(kernel.shape[:2])} (side of the "
      f"kernel), got stride={stride}, padding={padding}."
    )
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    window_strides=(stride, stride),
    padding=((padding, padding), (padding, padding)),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def max_pool(
  inputs: Float[Array, "N H W C"], *, size: int, stride: int, padding: int
) -> Float[Array, "N P Q C"]:
  """Largest value of each window; the padding never wins."""
  pad = (padding, padding)
  return jax.lax.reduce_window(
    inputs,
    np.asarray(-np.inf, inputs.dtype),  # a literal: only then has this a gradient
    jax.lax.max,
    window_dimensions=(1, size, size, 1),
    window_strides=(1, stride, stride, 1),
    padding=((0, 0), pad, pad, (0, 0)),
  )


def halve(inputs: Float[Array, "N H W C"]) -> Float[Array, "N P Q C"]:
  """Largest value of each 2 x 2 window; a last odd row or column is left out.

  On CPU its gradient takes a sixth of the time of that of `max_pool`; ties share it.
  """
  rows, height, width, channels = inputs.shape
  height, width = height // 2, width // 2
  windows = inputs[:, : 2 * height, : 2 * width].reshape(rows, height, 2, width, 2, channels)
  return windows.max(axis=(2, 4))


def mean_pool(inputs: Float[Array, "N H W C"]) -> Float[Array, "N C"]:
  """Mean over all positions, in float32."""
  return jnp.mean(inputs.astype(jnp.float32), axis=(1, 2))


@dataclasses.dataclass(frozen=True)
class Mode:
  """How one forward pass is to be computed; handed to every layer that needs to know.

  Attributes:
    train: use batch statistics and dropout.
    num_views: rows per example; row = example * num_views + view, and view 0 is the clean one.
    batchnorm_views: see `BatchNorm`.
    dropout_seeds: see `seeds_of`; None where nothing is dropped.
  """

  train: bool
  num_views: int
  batchnorm_views: str
  dropout_seeds: UInt32[Array, "N 2"] | None


class BatchNorm(nnx.Module):
  """Normalises each channel; all arithmetic in float32.

  Training uses the mean and the *biased* variance of the batch. The running statistics move by
  `momentum` towards the batch mean and the *unbiased* variance; evaluation uses them.

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
    scaled: multiply by a trained factor per channel.
    momentum: weight of the newest batch in the running statistics.
    epsilon: added to the variance.
  """

  def __init__(
    self,
    num_channels: int,
    *,
    scaled: bool = True,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
  ):
    self.momentum, self.epsilon = momentum, epsilon
    self.scale = nnx.Param(constant((num_channels,), 1.0)) if scaled else None
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
    mean, var = _moments(stacked, near=self.mean[...])
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
      self.mean[...] = (1 - self.momentum) * self.mean[...] + self.momentum * mean[view]
      self.var[...] = (1 - self.momentum) * self.var[...] + self.momentum * unbiased[view]

  def _normalise(
    self, stacked: Float[Array, "N V H W C"], mean: Float[Array, "V C"], var: Float[Array, "V C"]
  ) -> Float[Array, "N V H W C"]:
    factor = jax.lax.rsqrt(var + self.epsilon)
    if self.scale is not None:
      factor = self.scale[...][None] * factor
    offset = self.bias[...][None] - mean * factor
    factor, offset = factor[None, :, None, None], offset[None, :, None, None]
    return (stacked.astype(jnp.float32) * factor + offset).astype(stacked.dtype)


def _moments(
  stacked: Float[Array, "N V H W C"], *, near: Float[Array, " C"]
) -> tuple[Float[Array, "V C"], Float[Array, "V C"]]:
  """Returns mean and biased variance of each view and channel.

  Accelerators get both from one pass: they wait for memory, and for each other's sums. Taken
  around the running mean, the squares do not cancel.
  """
  values = stacked.astype(jnp.float32)
  if target.is_cpu():
    mean = jnp.mean(values, axis=(0, 2, 3))
    centred = values - mean[None, :, None, None]
    return mean, jnp.mean(jnp.square(centred), axis=(0, 2, 3))
  near = jax.lax.stop_gradient(near)[None]
  centred = values - near[None, :, None, None]
  away, square = jnp.mean(centred, axis=(0, 2, 3)), jnp.mean(jnp.square(centred), axis=(0, 2, 3))
  return near + away, jnp.maximum(square - jnp.square(away), 0)


_LEVELS = 2**16
_STEP = 0x9E3779B9  # 2^32 / golden ratio, odd: spreads consecutive numbers


def seeds_of(keys: PRNGKeys) -> UInt32[Array, "N 2"]:
  """Returns the 64 bits per row from which all its masks follow."""
  return jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(keys)


def dropout(
  seeds: UInt32[Array, "N 2"], inputs: Float[Array, "N *shape"], *, rate: float, layer: int
) -> Float[Array, "N *shape"]:
  """Zeroes each value with probability `rate` and scales the others up.

  A row's mask depends on its seed and on `layer` only: it is the same in every batch, on any
  number of devices. Two values share one 32-bit word, so `rate` is rounded to a multiple of
  1 / 65536; the scale uses the rounded rate, so the mean is preserved exactly.

  Paper: Srivastava et al. 2014, JMLR 15, Sec. 4, in the form that scales while training.

  Args:
    seeds: see `seeds_of`. Views of an example with the same key share their mask.
    inputs: values, channels last.
    rate: probability of a zero, in [0, 1).
    layer: index of the dropout layer within the network.
  """
  threshold = min(round(rate * _LEVELS), _LEVELS - 1)
  if threshold == 0:
    return inputs
  *shape, channels = inputs.shape[1:]
  words = jax.vmap(lambda seed: _words(seed, (*shape, (channels + 1) // 2), layer))(seeds)
  bits = jnp.concatenate([words & (_LEVELS - 1), words >> 16], axis=-1)[..., :channels]
  scale = jnp.asarray(_LEVELS / (_LEVELS - threshold), inputs.dtype)
  return jnp.where(bits >= threshold, inputs * scale, jnp.zeros((), inputs.dtype))


def _words(seed: UInt32[Array, " 2"], shape: tuple[int, ...], layer: int) -> UInt32[Array, "..."]:
  """Returns one random word per position: mix(mix(step * position + k1) ^ k2)."""
  layer_step = jnp.uint32(layer * _STEP % 2**32)
  first, second = _mix(seed[0] + layer_step), _mix(seed[1] ^ layer_step)
  position = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
  return _mix(_mix(position * jnp.uint32(_STEP) + first) ^ second)


def _mix(word: UInt32[Array, "*n"]) -> UInt32[Array, "*n"]:
  """Bijection of 32-bit words in which every input bit flips each output bit half of the time.

  The multipliers are those of the `hash-prospector` search (C. Wellons, 2018-2023, public domain).
  """
  word = (word ^ (word >> 16)) * jnp.uint32(0x21F0AAAD)
  word = (word ^ (word >> 15)) * jnp.uint32(0xD35A2D97)
  return word ^ (word >> 15)


class Sequence(nnx.Module):
  """Blocks `block0`, `block1`, ..., unrolled: a compiled loop around them is slow on CPU.

  Args:
    blocks: called as `block(inputs, mode)`.
  """

  def __init__(self, blocks: Iterable[Any]):
    self.length = 0
    for block in blocks:
      setattr(self, f"block{self.length}", block)
      self.length += 1

  def __call__(self, inputs: Float[Array, "N H W C"], mode: Mode) -> Float[Array, "N P Q D"]:
    """Applies all blocks."""
    hidden = inputs
    for i in range(self.length):
      hidden = getattr(self, f"block{i}")(hidden, mode)
    return hidden


BATCHNORM_VIEWS = ("clean", "both", "joint")

Taps = Mapping[str, Callable[[Array], Array]]
"""Name of a stage -> function of what leaves it."""
