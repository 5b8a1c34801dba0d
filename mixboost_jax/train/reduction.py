# SPDX-License-Identifier: Apache-2.0
"""The interaction-reduction term: E |I(i, j)| between units of one layer, added to the loss."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from mixboost_jax import interactions
from mixboost_jax.array_types import Images, PRNGKeys
from mixboost_jax.schema import Objective

Reduce = Callable[[PRNGKeys, Any, Any, Images], Array]
"""`(one key per example, params, stats, images) -> E |I| of each example`."""


def build(objective: Objective, apply: Callable[..., Any], stages: Sequence[str]) -> Reduce | None:
  """Returns the estimator that the settings describe; None without a weight.

  Paper: Zhang et al. 2021, arXiv:2009.11729, eq. 9.
  Deviation: the layers behind the units run in evaluation mode (running statistics, no dropout), so
    that an example's term does not depend on the other masked rows; the gradient flows through the
    parameters of all layers.

  Args:
    objective: of the settings.
    apply: `models.functional(model).apply`.
    stages: of the network.

  Raises:
    ValueError: if the network has no such layer.
  """
  if not objective.reduction_weight:
    return None
  stage = objective.reduction_stage
  if stage not in ("input", *stages):
    choices = ", ".join(("input", *stages))
    raise ValueError(f"config.objective.reduction_stage: expected one of {choices}, got {stage!r}.")

  def reduce(each: PRNGKeys, params: Any, stats: Any, images: Images) -> Array:
    def run(rows: Array, tap: Callable[[Array], Array]) -> Array:
      return apply(params, stats, rows, train=False, taps={stage: tap})[0]

    seen = []

    def look(hidden: Array) -> Array:
      seen.append(hidden)
      return hidden

    run(images, look)  # what follows the stage has no effect and is not compiled
    features = seen[0]

    def rest(hidden: Array) -> Array:
      nothing = jnp.zeros((len(hidden), *images.shape[1:]), images.dtype)
      return run(nothing, lambda _: hidden)

    return interactions.interaction_loss(
      each,
      rest,
      features,
      fraction=objective.reduction_fraction,
      num_draws=objective.reduction_draws,
      mask_shape=_unit_shape(objective.reduction_units, features.shape[1:]),
    )

  return reduce


def _unit_shape(units: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
  """Returns the shape of the units, to be broadcast over the features of one example."""
  height, width, channels = shape
  return {"entries": None, "positions": (height, width, 1), "channels": (1, 1, channels)}[units]
