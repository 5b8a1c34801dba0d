# SPDX-License-Identifier: Apache-2.0
"""Mixes of two examples of a batch: Mixup, CutMix, SamplePairing, SMOTE, and of hidden layers.

Partner rule: the partner of example `i` is example `i - 1` of the batch (`jnp.roll` by one). The
batch is drawn in random order, so this pairs random examples like a permutation does, never pairs
an example with itself, and costs one exchange between neighbouring devices instead of gathering
the batch. `partner="permutation"` draws the pairs instead.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax import checks, keys
from mixboost_jax import image as kernels
from mixboost_jax.array_types import AnyKey, Images, PerExample, PRNGKeys, Scalar, SoftLabels
from mixboost_jax.augment import _options
from mixboost_jax.augment._entry import Account, Entry, Scene, short
from mixboost_jax.augment._options import Number
from mixboost_jax.image.levels import rounded


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
    return jax.random.uniform(k) if alpha == 1 else jax.random.beta(k, alpha, alpha)

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

  Weights are Beta(alpha, alpha), one for the batch or `per` "example"; alpha 0 leaves the batch as
  it is. `partner` is "roll", "permutation", or "two_permutations" (own is a permuted example too).

  ```python
  images, soft_labels = augment.mixup(key, images, soft_labels, alpha=0.2)
  ```
  """
  _options.check("mixup", alpha=alpha, per=per, partner=partner)
  weight_key, pair_key = jax.random.split(key) if key.ndim == 0 else keys.split_each(key, 2)
  weight = mixing_weights(weight_key, len(images), alpha=alpha, per=per)
  own, other = pair_functions(pair_key, len(images), partner)
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

  One box and one gate, open with probability `prob`, for the batch, or `per` "example"; alpha 0
  leaves the batch as it is.

  ```python
  images, soft_labels = augment.cutmix(key, images, soft_labels, prob=0.5)
  ```
  """
  _options.check("cutmix", alpha=alpha, prob=prob, per=per)
  number, height, width, _ = images.shape
  boxes = draw_boxes(key, number, shape=(height, width), alpha=alpha, prob=prob, per=per)
  inside = jax.vmap(lambda b: kernels.box_mask(*b, height=height, width=width))(boxes)
  weight = 1 - jnp.mean(inside, axis=(1, 2), dtype=images.dtype)
  mixed = jnp.where(inside[..., None], jnp.roll(images, 1, axis=0), images)
  return mixed, blend(soft_labels, jnp.roll(soft_labels, 1, axis=0), weight)


def draw_boxes(
  key: AnyKey, num_examples: int, *, shape: tuple[int, int], alpha: Number, prob: Number, per: str
) -> Int[Array, "N 4"]:
  """Draws (top, left, bottom, right), unclipped, of each example; empty where nothing is mixed."""

  def draw(k: jax.Array) -> jax.Array:
    key_gate, key_weight, key_row, key_column = jax.random.split(k, 4)
    weight = mixing_weights(key_weight, 1, alpha=alpha, per="batch")[0]
    applied = jax.random.uniform(key_gate) < prob
    side = jnp.where(applied, jnp.sqrt(1 - weight), 0.0)
    row = jax.random.randint(key_row, (), 0, shape[0])
    column = jax.random.randint(key_column, (), 0, shape[1])
    tall, wide = (jnp.floor(length * side).astype(jnp.int32) // 2 for length in shape)
    return jnp.stack([row - tall, column - wide, row + tall, column + wide])

  if per == "batch":
    return jnp.broadcast_to(draw(keys.for_batch(key))[None], (num_examples, 4))
  return jax.vmap(draw)(keys.per_example(key, num_examples))


def pair_functions(key: AnyKey, num_examples: int, partner: str):
  """Returns two functions of a batch: the examples, and their partners."""
  if partner == "roll":
    return (lambda x: x), (lambda x: jnp.roll(x, 1, axis=0))
  key_own, key_other = jax.random.split(keys.for_batch(key))
  other = jax.random.permutation(key_other, num_examples)
  if partner == "permutation":
    return (lambda x: x), (lambda x: x[other])
  own = jax.random.permutation(key_own, num_examples)
  return (lambda x: x[own]), (lambda x: x[other])


_PAIRING_RULES = {"partner": _options.one_of("roll", "permutation")}


@checks.inputs()
def sample_pairing(
  key: AnyKey,
  images: Images,
  soft_labels: SoftLabels,
  *,
  weight: Number = 0.5,
  partner: str = "roll",
) -> tuple[Images, SoftLabels]:
  """Overlays a partner on each picture; the label stays.

  Paper: Inoue 2018, arXiv:1801.02929, Sec. 3: the mean of two pictures with the label of the first.
  It is switched on and off over the epochs, see `sample_pairing_active`. `weight` is that of the
  own picture; the key is used with partner="permutation" only, the alternative to "roll".

  ```python
  images, soft_labels = augment.sample_pairing(key, images, soft_labels)
  ```
  """
  _options.check("sample_pairing", _PAIRING_RULES, weight=weight, partner=partner)
  own, other = pair_functions(key, len(images), partner)
  shares = jnp.full(len(images), weight, images.dtype)
  return blend(own(images), other(images), shares), own(soft_labels)


@checks.inputs()
def sample_pairing_active(
  epoch: int | Int[Array, ""],
  *,
  num_epochs: int,
  start: Number = 0.1,
  end: Number = 0.8,
  on: int = 8,
  off: int = 2,
) -> Bool[Array, ""]:
  """Tells whether SamplePairing is on: not at first, then `on` epochs of `on + off`, not at last.

  Epochs count from 0; it is off before the fraction `start` of the run and after `end`.

  ```python
  if augment.sample_pairing_active(20, num_epochs=100):
    images, soft_labels = augment.sample_pairing(key, images, soft_labels)
  ```
  """
  first, last = round(start * num_epochs), round(end * num_epochs)
  epoch = jnp.asarray(epoch)
  return (epoch >= first) & (epoch < last) & ((epoch - first) % (on + off) < on)


@checks.inputs()
def smote(
  key: AnyKey, images: Images, soft_labels: SoftLabels, *, num_neighbors: int = 5
) -> tuple[Images, SoftLabels]:
  """Moves each picture a random part of the way to a close one of its class.

  Paper: Chawla et al. 2002, arXiv:1106.1813, Sec. 4.2: x + u (z - x), u ~ U(0, 1), z one of the
    nearest neighbours of the same class.
  Deviation: neighbours are sought in the batch, and every example is moved (no oversampling); an
    example without another of its class stays.

  Distances are Euclidean in pixels; the class is the largest of the soft labels, which stay; the
  nearest `num_neighbors` are equally likely.

  ```python
  images, soft_labels = augment.smote(key, images, soft_labels, num_neighbors=3)
  ```
  """
  _options.check("smote", num_neighbors=num_neighbors)
  each = keys.per_example(key, len(images))
  chosen, moved = draw_neighbors(each, images, soft_labels, num_neighbors=num_neighbors)
  return blend(images, images[chosen], 1 - moved), soft_labels


def draw_neighbors(
  key: PRNGKeys, images: Images, soft_labels: SoftLabels, *, num_neighbors: int
) -> tuple[Int[Array, " N"], PerExample]:
  """Draws towards which row each example moves (its own if it is alone), and how far."""
  number = len(images)
  candidates = min(num_neighbors, number - 1)
  if candidates == 0:
    return jnp.arange(number), jnp.zeros(number)
  flat = images.reshape(number, -1)
  products = jnp.dot(flat, flat.T, precision=jax.lax.Precision.HIGHEST)
  squares = jnp.sum(flat**2, axis=1)
  distances = squares[:, None] + squares[None, :] - 2 * products
  classes = jnp.argmax(soft_labels, axis=1)
  allowed = (classes[:, None] == classes[None, :]) & ~jnp.eye(number, dtype=bool)
  _, nearest = jax.lax.top_k(jnp.where(allowed, -distances, -jnp.inf), candidates)
  available = jnp.minimum(allowed.sum(axis=1), candidates)
  u = jax.vmap(lambda k: jax.random.uniform(k, (2,)))(key)
  rank = jnp.minimum((u[:, 0] * available).astype(jnp.int32), jnp.maximum(available - 1, 0))
  chosen = jnp.take_along_axis(nearest, rank[:, None], axis=1)[:, 0]
  alone = available == 0
  return jnp.where(alone, jnp.arange(number), chosen), jnp.where(alone, 0.0, u[:, 1])


class ManifoldMix(NamedTuple):
  """At which layer a batch is mixed with its partners, and with which own weight."""

  layer: Int[Array, ""]
  weight: Scalar


@checks.inputs()
def draw_manifold_mix(
  key: AnyKey, *, alpha: Number = 2.0, layers: tuple[int, ...] = (0, 1, 2)
) -> ManifoldMix:
  """Draws one layer and one Beta(alpha, alpha) weight for a batch.

  Paper: Verma et al. 2019, arXiv:1806.05236, Sec. 2: layer 0 is the input; alpha 2, layers 0-2.

  ```python
  mix = augment.draw_manifold_mix(key, layers=(0, 1))
  soft_labels = augment.mix_with_partner(soft_labels, mix.weight)
  ```
  """
  _options.check("draw_manifold_mix", alpha=alpha)
  key_layer, key_weight = jax.random.split(keys.for_batch(key))
  layer = jnp.asarray(layers)[jax.random.randint(key_layer, (), 0, len(layers))]
  return ManifoldMix(layer, mixing_weights(key_weight, 1, alpha=alpha, per="batch")[0])


@checks.inputs()
def mix_with_partner(batch: Float[Array, "N *d"], weight: Scalar) -> Float[Array, "N *d"]:
  """Mixes images, hidden activations or soft labels with those of the partners.

  ```python
  mixed = augment.mix_with_partner(soft_labels, 0.7)
  assert jnp.allclose(mixed[1], 0.7 * soft_labels[1] + 0.3 * soft_labels[0])
  ```
  """
  weights = jnp.broadcast_to(weight, (len(batch),))
  return blend(batch, jnp.roll(batch, 1, axis=0), weights)


@checks.inputs()
def manifold_tap(mix: ManifoldMix, *, layer: int) -> Callable[[Array], Array]:
  """Returns the function to call on the activations of `layer`; it mixes if the layer was drawn.

  Apply `mix_with_partner` to the soft labels with the same weight, once.

  ```python
  mix = augment.draw_manifold_mix(key, layers=(0, 1))
  images = augment.manifold_tap(mix, layer=0)(images)  # and layer=1 on hidden activations
  ```
  """

  def tap(hidden: Array) -> Array:
    return jnp.where(mix.layer == layer, mix_with_partner(hidden, mix.weight), hidden)

  return tap


def _describe_mixup(scene: Scene, *, alpha: Number, per: str, partner: str) -> Account:
  weight_keys, pair_keys = keys.split_each(scene.each, 2)
  weight = mixing_weights(weight_keys, len(scene.each), alpha=alpha, per=per)[scene.row]
  return [{"op": "mixup", "own_weight": short(weight), **_pair(pair_keys, scene.row, partner)}]


def _describe_cutmix(scene: Scene, *, alpha: Number, prob: Number, per: str) -> Account:
  (height, width), number = scene.shape, len(scene.each)
  boxes = draw_boxes(scene.each, number, shape=scene.shape, alpha=alpha, prob=prob, per=per)
  top, left, bottom, right = (int(v) for v in np.asarray(boxes[scene.row]))
  if bottom <= top or right <= left:
    return [{"op": "cutmix", "applied": False}]
  rows, columns = (max(top, 0), min(bottom, height)), (max(left, 0), min(right, width))
  partner = (scene.row - 1) % number
  return [{"op": "cutmix", "rows": rows, "columns": columns, "partner_row": partner}]


def _describe_sample_pairing(scene: Scene, *, weight: Number, partner: str) -> Account:
  pair = _pair(scene.each, scene.row, partner)
  return [{"op": "sample_pairing", "own_weight": weight, **pair}]


def _describe_smote(scene: Scene, *, num_neighbors: int) -> Account:
  assert scene.batch is not None
  chosen, moved = draw_neighbors(scene.each, *scene.batch(), num_neighbors=num_neighbors)
  other = int(chosen[scene.row])
  if other == scene.row:
    return [{"op": "smote", "applied": False}]
  return [{"op": "smote", "own_weight": short(1 - moved[scene.row]), "partner_row": other}]


def _pair(pair_keys: PRNGKeys, row: int, partner: str) -> dict[str, int]:
  """Names the rows of the batch, counted from 0, that were mixed."""
  own, other = pair_functions(pair_keys, len(pair_keys), partner)
  rows = jnp.arange(len(pair_keys))
  found = {"partner_row": int(other(rows)[row])}
  return found if partner != "two_permutations" else {"own_row": int(own(rows)[row]), **found}


ENTRIES = {
  "mixup": Entry(mixup, _describe_mixup, examples=lambda side: {"mixup": {"per": "example"}}),
  "cutmix": Entry(cutmix, _describe_cutmix, examples=lambda side: {"cutmix": {"per": "example"}}),
  "sample_pairing": Entry(sample_pairing, _describe_sample_pairing, rules=_PAIRING_RULES),
  "smote": Entry(smote, _describe_smote),
}
