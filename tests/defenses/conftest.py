# SPDX-License-Identifier: Apache-2.0
"""A model that is exactly what the paper's theory assumes: linear between clean images, plus G.

An image is `[1, 1, K + 1]`: its class as a one-hot vector, and one channel for the perturbation d.
F = H + G with H the first K channels and G = 0.9 d**2 (e_1 - e_0): it moves class 0 to class 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import defenses


class Ideal(NamedTuple):
  logits_fn: Callable
  pool: defenses.Pool
  clean: jax.Array
  adversarial: jax.Array
  labels: jax.Array
  num_classes: int


def gain(perturbation):
  return 0.9 * perturbation**2


def make_ideal(num_classes: int, num: int = 6) -> Ideal:
  def logits_fn(x):
    flat = x.reshape(x.shape[0], -1)
    shift = gain(flat[:, -1:])
    direction = jnp.zeros((1, num_classes)).at[0, :2].set(jnp.array([-1.0, 1.0]))
    return jnp.log(jnp.maximum(flat[:, :-1] + shift * direction, 1e-30))

  def images(labels, perturbation):
    codes = np.eye(num_classes)[labels]
    codes = np.concatenate([codes, np.full((len(labels), 1), perturbation)], axis=1)
    return jnp.asarray(codes[:, None, None, :], jnp.float32)

  pool_labels = np.repeat(np.arange(num_classes), 3)
  pool = defenses.build_pool(images(pool_labels, 0.0), pool_labels, num_classes=num_classes)
  labels = np.zeros(num, np.int32)
  return Ideal(
    logits_fn, pool, images(labels, 0.0), images(labels, 1.0), jnp.asarray(labels), num_classes
  )


@pytest.fixture(params=[2, 3, 10])
def ideal(request) -> Ideal:
  return make_ideal(request.param)


@pytest.fixture
def ideal4() -> Ideal:
  return make_ideal(4, num=300)


class Toy(NamedTuple):
  logits_fn: Callable
  pool: defenses.Pool
  images: jax.Array
  labels: jax.Array


@pytest.fixture
def toy() -> Toy:
  """A small smooth network on 4x4 images with a pool of its own."""
  rng = np.random.default_rng(3)
  first = jnp.asarray(rng.normal(size=(32, 16)) * 0.7, jnp.float32)
  second = jnp.asarray(rng.normal(size=(16, 4)), jnp.float32)

  def logits_fn(x):
    return jnp.tanh((x.reshape(x.shape[0], -1) - 0.5) @ first) @ second

  pool_images = jnp.asarray(rng.uniform(size=(200, 4, 4, 2)), jnp.float32)
  pool_labels = np.asarray(jnp.argmax(logits_fn(pool_images), axis=-1))
  images = jnp.asarray(rng.uniform(size=(10, 4, 4, 2)), jnp.float32)
  pool = defenses.build_pool(pool_images, pool_labels, num_classes=4)
  return Toy(logits_fn, pool, images, jnp.argmax(logits_fn(images), axis=-1))
