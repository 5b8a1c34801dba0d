# SPDX-License-Identifier: Apache-2.0
"""Around the training loop: devices, run folder, checkpoints, metrics, results."""

from mixboost_jax.runtime import (
  atomic,
  checkpoint,
  environment,
  interrupt,
  log,
  mesh,
  peers,
  platform,
  progress,
  results,
  workdir,
  writers,
)

__all__ = [
  "atomic",
  "checkpoint",
  "environment",
  "interrupt",
  "log",
  "mesh",
  "peers",
  "platform",
  "progress",
  "results",
  "workdir",
  "writers",
]
