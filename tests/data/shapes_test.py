# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import data, keys
from mixboost_jax.data import loading, pictures, shapes

SMALL = {"train_examples": 60, "validation_examples": 20, "test_examples": 30}


def draw(ids, agreement=0.9, seed=0):
  return shapes.generate(np.asarray(ids, np.int32), texture_agreement=agreement, seed=seed)


def textures_of(ids, *, texture_agreement):
  key = keys.stream_key(keys.root_key(shapes.SEED), keys.Stream.DATA)
  return np.asarray(shapes._scenes(key, jnp.asarray(ids), jnp.float32(texture_agreement)).texture)


def test_a_picture_depends_on_seed_and_id_alone():
  whole = draw(np.arange(700))
  part = draw([650, 3, 499, 500])
  np.testing.assert_array_equal(part.images, whole.images[[650, 3, 499, 500]])
  np.testing.assert_array_equal(part.ids, [650, 3, 499, 500])
  assert whole.images.shape == (700, 32, 32, 3)
  assert not np.array_equal(draw(np.arange(4), seed=1).images, whole.images[:4])
  flat = whole.images.reshape(700, -1)
  assert len(np.unique(flat, axis=0)) == 700


def test_classes_are_balanced_and_named():
  split = draw(np.arange(100, 140))
  assert np.bincount(split.labels).tolist() == [4] * 10
  assert len(set(shapes.CLASS_NAMES)) == len(shapes.TEXTURE_NAMES) == 10


@pytest.mark.parametrize(
  ("agreement", "expected"), [(1.0, 1.0), (0.9, 0.9), (0.1, 0.1), (0.0, 0.0)]
)
def test_texture_agrees_as_often_as_asked(agreement, expected):
  ids = np.arange(4000, dtype=np.int32)
  drawn = textures_of(ids, texture_agreement=agreement)
  rate = np.mean(drawn == ids % 10)
  assert abs(rate - expected) <= 4 * np.sqrt(expected * (1 - expected) / 4000)
  others = drawn[drawn != ids % 10]
  if agreement <= 0.1:  # the other nine are equally likely: 10 labels x 9 shifts
    share = np.bincount((others - ids[drawn != ids % 10]) % 10, minlength=10)[1:] / len(others)
    assert np.all(np.abs(share - 1 / 9) <= 4 * np.sqrt(8 / 81 / len(others)))


def test_variants_differ_in_the_fill_of_the_object_only():
  ids = np.arange(30)
  agree, conflict = draw(ids, 1.0).images.astype(int), draw(ids, 0.0).images.astype(int)
  changed = np.abs(agree - conflict).max(axis=-1) > 0
  assert np.all(changed.any(axis=(1, 2)))
  assert np.all(changed.mean(axis=(1, 2)) < 0.55)
  assert not changed[:, [0, 0, -1, -1], [0, -1, 0, -1]].any(), "corners are background"


def test_pictures_have_contrast_and_use_all_positions():
  images = draw(np.arange(200)).images
  assert images.std(axis=(1, 2)).mean() > 25
  spread = images.astype(float).std(axis=0)
  assert spread.min() > 20, "some pixel hardly varies over the set"


def test_outlines_are_distinct_and_signed_distances():
  tables = shapes.distance_tables()
  inside = tables < 0
  assert tables.shape == (10, shapes.RESOLUTION, shapes.RESOLUTION)
  assert np.all(inside.mean(axis=(1, 2)) > 0.08), "every outline has an area"
  assert not inside[:, 0].any()
  assert not inside[:, :, 0].any()
  for a in range(10):
    for b in range(a):
      overlap = (inside[a] & inside[b]).sum() / (inside[a] | inside[b]).sum()
      assert overlap < 0.85, (shapes.CLASS_NAMES[a], shapes.CLASS_NAMES[b])


def test_polygon_distance_of_a_square_by_hand():
  corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
  x, y = np.array([0.0, 0.5, 2.0, 4.0]), np.array([0.0, 0.0, 0.0, 5.0])
  expected = [-1.0, -0.5, 1.0, 5.0]
  np.testing.assert_allclose(shapes.polygon_distance(x, y, corners), expected, atol=1e-12)


