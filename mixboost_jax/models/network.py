# SPDX-License-Identifier: Apache-2.0
"""What all networks share: checks, normalisation first, named stages, float32 logits last."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mixboost_jax.array_types import Logits, PRNGKeys
from mixboost_jax.models.layers import BATCHNORM_VIEWS, Mode, Taps, seeds_of

COMPUTE_DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Spec:
  """The properties that every network has, whatever its layers.

  Attributes:
    num_classes: logits per image.
    image_size: side of the images in pixels.
    num_channels: colour channels of the images.
    dropout: drop probability in [0, 1).
    mean: per channel, in pixel units; subtracted first.
    std: per channel, in pixel units; divided by.
    compute_dtype: of the hidden layers; parameters, statistics and logits are float32.
  """

  num_classes: int
  image_size: int = 32
  num_channels: int = 3
  dropout: float = 0.0
  mean: tuple[float, ...] = (0.5, 0.5, 0.5)
  std: tuple[float, ...] = (0.5, 0.5, 0.5)
  compute_dtype: str = "float32"

  def __post_init__(self):
    problems = []
    for field, least in (("num_classes", 1), ("image_size", 8), ("num_channels", 1)):
      if getattr(self, field) < least:
        problems.append(f"{field}: expected at least {least}, got {getattr(self, field)}")
    if not 0 <= self.dropout < 1:
      problems.append(f"dropout: expected a number in [0, 1), got {self.dropout}")
    if self.compute_dtype not in COMPUTE_DTYPES:
      choices = " or ".join(COMPUTE_DTYPES)
      problems.append(f"compute_dtype: expected {choices}, got {self.compute_dtype!r}")
    for field in ("mean", "std"):
      values = getattr(self, field)
      if len(set(values)) == 1:  # (0.5, 0.5, 0.5) also suits grey images
        object.__setattr__(self, field, tuple(values[:1]) * self.num_channels)
      elif len(values) != self.num_channels:
        problems.append(f"{field}: expected {self.num_channels} (one per channel), got {values}")
    if min(self.std, default=0) <= 0:
      problems.append(f"std: expected positive numbers, got {self.std}")
    if problems:
      raise ValueError("models.create: " + "; ".join(problems) + ".")


class Network(nnx.Module):
  """Base of the built-in networks.

  A network of this family defines `stem`, one layer or method per name in `stages`, and `head`.

  Args:
    spec: see `Spec`.
    num_stages: `stages` becomes ("stage1", "stage2", ...).
  """

  has_dropout: ClassVar[bool] = True
  calibration_images: ClassVar[int] = 0
  """How many training pictures `calibrate` wants to see before the training; 0: none."""
  stem: Callable[[Array, Mode], Array]
  head: Callable[[Array, Mode], Array]

  def __init__(self, spec: Spec, *, num_stages: int):
    self.spec = spec
    self.stages = tuple(f"stage{i + 1}" for i in range(num_stages))
    if spec.dropout > 0 and not self.has_dropout:
      raise ValueError(
        f"models.create: {type(self).__name__} has no dropout layer, got dropout={spec.dropout}; "
        "set dropout to 0."
      )

  def __call__(
    self,
    images: Any,
    *,
    train: bool = False,
    num_views: int = 1,
    batchnorm_views: str = "clean",
    dropout_keys: PRNGKeys | None = None,
    taps: Taps | None = None,
  ) -> Logits:
    """Returns float32 logits, one row per image.

    Args:
      images: [N, H, W, C], float32 in [0, 1]. Row = example * num_views + view.
      train: use batch statistics (and update the running ones) and dropout.
      num_views: rows per example; view 0 is the clean one. Evaluation ignores it.
      batchnorm_views: `clean`, `both` or `joint`, see `BatchNorm`.
      dropout_keys: one key per row; needed if `train` and `spec.dropout` > 0.
      taps: functions applied to the output of named stages: "input" (the normalised images) or
        one of `stages`. They get and return [N, h, w, c] in the compute dtype.

    Raises:
      ValueError: if an argument does not fit the network.
    """
    self._check(images, train, num_views, batchnorm_views, dropout_keys, taps)
    taps = taps or {}
    seeds = None
    if train and self.spec.dropout > 0 and dropout_keys is not None:
      seeds = seeds_of(dropout_keys)
    mode = Mode(train, num_views, batchnorm_views, seeds)
    hidden = self._normalise(jnp.asarray(images)).astype(self.spec.compute_dtype)
    hidden = _tapped(taps, "input", hidden)
    hidden = self.stem(hidden, mode)
    for name in self.stages:
      hidden = _tapped(taps, name, getattr(self, name)(hidden, mode))
    return self.head(hidden, mode).astype(jnp.float32)

  def calibrate(self, images: Float[np.ndarray, "N H W C"]) -> None:
    """Fits what a network takes from training pictures in [0, 1] before it is trained."""

  def _normalise(self, images: Float[Array, "N H W C"]) -> Float[Array, "N H W C"]:
    mean = np.asarray(self.spec.mean, np.float32)[None, None, None]
    std = np.asarray(self.spec.std, np.float32)[None, None, None]
    return (images.astype(jnp.float32) - mean) / std

  def _check(
    self,
    images: Any,
    train: bool,
    num_views: int,
    batchnorm_views: str,
    dropout_keys: Array | None,
    taps: Taps | None,
  ) -> None:
    size, channels = self.spec.image_size, self.spec.num_channels
    shape, dtype = jnp.shape(images), jax.dtypes.result_type(images)
    if len(shape) != 4 or shape[1:] != (size, size, channels) or not _is_float(dtype):
      raise ValueError(
        f"{type(self).__name__}: expected [N, {size}, {size}, {channels}] float32 images in "
        f"[0, 1], got {dtype} {list(shape)}. Divide 8-bit images by 255; give models.create the "
        "image_size and num_channels of the data."
      )
    rows = shape[0]
    if num_views < 1 or rows % num_views:
      raise ValueError(
        f"num_views: expected a divisor of the {rows} rows (row = example * num_views + view), "
        f"got {num_views}."
      )
    if batchnorm_views not in BATCHNORM_VIEWS:
      choices = ", ".join(BATCHNORM_VIEWS)
      raise ValueError(f"batchnorm_views: expected one of {choices}, got {batchnorm_views!r}.")
    if unknown := set(taps or ()) - {"input", *self.stages}:
      choices = ", ".join(("input", *self.stages))
      raise ValueError(f"taps: expected stages among {choices}, got {sorted(unknown)}.")
    if train and self.spec.dropout > 0:
      _check_dropout_keys(dropout_keys, rows, self.spec.dropout)


def _check_dropout_keys(keys: Array | None, rows: int, rate: float) -> None:
  if keys is None:
    raise ValueError(
      f"dropout_keys: training with dropout {rate} needs one key per row, got None. Pass keys "
      "(see mixboost_jax.keys.example_keys), or create the model with dropout=0."
    )
  if keys.shape != (rows,):
    raise ValueError(
      f"dropout_keys: expected {rows} keys, one per row (example and view), got {keys.shape}."
    )


def _is_float(dtype: Any) -> bool:
  return jnp.issubdtype(dtype, jnp.floating)


def _tapped(taps: Taps, name: str, hidden: Array) -> Array:
  return taps[name](hidden) if name in taps else hidden
