# SPDX-License-Identifier: Apache-2.0
"""`load`: from the `data` section of a config to a data set in host memory."""

from collections.abc import Callable

import numpy as np

from mixboost_jax import registry, schema
from mixboost_jax.data import cifar, cifar_places, limits, locate, shapes
from mixboost_jax.data.dataset import Dataset, Split, assemble

SHAPES_TRAIN = 10_000
"""Training examples of `shapes` if the config asks for all."""
SHAPES_TEST = 2_000
"""Test examples of `shapes` if the config asks for all."""
SHAPES_TEST_IDS = 2**24
"""First id of the test split of `shapes`; ids below belong to training and validation."""
SHAPES_VARIANTS = {"agreeing": None, "neutral": 0.1, "conflicting": 0.0}
"""Texture agreement of the test variants; None: as in training."""


def load(settings: schema.Data) -> Dataset:
  """Reads (or draws) the data set of a config.

  Args:
    settings: the resolved `data` section.

  Raises:
    ValueError: if the data is missing, damaged, too large, or not what the config says; the
      message names the place and the remedy.
  """
  reader = registry.lookup(READERS, settings.name, field="config.data.name")
  return reader(settings)


def load_shapes_variant(settings: schema.Data, variant: str) -> Split:
  """Draws the test split of `shapes` with another relation of texture and class.

  The pictures have the ids of the ordinary test split and differ from it in the fill pattern only.

  Args:
    settings: of which `texture_agreement` and `test_examples` count.
    variant: "agreeing" (as trained), "neutral" (texture carries no information) or "conflicting"
      (never the texture of the class).

  Raises:
    ValueError: if the variant is unknown.
  """
  agreement = registry.lookup(SHAPES_VARIANTS, variant, field="variant of shapes")
  agreement = settings.texture_agreement if agreement is None else agreement
  count = settings.test_examples or SHAPES_TEST
  return shapes.generate(_ids(SHAPES_TEST_IDS, count), texture_agreement=agreement)


def _ids(start: int, count: int) -> np.ndarray:
  return np.arange(start, start + count, dtype=np.int32)


def _load_shapes(settings: schema.Data) -> Dataset:
  _fixed_size(settings, shapes.SIZE)
  count = settings.train_examples or SHAPES_TRAIN
  shape = (shapes.SIZE, shapes.SIZE, 3)
  for examples in (count, settings.test_examples):
    limits.check_size(examples, shape, place="the procedural set")
  return assemble(
    name="shapes",
    title="Shapes (procedural)",
    source="procedural",
    class_names=shapes.CLASS_NAMES,
    train=shapes.generate(_ids(0, count), texture_agreement=settings.texture_agreement),
    test=load_shapes_variant(settings, "agreeing"),
    validation_examples=settings.validation_examples,
  )


def _load_cifar(settings: schema.Data) -> Dataset:
  layout = cifar.LAYOUTS[settings.name]
  _fixed_size(settings, cifar.SIZE)
  found = cifar_places.find(layout, locate.places_of(settings))
  if found is None:
    raise locate.missing(
      settings,
      title=layout.title,
      looked_for=cifar_places.looked_for(layout),
      remedies=(),
    )
  wanted = {"train_examples": settings.train_examples, "test_examples": settings.test_examples}
  train, test, names = cifar.read(found.path, layout, **wanted)
  return assemble(
    name=settings.name,
    title=layout.title,
    source="files",
    class_names=names,
    train=train,
    test=test,
    validation_examples=settings.validation_examples,
  )


def _fixed_size(settings: schema.Data, size: int) -> None:
  if settings.image_size not in (0, size):
    raise ValueError(
      f"config.data.image_size={settings.image_size}: {settings.name} has pictures of "
      f"{size}x{size} pixels and is not resized; leave it 0."
    )


READERS: dict[str, Callable[[schema.Data], Dataset]] = {
  "shapes": _load_shapes,
  "cifar10": _load_cifar,
  "cifar100": _load_cifar,
}
"""By `config.data.name`."""
