# SPDX-License-Identifier: Apache-2.0
"""Training: objectives, the compiled step, the host loop."""

from mixboost_jax.runtime.interrupt import Stopped
from mixboost_jax.train.augmentation import families_problem, policy_problem
from mixboost_jax.train.build import Trainer, build
from mixboost_jax.train.loop import Evaluator, Hooks, NonFiniteError, run
from mixboost_jax.train.state import TrainState

__all__ = [
  "Evaluator",
  "Hooks",
  "NonFiniteError",
  "Stopped",
  "TrainState",
  "Trainer",
  "build",
  "families_problem",
  "policy_problem",
  "run",
]


def __dir__() -> list[str]:
  return __all__
