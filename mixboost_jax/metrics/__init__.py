# SPDX-License-Identifier: Apache-2.0
"""How good, how honest and how stable a classifier is: functions of arrays, plain numbers."""

from mixboost_jax.metrics.calibration import (
  Bins,
  adaptive_ece,
  aurra,
  ece,
  equal_mass_bins,
  equal_width_bins,
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
  mean_corruption_error,
  relative_corruption_error,
)
from mixboost_jax.metrics.detection import (
  aupr,
  auroc,
  fpr_at_tpr,
  max_logit,
  max_softmax,
  negative_energy,
)
from mixboost_jax.metrics.intervals import Interval, clopper_pearson, wilson
from mixboost_jax.metrics.perturbation import (
  ALEXNET_FLIP_RATES,
  flip_rate,
  mean_flip_rate,
  mean_top5_distance,
  rank_classes,
  top5_distance,
  zipf_distance,
)
from mixboost_jax.metrics.resampling import (
  PairedDifference,
  bootstrap,
  interval_of,
  paired_bootstrap,
  replicate,
  resample_indices,
)
from mixboost_jax.metrics.signed_rank import SignedRank, wilcoxon
from mixboost_jax.metrics.temperature import bisect_temperature, fit_temperature

OOD_SCORES = {
  "max_softmax": max_softmax,
  "max_logit": max_logit,
  "negative_energy": negative_energy,
}
"""logits[N, K] -> score[N], higher for known pictures."""

__all__ = [
  "ALEXNET_ERRORS",
  "ALEXNET_FLIP_RATES",
  "OOD_SCORES",
  "Bins",
  "Interval",
  "PairedDifference",
  "SignedRank",
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
  "fit_temperature",
  "fixed_size_bins",
  "flip_rate",
  "fpr_at_tpr",
  "interval_of",
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
  "rank_classes",
  "relative_corruption_error",
  "replicate",
  "resample_indices",
  "rms_calibration_error",
  "rms_gap",
  "soft_f1",
  "sorted_aurra",
  "tied_means",
  "top5_distance",
  "wilcoxon",
  "wilson",
  "zipf_distance",
]
