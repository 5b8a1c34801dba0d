# SPDX-License-Identifier: Apache-2.0
"""Adversarial attacks on any `logits_fn`, in pixel units of [0, 1].

Arguments mean the same in every attack: `pgd` describes `key`, `logits_fn`, `images`, `labels`,
`epsilon`, `step_size`, `norm`, `targeted` and `loss`, the other functions what they add or change.
What is out of range raises a ValueError that says so.

Pictures outside of [0, 1], labels that are no class and a radius beyond the box of pictures are
refused; traced ones (an attack inside of your own `jit`) only with `MIXBOOST_CHECKS=1`.
"""

from mixboost_jax.attacks._adaptive import adaptive_mixup, averaged_perturbation, end_to_end
from mixboost_jax.attacks._apgd import apgd
from mixboost_jax.attacks._autoattack import (
  VERSIONS,
  AutoAttack,
  AutoAttackResult,
  Budget,
  autoattack,
)
from mixboost_jax.attacks._balls import (
  NORMS,
  OBJECTIVES,
  fooled,
  largest_violation,
  norms,
  project,
  project_l2,
  project_linf,
)
from mixboost_jax.attacks._balls import pick as pick  # for the auditor; not public
from mixboost_jax.attacks._fab import FabResult, fab
from mixboost_jax.attacks._pgd import PRESETS, fgsm, momentum_pgd, pgd
from mixboost_jax.attacks._predictors import (
  Randomized,
  bpda,
  expectation,
  from_probabilities,
  is_random,
  keyed,
  predicted_labels,
  random_targets,
)
from mixboost_jax.attacks._square import square
from mixboost_jax.attacks._transfer import TRANSFER_PRESETS, leave_one_out, transfer
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
  "leave_one_out",
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


def __dir__() -> list[str]:
  return sorted(__all__)
