# SPDX-License-Identifier: Apache-2.0
"""One number for the errors on many corruptions.

Paper: Hendrycks & Dietterich 2019, arXiv:1903.12261 (mCE and relative mCE). On CIFAR the
plain mean is usual; on ImageNet both the plain mean and that divided by AlexNet's errors are.
"""

from collections.abc import Mapping, Sequence

from mixboost_jax import checks

Errors = Mapping[str, Sequence[float]]
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
def mean_corruption_error(errors: Errors, *, reference: Mapping[str, float] | None = None) -> float:
  """Returns the mean over corruptions of the error (mean over severities).

  With a reference it is a ratio of means: each corruption's mean over severities is divided by the
  reference's, and only then is the mean over corruptions taken.

  Args:
    errors: corruption -> errors in %, one per severity.
    reference: corruption -> mean error in % of the reference network (`ALEXNET_ERRORS`); None for
      the plain mean.

  Returns:
    In %; with a reference, 100 means "as bad as the reference".

  Raises:
    ValueError: if a value is missing.
  """
  means = _severity_means(errors, "mean_corruption_error")
  if reference is None:
    return sum(means.values()) / len(means)
  _check_names(means, reference, "mean_corruption_error")
  return 100.0 * sum(mean / reference[name] for name, mean in means.items()) / len(means)


@checks.inputs()
def relative_corruption_error(
  errors: Errors,
  *,
  clean_error: float,
  reference: Mapping[str, float] | None = None,
  reference_clean_error: float | None = None,
) -> float:
  """Returns the mean over corruptions of how much the error grows over the clean one.

  Args:
    errors: corruption -> errors in %, one per severity.
    clean_error: of the same model, in %.
    reference: corruption -> mean error in % of the reference network; None for the plain mean.
    reference_clean_error: of the reference network, in %; needed with `reference`.

  Returns:
    In percentage points; with a reference, in % of the reference's growth.

  Raises:
    ValueError: if a value is missing.
  """
  means = _severity_means(errors, "relative_corruption_error")
  if reference is None:
    return sum(mean - clean_error for mean in means.values()) / len(means)
  if reference_clean_error is None:
    raise ValueError("relative_corruption_error: reference also needs reference_clean_error.")
  _check_names(means, reference, "relative_corruption_error")
  ratios = (
    (mean - clean_error) / (reference[name] - reference_clean_error) for name, mean in means.items()
  )
  return 100.0 * sum(ratios) / len(means)


def _severity_means(errors: Errors, place: str) -> dict[str, float]:
  if not errors:
    raise ValueError(f"{place}: expected at least one corruption, got none.")
  lengths = {len(values) for values in errors.values()}
  if len(lengths) != 1 or 0 in lengths:
    counts = ", ".join(f"{name}: {len(values)}" for name, values in errors.items())
    raise ValueError(
      f"{place}: every corruption needs the same severities, got numbers of values {counts}."
    )
  return {name: float(sum(values) / len(values)) for name, values in errors.items()}


def _check_names(means: Mapping[str, float], reference: Mapping[str, float], place: str) -> None:
  missing, absent = sorted(set(means) - set(reference)), sorted(set(reference) - set(means))
  if missing or absent:
    raise ValueError(
      f"{place}: errors and reference must name the same corruptions; not in the reference: "
      f"{missing}, not in the errors: {absent}."
    )
