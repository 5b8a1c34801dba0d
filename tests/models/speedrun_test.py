# SPDX-License-Identifier: Apache-2.0
"""Whitening and the whole network against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from mixboost_jax import models
from mixboost_jax.models import speedrun

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


@pytest.fixture(scope="module")
def network(pictures):
  model = models.create(
    "speedrun-0.125", num_classes=4, key=jax.random.key(0), image_size=18, mean=MEAN, std=STD
  )
  model.calibrate(pictures)
  return model


@pytest.fixture(scope="module")
def pictures():
  """Neighbours and channels are correlated, as in photographs."""
  rng = np.random.default_rng(0)
  coarse = np.kron(rng.uniform(size=(40, 6, 6, 1)), np.ones((1, 3, 3, 1)))
  return (0.6 * coarse + 0.4 * rng.uniform(size=(40, 18, 18, 3))).astype(np.float32)


def patches_of(images):
  windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(1, 2))
  return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 12).astype(np.float64)


def test_patches_are_whitened(network, pictures):
  normalised = (pictures - np.float32(MEAN)) / np.float32(STD)
  outputs = np.asarray(network.whitening(jnp.asarray(normalised)), np.float64)
  assert outputs.shape == (40, 17, 17, 24)
  kernel = network.whitening.kernel[...]
  np.testing.assert_array_equal(kernel[..., 12:], -kernel[..., :12])
  np.testing.assert_allclose(outputs[..., 12:], -outputs[..., :12], atol=5e-6)  # sums in any order
  found = np.cov(outputs[..., :12].reshape(-1, 12).T)
  values = np.linalg.eigvalsh(np.cov(patches_of(normalised).T))
  np.testing.assert_allclose(found, np.diag(values / (values + 5e-4)), atol=1e-4)
  assert np.abs(found - np.eye(12)).max() < 0.01  # the smallest eigenvalue is about 0.1


def test_flat_pictures_are_whitened_to_nothing():
  directions = speedrun.whitening_directions(np.full((2, 4, 4, 3), 0.5, np.float32))
  np.testing.assert_allclose(directions.T @ directions, np.eye(12) / 5e-4, rtol=1e-3, atol=1e-2)


def test_kernels_are_statistics_that_no_optimizer_sees(network):
  pure = models.functional(network)
  assert set(pure.params["whitening"]) == {"bias"}
  assert set(pure.stats["whitening"]) == {"kernel"}
  train = jax.jit(lambda x: pure.apply(pure.params, pure.stats, x, train=True)[1])
  stats = train(jnp.ones((2, 18, 18, 3)))
  np.testing.assert_array_equal(stats["whitening"]["kernel"], pure.stats["whitening"]["kernel"])


def convolved(inputs, kernel, padding):
  padded = np.pad(inputs, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
  windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
  return np.einsum("npqcij,ijcd->npqd", windows, kernel)


def gelu(x):
  return x * (1 + erf(x / 2**0.5)) / 2


def halved(inputs):
  windows = np.lib.stride_tricks.sliding_window_view(inputs, (2, 2), axis=(1, 2))
  return windows[:, ::2, ::2].max(axis=(-2, -1))


def test_logits_of_a_batch_by_numpy(network, pictures):
  """In training mode: every normalisation takes the moments of this batch."""
  pure = models.functional(network)
  leaves = jax.tree.leaves(pure.params)
  rng = np.random.default_rng(1)
  drawn = [jnp.asarray(rng.normal(0, 0.2, leaf.shape), jnp.float32) for leaf in leaves]
  params = jax.tree.unflatten(jax.tree.structure(pure.params), drawn)
  run = jax.jit(lambda p, x: pure.apply(p, pure.stats, x, train=True))
  logits, stats = run(params, jnp.asarray(pictures[:6]))

  tree = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  hidden = (pictures[:6].astype(np.float64) - MEAN) / STD
  kernel = np.asarray(pure.stats["whitening"]["kernel"], np.float64)
  hidden = gelu(convolved(hidden, kernel, 0) + tree["whitening"]["bias"])
  for name in ("stage1", "stage2", "stage3"):
    stage = tree[name]
    for number in (1, 2):
      hidden = convolved(hidden, stage[f"conv{number}"]["kernel"], 1)
      hidden = halved(hidden) if number == 1 else hidden
      mean, var = hidden.mean((0, 1, 2)), hidden.var((0, 1, 2))
      count = hidden.size // hidden.shape[-1]
      moved = stats[name][f"bn{number}"]
      np.testing.assert_allclose(moved["mean"], 0.4 * mean, rtol=1e-3, atol=1e-3)
      np.testing.assert_allclose(moved["var"], 0.6 + 0.4 * var * count / (count - 1), rtol=1e-3)
      hidden = gelu((hidden - mean) / np.sqrt(var) + stage[f"bn{number}"]["bias"])
  expected = hidden.max((1, 2)) @ tree["linear"]["kernel"] / 9
  np.testing.assert_allclose(logits, expected, atol=3e-3)  # GELU by its tanh form
  assert np.ptp(expected) > 0.1
