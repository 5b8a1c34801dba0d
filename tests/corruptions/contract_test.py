# SPDX-License-Identifier: Apache-2.0
"""What holds for every corruption and every film of the registries, and the literal tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import corruptions

SEVERITIES = corruptions.SEVERITIES
NEARLY = 0.002  # share of values that may move by one level where sums are ordered differently


def table_of(name: str) -> str:
  return "cifar" if name in SEVERITIES["cifar"] else "imagenet"


@pytest.fixture(scope="module")
def pictures():
  """Three busy pictures, higher than wide, of odd sides."""
  rng = np.random.default_rng(7)
  coarse = np.kron(rng.uniform(size=(3, 6, 5, 3)), np.ones((1, 4, 4, 1)))[:, :21, :17]
  return jnp.asarray(np.floor(coarse * 255) / 255, jnp.float32)


def assert_near(a, b):
  levels = np.abs(np.round(np.asarray(a) * 255) - np.round(np.asarray(b) * 255))
  assert levels.max() <= 1
  assert (levels > 0).mean() <= NEARLY


@pytest.mark.parametrize("name", sorted(corruptions.CORRUPTIONS))
def test_every_corruption(name, pictures):
  key, table = jax.random.key(1), table_of(name)
  keys = jax.random.split(key, 3)

  def apply(keys, images):
    return corruptions.corrupt(keys, images, name=name, severity=5, table=table)

  out = apply(keys, pictures)
  assert out.shape == pictures.shape
  assert out.dtype == jnp.float32
  levels = np.asarray(out) * 255
  np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
  assert levels.min() >= 0
  assert levels.max() <= 255
  assert np.abs(np.asarray(out - pictures)).mean() > 0.002, "does nothing"
  np.testing.assert_array_equal(apply(keys, pictures), out)
  order = jnp.array([2, 0, 1])
  assert_near(apply(keys[order], pictures[order]), out[order])
  other = apply(jax.random.split(jax.random.key(2), 3), pictures)
  assert np.array_equal(other, out) != corruptions.CORRUPTIONS[name].samples


@pytest.mark.parametrize("name", ["gaussian_noise", "defocus_blur"])
def test_gradients_are_zero_unless_straight_through(name):
  """In the middle of the range noise adds and blur spreads: a unit per pixel, on average."""
  pictures = jnp.full((1, 16, 16, 3), 0.5)

  def run(pictures, **options):
    return corruptions.corrupt(jax.random.key(0), pictures, name=name, severity=1, **options)

  def gradient(**options):
    return np.asarray(jax.grad(lambda pictures: run(pictures, **options).sum())(pictures))

  assert not gradient().any()
  straight = gradient(straight_through=True)
  assert straight.mean() == pytest.approx(1, rel=1e-4)
  if name == "gaussian_noise":
    np.testing.assert_allclose(straight, 1, rtol=1e-6)
  np.testing.assert_array_equal(run(pictures), run(pictures, straight_through=True))


@pytest.mark.parametrize("name", ["glass_blur", "jpeg_compression"])
def test_inside_another_program(name, pictures):
  def apply(key, images):
    return corruptions.corrupt(key, images, name=name, severity=2)

  key = jax.random.key(3)
  assert_near(jax.jit(apply)(key, pictures), apply(key, pictures))


def test_one_key_or_one_per_example(pictures):
  key = jax.random.key(4)
  all_three = corruptions.corrupt(key, pictures, name="gaussian_noise", severity=1)
  keys = jnp.stack([jax.random.fold_in(key, i) for i in range(3)])
  one = corruptions.corrupt(keys[1:2], pictures[1:2], name="gaussian_noise", severity=1)
  np.testing.assert_array_equal(one[0], all_three[1])


@pytest.mark.parametrize("name", ["glass_blur", "zoom_blur", "elastic_transform", "pixelate"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 2, 5, 1)])
def test_tiny_constant_pictures_stay(name, shape):
  images = jnp.full(shape, 100 / 255, jnp.float32)
  out = corruptions.corrupt(jax.random.key(0), images, name=name, severity=4)
  np.testing.assert_array_equal(np.round(np.asarray(out) * 255), 100)


CONSTANT = ("defocus_blur", "gaussian_blur", "motion_blur", "jpeg_compression", "contrast")


@pytest.mark.parametrize("name", CONSTANT)
def test_constant_pictures_stay(name):
  grey = jnp.round(jnp.linspace(0, 255, 3))[:, None, None, None] / 255
  images = jnp.broadcast_to(grey, (3, 16, 16, 3))
  out = corruptions.corrupt(jax.random.key(0), images, name=name, severity=3)
  np.testing.assert_array_equal(np.round(np.asarray(out) * 255), np.round(images * 255))


FILMS = sorted(name for name in corruptions.SEQUENCES if not name.endswith("_3"))


@pytest.mark.parametrize("name", [n for n in FILMS if n not in ("shot_noise_2", "speckle_noise_2")])
def test_every_film(name):
  rng = np.random.default_rng(8)
  coarse = np.kron(rng.uniform(size=(8, 8, 3)), np.ones((4, 4, 1)))
  image = jnp.asarray(np.floor(coarse * 255) / 255, jnp.float32)
  film = corruptions.perturb_sequence(jax.random.key(0), image, name=name)
  frames = {"translate": 16, "motion_blur": 21}.get(name, 31)
  assert film.shape == (frames, 32, 32, 3)
  assert film.dtype == jnp.float32
  levels = np.asarray(film) * 255
  np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
  assert levels.min() >= 0
  assert levels.max() <= 255
  if name != "spatter_approximate":  # a small picture may stay dry
    assert np.abs(np.diff(levels, axis=0)).mean() > 0.01
  clean = {"brightness": 15, "translate": 7, "rotate": 15, "scale": 15, "shear": 15}
  if name in clean or name.endswith(("noise", "_2", "_3")) or name == "zoom_blur":
    np.testing.assert_allclose(film[clean.get(name, 0)], image, atol=1e-6)


def test_the_lists_and_tables_agree():
  names = corruptions.NAMES
  assert [len(names[k]) for k in ("c", "c_extra", "c_bar", "c_bar_imagenet")] == [15, 4, 10, 10]
  cifar, imagenet = ({*SEVERITIES[t]} for t in ("cifar", "imagenet"))
  assert cifar == {*names["c"], *names["c_extra"], *names["c_bar"]}
  assert imagenet == {*names["c"], *names["c_extra"], *names["c_bar_imagenet"]}
  assert cifar | imagenet == {*corruptions.CORRUPTIONS}
  assert {*names["p"], *names["p_extra"]} <= {*corruptions.SEQUENCES}
  for table, levels in SEVERITIES.items():
    for name in levels:
      assert len(levels[name]) == 5
      for severity in range(1, 6):
        given = corruptions.parameters(name, severity=severity, table=table)
        assert tuple(given) == corruptions.CORRUPTIONS[name].fields


def test_training_on_a_benchmark_is_named():
  assert "c_bar" in (corruptions.training_warning("ripple") or "")
  assert corruptions.training_warning("random_crop") is None
  assert corruptions.BENCHMARK_NAMES["frost_procedural"] == "frost"


def test_wrong_requests_are_explained(pictures):
  key = jax.random.key(0)
  with pytest.raises(ValueError, match="Did you mean 'glass_blur'"):
    corruptions.corrupt(key, pictures, name="glas_blur", severity=1)
  with pytest.raises(ValueError, match="expected 1, 2, 3, 4 or 5, got 6"):
    corruptions.corrupt(key, pictures, name="fog", severity=6)
  with pytest.raises(ValueError, match="use table='imagenet'"):
    corruptions.corrupt(key, pictures, name="perlin_noise", severity=1)
  with pytest.raises(ValueError, match="1 or 3 channels"):
    corruptions.corrupt(key, pictures[..., :2], name="fog", severity=1)
  with pytest.raises(ValueError, match="unknown name 'tiny'"):
    corruptions.corrupt(key, pictures, name="fog", severity=1, table="tiny")
  with pytest.raises(ValueError, match=r"corruptions\.sequence: unknown name 'fog'"):
    corruptions.perturb_sequence(key, pictures[0], name="fog")
