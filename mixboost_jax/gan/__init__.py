# SPDX-License-Identifier: Apache-2.0
"""A label-conditional GAN as pure functions: two small residual networks, their losses, one update.

Networks are functions of nested dicts of arrays. Nothing here knows of files, devices or configs;
`train.gan` makes a run of it, `--job=gan` trains one.
"""

from mixboost_jax.gan._losses import LOSSES, Loss, gradient_penalty
from mixboost_jax.gan._networks import (
  Shape,
  criticise,
  generate,
  init_critic,
  init_generator,
  power_iteration,
  sampler,
  spectrally_normalised,
  start_vectors,
)
from mixboost_jax.gan._update import GanState, Rules, create, update

__all__ = [
  "LOSSES",
  "GanState",
  "Loss",
  "Rules",
  "Shape",
  "create",
  "criticise",
  "generate",
  "gradient_penalty",
  "init_critic",
  "init_generator",
  "power_iteration",
  "sampler",
  "spectrally_normalised",
  "start_vectors",
  "update",
]


def __dir__() -> list[str]:
  return sorted(__all__)
