# SPDX-License-Identifier: Apache-2.0
"""Pictures of a generative model in place of real ones of the same class."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt8

from mixboost_jax import checks, keys
from mixboost_jax.array_types import AnyKey, Images, PRNGKeys, SoftLabels
from mixboost_jax.augment import _options
from mixboost_jax.augment._options import Number
from mixboost_jax.image.levels import from_levels


@checks.inputs()
def swap_in_class(
  key: AnyKey,
  images: Images,
  soft_labels: SoftLabels,
  class_pictures: UInt8[Array, "K M H W C"],
  *,
  p: Number = 0.5,
) -> tuple[Images, SoftLabels]:
  """Replaces each picture, with probability p, by one of its class out of a pool; labels stay.

  With a pool that a label-conditional GAN made it is the GAN augmentation of the lecture: the
  random function that draws G(z, y) with probability p, and x otherwise.

  Deviation: from a pool that is drawn once, not from the generator at every step.

  ```python
  made = jnp.zeros((4, 10, 16, 16, 3), jnp.uint8)  # ten pictures of each class, from a GAN
  images, soft_labels = augment.swap_in_class(key, images, soft_labels, made, p=0.5)
  ```

  Args:
    key: one key, or one per example.
    images: values in [0, 1].
    soft_labels: the class is the largest of them.
    class_pictures: M pictures of each class, 8-bit levels.
    p: in [0, 1]; 0 is the bitwise identity.
  """
  _options.check("swap_in_class", p=p)
  if p == 0:
    return images, soft_labels
  num_classes, count = class_pictures.shape[:2]
  swapped, chosen = draw_swaps(keys.per_example(key, len(images)), p=p, num_pictures=count)
  rows = class_pictures.reshape(num_classes * count, -1)  # as they lie, see `data.DevicePictures`
  rows = rows[jnp.argmax(soft_labels, axis=1) * count + chosen]
  made = from_levels(rows.reshape(len(rows), *class_pictures.shape[2:]))
  return jnp.where(swapped[:, None, None, None], made, images), soft_labels


@checks.inputs()
def draw_swaps(
  key: PRNGKeys, *, p: Number, num_pictures: int
) -> tuple[Bool[Array, " N"], Int[Array, " N"]]:
  """Draws whether each example is replaced, and by which picture of its class.

  ```python
  swapped, chosen = augment.draw_swaps(jax.random.split(key, 8), p=0.5, num_pictures=10)
  ```
  """
  _options.check("draw_swaps", p=p)
  key_gate, key_picture = keys.split_each(key, 2)
  swapped = jax.vmap(jax.random.uniform)(key_gate) < p
  draw = jax.vmap(lambda own: jax.random.randint(own, (), 0, num_pictures))
  return swapped, draw(key_picture)
