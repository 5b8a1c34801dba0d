# SPDX-License-Identifier: Apache-2.0
"""How good, how honest and how stable a classifier is: functions of arrays, plain numbers."""

import functools
from collections.abc import Callable
from typing import Any

from mixboost_jax.metrics.calibration import (
  Bins,
  adaptive_ece,
  aurra,
  bisect_temperature,
  ece,
  equal_mass_bins,
  equal_width_bins,
  fit_temperature,
  fixed_size_bins,
  mad_calibration_error,
  mean_gap,
  rms_calibration_error,
  rms_gap,
  soft_f1,
  sorted_aurra,
  tied_means,
)
from mixboost_jax.metrics.classification import (
  accuracy,
  brier,
  brier_per_example,
  clean_error,
  confidence,
  correct,
  nll,
  nll_per_example,
)
from mixboost_jax.metrics.corruption import (
  ALEXNET_ERRORS,
  ALEXNET_FLIP_RATES,
  flip_rate,
  mean_corruption_error,
  mean_flip_rate,
  mean_top5_distance,
  rank_classes,
  relative_corruption_error,
  top5_distance,
  zipf_distance,
)
from mixboost_jax.metrics.detection import (
  aupr,
  auroc,
  fpr_at_tpr,
  max_logit,
  max_softmax,
  negative_energy,
)
from mixboost_jax.metrics.generative import (
  KernelDistance,
  Moments,
  feature_moments,
  frechet_distance,
  kernel_distance,
)
from mixboost_jax.metrics.intervals import (
  Interval,
  PairedDifference,
  Resamples,
  SignedRank,
  Statistic,
  bootstrap,
  clopper_pearson,
  interval_of,
  paired_bootstrap,
  permutation_p,
  replicate,
  resample,
  resample_indices,
  student_interval,
  wilcoxon,
  wilson,
)

OOD_SCORES = {
  "max_softmax": max_softmax,
  "max_logit": max_logit,
  "negative_energy": negative_energy,
}
"""logits[N, K] -> score[N], higher for known pictures."""
BIN_SIZE = 100
"""Examples per bin of the RMS calibration error, as in published tables."""
_BINNED = functools.partial(Statistic, recentred=True)
_SIZED = functools.partial(_BINNED, fewest=2 * BIN_SIZE)


def _runs(examples: Any) -> Bins:
  return fixed_size_bins(examples.confidence, examples.correct, bin_size=BIN_SIZE)


STATISTICS: dict[str, Statistic] = {
  "nll": Statistic(lambda x, _: x.nll.mean(), unit="nats"),
  "ece": _BINNED(
    lambda x, bins: 100 * mean_gap(equal_width_bins(x.confidence, x.correct, num_bins=bins))
  ),
  "adaptive_ece": _BINNED(
    lambda x, bins: 100 * mean_gap(equal_mass_bins(x.confidence, x.correct, num_bins=bins))
  ),
  "rms_calibration_error": _SIZED(lambda x, _: 100 * rms_gap(_runs(x), skip_last_bin=True)),
  "rms_calibration_error_exact": _SIZED(lambda x, _: 100 * rms_gap(_runs(x))),
  "mad_calibration_error": _SIZED(lambda x, _: 100 * mean_gap(_runs(x), skip_last_bin=True)),
  "brier": Statistic(lambda x, _: x.brier.mean(), unit=""),
  "aurra": Statistic(lambda x, _: 100 * sorted_aurra(x.confidence, x.correct), better="higher"),
}
"""What is reported of every set of pictures beside the error, in this order."""
DETECTION: dict[str, Callable] = {
  "auroc": auroc,
  "aupr": aupr,
  "aupr_id": functools.partial(aupr, positive="id"),
  "fpr95": fpr_at_tpr,
  "fpr95_oe": functools.partial(fpr_at_tpr, positive="ood"),
}
"""(scores of known, of foreign pictures) -> number in [0, 1]; `aupr` has the foreign pictures as
positives (outlier exposure code), `aupr_id` the known ones. `fpr95` is the share of foreign
pictures accepted while 95 % of the known ones are (MixBoost); `fpr95_oe` the share of known
pictures flagged while 95 % of the foreign ones are found (outlier exposure code)."""

__all__ = [
  "ALEXNET_ERRORS",
  "ALEXNET_FLIP_RATES",
  "BIN_SIZE",
  "DETECTION",
  "OOD_SCORES",
  "STATISTICS",
  "Bins",
  "Interval",
  "KernelDistance",
  "Moments",
  "PairedDifference",
  "Resamples",
  "SignedRank",
  "Statistic",
  "accuracy",
  "adaptive_ece",
  "aupr",
  "auroc",
  "aurra",
  "bisect_temperature",
  "bootstrap",
  "brier",
  "brier_per_example",
  "clean_error",
  "clopper_pearson",
  "confidence",
  "correct",
  "ece",
  "equal_mass_bins",
  "equal_width_bins",
  "feature_moments",
  "fit_temperature",
  "fixed_size_bins",
  "flip_rate",
  "fpr_at_tpr",
  "frechet_distance",
  "interval_of",
  "kernel_distance",
  "mad_calibration_error",
  "max_logit",
  "max_softmax",
  "mean_corruption_error",
  "mean_flip_rate",
  "mean_gap",
  "mean_top5_distance",
  "negative_energy",
  "nll",
  "nll_per_example",
  "paired_bootstrap",
  "permutation_p",
  "rank_classes",
  "relative_corruption_error",
  "replicate",
  "resample",
  "resample_indices",
  "rms_calibration_error",
  "rms_gap",
  "soft_f1",
  "sorted_aurra",
  "student_interval",
  "tied_means",
  "top5_distance",
  "wilcoxon",
  "wilson",
  "zipf_distance",
]


def __dir__() -> list[str]:
  return __all__
