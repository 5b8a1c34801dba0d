# SPDX-License-Identifier: Apache-2.0
"""Manifold Mixup inside the step: hidden layers and labels of a batch are mixed alike."""

import functools
from collections.abc import Callable, Sequence

from jaxtyping import Array

from mixboost_jax import augment
from mixboost_jax.array_types import PRNGKeys
from mixboost_jax.augment import ManifoldMix
from mixboost_jax.schema import Augment

Taps = dict[str, Callable[[Array], Array]]
HiddenMix = Callable[[PRNGKeys, Array], tuple[Taps, Array]]
"""`(one key per example, labels of all pictures) -> (taps of the network, mixed labels)`."""


def build(augmentation: Augment, stages: Sequence[str]) -> HiddenMix | None:
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
