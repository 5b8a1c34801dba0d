# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import augment
from mixboost_jax.augment import _mixup


@pytest.fixture
def labels():
  return jax.nn.one_hot(jnp.arange(8), 8)


def test_mixup_by_hand():
  """With one-hot labels the label row tells the weight and the partner."""
  images = jnp.arange(4.0).reshape(4, 1, 1, 1) / 4
  out, soft = augment.mixup(jax.random.key(1), images, jnp.eye(4))
  weight = soft[0, 0]
  np.testing.assert_allclose(soft, weight * np.eye(4) + (1 - weight) * np.roll(np.eye(4), 1, 0))
  want = weight * images + (1 - weight) * jnp.roll(images, 1, axis=0)
  np.testing.assert_allclose(out, want, rtol=1e-6)


@pytest.mark.parametrize("partner", ["roll", "permutation", "two_permutations"])
@pytest.mark.parametrize("per", ["batch", "example"])
def test_images_and_labels_take_the_same_mix(key, per, partner):
  """A picture that encodes its own label must come out as its mixed label."""
  soft = jnp.eye(8)
  images = soft.reshape(8, 2, 2, 2)
  out, mixed = augment.mixup(key, images, soft, alpha=0.7, per=per, partner=partner)
  np.testing.assert_allclose(out.reshape(8, 8), mixed, rtol=1e-6)
  np.testing.assert_allclose(mixed.sum(1), 1, rtol=1e-6)
  rows = np.asarray(mixed) > 0
  assert (rows.sum(1) <= 2).all()
  weights = np.unique(np.round(np.asarray(mixed).max(1), 5))
  assert (len(weights) <= 2) == (per == "batch")


@pytest.mark.parametrize("per", ["batch", "example"])
def test_alpha_zero_is_the_identity(key, images, labels, per):
  for fn in (augment.mixup, augment.cutmix):
    out, soft = fn(key, images, labels, alpha=0, per=per)
    np.testing.assert_array_equal(out, images)
    np.testing.assert_array_equal(soft, labels)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0])
def test_weights_have_the_moments_of_the_beta_distribution(key, alpha):
  weights = np.asarray(_mixup.mixing_weights(key, 4000, alpha=alpha, per="example"))
  variance = 1 / (4 * (2 * alpha + 1))
  assert abs(weights.mean() - 0.5) < 4 * (variance / 4000) ** 0.5
  assert abs(weights.var() / variance - 1) < 0.1


def test_cutmix_label_is_the_exact_share_of_pixels(key):
  own, other = jnp.zeros((1, 7, 9, 1)), jnp.ones((1, 7, 9, 1))
  images = jnp.concatenate([own, other] * 64)
  soft = jnp.tile(jnp.eye(2), (64, 1))
  out, mixed = augment.cutmix(key, images, soft, per="example")
  ones = np.asarray(out).mean((1, 2, 3))
  np.testing.assert_allclose(mixed[:, 1], ones, atol=1e-6)
  assert len(np.unique(ones)) > 10


def test_cutmix_sides_and_gate(key):
  # Boxes have sides 2 * (int(W sqrt(1 - lam)) // 2) before they are clipped.
  boxes = _mixup.draw_boxes(key, 4000, shape=(8, 8), alpha=1.0, prob=0.5, per="example")
  sides = np.asarray(boxes[:, 2] - boxes[:, 0])
  assert set(np.unique(sides)) <= {0, 2, 4, 6, 8}
  # P(side >= 2) = P(gate) P(8 sqrt(u) >= 2) = 0.5 (1 - 1/16).
  rate = 0.5 * (1 - 1 / 16)
  assert abs((sides > 0).mean() - rate) < 4 * (rate * (1 - rate) / 4000) ** 0.5


def test_cutmix_gate_closed_is_the_identity(key, images, labels):
  out, soft = augment.cutmix(key, images, labels, prob=0)
  np.testing.assert_array_equal(out, images)
  np.testing.assert_array_equal(soft, labels)


