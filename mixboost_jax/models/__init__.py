# SPDX-License-Identifier: Apache-2.0
"""Networks (Flax NNX), as modules, as pure functions, and any classifier as a `logits_fn`."""

from mixboost_jax.models.catalogue import NAMES, create, name_problem
from mixboost_jax.models.functional import (
  Functional,
  features_fn,
  functional,
  logits_fn,
  logits_fn_from_callable,
  logits_fn_from_linen,
  merge,
)
from mixboost_jax.models.layers import BatchNorm, conv2d
from mixboost_jax.models.network import Network
from mixboost_jax.models.torch_weights import from_torch, to_torch

__all__ = [
  "NAMES",
  "BatchNorm",
  "Functional",
  "Network",
  "conv2d",
  "create",
  "features_fn",
  "from_torch",
  "functional",
  "logits_fn",
  "logits_fn_from_callable",
  "logits_fn_from_linen",
  "merge",
  "name_problem",
  "to_torch",
]


def __dir__() -> list[str]:
  return sorted(__all__)
