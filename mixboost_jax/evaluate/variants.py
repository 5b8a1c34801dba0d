# SPDX-License-Identifier: Apache-2.0
"""Sets of pictures that are derived from the chosen split on the host."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from mixboost_jax import data, keys, masks, registry
from mixboost_jax.data import shapes
from mixboost_jax.evaluate.examples import Examples


def _shapes_variant(examples: Examples, variant: str) -> Examples:
  """Draws the same objects again with another relation of texture and class."""
  if examples.dataset != "shapes":
    raise ValueError(
      f"evaluate: suite shapes changes textures of the procedural set and cannot be run on "
      f"{examples.dataset!r}; use suite='clean', or config.data.name='shapes'."
    )
  agreement = registry.lookup(data.SHAPES_VARIANTS, variant, field="variant of shapes")
  if agreement is None:
    raise ValueError(f"evaluate: variant {variant!r} is the test split itself; use unit clean.")
  drawn = shapes.generate(examples.ids, texture_agreement=agreement)
  return dataclasses.replace(
    examples, images=drawn.images, labels=drawn.labels, dataset=f"shapes-{variant}"
  )


def _occluded(examples: Examples) -> Examples:
  """Paints over 30 % of an 8 x 8 grid of cells in mid-grey, other cells for every example."""
  _, height, width, _ = examples.images.shape
  grid = min(8, height, width)
  root = keys.root_key(0)  # part of the definition of this unit, not of a run
  example_keys = keys.example_keys(root, keys.Stream.EVALUATE, jnp.asarray(examples.ids))
  mask = masks.sample_patch_mask(example_keys, grid=grid, keep_rate=0.7)
  keep = np.asarray(masks.upsample(mask, height=height, width=width))[..., None]
  gray = examples.images.dtype.type(128 if examples.images.dtype == np.uint8 else 0.5)
  painted = np.where(keep, examples.images, gray)
  return dataclasses.replace(examples, images=painted, dataset=f"{examples.dataset}-occluded")


VARIANTS: dict[str, Callable[[Examples], Examples]] = {
  "clean": lambda examples: examples,
  "occluded": _occluded,
  "neutral": lambda examples: _shapes_variant(examples, "neutral"),
  "conflicting": lambda examples: _shapes_variant(examples, "conflicting"),
}
"""By the word of a suite."""
