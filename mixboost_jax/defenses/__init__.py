# SPDX-License-Identifier: Apache-2.0
"""Defenses at inference time: mixup inference, its baselines, and detection.

Every defense is `(key, logits_fn, images, ..., *, ...) -> probabilities` and differentiable, so it
nests inside the attacks. A claim about a randomised defense needs the attacks that know it.
"""

from mixboost_jax.defenses.averaging import (
  average_over,
  crop_pad,
  crop_resize,
  draw_probabilities,
  gaussian_noise,
  rotation,
)
from mixboost_jax.defenses.detectors import (
  dispersions,
  fit_detector,
  rank_score,
  truncate,
)
from mixboost_jax.defenses.mixup import mix, mixup_draws, mixup_inference
from mixboost_jax.defenses.pool import Pool, build_pool, draw_partners, partner_sampler
from mixboost_jax.defenses.presets import DEFENSES, PRESETS, build
from mixboost_jax.defenses.theory import (
  Change,
  Sweep,
  change,
  ideal_prediction,
  improvement_bounds,
  improves_robustness,
  keeps_clean_decision,
  sweep,
)
from mixboost_jax.metrics.detection import (
  Gap,
  Roc,
  Threshold,
  choose_threshold,
  confidence_gap,
  detection_gap,
  detection_score,
  flag,
  roc,
)

__all__ = [
  "DEFENSES",
  "PRESETS",
  "Change",
  "Gap",
  "Pool",
  "Roc",
  "Sweep",
  "Threshold",
  "average_over",
  "build",
  "build_pool",
  "change",
  "choose_threshold",
  "confidence_gap",
  "crop_pad",
  "crop_resize",
  "detection_gap",
  "detection_score",
  "dispersions",
  "draw_partners",
  "draw_probabilities",
  "fit_detector",
  "flag",
  "gaussian_noise",
  "ideal_prediction",
  "improvement_bounds",
  "improves_robustness",
  "keeps_clean_decision",
  "mix",
  "mixup_draws",
  "mixup_inference",
  "partner_sampler",
  "rank_score",
  "roc",
  "rotation",
  "sweep",
  "truncate",
]


def __dir__() -> list[str]:
  return sorted(__all__)
