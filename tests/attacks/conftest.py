# SPDX-License-Identifier: Apache-2.0
"""Tiny models whose weak points are known exactly."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

SHAPE = (4, 4, 2)


class Linear(NamedTuple):
  """A linear classifier with images away from the walls of the box."""

  logits_fn: Callable
  weights: np.ndarray  # [D, K]
  images: jax.Array
  labels: jax.Array

  def gaps(self) -> np.ndarray:
    """Logit of the label minus every other one; infinite at the label."""
    logits = np.asarray(self.logits_fn(self.images), np.float64)
    num = np.arange(len(logits))
    gaps = logits[num, self.labels][:, None] - logits
    gaps[num, self.labels] = np.inf
    return gaps

  def distances(self, norm: str) -> np.ndarray:
    """Exact distance of each image to the nearest boundary, negative if wrong already."""
    labels = np.asarray(self.labels)
    steps = self.weights[:, labels].T[:, :, None] - self.weights[None]  # [N, D, K]
    dual = np.abs(steps).sum(axis=1) if norm == "linf" else np.sqrt((steps**2).sum(axis=1))
    return (self.gaps() / np.maximum(dual, 1e-30)).min(axis=1)


def make_linear(num_classes: int, num: int = 24, seed: int = 0) -> Linear:
  rng = np.random.default_rng(seed)
  size = int(np.prod(SHAPE))
  weights = rng.normal(size=(size, num_classes))
  images = rng.uniform(0.4, 0.6, size=(num, *SHAPE))
  bias = -(0.5 * weights.sum(axis=0))  # every class is likely somewhere
  logits = images.reshape(num, -1) @ weights + bias
  labels = logits.argmax(axis=1)
  labels[::6] = (labels[::6] + 1) % num_classes  # some natural errors
  w, b = jnp.asarray(weights, jnp.float32), jnp.asarray(bias, jnp.float32)
  return Linear(
    lambda x: x.reshape(x.shape[0], -1) @ w + b[None],
    weights,
    jnp.asarray(images, jnp.float32),
    jnp.asarray(labels, jnp.int32),
  )


@pytest.fixture(params=[2, 3, 4, 10])
def linear(request) -> Linear:
  return make_linear(request.param)


@pytest.fixture
def linear2() -> Linear:
  return make_linear(2, num=64)


@pytest.fixture
def linear4() -> Linear:
  return make_linear(4)


@pytest.fixture
def mlp() -> Linear:
  """A small smooth network; its exact distances are not known."""
  rng = np.random.default_rng(1)
  size, hidden, num_classes = int(np.prod(SHAPE)), 16, 4
  first = jnp.asarray(rng.normal(size=(size, hidden)) / size**0.5 * 4, jnp.float32)
  second = jnp.asarray(rng.normal(size=(hidden, num_classes)), jnp.float32)
  images = jnp.asarray(rng.uniform(size=(12, *SHAPE)), jnp.float32)

  def logits_fn(x):
    return jnp.tanh((x.reshape(x.shape[0], -1) - 0.5) @ first) @ second

  return Linear(logits_fn, np.zeros(()), images, jnp.argmax(logits_fn(images), axis=-1))
