# SPDX-License-Identifier: Apache-2.0
"""Attacks made on one model to be tried on another: momentum, variance, translation, diversity.

All of them change how the gradient of plain projected ascent is formed, so they combine freely.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixboost_jax import checks, loops
from mixboost_jax import keys as keys_lib
from mixboost_jax.array_types import AnyKey, Image, Images, Labels, PRNGKeys, Scalar
from mixboost_jax.attacks import _balls, _pgd, _predictors, _stage
from mixboost_jax.attacks._balls import Epsilon

TRANSFER_PRESETS: dict[str, dict[str, Any]] = {
  "pgd": {},
  "mi": {"momentum": 1.0},
  "vr": {"num_copies": 20, "noise_std": 15 / 255},
  "ti": {"kernel_size": 15},
  "di": {"diversity_prob": 0.5, "diversity_scale": 1.1},
  "mi-vr": {"momentum": 1.0, "num_copies": 20, "noise_std": 15 / 255},
  "mi-ti-di": {"momentum": 1.0, "kernel_size": 15, "diversity_prob": 0.5, "diversity_scale": 1.1},
}


def gaussian_kernel(size: int) -> np.ndarray:
  """Returns a `size` x `size` Gaussian on [-3, 3] squared, summing to 1.

  Paper: Dong et al. 2019, arXiv:1904.02884, Sec. 3.3.
  """
  line = np.exp(-0.5 * np.linspace(-3, 3, size) ** 2)
  kernel = np.outer(line, line)
  return (kernel / kernel.sum()).astype(np.float32)


def smooth(gradients: Images, kernel: Float[np.ndarray, "S S"]) -> Images:
  """Convolves each channel with the kernel, zeros outside of the image."""
  channels, axes = gradients.shape[-1], ("NHWC", "HWIO", "NHWC")
  weights = jnp.broadcast_to(kernel[:, :, None, None], (*kernel.shape, 1, channels))
  return jax.lax.conv_general_dilated(
    gradients, weights, (1, 1), "SAME", dimension_numbers=axes, feature_group_count=channels
  )


def mean_loss(
  keys: PRNGKeys,
  images: Images,
  *,
  predict: Callable,
  labels: Labels,
  loss: str | Callable,
  targeted: bool,
  num_copies: int,
  noise_std: float,
  diversity_prob: float,
  diversity_scale: float,
  max_rows: int | None,
) -> Array:
  """Returns the loss of each example averaged over its noisy, resized copies."""
  num, copies = images.shape[0], max(num_copies, 1)

  def copy(rows: Array) -> Array:
    example = rows % num
    tags = jax.vmap(jax.random.fold_in)(keys[example], rows // num)
    key_noise, key_size, key_predict = keys_lib.split_each(tags, 3)
    x = images[example]
    if num_copies:
      noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(key_noise)
      x = x + noise_std * noise
    if diversity_prob:
      x = resize_and_pad(key_size, x, prob=diversity_prob, scale=diversity_scale)
    return _balls.objective(loss, labels[example], targeted=targeted)(predict(key_predict, x))

  return loops.map_rows(copy, copies * num, max_rows=max_rows).reshape(copies, num).mean(axis=0)


@checks.inputs(values="always")
def transfer(
  key: AnyKey,
  logits_fn: Callable,
  images: Images,
  labels: Labels,
  *,
  epsilon: Epsilon = 16 / 255,
  step_size: Epsilon = 2 / 255,
  num_steps: int = 100,
  norm: str = "linf",
  targeted: bool = False,
  loss: str | Callable = "ce",
  random_start: bool = True,
  momentum: float = 0.0,
  num_copies: int = 0,
  noise_std: float = 15 / 255,
  kernel_size: int = 0,
  diversity_prob: float = 0.0,
  diversity_scale: float = 1.1,
  max_rows: int | None = None,
) -> Images:
  """Crafts images on a source model that shall fool other models too.

  Paper: MI, Dong et al. 2018, arXiv:1710.06081; VR, Wu et al. 2018, arXiv:1802.09707; TI, Dong et
  al. 2019, arXiv:1904.02884; DI, Xie et al. 2019, arXiv:1803.06978; defaults of the experiments of
  Wang et al. 2021, arXiv:2010.04055.

  Besides the arguments of `pgd`:
    logits_fn: the source model.
    momentum: MI, decay of the accumulated gradient (0 = off).
    num_copies: VR, noisy copies whose gradients are averaged (0 = off).
    noise_std: VR, standard deviation of the noise.
    kernel_size: TI, side of the Gaussian that smooths the gradient, odd (0 = off).
    diversity_prob: DI, chance that a copy is resized and padded (0 = off).
    diversity_scale: DI, largest resize factor, >= 1.
    max_rows: rows per call of the network; see `loops.map_rows`.

  Returns:
    The last iterate, in the ball and in [0, 1].
  """
  _balls.check_norm(norm)
  _balls.check_budget(step_size=step_size, num_copies=num_copies, noise_std=noise_std)
  if kernel_size and kernel_size % 2 == 0:
    raise ValueError(f"attacks.transfer: kernel_size must be odd, got {kernel_size}.")
  if not 0 <= diversity_prob <= 1 or diversity_scale < 1:
    raise ValueError(
      "attacks.transfer: expected 0 <= diversity_prob <= 1 and diversity_scale >= 1, "
      f"got {diversity_prob}, {diversity_scale}."
    )
  each, _ = _stage.prepare(key, logits_fn, images, labels, epsilon=epsilon, caller="transfer")
  kernel = gaussian_kernel(kernel_size) if kernel_size else None
  value = functools.partial(
    mean_loss,
    predict=_predictors.keyed(logits_fn),
    labels=labels,
    loss=loss,
    targeted=targeted,
    num_copies=num_copies,
    noise_std=noise_std,
    diversity_prob=diversity_prob,
    diversity_scale=diversity_scale,
    max_rows=max_rows,
  )

  def step(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
    x, velocity = carry
    tags = _predictors.step_keys(each, index + 1)
    gradient = jax.grad(lambda x: value(tags, x).sum())(x)
    gradient = gradient if kernel is None else smooth(gradient, kernel)
    velocity = _pgd.accumulate(velocity, gradient, momentum=momentum)
    moved = x + step_size * _balls.steepest(velocity, norm=norm)
    return _balls.project(moved, images, epsilon=epsilon, norm=norm), velocity

  start = images
  if random_start:
    tags = _predictors.step_keys(each, 0)
    start = _pgd.starting_points(tags, images, epsilon=epsilon, norm=norm, clip=True)
  return loops.repeat(step, (start, jnp.zeros_like(images)), num_steps)[0]


def placement(length: int, size: Scalar, offset: Scalar) -> Float[Array, "L L"]:
  """Returns the matrix that scales a line to `size` and puts it at `offset` (linear interpolation).

  Rows outside of the line are 0; positions may be fractions of a pixel.
  """
  position = (jnp.arange(length) - offset + 0.5) * length / size - 0.5
  inside = (position > -0.5) & (position < length - 0.5)
  source = jnp.clip(position, 0.0, length - 1.0)
  distance = jnp.abs(source[:, None] - jnp.arange(length, dtype=source.dtype)[None, :])
  return jnp.maximum(0.0, 1.0 - distance) * inside[:, None]


def resize_and_pad(keys: PRNGKeys, images: Images, *, prob: float, scale: float) -> Images:
  """Resizes by a random factor and pads with zeros at a random place.

  Paper: Xie et al. 2019, arXiv:1803.06978, Sec. 3.2: resize by a factor from [1, scale], pad to
  `scale` times the side.

  Deviation: the result is brought back to the input's size (so the picture shrinks by a factor from
  [1/scale, 1]); networks of fixed input size can then be attacked.
  """
  height, width, _ = images.shape[1:]

  def one(key: Array, image: Image) -> Image:
    key_gate, key_factor, key_offset = jax.random.split(key, 3)
    factor = jax.random.uniform(key_factor, minval=1.0 / scale, maxval=1.0)
    shift = jax.random.uniform(key_offset, (2,))
    rows = placement(height, factor * height, shift[0] * (1 - factor) * height)
    columns = placement(width, factor * width, shift[1] * (1 - factor) * width)
    moved = jnp.einsum("ih,hwc,jw->ijc", rows, image, columns)
    return jnp.where(jax.random.bernoulli(key_gate, prob), moved, image)

  return jax.vmap(one)(keys, images)
