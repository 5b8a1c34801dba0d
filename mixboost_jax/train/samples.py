# SPDX-License-Identifier: Apache-2.0
"""A few training pictures as the first epoch saw them: clean, augmented, masked."""

import jax
import numpy as np

from mixboost_jax import losses, masks
from mixboost_jax.keys import Stream, example_keys
from mixboost_jax.train.build import Trainer
from mixboost_jax.train.objectives import by_picture


def sample_views(trainer: Trainer, *, num: int) -> dict[str, np.ndarray]:
  """Returns `num` training examples of epoch 0, `[num, H, W, C]` per kind of view.

  The draws are those of training: they depend on seed, epoch and example alone. Augmentations that
  mix examples have other partners here than in their training batch.

  Args:
    trainer: from `build`.
    num: at most the number of training examples.

  Returns:
    "clean", "augmented", and, if the objective masks, "masked" (its smallest view).
  """
  parts = trainer.parts
  batch = trainer.feed.batch(np.arange(num), epoch=0)
  keys = example_keys(trainer.root, Stream.AUGMENT, batch.ids, epoch=0)
  labels = losses.one_hot(batch.labels, parts.num_classes)
  rows, _ = parts.augment(keys, batch.images, labels)
  pictures = by_picture(rows, len(rows) // num)  # several with a consistency term
  augmented = pictures[min(1, len(pictures) - 1)]
  views = {"clean": batch.images, "augmented": augmented}
  if parts.objective.keep_rates:
    ranks = masks.cell_ranks(
      example_keys(trainer.root, Stream.MASK, batch.ids, epoch=0), grid=parts.grid
    )
    keep = masks.keep_lowest(ranks, keep_rate=min(parts.objective.keep_rates))
    first = min(parts.objective.masked[0], len(pictures) - 1)
    views["masked"] = masks.apply(pictures[first], keep, fill=parts.fill)
  return {kind: np.asarray(jax.device_get(images)) for kind, images in views.items()}
