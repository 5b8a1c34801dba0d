# SPDX-License-Identifier: Apache-2.0
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import attacks, keys
from mixboost_jax.attacks import _predictors


def noisy_logits(key, images):
  """Logits `[s, -s]`, `s` the sum of the image plus noise of its own."""
  each = keys.per_example(key, images.shape[0])
  noise = jax.vmap(jax.random.normal)(each)
  s = images.sum(axis=(1, 2, 3)) + noise
  return jnp.stack([s, -s], axis=1)


def test_random_predictors_are_recognised():
  def with_option(images, train=False):
    del train
    return images

  assert not attacks.is_random(with_option)
  assert attacks.is_random(noisy_logits)
  assert not attacks.is_random(functools.partial(noisy_logits, jax.random.key(0)))
  assert attacks.is_random(jax.jit(noisy_logits))
  assert attacks.is_random(attacks.Randomized(with_option))


def test_shared_key_predictors_get_one_key(key):
  shapes = []

  def dropout_like(key, images):
    shapes.append(key.shape)
    return images.sum(axis=(1, 2)) + jax.random.normal(key, (images.shape[0], 2))

  images = jnp.zeros((3, 1, 1, 2))
  attacks.Randomized(dropout_like, shares_key=True)(jax.random.split(key, 3), images)
  assert shapes == [()]


def test_expectation_equals_a_loop_over_draws(key):
  images = jax.random.uniform(key, (5, 2, 2, 1))
  each = keys.per_example(key, 5)
  draws = [noisy_logits(_predictors.step_keys(each, d), images) for d in range(7)]
  for average, expected in (
    ("logits", jnp.stack(draws).mean(0)),
    ("probabilities", jnp.log(jnp.stack([jax.nn.softmax(d) for d in draws]).mean(0))),
  ):
    for max_rows in (None, 5):
      mean = attacks.expectation(noisy_logits, 7, average=average, max_rows=max_rows)
      np.testing.assert_allclose(jax.jit(mean)(key, images), expected, rtol=1e-5, atol=1e-6)


def test_expectation_gradient_is_chunked_without_change(key):
  images = jax.random.uniform(key, (3, 2, 2, 1))

  @functools.partial(jax.jit, static_argnums=1)
  def value(images, max_rows):
    fn = attacks.expectation(noisy_logits, 6, max_rows=max_rows)
    return (fn(key, images)[:, 0] * jnp.arange(3.0)).sum()

  np.testing.assert_allclose(
    jax.grad(value)(images, 4), jax.grad(value)(images, 100), rtol=1e-5, atol=1e-6
  )


def test_expectation_converges_like_one_over_root_n(key):
  images = jnp.zeros((400, 1, 1, 1))  # 400 independent repetitions
  spread = []
  for num in (4, 64):
    mean = jnp.exp(jax.jit(attacks.expectation(noisy_logits, num))(key, images))[:, 0]
    spread.append(float(mean.std()))
  assert 4 * 0.8 < spread[0] / spread[1] < 4 * 1.25  # sqrt(64 / 4) = 4, 3 sigma of two stds: 16 %


def test_attack_on_log_probabilities_is_not_a_second_softmax():
  probabilities = jnp.array([[0.5, 0.3, 0.2]])
  logits = attacks.from_probabilities(lambda x: probabilities)(jnp.zeros((1, 1, 1, 1)))
  loss = attacks.OBJECTIVES["ce"](logits, jnp.array([1]))
  np.testing.assert_allclose(loss, -np.log(0.3), rtol=1e-6)
  zero = attacks.from_probabilities(lambda x: jnp.array([[1.0, 0.0]]))(jnp.zeros((1, 1, 1, 1)))
  assert jnp.isfinite(zero).all()


def test_straight_through_keeps_values_and_replaces_gradients():
  x = jnp.array([0.126, 0.9])
  quantise = attacks.bpda(lambda x: jnp.floor(x * 255) / 255)
  np.testing.assert_array_equal(quantise(x), jnp.floor(x * 255) / 255)
  np.testing.assert_allclose(jax.grad(lambda x: (quantise(x) ** 2).sum())(x), 2 * quantise(x))
  doubled = attacks.bpda(jnp.round, surrogate=lambda x: 2 * x)
  np.testing.assert_allclose(jax.grad(lambda x: doubled(x).sum())(x), 2.0)


def test_pgd_gets_fresh_draws_at_every_step(key):
  seen = []

  def logits_fn(keys, images):
    draw = jax.vmap(jax.random.uniform)(keys)
    jax.debug.callback(lambda d: seen.append(float(d)), draw[0])
    return jnp.stack([images.sum((1, 2, 3)), draw], axis=1)

  images = jnp.full((2, 1, 1, 1), 0.5)
  attacks.pgd(
    key, logits_fn, images, jnp.zeros(2, jnp.int32), epsilon=0.1, step_size=0.1, num_steps=4
  )
  jax.effects_barrier()
  assert len(seen) == 4
  assert len(set(seen)) == 4


def test_random_targets_cover_the_other_classes(key):
  targets = np.asarray(attacks.random_targets(key, jnp.full(600, 2), num_classes=4))
  counts = np.bincount(targets, minlength=4)
  assert counts[2] == 0
  assert (abs(counts[[0, 1, 3]] - 200) < 4 * (600 * 2 / 9) ** 0.5).all()
  with pytest.raises(ValueError, match="needs >= 2 classes"):
    attacks.random_targets(key, jnp.zeros(1, jnp.int32), num_classes=1)


def test_errors():
  with pytest.raises(ValueError, match="num_samples must be >= 1"):
    attacks.expectation(noisy_logits, 0)
  with pytest.raises(ValueError, match="'probabilities' or 'logits'"):
    attacks.expectation(noisy_logits, 1, average="loss")
