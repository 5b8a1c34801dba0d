# SPDX-License-Identifier: Apache-2.0
"""From a network and pictures to metrics with intervals, for any JAX model."""

# What is imported but not in `__all__` serves jobs and audits alone.

from mixboost_jax.evaluate._budget import problem as budget_problem  # noqa: F401
from mixboost_jax.evaluate._examples import Examples, Unit, from_dataset
from mixboost_jax.evaluate._gallery import gallery
from mixboost_jax.evaluate._kind import Place, metric
from mixboost_jax.evaluate._runner import evaluate, make_monitor, run  # noqa: F401
from mixboost_jax.evaluate._sanity import MASKED_GRADIENTS, sanity_flags  # noqa: F401
from mixboost_jax.evaluate._session import open_up  # noqa: F401
from mixboost_jax.evaluate._store import Store, digest, network_digest  # noqa: F401
from mixboost_jax.evaluate._suites import SUITES, asks_for, expand, suite_problem  # noqa: F401
from mixboost_jax.evaluate._views import multi_view
from mixboost_jax.runtime.interrupt import Stopped

__all__ = [
  "SUITES",
  "Examples",
  "Place",
  "Stopped",
  "Unit",
  "evaluate",
  "expand",
  "from_dataset",
  "gallery",
  "make_monitor",
  "metric",
  "multi_view",
  "sanity_flags",
]


def __dir__() -> list[str]:
  return __all__
