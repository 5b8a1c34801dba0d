# SPDX-License-Identifier: Apache-2.0
"""Defenses of a network under attacks that know them and attacks that do not."""

from mixboost_jax.audit.plan import KINDS, OwnDefense, Plan
from mixboost_jax.audit.run import audit

__all__ = ["KINDS", "OwnDefense", "Plan", "audit"]


def __dir__() -> list[str]:
  return __all__
