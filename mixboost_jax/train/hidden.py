# SPDX-License-Identifier: Apache-2.0
"""What a step does at hidden layers of the network, reached through its taps.

Manifold Mixup (`build_manifold`) mixes a layer and the labels of a batch alike. The
interaction-reduction term (`build_reduction`) adds E |I(i, j)| between units of one layer to the
loss.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from mixboost_jax import augment, interactions
from mixboost_jax.array_types import Images, PRNGKeys
from mixboost_jax.augment import ManifoldMix
from mixboost_jax.schema import Augment, Objective

Taps = dict[str, Callable[[Array], Array]]
HiddenMix = Callable[[PRNGKeys, Array], tuple[Taps, Array]]
"""`(one key per example, labels of all pictures) -> (taps of the network, mixed labels)`."""
Reduce = Callable[[PRNGKeys, Any, Any, Images], Array]
"""`(one key per example, params, stats, images) -> E |I| of each example`."""


def build_manifold(augmentation: Augment, stages: Sequence[str]) -> HiddenMix | None:
  """Returns the function that draws the mix of a batch; None if it is off.

  Paper: Verma et al. 2019, arXiv:1806.05236, Sec. 2. Pictures and masked views of an example are
    all mixed with those of the same partner, at the same layer and with the same weight.

  Args:
    augmentation: of the settings.
    stages: of the network; layer 0 is its input, layer i the output of its i-th stage.

  Raises:
    ValueError: if the network has no such layer.
  """
  if not augmentation.manifold_alpha:
    return None
  names = ("input", *stages)
  layers = augmentation.manifold_layers
  if max(layers) >= len(names):
    raise ValueError(
      f"config.augment.manifold_layers={layers}: the network has layers 0 to {len(stages)} "
      f"({', '.join(names)})."
    )

  def draw(each: PRNGKeys, labels: Array) -> tuple[Taps, Array]:
    mix = augment.draw_manifold_mix(each, alpha=augmentation.manifold_alpha, layers=layers)
    own_weight = functools.partial(augment.mix_with_partner, weight=mix.weight)
    taps = {names[layer]: _tap(mix, layer, len(each)) for layer in layers}
    return taps, across_examples(own_weight, labels, num_examples=len(each))

  return draw


def across_examples(fn: Callable[[Array], Array], rows: Array, *, num_examples: int) -> Array:
  """Applies `fn` to rows grouped by example, whatever the number of rows of each."""
  grouped = rows.reshape(num_examples, -1, *rows.shape[1:])
  return fn(grouped).reshape(rows.shape)


def _tap(mix: ManifoldMix, layer: int, num_examples: int) -> Callable[[Array], Array]:
  tap = augment.manifold_tap(mix, layer=layer)
  return lambda hidden: across_examples(tap, hidden, num_examples=num_examples)


def build_reduction(
  objective: Objective, apply: Callable[..., Any], stages: Sequence[str]
) -> Reduce | None:
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
