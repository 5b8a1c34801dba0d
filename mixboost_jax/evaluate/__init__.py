# SPDX-License-Identifier: Apache-2.0
"""From a network and pictures to metrics with intervals, for any JAX model."""

from mixboost_jax.evaluate._budget import problem as budget_problem
from mixboost_jax.evaluate._examples import Examples, Unit, from_dataset
from mixboost_jax.evaluate._gallery import gallery
from mixboost_jax.evaluate._kind import Place, metric
from mixboost_jax.evaluate._runner import evaluate, make_monitor, run
from mixboost_jax.evaluate._sanity import MASKED_GRADIENTS, sanity_flags
from mixboost_jax.evaluate._session import open_up
from mixboost_jax.evaluate._store import Store, digest, network_digest
from mixboost_jax.evaluate._suites import SUITES, asks_for, expand, suite_problem
from mixboost_jax.evaluate._views import multi_view
from mixboost_jax.runtime.interrupt import Stopped

__all__ = [
  "MASKED_GRADIENTS",
  "SUITES",
  "Examples",
  "Place",
  "Stopped",
  "Store",
  "Unit",
  "asks_for",
  "budget_problem",
  "digest",
  "evaluate",
  "expand",
  "from_dataset",
  "gallery",
  "make_monitor",
  "metric",
  "multi_view",
  "network_digest",
  "open_up",
  "run",
  "sanity_flags",
  "suite_problem",
]


def __dir__() -> list[str]:
  return __all__
