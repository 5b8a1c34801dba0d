# SPDX-License-Identifier: Apache-2.0
"""From a network and pictures to metrics with intervals, for any JAX model."""

from mixboost_jax.evaluate.audit_plan import KINDS, OwnDefense, Plan
from mixboost_jax.evaluate.auditor import audit
from mixboost_jax.evaluate.budget import problem as budget_problem
from mixboost_jax.evaluate.examples import Examples, from_dataset
from mixboost_jax.evaluate.pieces import Stopped
from mixboost_jax.evaluate.runner import evaluate, make_monitor, run
from mixboost_jax.evaluate.scoring import Scorer, Scores, open_up
from mixboost_jax.evaluate.suites import SUITES, Unit, expand, suite_problem
from mixboost_jax.evaluate.summary import headline, reliability, summarise

__all__ = [
  "KINDS",
  "SUITES",
  "Examples",
  "OwnDefense",
  "Plan",
  "Scorer",
  "Scores",
  "Stopped",
  "Unit",
  "audit",
  "budget_problem",
  "evaluate",
  "expand",
  "from_dataset",
  "headline",
  "make_monitor",
  "open_up",
  "reliability",
  "run",
  "suite_problem",
  "summarise",
]
