# SPDX-License-Identifier: Apache-2.0
"""How one forward pass is to be computed; handed to every layer that needs to know."""

import dataclasses
from collections.abc import Callable, Mapping

from jaxtyping import Array, UInt32

BATCHNORM_VIEWS = ("clean", "both", "joint")

Taps = Mapping[str, Callable[[Array], Array]]
"""Name of a stage -> function of what leaves it."""


@dataclasses.dataclass(frozen=True)
class Mode:
  """One forward pass.

  Attributes:
    train: use batch statistics and dropout.
    num_views: rows per example; row = example * num_views + view, and view 0 is the clean one.
    batchnorm_views: see `batchnorm.BatchNorm`.
    dropout_seeds: see `dropout.seeds_of`; None where nothing is dropped.
  """

  train: bool
  num_views: int
  batchnorm_views: str
  dropout_seeds: UInt32[Array, "N 2"] | None
