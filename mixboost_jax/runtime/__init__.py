# SPDX-License-Identifier: Apache-2.0
"""Around the training loop: devices, run folder, checkpoints, metrics, results."""

from mixboost_jax.runtime import (
  checkpoint,
  environment,
  interrupt,
  log,
  mesh,
  peers,
  platform,
  profile,
  programs,
  results,
  targets,
  workdir,
  writers,
)

__all__ = [
  "checkpoint",
  "environment",
  "interrupt",
  "log",
  "mesh",
  "peers",
  "platform",
  "profile",
  "programs",
  "results",
  "targets",
  "workdir",
  "writers",
]


def __dir__() -> list[str]:
  return sorted(__all__)
