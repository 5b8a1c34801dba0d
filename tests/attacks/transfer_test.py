# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from mixboost_jax import attacks
from mixboost_jax.attacks import _transfer

BUDGET = {"epsilon": 0.1, "step_size": 0.03, "num_steps": 4, "random_start": False}


def run(model, key, **options):
  attack = jax.jit(
    lambda x: attacks.transfer(key, model.logits_fn, x, model.labels, **{**BUDGET, **options})
  )
  return attack(model.images)


def test_without_extras_it_is_pgd(mlp, key):
  plain = attacks.pgd(key, mlp.logits_fn, mlp.images, mlp.labels, **BUDGET)
  np.testing.assert_allclose(run(mlp, key), plain, atol=1e-6)
  heavy = attacks.pgd(key, mlp.logits_fn, mlp.images, mlp.labels, momentum=1.0, **BUDGET)
  np.testing.assert_allclose(run(mlp, key, momentum=1.0), heavy, atol=1e-6)
  silent = run(mlp, key, num_copies=3, noise_std=0.0)
  np.testing.assert_allclose(silent, plain, atol=1e-6)


@pytest.mark.parametrize("name", sorted(attacks.TRANSFER_PRESETS))
def test_every_preset_is_feasible_and_hurts(mlp, name, key):
  preset = {**attacks.TRANSFER_PRESETS[name]}
  if "kernel_size" in preset:
    preset["kernel_size"] = 3  # the images are 4 pixels wide
  if "num_copies" in preset:
    preset["num_copies"] = 3
  out = run(mlp, key, **preset)
  assert attacks.largest_violation(out, mlp.images, epsilon=0.1, norm="linf") < 1e-6
  margin = attacks.OBJECTIVES["margin"]
  gain = margin(mlp.logits_fn(out), mlp.labels) - margin(mlp.logits_fn(mlp.images), mlp.labels)
  assert float(gain.mean()) > 0.05
  if name not in ("pgd",):
    assert not np.allclose(out, run(mlp, key), atol=1e-4)


def test_variance_reduction_averages_the_gradient(key):
  # loss = log(1 + exp(u**3 / 3)) grows with the *mean* of u**2 over the noisy copies.
  images = jnp.full((1, 1, 1, 1), 0.5)
  noise = 0.2

  def predict(keys, x):
    del keys
    u = x.reshape(-1, 1)
    return jnp.concatenate([jnp.zeros_like(u), u**3 / 3], axis=1)

  def gradient(copies):
    return jax.grad(
      lambda x: _transfer.mean_loss(
        jax.random.split(key, 1), x, predict=predict, labels=jnp.array([1]),
        loss=lambda z, y: z[:, 1], targeted=False, num_copies=copies, noise_std=noise,
        diversity_prob=0.0, diversity_scale=1.1, max_rows=None,
      ).sum()
    )(images)  # fmt: skip

  # E (u + n)^2 = u^2 + s^2; Var = 4 u^2 s^2 + 2 s^4.
  error = (4 * 0.25 * noise**2 + 2 * noise**4) ** 0.5 / 2000**0.5
  assert abs(float(gradient(2000).ravel()[0]) - (0.25 + noise**2)) < 4 * error


def test_smoothing_is_a_convolution_per_channel():
  rng = np.random.default_rng(0)
  gradients = rng.normal(size=(2, 7, 6, 3)).astype(np.float32)
  kernel = _transfer.gaussian_kernel(5)
  assert kernel.sum() == pytest.approx(1, abs=1e-6)
  assert kernel[2, 2] / kernel[2, 0] == pytest.approx(np.exp(4.5), rel=1e-5)
  out = _transfer.smooth(jnp.asarray(gradients), kernel)
  for n in range(2):
    for c in range(3):
      expected = scipy.signal.convolve2d(gradients[n, ..., c], kernel, mode="same")
      np.testing.assert_allclose(out[n, ..., c], expected, atol=1e-5)


def test_resize_and_pad(key):
  identity = _transfer.placement(6, jnp.float32(6.0), jnp.float32(0.0))
  np.testing.assert_allclose(identity, np.eye(6), atol=1e-6)
  half = _transfer.placement(6, jnp.float32(3.0), jnp.float32(2.0))
  np.testing.assert_allclose(half.sum(axis=1), [0, 0, 1, 1, 1, 0], atol=1e-6)
  images = jnp.ones((40, 20, 20, 1))
  out = np.asarray(
    _transfer.resize_and_pad(jax.random.split(key, 40), images, prob=0.5, scale=1.25)
  )
  changed = (out != 1).any(axis=(1, 2, 3))
  assert 8 <= changed.sum() <= 32  # 4 standard deviations of Binomial(40, 1/2)
  sides = out[changed].any(axis=(1, 3)).sum(axis=1)
  assert 15 <= sides.min() < sides.max() <= 20  # 20 / 1.25 = 16, give or take a pixel


def test_errors(linear4, key):
  with pytest.raises(ValueError, match="kernel_size must be odd"):
    run(linear4, key, kernel_size=4)
  with pytest.raises(ValueError, match="diversity_prob <= 1"):
    run(linear4, key, diversity_prob=1.5)
