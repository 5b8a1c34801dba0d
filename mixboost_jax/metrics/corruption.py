# SPDX-License-Identifier: Apache-2.0
"""One number for many corruptions, and one for many films of perturbations.

Paper: Hendrycks & Dietterich 2019, arXiv:1903.12261 (mCE, relative mCE, flip rates). On CIFAR the
plain mean is usual; on ImageNet both the plain mean and that divided by AlexNet's errors are.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mixboost_jax import checks
from mixboost_jax.array_types import Scalar

Number = float | np.ndarray
"""A number, or its bootstrap replicates: everything here is computed entry by entry."""
Errors = Mapping[str, Sequence[Number]]
"""Corruption -> error in % at each severity."""

ALEXNET_ERRORS = {
  "gaussian_noise": 88.6428,
  "shot_noise": 89.4468,
  "impulse_noise": 92.2640,
  "defocus_blur": 81.9880,
  "glass_blur": 82.6268,
  "motion_blur": 78.5948,
  "zoom_blur": 79.8360,
  "snow": 86.6816,
  "frost": 82.6572,
  "fog": 81.9324,
  "brightness": 56.4592,
  "contrast": 85.3204,
  "elastic_transform": 64.6056,
  "pixelate": 71.7840,
  "jpeg_compression": 60.6500,
}
"""Error of AlexNet on ImageNet-C in %, mean over the five severities, as imagenet.py of
github.com/google-research/augmix lists it."""


@checks.inputs()
def mean_corruption_error(
  errors: Errors, *, reference: Mapping[str, float] | None = None
) -> Number:
  """Returns the mean over corruptions of the error (mean over severities).

  With a reference (mean errors in %, such as `ALEXNET_ERRORS`) it is a ratio of means: each
  corruption's mean over severities is divided by the reference's, and only then is the mean over
  corruptions taken. In %; with a reference, 100 means "as bad as the reference".

  ```python
  errors = {"fog": [10.0, 20.0, 30.0], "snow": [20.0, 30.0, 40.0]}  # at three severities
  assert metrics.mean_corruption_error(errors) == 25
  assert metrics.mean_corruption_error(errors, reference={"fog": 40.0, "snow": 60.0}) == 50
  ```
  """
  means = _severity_means(errors, reference, "mean_corruption_error")
  return _mean_ratio(means, reference, "mean_corruption_error")


@checks.inputs()
def relative_corruption_error(
  errors: Errors,
  *,
  clean_error: Number,
  reference: Mapping[str, float] | None = None,
  reference_clean_error: float | None = None,
) -> Number:
  """Returns the mean over corruptions of how much the error grows over the clean one.

  In percentage points; with a reference (as of `mean_corruption_error`, and its clean error in %),
  in % of the reference's growth.

  ```python
  errors = {"fog": [10.0, 20.0, 30.0], "snow": [20.0, 30.0, 40.0]}  # at three severities
  assert metrics.relative_corruption_error(errors, clean_error=5.0) == 20
  ```
  """
  place = "relative_corruption_error"
  means = _severity_means(errors, reference, place)
  growth = {name: mean - clean_error for name, mean in means.items()}
  if reference is None:
    return _mean_ratio(growth, None, place)
  if reference_clean_error is None:
    raise ValueError(f"{place}: reference also needs reference_clean_error.")
  expected = {name: mean - reference_clean_error for name, mean in reference.items()}
  return _mean_ratio(growth, expected, place)


def _severity_means(
  errors: Errors, reference: Mapping[str, float] | None, place: str
) -> dict[str, Number]:
  if not errors:
    raise ValueError(f"{place}: expected at least one corruption, got none.")
  lengths = {len(values) for values in errors.values()}
  if len(lengths) != 1 or 0 in lengths:
    counts = ", ".join(f"{name}: {len(values)}" for name, values in errors.items())
    raise ValueError(
      f"{place}: every corruption needs the same severities, got numbers of values {counts}."
    )
  if reference is not None and set(errors) != set(reference):
    raise ValueError(
      f"{place}: errors and reference must name the same corruptions; not in the reference: "
      f"{sorted(set(errors) - set(reference))}, not in the errors: "
      f"{sorted(set(reference) - set(errors))}."
    )
  return {name: sum(values) / len(values) for name, values in errors.items()}


# How much predictions flicker along a short film of ever stronger perturbation. Frames are compared
# with the frame before, or, for noise (where frames do not depend on each other), with the clean
# first frame. Averages: within a film, then over films, then over kinds of perturbation.

Predictions = Int[Array, "V F"]
Ranks = Int[Array, "V F K"]
"""`ranks[v, f, k]` is the place of class k in frame f of film v, 1 for the top prediction."""

ALEXNET_FLIP_RATES = {
  "gaussian_noise": 23.65,
  "shot_noise": 30.06,
  "motion_blur": 9.30,
  "zoom_blur": 5.94,
  "snow": 11.93,
  "brightness": 4.89,
  "translate": 11.01,
  "rotate": 13.10,
  "tilt": 7.05,
  "scale": 23.53,
}
"""Flip rates of AlexNet on ImageNet-P in %. No public source was found to check them against, and
the authors' code does not list them: quote a number normalised by these as provisional."""


