# SPDX-License-Identifier: Apache-2.0

import functools

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from mixboost_jax import defenses
from mixboost_jax.defenses import averaging


def to_pil(image):
  return PIL.Image.fromarray(np.rint(np.asarray(image) * 255).astype(np.uint8))


def test_truncation_keeps_bytes_and_passes_gradients():
  levels = jnp.arange(256, dtype=jnp.float32) / 255
  np.testing.assert_array_equal(averaging.truncate(levels), levels)
  np.testing.assert_allclose(averaging.truncate(jnp.array([0.9 / 255, 1.99 / 255])) * 255, [0, 1])
  np.testing.assert_array_equal(jax.grad(lambda x: averaging.truncate(x).sum())(levels), 1)


@pytest.mark.parametrize("degrees", [0.0, 90.0, 180.0, -17.0, 33.3])
def test_rotation_agrees_with_pillow(images, degrees):
  ours = np.rint(np.asarray(averaging.rotate(images[0], degrees)) * 255)
  theirs = np.asarray(to_pil(images[0]).rotate(degrees))
  assert (ours != theirs).any(axis=-1).mean() <= (0 if degrees % 90 == 0 else 0.003)


@pytest.mark.parametrize(("start", "size"), [((0, 0), 32), ((3, 7), 22), ((9, 0), 17)])
def test_enlarging_agrees_with_pillow(images, start, size):
  rows = averaging.stretch_matrix(32, start[0], size)
  columns = averaging.stretch_matrix(32, start[1], size)
  ours = jnp.einsum("ih,hwc,jw->ijc", rows, images[0], columns)
  box = (start[1], start[0], start[1] + size, start[0] + size)
  theirs = to_pil(images[0]).crop(box).resize((32, 32), PIL.Image.Resampling.BILINEAR)
  assert np.abs(np.asarray(ours) * 255 - np.asarray(theirs)).max() <= 1.0


def test_crop_lands_where_it_should():
  image = jnp.arange(16, dtype=jnp.float32).reshape(4, 4, 1)
  out = averaging.place_crop(image, jnp.array([1, 0]), jnp.array([2, 1]), 2)[..., 0]
  expected = np.zeros((4, 4))
  expected[2:4, 1:3] = [[4, 5], [8, 9]]
  np.testing.assert_array_equal(out, expected)


def test_random_crops_have_all_sizes_and_stay_inside(key):
  images = jnp.ones((300, 8, 8, 1))
  padded = np.asarray(averaging.crop_and_pad(key, images, min_size=3, max_size=5))[..., 0]
  sides = padded.any(axis=2).sum(axis=1)
  assert set(sides) == {3, 4, 5}
  np.testing.assert_array_equal(padded.sum(axis=(1, 2)), sides**2)
  corners = padded[sides == 3].argmax(axis=1).max(axis=1)
  assert set(corners) == set(range(6))  # every offset 0 .. 8 - 3 occurs


def test_noise_has_the_stated_spread(key):
  noisy = averaging.add_noise(key, jnp.full((50, 8, 8, 1), 0.5), noise_std=0.1)
  assert abs(float(noisy.std()) - 0.1) < 4 * 0.1 / (2 * 3200) ** 0.5


STRENGTHS = {
  "gaussian_noise": {"noise_std": 0.1},
  "rotation": {"max_degrees": 30.0},
  "crop_pad": {"min_size": 2, "max_size": 4},
  "crop_resize": {"min_size": 2, "max_size": 4},
}


@pytest.mark.parametrize("name", sorted(STRENGTHS))
def test_contract_of_every_baseline(toy, name, key):
  defend = jax.jit(
    functools.partial(
      defenses.DEFENSES[name], logits_fn=toy.logits_fn, num_draws=4, **STRENGTHS[name]
    ),
    static_argnames=("logits_fn",),
  )
  keys = jax.random.split(key, 10)
  out = defend(keys, images=toy.images)
  assert out.shape == (10, 4)
  np.testing.assert_allclose(out.sum(axis=1), 1, rtol=1e-5)
  rows = jnp.array([2, 3, 3, 2, 2, 2, 3, 3, 3, 3])
  np.testing.assert_allclose(defend(keys[rows], images=toy.images[rows]), out[rows], atol=1e-6)
  assert not np.allclose(defend(keys[::-1], images=toy.images), out, atol=1e-4)
  gradient = jax.grad(lambda x: defend(keys, images=x)[:, 0].sum())(toy.images)
  assert float(jnp.abs(gradient).max()) > 1e-4


def test_presets_are_tables_4_and_5(toy, key):
  presets = defenses.PRESETS
  assert presets["cifar10/mixup"]["gaussian-noise"]["noise_std"] == 0.02
  assert presets["cifar10/mixup"]["crop-pad"] == {
    "name": "crop_pad", "min_size": 16, "max_size": 24, "num_draws": 30
  }  # fmt: skip
  assert presets["cifar10/at"]["mi-ol"]["mix_weight"] == 0.8
  assert presets["cifar100/iat"]["rotation"]["max_degrees"] == 20
  for methods in presets.values():
    for policy in methods.values():
      defenses.build(policy, toy.logits_fn, pool=toy.pool)  # every keyword is known
  small = {**presets["cifar10/mixup"]["mi-combined"], "num_draws": 2}
  defended = defenses.build(small, toy.logits_fn, pool=toy.pool)
  assert defended(key, toy.images).shape == (10, 4)


def test_errors(toy, key):
  with pytest.raises(ValueError, match="1 <= min_size <= max_size <= 4"):
    defenses.crop_pad(key, toy.logits_fn, toy.images, min_size=3, max_size=5)
  with pytest.raises(ValueError, match="Did you mean 'rotation'"):
    defenses.build({"name": "rotatoin"}, toy.logits_fn)
  with pytest.raises(ValueError, match="unknown name 'degrees'"):
    defenses.build({"name": "rotation", "degrees": 3}, toy.logits_fn)
  with pytest.raises(ValueError, match="needs a pool"):
    defenses.build({"name": "mixup_inference", "mode": "pl"}, toy.logits_fn)
