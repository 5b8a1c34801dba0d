# SPDX-License-Identifier: Apache-2.0
"""Defenses of a network under attacks that know them and attacks that do not."""

from mixboost_jax.audit.plan import ATTACKS, OwnDefense, Plan
from mixboost_jax.audit.run import audit

__all__ = ["ATTACKS", "OwnDefense", "Plan", "audit"]


def __dir__() -> list[str]:
  return __all__
