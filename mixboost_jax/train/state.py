# SPDX-License-Identifier: Apache-2.0
"""Everything that a checkpoint holds. No random key is among it: keys come from seed and step."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
  """The state of a run after `step` updates.

  Attributes:
    step: int32 scalar, number of updates done.
    params: {"network": ..., and "fill" if the mask fill is learned}.
    stats: running statistics of the normalisation layers.
    opt_state: of the optax transformation.
    averaged: exponential moving average of `params["network"]`, or {} if it is off.
  """

  step: Any  # the leaves are shardings or shapes in some trees of this type
  params: dict[str, Any]
  stats: Any
  opt_state: Any
  averaged: Any

  def evaluated_params(self) -> Any:
    """Returns the network parameters that evaluation uses."""
    return self.averaged if jax.tree.leaves(self.averaged) else self.params["network"]


def create(
  params: dict[str, Any], stats: Any, optimizer: optax.GradientTransformation, *, averaging: bool
) -> TrainState:
  """Returns the state before the first step."""
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    stats=stats,
    opt_state=optimizer.init(params),
    averaged=jax.tree.map(jnp.copy, params["network"]) if averaging else {},
  )
