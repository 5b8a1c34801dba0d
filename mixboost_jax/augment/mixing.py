# SPDX-License-Identifier: Apache-2.0
"""Mixes of two examples of a batch: Mixup and CutMix.

Partner rule: the partner of example `i` is example `i - 1` of the batch (`jnp.roll` by one). The
batch is drawn in random order, so this pairs random examples like a permutation does, never pairs
an example with itself, and costs one exchange between neighbouring devices instead of gathering
the batch. `partner="permutation"` draws the pairs instead.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mixboost_jax import checks, keys
from mixboost_jax import image as kernels
from mixboost_jax.array_types import AnyKey, Images, PerExample, PRNGKey, SoftLabels
from mixboost_jax.augment import parameters
from mixboost_jax.augment.parameters import Number
from mixboost_jax.image.quantize import rounded


def blend(own: Float[Array, "N *d"], other: Float[Array, "N *d"], weight: PerExample) -> Array:
  """Returns `weight * own + (1 - weight) * other` with one weight per example.

  The same bits in every program that it is compiled into.
  """
  w = weight.reshape(-1, *(1,) * (own.ndim - 1)).astype(own.dtype)
  return rounded(w * own) + rounded((1 - w) * other)


def mixing_weights(key: AnyKey, num_examples: int, *, alpha: Number, per: str) -> PerExample:
  """Draws Beta(alpha, alpha) weights, one for the batch or one per example; alpha 0 gives 1."""
  if alpha == 0:
    return jnp.ones(num_examples)

  def draw(k: jax.Array) -> jax.Array:
    if alpha == 1:
      return jax.random.uniform(k)
    return jax.random.beta(k, alpha, alpha)

  if per == "batch":
    return jnp.broadcast_to(draw(keys.for_batch(key)), (num_examples,))
  return jax.vmap(draw)(keys.per_example(key, num_examples))


@checks.inputs()
def mixup(
  key: AnyKey,
  images: Images,
  soft_labels: SoftLabels,
  *,
  alpha: Number = 1.0,
  per: str = "batch",
  partner: str = "roll",
) -> tuple[Images, SoftLabels]:
  """Mixes each example with a partner: weight * own + (1 - weight) * partner, labels alike.

  Paper: Zhang et al. 2018, arXiv:1710.09412, Sec. 2; two permutations with a weight per example:
    Pang et al. 2020, arXiv:1909.11515 (training part).
  Deviation: the partner is the neighbour in the shuffled batch, not a permuted example, unless
    asked for; see the module's partner rule.

  Args:
    key: one key, or one per example.
    images: values in [0, 1].
    soft_labels: rows are probability vectors.
    alpha: weights are Beta(alpha, alpha); 0 leaves the batch as it is.
    per: "batch" (one weight for all) or "example".
    partner: "roll", "permutation", or "two_permutations" (own is a permuted example too).
  """
  parameters.check("mixup", alpha=alpha, per=per, partner=partner)
  weight_key, pair_key = _split(key)
  weight = mixing_weights(weight_key, len(images), alpha=alpha, per=per)
  own, other = pair_functions(keys.for_batch(pair_key), len(images), partner)
  return tuple(blend(own(x), other(x), weight) for x in (images, soft_labels))  # pyright: ignore


@checks.inputs()
def cutmix(
  key: AnyKey,
  images: Images,
  soft_labels: SoftLabels,
  *,
  alpha: Number = 1.0,
  prob: Number = 1.0,
  per: str = "batch",
) -> tuple[Images, SoftLabels]:
  """Pastes a box of the partner into each picture; labels follow the exact share of pixels.

  Paper: Yun et al. 2019, arXiv:1905.04899, Alg. A1: sides int(W sqrt(1 - lam)), lam ~
    Beta(alpha, alpha), centre uniform over the pixels, clipped at the border, then
    lam = 1 - area of the box / area of the picture. With probability 0.5 on CIFAR, 1 on ImageNet.
  Deviation: the partner is the neighbour in the shuffled batch; see the module's partner rule.

  Args:
    key: one key, or one per example.
    images: values in [0, 1].
    soft_labels: rows are probability vectors.
    alpha: of the Beta distribution; 0 leaves the batch as it is.
    prob: probability in [0, 1] that the batch (or the example, with `per`) is mixed at all.
    per: "batch" (one box and one gate for all) or "example".
  """
  parameters.check("cutmix", alpha=alpha, prob=prob, per=per)
  number, height, width, _ = images.shape

  shared = key if per == "batch" else keys.per_example(key, number)
  boxes = draw_boxes(shared, height=height, width=width, alpha=alpha, prob=prob, per=per)
  boxes = jnp.broadcast_to(boxes, (number, 4))
  inside = jax.vmap(lambda b: kernels.box_mask(*b, height=height, width=width))(boxes)
  weight = 1 - jnp.mean(inside, axis=(1, 2), dtype=images.dtype)
  mixed = jnp.where(inside[..., None], jnp.roll(images, 1, axis=0), images)
  return mixed, blend(soft_labels, jnp.roll(soft_labels, 1, axis=0), weight)


def draw_boxes(
  key: AnyKey, *, height: int, width: int, alpha: Number, prob: Number, per: str
) -> Int[Array, "N 4"]:
  """Draws (top, left, bottom, right), unclipped, for each key; empty where nothing is mixed.

  With per="batch" there is one box, repeated for each key.
  """

  def draw(k: jax.Array) -> jax.Array:
    return _cutmix_box(k, height=height, width=width, alpha=alpha, prob=prob)

  if per == "batch":
    return jnp.broadcast_to(draw(keys.for_batch(key))[None], (key.size, 4))
  return jax.vmap(draw)(key)


def _cutmix_box(key: PRNGKey, *, height: int, width: int, alpha: Number, prob: Number) -> jax.Array:
  key_gate, key_weight, key_row, key_column = jax.random.split(key, 4)
  weight = mixing_weights(key_weight, 1, alpha=alpha, per="batch")[0]
  applied = jax.random.uniform(key_gate) < prob
  side = jnp.where(applied, jnp.sqrt(1 - weight), 0.0)
  row = jax.random.randint(key_row, (), 0, height)
  column = jax.random.randint(key_column, (), 0, width)
  half_height = jnp.floor(height * side).astype(jnp.int32) // 2
  half_width = jnp.floor(width * side).astype(jnp.int32) // 2
  return jnp.stack([row - half_height, column - half_width, row + half_height, column + half_width])


def pair_functions(key: PRNGKey, num_examples: int, partner: str):
  """Returns two functions of a batch: the examples, and their partners."""
  if partner == "roll":
    return (lambda x: x), (lambda x: jnp.roll(x, 1, axis=0))
  key_own, key_other = jax.random.split(key)
  other = jax.random.permutation(key_other, num_examples)
  if partner == "permutation":
    return (lambda x: x), (lambda x: x[other])
  own = jax.random.permutation(key_own, num_examples)
  return (lambda x: x[own]), (lambda x: x[other])


def _split(key: AnyKey) -> tuple[jax.Array, jax.Array]:
  """Splits one key, or each of several, in two."""
  if key.ndim == 0:
    first, second = jax.random.split(key)
    return first, second
  first, second = keys.split_each(key, 2)
  return first, second
