# SPDX-License-Identifier: Apache-2.0
"""Defenses that average over local transformations, the yardsticks of Mixup Inference.

They share one signature: `(key, logits_fn, images, *, <strength>, num_draws, max_rows,
has_gradient) -> probabilities`; see `average_over` for the last three.
"""

import functools

from mixboost_jax import checks
from mixboost_jax.array_types import AnyKey, Images, LogitsFn, Probabilities
from mixboost_jax.defenses import averaging, transforms


@checks.inputs()
def gaussian_noise(
  key: AnyKey,
  logits_fn: LogitsFn,
  images: Images,
  *,
  noise_std: float,
  num_draws: int = 30,
  max_rows: int | None = None,
  has_gradient: bool = False,
) -> Probabilities:
  """Averages over Gaussian noise of standard deviation `noise_std` (pixels in [0, 1])."""
  transform = functools.partial(transforms.add_noise, noise_std=noise_std)
  return averaging.average_over(
    key,
    logits_fn,
    images,
    transform,
    num_draws=num_draws,
    max_rows=max_rows,
    has_gradient=has_gradient,
  )


@checks.inputs()
def rotation(
  key: AnyKey,
  logits_fn: LogitsFn,
  images: Images,
  *,
  max_degrees: float,
  num_draws: int = 30,
  max_rows: int | None = None,
  has_gradient: bool = False,
) -> Probabilities:
  """Averages over rotations by up to `max_degrees` either way."""
  transform = functools.partial(transforms.random_rotation, max_degrees=max_degrees)
  return averaging.average_over(
    key,
    logits_fn,
    images,
    transform,
    num_draws=num_draws,
    max_rows=max_rows,
    has_gradient=has_gradient,
  )


@checks.inputs()
def crop_pad(
  key: AnyKey,
  logits_fn: LogitsFn,
  images: Images,
  *,
  min_size: int,
  max_size: int,
  num_draws: int = 30,
  max_rows: int | None = None,
  has_gradient: bool = False,
) -> Probabilities:
  """Averages over random crops, padded back at random places (Xie et al. 2018)."""
  transform = functools.partial(transforms.crop_and_pad, min_size=min_size, max_size=max_size)
  return averaging.average_over(
    key,
    logits_fn,
    images,
    transform,
    num_draws=num_draws,
    max_rows=max_rows,
    has_gradient=has_gradient,
  )


@checks.inputs()
def crop_resize(
  key: AnyKey,
  logits_fn: LogitsFn,
  images: Images,
  *,
  min_size: int,
  max_size: int,
  num_draws: int = 30,
  max_rows: int | None = None,
  has_gradient: bool = False,
) -> Probabilities:
  """Averages over random crops, enlarged to full size (Guo et al. 2018)."""
  transform = functools.partial(transforms.crop_and_resize, min_size=min_size, max_size=max_size)
  return averaging.average_over(
    key,
    logits_fn,
    images,
    transform,
    num_draws=num_draws,
    max_rows=max_rows,
    has_gradient=has_gradient,
  )
