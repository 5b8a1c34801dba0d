# SPDX-License-Identifier: Apache-2.0
"""Mixes that keep the own label (SamplePairing, SMOTE) and the mix of hidden layers.

The partner rule is that of `mixing.py`: example `i - 1` of the shuffled batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixboost_jax import checks, keys
from mixboost_jax.array_types import AnyKey, Images, PerExample, PRNGKeys, Scalar, SoftLabels
from mixboost_jax.augment import parameters
from mixboost_jax.augment.mixing import blend, mixing_weights, pair_functions
from mixboost_jax.augment.parameters import Number


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
  It is switched on and off over the epochs, see `sample_pairing_active`.

  Args:
    key: one key, or one per example; used with partner="permutation" only.
    images: values in [0, 1].
    soft_labels: returned as they are.
    weight: of the own picture, in [0, 1].
    partner: "roll" or "permutation".
  """
  parameters.check("sample_pairing", weight=weight, partner=partner)
  own, other = pair_functions(keys.for_batch(key), len(images), partner)
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

  Args:
    epoch: counted from 0.
    num_epochs: of the whole run.
    start: fraction of the run before which it is off.
    end: fraction of the run after which it is off.
    on: consecutive epochs with it.
    off: consecutive epochs without it.
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

  Args:
    key: one key, or one per example.
    images: values in [0, 1]; distances are Euclidean in pixels.
    soft_labels: the class is the largest entry; returned as they are.
    num_neighbors: how many nearest ones are equally likely.
  """
  parameters.check("smote", num_neighbors=num_neighbors)
  each = keys.per_example(key, len(images))
  chosen, moved = draw_neighbors(each, images, soft_labels, num_neighbors=num_neighbors)
  return blend(images, images[chosen], 1 - moved), soft_labels


def draw_neighbors(
  key: PRNGKeys, images: Images, soft_labels: SoftLabels, *, num_neighbors: int
) -> tuple[Int[Array, " N"], PerExample]:
  """Draws towards which row of the batch each example moves (itself if it is alone), and how far.

  Args:
    key: one per example.
    images: see `smote`.
    soft_labels: see `smote`.
    num_neighbors: see `smote`.
  """
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
  """
  parameters.check("draw_manifold_mix", alpha=alpha)
  key_layer, key_weight = jax.random.split(keys.for_batch(key))
  layer = jnp.asarray(layers)[jax.random.randint(key_layer, (), 0, len(layers))]
  return ManifoldMix(layer, mixing_weights(key_weight, 1, alpha=alpha, per="batch")[0])


@checks.inputs()
def mix_with_partner(batch: Float[Array, "N *d"], weight: Scalar) -> Float[Array, "N *d"]:
  """Mixes images, hidden activations or soft labels with those of the partners."""
  weights = jnp.broadcast_to(weight, (len(batch),))
  return blend(batch, jnp.roll(batch, 1, axis=0), weights)


@checks.inputs()
def manifold_tap(mix: ManifoldMix, *, layer: int) -> Callable[[Array], Array]:
  """Returns the function to call on the activations of `layer`; it mixes if the layer was drawn.

  Apply `mix_with_partner` to the soft labels with the same weight, once.
  """

  def tap(hidden: Array) -> Array:
    return jnp.where(mix.layer == layer, mix_with_partner(hidden, mix.weight), hidden)

  return tap
