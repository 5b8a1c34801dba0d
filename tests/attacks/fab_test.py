# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from mixboost_jax import attacks
from mixboost_jax.attacks import _fab, _stage


def shortest(x, w, b, norm):
  """The same problem by a general solver."""
  size = len(x)
  if norm == "l2":
    change = abs(b - w @ x)
    result = scipy.optimize.minimize(
      lambda d: d @ d,
      np.clip(w * (b - w @ x) / (w @ w), -x, 1 - x),
      jac=lambda d: 2 * d,
      bounds=list(zip(-x, 1 - x, strict=True)),
      constraints={"type": "eq", "fun": lambda d: w @ (x + d) - b, "jac": lambda d: w},
      options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert result.success, change
    return np.sqrt(result.fun)
  cost = np.zeros(size + 1)
  cost[-1] = 1
  eye, one = np.eye(size), np.ones((size, 1))
  result = scipy.optimize.linprog(
    cost,
    A_ub=np.block([[eye, -one], [-eye, -one]]),
    b_ub=np.zeros(2 * size),
    A_eq=np.concatenate([w, [0]])[None],
    b_eq=[b - w @ x],
    bounds=[*zip(-x, 1 - x, strict=True), (0, None)],
  )
  assert result.success
  return result.x[-1]


@pytest.mark.parametrize("norm", attacks.NORMS)
def test_hyperplane_projection_against_a_general_solver(norm):
  rng = np.random.default_rng(0)
  points = rng.uniform(size=(12, 6))
  points[0, :3] = [0, 1, 1]  # on the walls
  normals = rng.normal(size=(12, 6))
  normals[1, 2] = 0
  target = rng.uniform(size=(12, 6)) * 0.9 + 0.1 * (normals > 0)  # the plane meets the box
  offsets = (normals * target).sum(axis=1)
  move = np.asarray(
    _fab.to_hyperplane(*map(jnp.float32, (points, normals, offsets)), norm=norm), np.float64
  )
  np.testing.assert_allclose((normals * (points + move)).sum(axis=1), offsets, atol=2e-5)
  assert (points + move).min() > -1e-6
  assert (points + move).max() < 1 + 1e-6
  sizes = np.abs(move).max(axis=1) if norm == "linf" else np.sqrt((move**2).sum(axis=1))
  expected = [shortest(*row, norm) for row in zip(points, normals, offsets, strict=True)]
  np.testing.assert_allclose(sizes, expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("norm", attacks.NORMS)
def test_out_of_reach_goes_to_the_corner(norm):
  move = _fab.to_hyperplane(
    jnp.array([[0.5, 0.25]]), jnp.array([[1.0, -2.0]]), jnp.array([10.0]), norm=norm
  )
  np.testing.assert_allclose(move, [[0.5, -0.25]], atol=1e-6)
  still = _fab.to_hyperplane(jnp.ones((1, 2)), jnp.zeros((1, 2)), jnp.ones(1), norm=norm)
  np.testing.assert_array_equal(still, 0)


def check_exact(model, norm, targeted, key):
  result = jax.jit(
    lambda x: attacks.fab(
      key, model.logits_fn, x, model.labels, norm=norm, num_steps=12, targeted=targeted
    )
  )(model.images)
  expected = np.maximum(model.distances(norm), 0)
  found = np.asarray(result.distances)
  # Every step aims 5 % past the boundary and every success goes back by 10 %: within 1 % above.
  assert (found >= expected - 1e-6).all()
  np.testing.assert_allclose(found, expected, rtol=0.01, atol=1e-6)
  right = expected > 0
  moved = np.asarray(attacks.norms(result.images - model.images, norm=norm))
  np.testing.assert_allclose(moved[right], found[right], rtol=1e-5)
  assert (jnp.argmax(model.logits_fn(result.images), axis=-1) != model.labels).all()


@pytest.mark.parametrize("norm", attacks.NORMS)
def test_linear_distance_is_exact(linear, norm, key):
  check_exact(linear, norm, True, key)


@pytest.mark.parametrize("norm", attacks.NORMS)
def test_untargeted_crosses_the_nearest_boundary(linear4, norm, key):
  check_exact(linear4, norm, False, key)


def test_unreachable_boundary_gives_infinity(key):
  def logits_fn(x):
    return jnp.stack([5 + 0 * x.sum((1, 2, 3)), x.sum((1, 2, 3))], axis=1)

  images = jnp.full((1, 2, 2, 1), 0.5)  # the sum never exceeds 4
  result = attacks.fab(key, logits_fn, images, jnp.array([0]), num_steps=5)
  assert np.isinf(result.distances).all()
  np.testing.assert_array_equal(result.images, images)


def test_later_restarts_begin_elsewhere_and_never_hurt(mlp, key):
  def run(restarts):
    return jax.jit(
      lambda x: attacks.fab(
        key, mlp.logits_fn, x, mlp.labels, num_steps=3, num_targets=1, restarts=restarts,
        epsilon=0.2,
      )
    )(mlp.images)  # fmt: skip

  one, three = run(1), run(3)
  assert (three.distances <= one.distances).all()
  stage = _fab.stage(mlp.logits_fn, norm="linf", num_steps=3)
  for restart, largest in ((0, 0.0), (1, 0.1)):
    start = stage.start(
      jax.random.split(key, 12), mlp.images, mlp.labels, 0.2, _stage.Variant(restart, 0)
    )
    moved = float(jnp.abs(start.images - mlp.images).max())
    assert 0.9 * largest <= moved <= largest + 1e-6
