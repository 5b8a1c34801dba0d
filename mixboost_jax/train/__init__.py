# SPDX-License-Identifier: Apache-2.0
"""Training: objectives, the compiled step, the host loop."""

from mixboost_jax.train.build import Trainer, build
from mixboost_jax.train.loop import Evaluator, Hooks, Preempted, run
from mixboost_jax.train.policies import policy_problem
from mixboost_jax.train.state import TrainState
from mixboost_jax.train.window import NonFiniteError

__all__ = [
  "Evaluator",
  "Hooks",
  "NonFiniteError",
  "Preempted",
  "TrainState",
  "Trainer",
  "build",
  "policy_problem",
  "run",
]
