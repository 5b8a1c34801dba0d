# SPDX-License-Identifier: Apache-2.0
"""Attacks made on one model to be tried on another.

Momentum, variance reduction, translation, diversity, skip gradients and interaction reduction: all
of them change how the gradient of plain projected ascent is formed, so they combine freely.

Symbols (Wang et al. 2021, arXiv:2010.04055): delta -> images - centers, v(S) -> the margin of the
attack where delta is kept on the cells S, N -> all cells, lambda -> `interaction_weight`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mixboost_jax import checks, loops, masks, rewrite
from mixboost_jax import keys as keys_lib
from mixboost_jax.array_types import AnyKey, Image, Images, Labels, PerExample, PRNGKeys, Scalar
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
  "sgm": {"residual_decay": 0.2},
  "ir": {"interaction_weight": 1.0, "random_start": False},
  "sgm-ir": {"residual_decay": 0.2, "interaction_weight": 1.0, "random_start": False},
  "hybrid-ir": {
    "momentum": 1.0,
    "num_copies": 20,
    "noise_std": 15 / 255,
    "residual_decay": 0.2,
    "interaction_weight": 1.0,
    "random_start": False,
  },
}
"""Name -> keywords of `transfer`; "sgm" and what holds it ask for a network with residual branches.

0.2 is the decay for ResNets; interaction reduction starts at the picture, as in the public code.
"""


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


def skip_gradients(predict: Callable, keys: PRNGKeys, images: Images, *, decay: float) -> Callable:
  """Returns the predictor with the gradient through its residual branches scaled."""
  if not rewrite.has_residuals(predict, keys, images):
    raise ValueError(
      f"attacks.transfer: residual_decay={decay} needs a network that marks its residual branches, "
      "and this one marks none: use a residual network (wrn-D-K, preact-resnet-18, ...), mark "
      f'those of your own by jax.ad_checkpoint.checkpoint_name(branch, "{rewrite.RESIDUAL}"), or '
      "leave residual_decay at 1."
    )
  return rewrite.decay_residuals(predict, decay=decay)


def cell_interaction(
  keys: PRNGKeys,
  images: Images,
  *,
  centers: Images,
  predict: Callable,
  labels: Labels,
  targeted: bool,
  grid: int,
  num_cells: int,
  num_draws: int,
  max_rows: int | None,
) -> PerExample:
  """Returns the mean of v(N) - v(N without A) - v(A) over random sets A of cells.

  With v(empty), which no perturbation changes, it is the interaction between A and the other cells.

  Paper: Wang et al. 2021, arXiv:2010.04055, Sec. 4, in the form of its public code: `num_cells`
  cells are drawn with replacement, the rival class of the margin is that of all cells, and nothing
  is divided by n - 1.
  """
  num, height, width, _ = images.shape
  logits, sign = predict(keys, images), -1.0 if targeted else 1.0
  own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
  rivals = jnp.argmax(jnp.where(own, -jnp.inf, logits), axis=-1)

  def margin(logits: Array, example: Array) -> Array:
    gap = _balls.pick(logits, rivals[example]) - _balls.pick(logits, labels[example])
    return sign * gap

  def draw(rows: Array) -> Array:
    example = rows % num
    tags = jax.vmap(jax.random.fold_in)(keys[example], rows // num)
    key_cells, key_predict = keys_lib.split_each(tags, 2)
    drawn = jax.vmap(lambda key: jax.random.randint(key, (num_cells,), 0, grid * grid))(key_cells)
    is_drawn = jax.vmap(lambda cells: jnp.zeros(grid * grid, bool).at[cells].set(True))(drawn)
    is_drawn = is_drawn.reshape(-1, grid, grid)
    inside = masks.upsample(is_drawn, height=height, width=width)[..., None]
    x, center = images[example], centers[example]
    parts = jnp.concatenate([jnp.where(inside, x, center), jnp.where(inside, center, x)])
    found = predict(jnp.concatenate([key_predict, key_predict]), parts)
    return margin(found[: len(rows)], example) + margin(found[len(rows) :], example)

  parts = loops.map_rows(draw, num_draws * num, max_rows=max_rows)
  return margin(logits, jnp.arange(num)) - parts.reshape(num_draws, num).mean(axis=0)


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
  residual_decay: float = 1.0,
  interaction_weight: float = 0.0,
  interaction_grid: int = 16,
  interaction_cells: int = 32,
  interaction_draws: int = 32,
  every: int = 0,
  max_rows: int | None = None,
) -> Float[Array, "*T N H W C"]:
  """Crafts images on a source model that shall fool other models too.

  Paper: MI, Dong et al. 2018, arXiv:1710.06081; VR, Wu et al. 2018, arXiv:1802.09707; TI, Dong et
  al. 2019, arXiv:1904.02884; DI, Xie et al. 2019, arXiv:1803.06978; SGM, Wu et al. 2020,
  arXiv:2002.05990; IR and the defaults of its experiments, Wang et al. 2021, arXiv:2010.04055.

  ```python
  options = {"num_steps": 10, **attacks.TRANSFER_PRESETS["mi-ti-di"]}
  adversarial = attacks.transfer(key, logits_fn, images, labels, **options)
  ```

  Besides the arguments of `pgd`:
    logits_fn: the source model.
    momentum: MI, decay of the accumulated gradient (0 = off).
    num_copies: VR, noisy copies whose gradients are averaged (0 = off).
    noise_std: VR, standard deviation of the noise.
    kernel_size: TI, side of the Gaussian that smooths the gradient, odd (0 = off).
    diversity_prob: DI, chance that a copy is resized and padded (0 = off).
    diversity_scale: DI, largest resize factor, >= 1.
    residual_decay: SGM, factor in [0, 1] of the gradient through residual branches (1 = off).
    interaction_weight: IR, weight of the interaction that is taken off the loss (0 = off).
    interaction_grid: IR, cells per side, at most the side of the images.
    interaction_cells: IR, cells drawn at once, with replacement.
    interaction_draws: IR, draws per step; each costs two rows.
    every: also keep iterates on the way: those after `every`, 2 `every`, ... steps (0 = no).
    max_rows: rows per call of the network; see `loops.map_rows`.

  Returns:
    The last iterate, in the ball and in [0, 1]; with `every`, the kept ones along a first axis.
  """
  budget = {"step_size": step_size, "num_copies": num_copies, "noise_std": noise_std}
  _balls.check_budget(**budget, interaction_weight=interaction_weight, every=every)
  sizes = {"kernel_size": kernel_size, "diversity_prob": diversity_prob}
  sizes |= {"diversity_scale": diversity_scale, "residual_decay": residual_decay}
  _check_options(norm=norm, **sizes, every=every, num_steps=num_steps)
  if interaction_weight:
    _check_cells(images, interaction_grid, interaction_cells, interaction_draws)
  each, _ = _stage.prepare(key, logits_fn, images, labels, epsilon=epsilon, caller="transfer")
  predict = _predictors.keyed(logits_fn)
  if residual_decay != 1:
    predict = skip_gradients(predict, each, images, decay=residual_decay)
  common: dict[str, Any] = {
    "predict": predict,
    "labels": labels,
    "targeted": targeted,
    "max_rows": max_rows,
  }
  copies: dict[str, Any] = {"num_copies": num_copies, "noise_std": noise_std, "loss": loss}
  resize: dict[str, Any] = {"diversity_prob": diversity_prob, "diversity_scale": diversity_scale}
  cells: dict[str, Any] = {"grid": interaction_grid, "num_cells": interaction_cells}

  def value(tags: PRNGKeys, x: Images) -> PerExample:
    if not interaction_weight:
      return mean_loss(tags, x, **common, **copies, **resize)
    tags, own = keys_lib.split_each(tags, 2)
    draws = {"centers": images, "num_draws": interaction_draws}
    inside = cell_interaction(own, x, **common, **cells, **draws)
    return mean_loss(tags, x, **common, **copies, **resize) - interaction_weight * inside

  kernel = gaussian_kernel(kernel_size) if kernel_size else None

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
  return _climb(step, (start, jnp.zeros_like(images)), num_steps, every)


def _climb(step: Callable, carry: Any, num_steps: int, every: int) -> Float[Array, "*T N H W C"]:
  """Takes all steps; returns the last iterate, or those at multiples of `every`."""
  if not every:
    return loops.repeat(step, carry, num_steps)[0]

  def some(carry: Any, first: Array) -> tuple[Any, Array]:
    carry = loops.repeat(lambda index, carry: step(first + index, carry), carry, every)
    return carry, carry[0]

  return loops.scan(some, carry, jnp.arange(0, num_steps, every))[1]


def _check_options(
  *,
  norm: str,
  kernel_size: int,
  diversity_prob: float,
  diversity_scale: float,
  residual_decay: float,
  every: int,
  num_steps: int,
) -> None:
  """Raises a `ValueError` for what `check_budget` does not see."""
  _balls.check_norm(norm)
  if kernel_size and kernel_size % 2 == 0:
    raise ValueError(f"attacks.transfer: kernel_size must be odd, got {kernel_size}.")
  if not 0 <= diversity_prob <= 1 or diversity_scale < 1:
    raise ValueError(
      "attacks.transfer: expected 0 <= diversity_prob <= 1 and diversity_scale >= 1, "
      f"got {diversity_prob}, {diversity_scale}."
    )
  if not 0 <= residual_decay <= 1:
    raise ValueError(f"attacks.transfer: residual_decay must be in [0, 1], got {residual_decay}.")
  if every and num_steps % every:
    raise ValueError(
      f"attacks.transfer: every must divide num_steps={num_steps}, got {every}; 0 keeps the last "
      "iterate only."
    )


def _check_cells(images: Images, grid: int, num_cells: int, num_draws: int) -> None:
  side = min(images.shape[1:3])
  if not 1 <= grid <= side or num_cells < 1 or num_draws < 1:
    raise ValueError(
      f"attacks.transfer: expected interaction_grid in [1, {side}] for {images.shape[1]}x"
      f"{images.shape[2]} images, interaction_cells and interaction_draws >= 1; got {grid}, "
      f"{num_cells}, {num_draws}."
    )


@checks.inputs()
def leave_one_out(fooled: Bool[Array, "T N"]) -> Bool[Array, " N"]:
  """Returns for each image whether it fools at the step that is best for the other images.

  Paper: Wang et al. 2021, arXiv:2010.04055, Sec. 5 (transferability without a fixed number of
  steps). Of equally good steps the first counts, as in the public code.

  ```python
  fooled = jnp.array([[True, False], [True, True], [False, True]])  # [steps, images]
  assert attacks.leave_one_out(fooled).tolist() == [True, False]  # after steps 2 and 1
  ```

  Args:
    fooled: whether image n fools the target after step t; see `every` of `transfer`.
  """
  others = fooled.sum(axis=1, keepdims=True) - fooled
  return fooled[jnp.argmax(others, axis=0), jnp.arange(fooled.shape[1])]


def placement(length: int, size: Scalar, offset: Scalar) -> Float[Array, "L L"]:
  """Returns the matrix that scales a line to `size` and puts it at `offset` (linear interpolation).

  Rows outside of the line are 0; positions may be fractions of a pixel. What lies outside of the
  `length` rows is cut off.
  """
  position = (jnp.arange(length) - offset + 0.5) * length / size - 0.5
  inside = (position > -0.5) & (position < length - 0.5)
  source = jnp.clip(position, 0.0, length - 1.0)
  distance = jnp.abs(source[:, None] - jnp.arange(length, dtype=source.dtype)[None, :])
  return jnp.maximum(0.0, 1.0 - distance) * inside[:, None]


def resize_and_pad(keys: PRNGKeys, images: Images, *, prob: float, scale: float) -> Images:
  """Enlarges by a random factor and pads with zeros at a random place.

  Paper: Xie et al. 2019, arXiv:1803.06978, Sec. 3.2: resize by a factor from [1, scale], pad to
  `scale` times the side.

  Deviation: of the padded picture a random window of the input's size is kept, because networks
  have a fixed input size; the pixels that are seen are as large as in the paper.
  """
  height, width, _ = images.shape[1:]

  def one(key: Array, image: Image) -> Image:
    key_gate, key_factor, key_offset = jax.random.split(key, 3)
    factor = jax.random.uniform(key_factor, minval=1.0, maxval=scale)
    pad, window = jax.random.uniform(key_offset, (2, 2))
    offset = pad * (scale - factor) - window * (scale - 1)
    rows = placement(height, factor * height, offset[0] * height)
    columns = placement(width, factor * width, offset[1] * width)
    moved = jnp.einsum("ih,hwc,jw->ijc", rows, image, columns)
    return jnp.where(jax.random.bernoulli(key_gate, prob), moved, image)

  return jax.vmap(one)(keys, images)
