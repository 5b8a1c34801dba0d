# SPDX-License-Identifier: Apache-2.0
"""Adversarial attacks on any `logits_fn`, in pixel units of [0, 1]."""

from mixboost_jax.attacks.adaptive import adaptive_mixup, averaged_perturbation, end_to_end
from mixboost_jax.attacks.auto_pgd import apgd
from mixboost_jax.attacks.ensemble import (
  VERSIONS,
  AutoAttack,
  AutoAttackResult,
  Budget,
  autoattack,
)
from mixboost_jax.attacks.fast_boundary import FabResult, fab
from mixboost_jax.attacks.objectives import OBJECTIVES, fooled
from mixboost_jax.attacks.predictors import (
  Randomized,
  bpda,
  expectation,
  from_probabilities,
  is_random,
  keyed,
  predicted_labels,
  random_targets,
)
from mixboost_jax.attacks.presets import PRESETS
from mixboost_jax.attacks.projected_gradient import fgsm, momentum_pgd, pgd
from mixboost_jax.attacks.projections import (
  NORMS,
  largest_violation,
  norms,
  project,
  project_l2,
  project_linf,
)
from mixboost_jax.attacks.square_search import square
from mixboost_jax.attacks.transferable import TRANSFER_PRESETS, transfer
from mixboost_jax.rewrite import straight_through

ATTACKS = {
  "pgd": pgd,
  "fgsm": fgsm,
  "momentum_pgd": momentum_pgd,
  "apgd": apgd,
  "square": square,
  "transfer": transfer,
}
"""Attacks of one signature: `(key, logits_fn, images, labels, *, epsilon, ...) -> images`."""

__all__ = [
  "ATTACKS",
  "NORMS",
  "OBJECTIVES",
  "PRESETS",
  "TRANSFER_PRESETS",
  "VERSIONS",
  "AutoAttack",
  "AutoAttackResult",
  "Budget",
  "FabResult",
  "Randomized",
  "adaptive_mixup",
  "apgd",
  "autoattack",
  "averaged_perturbation",
  "bpda",
  "end_to_end",
  "expectation",
  "fab",
  "fgsm",
  "fooled",
  "from_probabilities",
  "is_random",
  "keyed",
  "largest_violation",
  "momentum_pgd",
  "norms",
  "pgd",
  "predicted_labels",
  "project",
  "project_l2",
  "project_linf",
  "random_targets",
  "square",
  "straight_through",
  "transfer",
]
