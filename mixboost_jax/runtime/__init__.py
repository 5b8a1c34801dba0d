# SPDX-License-Identifier: Apache-2.0
"""Around the training loop: devices, run folder, checkpoints, metrics, results."""

from mixboost_jax.runtime import (
  atomic,
  checkpoint,
  lock,
  log,
  mesh,
  platform,
  results,
  workdir,
)

__all__ = [
  "atomic",
  "checkpoint",
  "lock",
  "log",
  "mesh",
  "platform",
  "results",
  "workdir",
]
