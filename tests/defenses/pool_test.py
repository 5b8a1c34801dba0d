# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import defenses
from mixboost_jax.defenses import pool as pools

draw = jax.jit(defenses.draw_partners, static_argnames=("mode", "num_draws"))


def make(labels, num_classes, **options):
  """A pool whose images hold their own row number."""
  images = np.arange(len(labels), dtype=np.float32)[:, None, None, None] / 255
  return defenses.build_pool(images, np.asarray(labels), num_classes=num_classes, **options)


def rows_of(partners):
  return np.rint(np.asarray(partners).reshape(partners.shape[:2]) * 255).astype(int)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_labels_of_partners_are_right_and_uniform(num_classes, key):
  labels = np.random.default_rng(0).permutation(np.repeat(np.arange(num_classes), 4))
  pool = make(labels, num_classes)
  predicted = jnp.arange(num_classes)
  draws = 1000
  for mode in pools.MODES:
    partners = draw(key, pool, predicted, mode=mode, num_draws=draws)
    chosen = labels[rows_of(partners)]  # [draws, N]
    for own in range(num_classes):
      counts = np.bincount(chosen[:, own], minlength=num_classes)
      if mode == "pl":
        assert counts[own] == draws
        continue
      if mode == "ol":
        assert counts[own] == 0
        counts = np.delete(counts, own)
      share = 1 / len(counts)
      error = (draws * share * (1 - share)) ** 0.5
      assert (np.abs(counts - draws * share) <= 4.5 * error).all(), (mode, own, counts)


def test_images_within_a_class_are_uniform(key):
  pool = make([0, 0, 0, 1], 2)
  rows = rows_of(draw(key, pool, jnp.zeros(1, int), mode="pl", num_draws=900))
  counts = np.bincount(rows[:, 0], minlength=4)
  assert counts[3] == 0
  assert (np.abs(counts[:3] - 300) < 4 * (900 * 2 / 9) ** 0.5).all()


def test_any_draws_classes_uniformly_however_many_images_they_have(key):
  pool = make([0] * 9 + [1], 2)
  rows = rows_of(draw(key, pool, jnp.zeros(1, int), mode="any", num_draws=400))
  assert abs(int((rows == 9).sum()) - 200) < 4 * (400 / 4) ** 0.5


@pytest.mark.parametrize("mode", pools.MODES)
def test_an_image_is_never_its_own_partner(mode, key):
  labels = np.array([1, 0, 0, 1, 0, 1])
  ids = np.array([70, 11, 35, 2, 90, 8])
  pool = make(labels, 2, ids=ids)
  query = jnp.array([70, 11, 35, 2, 90, 8, 1000])  # the last one is not in the pool
  predicted = jnp.asarray(np.append(labels, 0))
  if mode == "ol":
    predicted = 1 - predicted  # a wrong prediction: the partners come from the own class
  rows = rows_of(draw(key, pool, predicted, mode=mode, num_draws=300, ids=query))
  for n in range(6):
    seen = set(rows[:, n])
    allowed = set(range(6)) if mode == "any" else set(np.flatnonzero(labels == labels[n]))
    assert seen == allowed - {n}
  assert len(set(rows[:, 6])) == (6 if mode == "any" else 3)  # nothing is left out for it


def test_compact_storage_changes_nothing(key):
  images = np.random.default_rng(0).integers(0, 256, size=(8, 2, 2, 3)).astype(np.float32) / 255
  labels = np.arange(8) % 2
  plain = defenses.build_pool(images, labels, num_classes=2)
  compact = defenses.build_pool(images, labels, num_classes=2, compact=True)
  assert compact.images.dtype == jnp.uint8
  a, b = (draw(key, p, jnp.array([0, 1]), mode="ol", num_draws=5) for p in (plain, compact))
  np.testing.assert_allclose(a, b, rtol=1.2e-7)  # a division by 255, rounded either way


def test_draws_depend_on_the_own_key_only(key):
  pool = make(np.arange(40) % 4, 4)
  keys = jax.random.split(key, 6)
  predicted = jnp.arange(6) % 4
  whole = draw(keys, pool, predicted, mode="ol", num_draws=3)
  rows = jnp.array([4, 5, 5, 4, 4, 5])
  other = draw(keys[rows], pool, predicted[rows], mode="ol", num_draws=3)
  np.testing.assert_array_equal(whole[:, rows], other)


def test_errors():
  with pytest.raises(ValueError, match=r"class\(es\) \[1\] have \[0\]"):
    make([0, 0, 2], 3)
  with pytest.raises(ValueError, match="at least 2 image"):
    make([0, 0, 1], 2, ids=np.arange(3))
  with pytest.raises(ValueError, match="ids must be unique"):
    make([0, 0, 1, 1], 2, ids=np.array([1, 1, 2, 3]))
  with pytest.raises(ValueError, match=r"labels must be in 0 .. 1"):
    make([0, 1, 2], 2)
  with pytest.raises(ValueError, match="images must be float32 pictures"):
    defenses.build_pool(np.zeros((2, 3)), np.zeros(2, int), num_classes=2)
  with pytest.raises(ValueError, match="the pool has no ids"):
    defenses.partner_sampler(make([0, 1], 2), jnp.array([0]), mode="pl", ids=jnp.array([0]))
  with pytest.raises(ValueError, match="mode must be one of"):
    defenses.partner_sampler(make([0, 1], 2), jnp.array([0]), mode="xl")
