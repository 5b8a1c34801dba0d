# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
import scipy.signal

from mixboost_jax import attacks, interactions, models, rewrite
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
  plain = mlp.logits_fn
  mlp = mlp._replace(
    logits_fn=lambda x: 0.5 * plain(x) + rewrite.mark_residual(0.5 * jnp.sin(2 * plain(x)))
  )
  if "interaction_weight" in preset:
    preset |= {"interaction_grid": 4, "interaction_cells": 4, "interaction_draws": 4}
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


class Residual:
  """z0 = x A, z1 = z0 + tanh(z0 B), z2 = z1 + tanh(z1 C), logits = z2 D; branches are marked."""

  def __init__(self):
    rng = np.random.default_rng(5)
    shapes = ((32, 8), (8, 8), (8, 8), (8, 4))
    self.weights = [rng.normal(size=shape) / shape[0] ** 0.5 for shape in shapes]

  def __call__(self, x):
    A, B, C, D = (jnp.asarray(w, jnp.float32) for w in self.weights)
    z = (x.reshape(x.shape[0], -1) - 0.5) @ A
    z = z + rewrite.mark_residual(jnp.tanh(z @ B))
    return (z + jax.ad_checkpoint.checkpoint_name(jnp.tanh(z @ C), "residual_branch")) @ D

  def gradient(self, x, label, decay):
    """Of one logit, by hand: A (I + decay B T1) (I + decay C T2) D e."""
    A, B, C, D = self.weights
    z = (x.reshape(x.shape[0], -1) - 0.5) @ A
    first = np.tanh(z @ B)
    second = np.tanh((z + first) @ C)
    pulled = np.tile(D[:, label], (len(x), 1))
    for W, value in ((C, second), (B, first)):
      pulled = pulled + decay * (pulled * (1 - value**2)) @ W.T
    return (pulled @ A.T).reshape(x.shape)


@pytest.mark.parametrize("decay", [0.0, 0.2, 1.0])
def test_skip_gradients_of_a_residual_network_by_hand(decay, images):
  net, x = Residual(), images[:3, :4, :8, :1].reshape(3, 4, 4, 2)
  scaled = rewrite.decay_residuals(net, decay=decay)
  np.testing.assert_array_equal(scaled(x), net(x))
  for function in (scaled, rewrite.decay_residuals(jax.jit(net), decay=decay)):
    found = jax.jit(jax.grad(lambda x, f=function: f(x)[:, 1].sum()))(x)
    np.testing.assert_allclose(found, net.gradient(np.asarray(x), 1, decay), atol=1e-5)
  batch, labels = x, net(x).argmax(1)
  moved = attacks.transfer(
    jax.random.key(0), net, batch, labels, residual_decay=decay, loss=lambda z, y: -z[:, 1],
    epsilon=1e-3, step_size=1e-3, num_steps=1, random_start=False,
  )  # fmt: skip
  expected = -1e-3 * np.sign(net.gradient(np.asarray(x), 1, decay))
  inside = (np.asarray(x) > 0.01) & (np.asarray(x) < 0.99)
  np.testing.assert_allclose(np.asarray(moved - x)[inside], expected[inside], atol=1e-6)


def test_residual_networks_mark_their_branches(mlp, key):
  picture = jnp.zeros((1, 32, 32, 3))
  for name, expected in (("wrn-10-1", True), ("preact-resnet-10", True), ("tiny-cnn", False)):
    network = models.logits_fn(models.create(name, num_classes=3, key=key))
    assert rewrite.has_residuals(network, picture) == expected
  with pytest.raises(ValueError, match=r"residual_decay=0.2 needs a network that marks"):
    run(mlp, key, residual_decay=0.2)


def quadratic(seed=0):
  """Two logits, 0 and g d + d H d / 2 with d = x - 0.5, and H."""
  rng = np.random.default_rng(seed)
  matrix, g = rng.normal(size=(32, 32)), jnp.asarray(rng.normal(size=32), jnp.float32)
  H = jnp.asarray((matrix + matrix.T) / 4, jnp.float32)

  def logits_fn(x):
    d = x.reshape(x.shape[0], -1) - 0.5
    value = d @ g + 0.5 * ((d @ H) * d).sum(1)
    return jnp.stack([jnp.zeros_like(value), value], axis=1)

  return logits_fn


def inside(logits_fn, x, center, key, *, num_draws, num_cells=1):
  return _transfer.cell_interaction(
    jax.random.split(key, len(x)), x, centers=center, predict=lambda keys, x: logits_fn(x),
    labels=jnp.zeros(len(x), int), targeted=False, grid=2, num_cells=num_cells,
    num_draws=num_draws, max_rows=None,
  )  # fmt: skip


