# SPDX-License-Identifier: Apache-2.0
"""The attacks that a suite can ask for. Radii are in pixel units of [0, 1]; labels are true."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mixboost_jax import attacks


@dataclasses.dataclass(frozen=True)
class AttackUnit:
  """One attack with its threat model."""

  title: str
  """For tables."""
  kind: str
  """"attack" (a function of a batch) or "autoattack" (its own batches)."""
  options: Mapping[str, Any]
  """Keywords of `attacks.pgd`; or of `attacks.AutoAttack`, and its `epsilon`."""

  @property
  def norm(self) -> str:
    """Norm of the ball."""
    return self.options["norm"]

  @property
  def epsilon(self) -> float:
    """Radius of the ball."""
    return self.options["epsilon"]

  @property
  def num_steps(self) -> int:
    """Gradient steps, or how many the cost amounts to."""
    return self.options.get("num_steps", 500)


def _pgd(num_steps: int) -> AttackUnit:
  options = attacks.PRESETS[f"mixup-inference-{num_steps}"]
  return AttackUnit(f"PGD-{num_steps}, L∞ 8/255", "attack", options)


ATTACKS: dict[str, AttackUnit] = {
  "pgd": AttackUnit("PGD-20, L∞ 2/255", "attack", attacks.PRESETS["pixmix"]),
  "pgd-10": _pgd(10),
  "pgd-50": _pgd(50),
  "pgd-200": _pgd(200),
  "autoattack": AttackUnit(
    "AutoAttack, L∞ 8/255", "autoattack", {"norm": "linf", "epsilon": 8 / 255}
  ),
  "autoattack-l2": AttackUnit("AutoAttack, L2 0.5", "autoattack", {"norm": "l2", "epsilon": 0.5}),
}
"""By the word of a suite."""
