# SPDX-License-Identifier: Apache-2.0
"""Losses by hand, the penalty against closed form and differences, both networks, one update."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mixboost_jax import gan

SMALL = gan.Shape(num_classes=2, image_size=8, width=4, latent=4)
new_critic = functools.partial(jax.jit(gan.init_critic, static_argnames="shape"), shape=SMALL)
new_generator = functools.partial(jax.jit(gan.init_generator, static_argnames="shape"), shape=SMALL)
new_state = jax.jit(gan.create, static_argnums=1)


def test_losses_by_hand():
  real, fake = jnp.array([0.0, 2.0]), jnp.array([0.0, -1.0])

  def log_sigmoid(x):
    return -np.log1p(np.exp(-x))

  loss = gan.LOSSES["non_saturating"]
  wanted = [2 * np.log(2), -log_sigmoid(2.0) - log_sigmoid(1.0)]
  np.testing.assert_allclose(loss.critic(real, fake), wanted, rtol=1e-6)
  np.testing.assert_allclose(loss.generator(fake), [np.log(2), -log_sigmoid(-1.0)], rtol=1e-6)
  loss = gan.LOSSES["wgan_gp"]
  np.testing.assert_array_equal(loss.critic(real, fake), [0.0, -3.0])
  np.testing.assert_array_equal(loss.generator(fake), [0.0, 1.0])


@pytest.mark.parametrize("length", [0.5, 1.0, 3.0])
def test_penalty_of_a_linear_critic(key, length):
  """D(x) = w x has the slope ||w|| everywhere."""
  weights = jax.random.normal(key, (4, 4, 3))
  weights = length * weights / jnp.linalg.norm(weights)
  real, fake = jax.random.uniform(key, (2, 5, 4, 4, 3))
  scores_fn = lambda x: jnp.einsum("nhwc,hwc->n", x, weights)  # noqa: E731
  found = gan.gradient_penalty(key, scores_fn, real, fake)
  np.testing.assert_allclose(found, np.full(5, (length - 1) ** 2), atol=1e-5)


def test_penalty_looks_between_real_and_made_pictures(key):
  """D(x) = sum x^2 / 2 has the gradient x: its norm says where it was taken."""
  real, fake = jnp.full((64, 1, 1, 1), 3.0), jnp.full((64, 1, 1, 1), 5.0)
  found = gan.gradient_penalty(key, lambda x: 0.5 * jnp.sum(x**2, axis=(1, 2, 3)), real, fake)
  points = 1 + np.sqrt(np.asarray(found))
  assert points.min() >= 3 - 1e-5
  assert points.max() <= 5 + 1e-5
  assert abs(points.mean() - 4) < 4 * (2 / 12**0.5) / 8


def test_gradient_of_the_penalty_is_that_of_differences(key):
  """The second derivative, through a whole critic, in float64."""
  with jax.enable_x64(True):
    params = jax.tree.map(lambda x: x.astype(jnp.float64), new_critic(key))
    real, fake = jax.random.uniform(key, (2, 3, 8, 8, 3), jnp.float64)
    labels = jnp.array([0, 1, 1])

    @jax.jit
    def penalty(params):
      scores_fn = functools.partial(gan.criticise, params, labels=labels)
      return gan.gradient_penalty(key, scores_fn, real, fake).mean()

    leaves, tree = jax.tree.flatten(params)
    directions = [jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
                  for i, x in enumerate(leaves)]  # fmt: skip
    slope = sum(
      jnp.vdot(g, d)
      for g, d in zip(jax.tree.leaves(jax.jit(jax.grad(penalty))(params)), directions, strict=True)
    )

    def moved(step):
      parts = [x + step * d for x, d in zip(leaves, directions, strict=True)]
      return penalty(jax.tree.unflatten(tree, parts))

    differences = (moved(1e-6) - moved(-1e-6)) / 2e-6
    assert abs(float(slope)) > 1e-3
    np.testing.assert_allclose(slope, differences, rtol=1e-5)


def test_spectral_normalisation_against_singular_values(key):
  critic = new_critic(key)
  more = jax.jit(lambda _, vectors: gan.power_iteration(critic, vectors))
  vectors = jax.lax.fori_loop(0, 200, more, gan.start_vectors(key, critic))
  for name, layer in gan.spectrally_normalised(critic, vectors).items():
    for part, inner in (layer if "conv1" in layer else {"": layer}).items():
      kernel, bias = inner["kernel"], inner.get("bias")
      largest = np.linalg.svd(np.asarray(kernel).reshape(-1, kernel.shape[-1]))[1].max()
      assert largest == pytest.approx(1, abs=2e-3), (name, part)
      assert bias is None or not bias.any()


def test_a_sampled_picture_depends_on_its_own_draw_and_class(key):
  params = new_generator(key)
  params["block0"]["norm1"]["bias"] = params["block0"]["norm1"]["bias"].at[1].set(1.0)
  sample = jax.jit(gan.sampler, static_argnames="num")(key, params, num=16)
  one, other = (sample(key, jnp.array(labels)) for labels in ([0, 0, 1], [0, 1, 1]))
  np.testing.assert_array_equal(one[0], other[0])
  np.testing.assert_array_equal(one[2], other[2])
  assert not np.allclose(one[1], other[1], atol=1e-3)
  assert one.min() >= 0
  assert one.max() <= 1
  assert one.shape == (3, 8, 8, 3)


def test_the_statistics_of_a_batch_normalise_it(key):
  """With the statistics of the same draws, pictures come out as in their batch."""
  params = new_generator(key)
  latents, labels = jax.random.normal(key, (6, 4)), jnp.arange(6) % 2
  images, stats = gan.generate(params, latents, labels)
  alone, _ = gan.generate(params, latents[2:3], labels[2:3], stats=stats)
  np.testing.assert_allclose(alone[0], images[2], atol=1e-5)


def test_pictures_of_an_odd_size_are_refused():
  with pytest.raises(ValueError, match=r"image_size: expected a power of two from 8 on, got 28"):
    gan.Shape(num_classes=2, image_size=28)


def rules_for(loss):
  rule = optax.adam(2e-3, b1=0.0, b2=0.9)
  return gan.Rules(SMALL, gan.LOSSES[loss], 10.0, rule, rule, 0.9)


def solid(key, num):
  """Class 0 is red, class 1 blue, a little different each time."""
  key_label, key_shade = jax.random.split(key)
  labels = jax.random.randint(key_label, (num,), 0, 2)
  shades = 0.6 + 0.4 * jax.random.uniform(key_shade, (num, 1, 1, 1))
  colours = jnp.where(labels[:, None] == 0, jnp.array([[1.0, 0, 0]]), jnp.array([[0, 0, 1.0]]))
  return jnp.broadcast_to(shades * colours[:, None, None], (num, 8, 8, 3)), labels


@pytest.mark.parametrize("loss", sorted(gan.LOSSES))
def test_learns_two_colours(key, loss):
  rules = rules_for(loss)
  steps = {"non_saturating": 1, "wgan_gp": 3}[loss]

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state, key):
    images, labels = solid(jax.random.fold_in(key, 1), steps * 16)
    images, labels = images.reshape(steps, 16, 8, 8, 3), labels.reshape(steps, 16)
    return gan.update(key, state, images, labels, rules=rules)

  state = new_state(key, rules)
  before = jax.device_get(state.averaged)
  for i in range(300):
    state, metrics = step(state, jax.random.fold_in(key, i))
    if i == 0:
      assert np.isfinite([float(value) for value in metrics.values()]).all()
      assert ("penalty" in metrics) == (loss == "wgan_gp")
      jax.tree.map(
        lambda a, b, g: np.testing.assert_allclose(a, 0.9 * b + 0.1 * g, atol=1e-5),
        state.averaged, before, state.generator,
      )  # fmt: skip
  assert int(state.step) == 300
  made = gan.sampler(key, state.sampled_params(), num=32)(key, jnp.repeat(jnp.arange(2), 32))
  red, blue = np.asarray(made).reshape(2, -1, 3).mean(1)
  np.testing.assert_allclose(red, [0.8, 0, 0], atol=0.2)
  np.testing.assert_allclose(blue, [0, 0, 0.8], atol=0.2)


def test_every_critic_step_sees_pictures_of_its_own(key):
  """With rates of 0 the metrics are those of the last pictures."""
  still = optax.sgd(0.0)
  rules = rules_for("wgan_gp")._replace(generator=still, critic=still, ema_decay=0.0)
  state = new_state(key, rules)
  assert state.averaged == {}
  real = jnp.stack([jnp.zeros((4, 8, 8, 3)), jnp.ones((4, 8, 8, 3))])
  labels = jnp.zeros((2, 4), int)
  after, metrics = gan.update(key, state, real, labels, rules=rules)
  wanted = gan.criticise(state.critic, real[1], labels[1]).mean()
  np.testing.assert_allclose(metrics["real_score"], wanted, rtol=1e-5)
  jax.tree.map(np.testing.assert_array_equal, after.generator, state.generator)