@checks.inputs()
def rank_classes(scores: Float[Array, "*frames K"]) -> Int[Array, "*frames K"]:
  """Returns the place of every class, 1 for the largest score (first of equal scores wins).

  ```python
  ranks = metrics.rank_classes(jnp.array([0.1, 0.7, 0.2]))
  assert ranks.tolist() == [3, 1, 2]
  ```
  """
  order = jnp.argsort(scores, axis=-1, descending=True)
  return jnp.argsort(order, axis=-1) + 1


@checks.inputs()
def flip_rate(predictions: Predictions, *, noise: bool = False) -> Scalar:
  """Returns the fraction of frames whose prediction differs from that of its reference frame.

  ```python
  predictions = jnp.array([[3, 3, 5, 5, 5]])  # one film of five frames
  assert metrics.flip_rate(predictions) == 1 / 4  # changes once in four steps
  assert metrics.flip_rate(predictions, noise=True) == 3 / 4  # against the first frame
  ```
  """
  before = _references(predictions, noise=noise, place="flip_rate")
  return (predictions[:, 1:] != before).astype(jnp.float32).mean()


@checks.inputs()
def top5_distance(ranks: Ranks, *, noise: bool = False) -> Scalar:
  """Returns the mean top-5 distance between the rankings of neighbouring frames, in [0, 15].

  sum_{i=1}^5 |(i - 1) - min(sigma(i) - 1, 5)|, sigma(i) the new place of the class that was at
  place i: 0 for equal rankings, 15 if no class stays among the first five (K >= 10).

  ```python
  scores = jax.random.normal(key, (2, 31, 10))  # films, frames, classes
  distance = metrics.top5_distance(metrics.rank_classes(scores))
  ```
  """
  if ranks.shape[-1] < 5:
    raise ValueError(f"top5_distance: expected at least 5 classes, got {ranks.shape[-1]}.")
  sigma = _new_places(ranks, noise=noise, place="top5_distance")[..., :5]
  start = jnp.broadcast_to(jnp.arange(5), sigma.shape)
  distance = jnp.abs(start - jnp.minimum(sigma - 1, 5)).sum(axis=-1)
  return distance.astype(jnp.float32).mean()


@checks.inputs()
def zipf_distance(ranks: Ranks, *, noise: bool = False) -> Scalar:
  """Returns the mean of sum_i |1/i - 1/sigma(i)| / i, `top5_distance` with Zipf's weights.

  ```python
  scores = jax.random.normal(key, (2, 31, 10))  # films, frames, classes
  distance = metrics.zipf_distance(metrics.rank_classes(scores))
  ```
  """
  sigma = _new_places(ranks, noise=noise, place="zipf_distance")
  weight = jnp.broadcast_to(1.0 / jnp.arange(1, ranks.shape[-1] + 1), sigma.shape)
  return (jnp.abs(weight - 1.0 / sigma) * weight).sum(axis=-1).mean()


@checks.inputs()
def mean_flip_rate(
  rates: Mapping[str, Number], *, reference: Mapping[str, float] | None = None
) -> Number:
  """Returns the mean over kinds of perturbation of flip rates in %, the plain one usual on CIFAR.

  With a reference (`ALEXNET_FLIP_RATES`) of 100 x the ratio: 100 means "as unstable as that".

  ```python
  rates = {"snow": 6.0, "tilt": 4.0}
  assert metrics.mean_flip_rate(rates) == 5
  normalised = metrics.mean_flip_rate(rates, reference=metrics.ALEXNET_FLIP_RATES)
  ```
  """
  return _mean_ratio(rates, reference, "mean_flip_rate")


@checks.inputs()
def mean_top5_distance(
  distances: Mapping[str, Number], *, reference: Mapping[str, float] | None = None
) -> Number:
  """Returns the mean over kinds of perturbation of top-5 distances, or of 100 x their ratios.

  ```python
  assert metrics.mean_top5_distance({"snow": 2.0, "tilt": 1.0}) == 1.5
  ```
  """
  return _mean_ratio(distances, reference, "mean_top5_distance")


def _mean_ratio(
  values: Mapping[str, Number], reference: Mapping[str, float] | None, place: str
) -> Number:
  if not values:
    raise ValueError(f"{place}: expected at least one perturbation, got none.")
  if reference is None:
    return sum(values.values()) / len(values)
  missing = sorted(set(values) - set(reference))
  if missing:
    raise ValueError(
      f"{place}: reference has no value for {', '.join(missing)}; leave them out or pass "
      "reference=None for the plain mean."
    )
  return 100.0 * sum(values[name] / reference[name] for name in values) / len(values)


def _new_places(ranks: Ranks, *, noise: bool, place: str) -> Int[Array, "V F_less_one K"]:
  """Returns, for each frame but the first, the place of the class that was first, second, ..."""
  before = _references(ranks, noise=noise, place=place)
  return jnp.take_along_axis(ranks[:, 1:], jnp.argsort(before, axis=-1), axis=-1)


def _references(frames: Array, *, noise: bool, place: str) -> Array:
  """Returns what each frame but the first is compared with."""
  if frames.shape[1] < 2:
    raise ValueError(f"{place}: expected at least 2 frames per film, got {frames.shape[1]}.")
  return jnp.broadcast_to(frames[:, :1], frames[:, 1:].shape) if noise else frames[:, :-1]