def test_batch_weight_comes_from_the_first_key(images, labels):
  """Any other key may change without effect; the weight is that of the batch."""
  first = jax.random.split(jax.random.key(0), 8)
  second = first.at[1:].set(jax.random.split(jax.random.key(1), 7))
  np.testing.assert_array_equal(
    augment.mixup(first, images, labels)[0], augment.mixup(second, images, labels)[0]
  )


def test_sample_pairing_is_the_mean_with_the_own_label(key):
  images = jnp.arange(4.0).reshape(4, 1, 1, 1) / 4
  labels = jnp.eye(4)
  out, soft = augment.sample_pairing(key, images, labels)
  np.testing.assert_allclose(out[:, 0, 0, 0], [(0 + 0.75) / 2, 0.125, 0.375, 0.625])
  assert soft is labels


def test_sample_pairing_with_drawn_partners(key):
  """A picture that encodes its index tells its partner: all partners occur once."""
  images = jnp.eye(8).reshape(8, 2, 2, 2)
  out, _ = augment.sample_pairing(key, images, jnp.eye(8), weight=0.25, partner="permutation")
  partners = (np.asarray(out).reshape(8, 8) - 0.25 * np.eye(8)) / 0.75
  np.testing.assert_allclose(partners.sum(0), 1, rtol=1e-6)
  np.testing.assert_allclose(partners.max(1), 1, rtol=1e-6)


def test_schedule_of_sample_pairing_by_hand():
  active = [
    bool(augment.sample_pairing_active(e, num_epochs=100, start=0.1, end=0.8)) for e in range(100)
  ]
  want = [10 <= e < 80 and (e - 10) % 10 < 8 for e in range(100)]
  assert active == want
  assert sum(active) == 56


def test_smote_stays_between_an_example_and_a_close_one_of_its_class():
  # Class 0 at 0, 0.1, 0.2, 0.9; class 1 at 0.05 alone.
  values = jnp.array([0.0, 0.1, 0.2, 0.9, 0.05])
  images = values.reshape(5, 1, 1, 1)
  labels = jax.nn.one_hot(jnp.array([0, 0, 0, 0, 1]), 2)
  keys = jax.random.split(jax.random.key(0), 300)
  run = jax.jit(lambda k: augment.smote(k, images, labels, num_neighbors=2)[0][:, 0, 0, 0])
  moved = np.asarray(jax.lax.map(run, keys))
  assert (moved[:, 4] == values[4]).all(), "alone in its class"
  assert moved[:, 0].min() >= 0
  assert moved[:, 0].max() <= 0.2 + 1e-6
  assert moved[:, 0].max() > 0.15
  assert moved[:, 3].min() >= 0.1 - 1e-6, "0.9 moves towards 0.2 and 0.1 only"
  # z is 0.1 or 0.2, equally likely, and u is uniform.
  expected = 0.5 * (0.1 + 0.2) / 2
  assert abs(moved[:, 0].mean() - expected) < 4 * moved[:, 0].std() / 300**0.5


def test_smote_of_one_example_is_the_identity(key, images):
  out, _ = augment.smote(key, images[:1], jnp.ones((1, 1)))
  assert (out == images[:1]).all()


def test_manifold_tap_mixes_only_the_drawn_layer(images):
  layers = set()
  for seed in range(12):
    mix = augment.draw_manifold_mix(jax.random.key(seed))
    layers.add(int(mix.layer))
    for layer in (0, 1, 2):
      out = augment.manifold_tap(mix, layer=layer)(images)
      want = augment.mix_with_partner(images, mix.weight) if layer == mix.layer else images
      np.testing.assert_array_equal(out, want)
  assert layers == {0, 1, 2}


def test_mix_with_partner_by_hand():
  out = augment.mix_with_partner(jnp.eye(3), jnp.float32(0.75))
  np.testing.assert_allclose(out, 0.75 * np.eye(3) + 0.25 * np.roll(np.eye(3), 1, 0))


def test_wrong_keywords(key, images):
  with pytest.raises(ValueError, match="num_neighbors: expected an integer >= 1"):
    augment.smote(key, images, jnp.ones((8, 1)), num_neighbors=0)
  with pytest.raises(ValueError, match="partner: expected one of roll, permutation"):
    augment.sample_pairing(key, images, jnp.ones((8, 1)), partner="two_permutations")
