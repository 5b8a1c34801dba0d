# SPDX-License-Identifier: Apache-2.0
"""Training pictures with a wrong label on purpose, to see what a network remembers them by.

Paper: Cheng et al. 2021, arXiv:2106.10938, Sec. 4 (50 to 300 pictures with negligible noise and
random labels).
"""

import numpy as np
from jaxtyping import Int

from mixboost_jax.data.dataset import Split


def rows(num_examples: int, *, num: int) -> Int[np.ndarray, " num"]:
  """Returns which rows of the training split are outliers; a larger `num` contains a smaller one.

  Raises:
    ValueError: if there are not so many examples.
  """
  if num > num_examples:
    raise ValueError(
      f"config.data.outliers={num}: more than the {num_examples} pictures to train on."
    )
  return np.random.default_rng(0).permutation(num_examples)[:num]


def plant(split: Split, *, num: int, noise: float, num_classes: int) -> Split:
  """Returns the split with noise on `num` pictures and a random wrong label for each.

  Deviation: the paper's labels are random; here never the true one, so that all are outliers.

  Args:
    split: training pictures.
    num: how many become outliers.
    noise: standard deviation of the added noise, in units of [0, 1].
    num_classes: number of classes.
  """
  chosen = rows(len(split), num=num)
  images, labels = np.array(split.images), np.array(split.labels)
  for row in chosen:
    draw = np.random.default_rng((1, int(split.ids[row])))
    noisy = images[row] + 255 * noise * draw.normal(size=images.shape[1:])
    images[row] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    labels[row] = (labels[row] + draw.integers(1, num_classes)) % num_classes
  return Split(images, labels, split.ids)
