# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import augment
from mixboost_jax.augment import mixing


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
  weights = np.asarray(mixing.mixing_weights(key, 4000, alpha=alpha, per="example"))
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
  boxes = jax.vmap(lambda k: mixing._cutmix_box(k, height=8, width=8, alpha=1.0, prob=0.5))(
    jax.random.split(key, 4000)
  )
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