def test_textures_are_distinct_tiles():
  tiles = shapes.tiles()
  assert tiles.min() >= 0
  assert tiles.max() <= 1
  plain = shapes.TEXTURE_NAMES.index("plain")
  contrast = tiles.std(axis=(1, 2))
  assert contrast[plain] == 0
  assert np.all(np.delete(contrast, plain) > 0.25)
  flat = tiles.reshape(10, -1)
  for a in range(10):
    for b in range(a):
      assert np.abs(flat[a] - flat[b]).mean() > 0.2


def test_load_cuts_holds_out_and_never_shares_an_id(settings):
  dataset = data.load(settings(**SMALL))
  assert (dataset.name, dataset.source, dataset.num_classes) == ("shapes", "procedural", 10)
  assert dataset.validation is not None
  np.testing.assert_array_equal(dataset.train.ids, np.arange(40))
  np.testing.assert_array_equal(dataset.validation.ids, np.arange(40, 60))
  np.testing.assert_array_equal(dataset.test.ids, loading.SHAPES_TEST_IDS + np.arange(30))
  mean = dataset.train.images.astype(np.float64).mean(axis=(0, 1, 2)) / 255
  np.testing.assert_allclose(dataset.channel_mean, mean, atol=1e-12)
  assert dataset.image_shape == (32, 32, 3)


def test_validation_is_optional_and_zero_means_the_published_size(settings, monkeypatch):
  monkeypatch.setattr(loading, "SHAPES_TRAIN", 70)
  monkeypatch.setattr(loading, "SHAPES_TEST", 20)
  dataset = data.load(settings(train_examples=0, test_examples=0, validation_examples=0))
  assert dataset.validation is None
  assert (len(dataset.train), len(dataset.test)) == (70, 20)


def test_test_variants_are_paired(settings):
  dataset = data.load(settings(**SMALL))
  variants = {
    name: data.load_shapes_variant(settings(**SMALL), name) for name in data.SHAPES_VARIANTS
  }
  np.testing.assert_array_equal(variants["agreeing"].images, dataset.test.images)
  for variant in variants.values():
    np.testing.assert_array_equal(variant.ids, dataset.test.ids)
    np.testing.assert_array_equal(variant.labels, dataset.test.labels)
  assert not np.array_equal(variants["neutral"].images, variants["conflicting"].images)
  with pytest.raises(ValueError, match="choose one of agreeing, conflicting, neutral"):
    data.load_shapes_variant(settings(**SMALL), "agree")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"image_size": 64}, "image_size=64: shapes has pictures of 32x32"),
    ({"validation_examples": 60}, "nothing is left to train on"),
    ({"train_examples": 3_000_000}, "limit of 8 GiB"),
    ({"name": "shape"}, "choose one of .*shapes"),
  ],
)
def test_one_error_each(settings, changes, message):
  with pytest.raises(ValueError, match=message):
    data.load(settings(**{**SMALL, **changes}))


def test_the_published_set_never_changes():
  """Golden numbers of seed 0: a change of any draw or pixel changes everybody's results."""
  ids = np.arange(12, dtype=np.int32)
  drawn = textures_of(ids, texture_agreement=0.5)
  assert drawn.tolist() == [6, 1, 2, 3, 4, 5, 3, 7, 7, 9, 6, 4]
  means = draw(ids[:4], 0.5).images.astype(float).mean(axis=(1, 2))
  golden = [[166.5, 179.8, 177.9], [120.7, 124.4, 118.6], [111.9, 125.1, 132.8]]
  golden.append([138.4, 145.5, 147.2])
  np.testing.assert_allclose(means, golden, atol=0.2)


def test_no_training_set_reaches_the_test_ids():
  largest = pictures.MAX_BYTES // (32 * 32 * 3)
  assert largest <= loading.SHAPES_TEST_IDS
