# SPDX-License-Identifier: Apache-2.0
"""Stress against closed forms: half-spaces seen from spheres of both norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from mixboost_jax import analysis

NEIGHBOURS = 2000


def beyond(distance):
  """Class 1 where the first pixel is more than `distance` above a half."""

  def logits_fn(images):
    score = images[:, 0, 0, 0] - 0.5 - distance
    return jnp.stack([jnp.zeros_like(score), score], axis=1)

  return logits_fn


def cap(distance, radius, dimension):
  """Share of the sphere beyond a plane (SPEC of the half-space)."""
  if distance >= radius:
    return 0.0
  return 0.5 * special.betainc((dimension - 1) / 2, 0.5, 1 - (distance / radius) ** 2)


def changes(key, logits_fn, images, epsilons, norm, num=NEIGHBOURS):
  options = {"epsilons": epsilons, "num_neighbours": num, "norm": norm}
  run = jax.jit(lambda key, x: analysis.prediction_changes(key, logits_fn, x, **options))
  return np.asarray(run(key, images))


@pytest.mark.parametrize("shape", [(1, 2, 1), (3, 3, 3)])
def test_half_space_from_spheres(key, shape):
  dimension, distance, radii = int(np.prod(shape)), 0.1, (0.05, 0.11, 0.2, 1.0)
  images = jnp.full((3, *shape), 0.5)
  found = changes(key, beyond(distance), images, radii, "l2")
  shares = found.sum(0) / (3 * NEIGHBOURS)
  for share, radius in zip(shares, radii, strict=True):
    expected = cap(distance, radius, dimension)
    if dimension == 2 and radius > distance:
      assert expected == pytest.approx(np.arccos(distance / radius) / np.pi)
    stderr = np.sqrt(expected * (1 - expected) / (3 * NEIGHBOURS))
    assert abs(share - expected) <= 4 * stderr
  assert (np.diff(found, axis=1) >= 0).all()  # the same directions: further out, never fewer


def test_half_space_from_cubes(key):
  """A face of the first pixel is met with 1 / (2 D); elsewhere that pixel is uniform."""
  images, dimension = jnp.full((3, 1, 3, 1), 0.5), 3
  shares = changes(key, beyond(0.1), images, (0.05, 0.2), "linf").sum(0) / (3 * NEIGHBOURS)
  expected = 1 / (2 * dimension) + (dimension - 1) / dimension * (1 - 0.1 / 0.2) / 2
  stderr = np.sqrt(expected * (1 - expected) / (3 * NEIGHBOURS))
  assert shares[0] == 0
  assert abs(shares[1] - expected) <= 4 * stderr


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_directions_have_unit_norm_and_no_preferred_side(key, norm):
  draw = jax.jit(lambda key, like: analysis.sphere_directions(key, like, norm=norm))
  flat = np.asarray(draw(key, jnp.zeros((4000, 2, 2, 1)))).reshape(4000, -1)
  order = 2 if norm == "l2" else np.inf
  np.testing.assert_allclose(np.linalg.norm(flat, order, axis=1), 1, rtol=1e-5)
  assert (abs(flat.mean(0)) < 4 * flat.std(0) / 4000**0.5).all()
  assert flat.var(0) == pytest.approx(flat.var(), rel=0.1)


def test_a_picture_keeps_its_neighbours_in_another_batch(key):
  images = jax.random.uniform(key, (5, 2, 2, 1))
  each = jax.random.split(key, 5)
  whole = changes(each, beyond(0.05), images, (0.3,), "l2", num=50)
  part = changes(each[3:], beyond(0.05), images[3:], (0.3,), "l2", num=50)
  np.testing.assert_array_equal(whole[3:], part)
  assert len(np.unique(whole)) > 1


def test_intervals():
  counts = np.array([[0, 3], [0, 20], [0, 1]])
  found = analysis.prediction_change_stress(counts, num_neighbours=20, confidence=0.9)
  np.testing.assert_allclose(found.value, [0, 24 / 60])
  for column, total in enumerate((0, 24)):
    exact = stats.binomtest(total, 60).proportion_ci(0.9, method="exact")
    assert (found.low[column], found.high[column]) == pytest.approx((exact.low, exact.high))
  assert found.picture_low[0] == 0 < found.picture_high[0]
  rates = counts[:, 1] / 20
  between = stats.t.interval(0.9, 2, rates.mean(), stats.sem(rates))
  assert found.picture_low[1] == pytest.approx(max(between[0], 0))
  assert found.picture_high[1] == pytest.approx(min(between[1], 1))


def test_wrong_arguments(key):
  images = jnp.full((2, 2, 2, 1), 0.5)
  with pytest.raises(ValueError, match="norm must be one of l2, linf, got 'l1'"):
    analysis.sphere_directions(key, images, norm="l1")
  with pytest.raises(ValueError, match="radii >= 0, got 5 and"):
    analysis.prediction_changes(key, beyond(0), images, epsilons=(-1.0,), num_neighbours=5)
  with pytest.raises(ValueError, match=r"counts in 0 .. 4"):
    analysis.prediction_change_stress(np.array([[5]]), num_neighbours=4)
