# SPDX-License-Identifier: Apache-2.0
"""A small linear network, and pictures that it gets mostly right."""

import jax.numpy as jnp
import numpy as np
import pytest

SIDE, CLASSES, COUNT = 8, 6, 90


@pytest.fixture(scope="session")
def linear_weights():
  weights = np.random.default_rng(1).normal(size=(SIDE * SIDE * 3, CLASSES))
  return jnp.asarray(weights, jnp.float32)


@pytest.fixture(scope="session")
def linear_fn(linear_weights):
  def logits_fn(images):
    return (images - 0.5).reshape(len(images), -1) @ linear_weights

  return logits_fn


@pytest.fixture(scope="session")
def easy(linear_fn):
  """(images, labels) of which the linear network gets four in five right."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (COUNT, SIDE, SIDE, 3)).astype(np.uint8)
  labels = np.array(linear_fn(jnp.asarray(images / np.float32(255))).argmax(-1))
  labels[::5] = (labels[::5] + 1) % CLASSES
  return images, labels
