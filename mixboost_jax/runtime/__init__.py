# SPDX-License-Identifier: Apache-2.0
"""Around the training loop: devices, run folder, checkpoints, metrics, results."""

from mixboost_jax.runtime import (
  atomic,
  lock,
  log,
  mesh,
  platform,
  results,
  workdir,
)

__all__ = [
  "atomic",
  "lock",
  "log",
  "mesh",
  "platform",
  "results",
  "workdir",
]