def test_sampled_interactions_have_the_exact_mean(key):
  logits_fn, center = quadratic(), jnp.full((2, 4, 4, 2), 0.5)
  delta = 0.3 * jax.random.normal(jax.random.key(1), center.shape)
  draws = np.asarray(jax.jit(jax.vmap(
    lambda key: inside(logits_fn, center + delta, center, key, num_draws=1)
  ))(jax.random.split(key, 60)))  # fmt: skip
  # v(empty) = 0, so the mean over one cell is (n - 1) E I_ab.
  for n in range(2):
    game = interactions.perturbation_game(logits_fn, center[n], delta[n], 0, grid=2)
    error = draws[:, n].std() / 60**0.5
    assert abs(draws[:, n].mean() - 3 * float(interactions.mean_interaction(game))) < 4 * error
  jax.test_util.check_grads(
    jax.jit(lambda x: inside(logits_fn, x, center, key, num_draws=3, num_cells=2)),
    (center + delta,), 1, modes=["rev"], atol=1e-2, rtol=1e-2,
  )  # fmt: skip


def test_reducing_interactions_lowers_them(key):
  logits_fn, center = quadratic(1), jnp.full((4, 4, 4, 2), 0.5)
  labels = jnp.zeros(4, int)

  def craft(weight):
    options = {"interaction_weight": weight, "interaction_grid": 4, "interaction_cells": 4}
    options |= {"interaction_draws": 8, "random_start": False}
    attack = jax.jit(lambda x: attacks.transfer(
      key, logits_fn, x, labels, epsilon=0.2, step_size=0.02, num_steps=12, **options
    ))  # fmt: skip
    return attack(center)

  def mean(weight):
    games = [interactions.perturbation_game(logits_fn, c, x - c, 0, grid=4)
             for c, x in zip(center, craft(weight), strict=True)]  # fmt: skip
    return np.mean([float(interactions.mean_interaction(game)) for game in games])

  assert mean(0.5) < mean(0.0) - 0.1 * abs(mean(0.0))


def test_iterates_on_the_way_are_those_of_fewer_steps(mlp, key):
  path = run(mlp, key, every=2, momentum=1.0)
  assert path.shape == (2, *mlp.images.shape)
  for steps, found in zip((2, 4), path, strict=True):
    np.testing.assert_allclose(found, run(mlp, key, num_steps=steps, momentum=1.0), atol=1e-6)


def test_leave_one_out_by_brute_force():
  fooled = np.random.default_rng(0).random((6, 9)) < 0.4
  expected = []
  for n in range(9):
    rest = np.delete(fooled, n, axis=1).mean(1)
    expected.append(fooled[int(np.argmax(rest)), n])
  assert attacks.leave_one_out(jnp.asarray(fooled)).tolist() == expected


def test_resize_and_pad(key):
  identity = _transfer.placement(6, jnp.float32(6.0), jnp.float32(0.0))
  np.testing.assert_allclose(identity, np.eye(6), atol=1e-6)
  half = _transfer.placement(6, jnp.float32(3.0), jnp.float32(2.0))
  np.testing.assert_allclose(half.sum(axis=1), [0, 0, 1, 1, 1, 0], atol=1e-6)
  ramp = jnp.broadcast_to(1 + jnp.arange(20.0)[:, None], (20, 20))
  images = jnp.broadcast_to(ramp[None, ..., None], (40, 20, 20, 1))
  out = np.asarray(
    _transfer.resize_and_pad(jax.random.split(key, 40), images, prob=0.5, scale=1.25)
  )
  changed = (out != np.asarray(images)).any(axis=(1, 2, 3))
  assert 8 <= changed.sum() <= 32  # 4 standard deviations of Binomial(40, 1/2)
  column = out[changed].max(axis=2)[..., 0]
  slopes = np.median(np.diff(column, axis=1), axis=1)  # 1 / factor: pixels are larger than before
  assert slopes.min() >= 1 / 1.25 - 1e-3
  assert slopes.max() < 1
  assert slopes.max() - slopes.min() > 0.08
  shown = (column > 0).sum(axis=1)
  assert 15 <= shown.min() < shown.max() <= 20  # at most a fifth of the window is padding


def test_errors(linear4, key):
  with pytest.raises(ValueError, match="kernel_size must be odd"):
    run(linear4, key, kernel_size=4)
  with pytest.raises(ValueError, match="diversity_prob <= 1"):
    run(linear4, key, diversity_prob=1.5)
  with pytest.raises(ValueError, match="residual_decay must be in"):
    run(linear4, key, residual_decay=2.0)
  with pytest.raises(ValueError, match=r"interaction_grid in \[1, 4\] for 4x4 images"):
    run(linear4, key, interaction_weight=1.0)
  with pytest.raises(ValueError, match="every must divide num_steps=4, got 3"):
    run(linear4, key, every=3)
