# SPDX-License-Identifier: Apache-2.0
"""Which sets of pictures make up an evaluation."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from mixboost_jax import data, keys, masks, registry
from mixboost_jax.data import shapes
from mixboost_jax.evaluate.examples import Examples


@dataclasses.dataclass(frozen=True)
class Unit:
  """One set of pictures derived from the chosen split; units do not depend on each other."""

  name: str
  """Short and unique within a suite."""
  derive: Callable[[Examples], Examples]


def _as_they_are(examples: Examples) -> Examples:
  return examples


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


CLEAN = Unit("clean", _as_they_are)
OCCLUDED = Unit("occluded", _occluded)
NEUTRAL = Unit("neutral", lambda examples: _shapes_variant(examples, "neutral"))
CONFLICTING = Unit("conflicting", lambda examples: _shapes_variant(examples, "conflicting"))

SUITES: dict[str, tuple[Unit, ...]] = {
  "clean": (CLEAN,),
  "occluded": (CLEAN, OCCLUDED),
  "shapes": (CLEAN, OCCLUDED, NEUTRAL, CONFLICTING),
}
"""By `config.evaluate.suite`."""


def suite_problem(name: str) -> str | None:
  """Returns what is wrong with a suite's name, or None: a check for `settings.resolve_runs`."""
  if name in SUITES:
    return None
  return registry.unknown_name(name, SUITES, field="suite")
