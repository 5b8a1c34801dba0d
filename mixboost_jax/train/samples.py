# SPDX-License-Identifier: Apache-2.0
"""A few training pictures as the first epoch saw them: clean, augmented, masked."""

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import data, losses, masks
from mixboost_jax.keys import Stream, example_keys
from mixboost_jax.train.build import Trainer


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
  batch = data.take(trainer.split, jnp.arange(num))
  keys = example_keys(trainer.root, Stream.AUGMENT, batch.ids, epoch=0)
  labels = losses.one_hot(batch.labels, parts.num_classes)
  augmented, _ = parts.augment(keys, batch.images, labels)
  views = {"clean": batch.images, "augmented": augmented}
  if parts.objective.keep_rates:
    ranks = masks.cell_ranks(
      example_keys(trainer.root, Stream.MASK, batch.ids, epoch=0), grid=parts.grid
    )
    keep = masks.keep_lowest(ranks, keep_rate=min(parts.objective.keep_rates))
    views["masked"] = masks.apply(augmented, keep, fill=parts.fill)
  return {kind: np.asarray(jax.device_get(images)) for kind, images in views.items()}
