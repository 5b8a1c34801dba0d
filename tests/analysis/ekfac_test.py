# SPDX-License-Identifier: Apache-2.0
"""EK-FAC against the exact Gauss-Newton matrix of small networks; cutting off the last layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

from mixboost_jax import analysis, losses
from mixboost_jax.analysis import Problem
from mixboost_jax.models.layers import conv2d

NAMES = ("conv", "point", "fc")
NUM, CLASSES, DAMPING = 24, 3, 0.1


def squared(outputs, targets):
  return 0.5 * ((outputs - targets) ** 2).sum(-1)


def cnn(params, images):
  """3 x 3 of stride 2 with bias, a gain per channel, 1 x 1 without bias, dense with bias."""
  conv, point, fc = (params[name] for name in NAMES)
  hidden = conv2d(images, conv["kernel"], stride=2, padding=1) + conv["bias"][None, None, None]
  hidden = jnp.tanh(hidden * params["gain"][None, None, None])
  hidden = jax.nn.relu(conv2d(hidden, point["kernel"], stride=1, padding=0))
  features = hidden.reshape(len(images), -1)
  return 0.5 * jax.jit(lambda x, w: x @ w)(features, fc["kernel"]) + 0.5 * fc["bias"][None]


@pytest.fixture(scope="module")
def problem():
  rng = np.random.default_rng(0)
  shapes = {
    "conv": {"kernel": (3, 3, 2, 3), "bias": (3,)},
    "point": {"kernel": (1, 1, 3, 2)},
    "fc": {"kernel": (18, CLASSES), "bias": (CLASSES,)},
    "gain": (3,),
  }
  is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
  draw = lambda shape: jnp.asarray(0.5 * rng.normal(size=shape), jnp.float32)  # noqa: E731
  params = jax.tree.map(draw, shapes, is_leaf=is_shape)
  images = jnp.asarray(rng.normal(size=(NUM, 6, 6, 2)), jnp.float32)
  targets = jax.nn.one_hot(jnp.arange(NUM) % CLASSES, CLASSES)
  return Problem(cnn, losses.cross_entropy, params, images, targets, batch_size=9)


@pytest.fixture(scope="module")
def matrices(problem):
  """The exact Gauss-Newton matrix by the Jacobian, EK-FAC's as a matrix, places of the layers."""
  flat, unravel = ravel_pytree(problem.params)

  @jax.jit
  def exact(flat):
    outputs = cnn(unravel(flat), problem.inputs)
    jacobian = jax.jacrev(lambda flat: cnn(unravel(flat), problem.inputs))(flat)
    p = jax.nn.softmax(outputs)
    second = jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None]
    return jnp.einsum("nka,nkl,nlb->ab", jacobian, second, jacobian) / NUM

  fitted = jax.jit(analysis.fit_ekfac)(problem)
  number = {
    name: np.flatnonzero(
      ravel_pytree(
        {
          other: jax.tree.map(
            lambda leaf, on=(other == name): jnp.full(leaf.shape, float(on)), tree
          )
          for other, tree in problem.params.items()
        }
      )[0]
    )
    for name in problem.params
  }
  return np.asarray(exact(flat)), np.asarray(fitted.multiply(jnp.eye(len(flat)))), number, fitted


def test_the_factored_curvature_is_the_nearest_in_its_basis(matrices):
  """For Q D Q^T with the right D: same trace as G, and <G, E> = <E, E>, layer by layer."""
  exact, factored, places, _ = matrices
  for name in NAMES:
    own = np.ix_(places[name], places[name])
    g, e = exact[own].astype(np.float64), factored[own].astype(np.float64)
    np.testing.assert_allclose(np.trace(e), np.trace(g), rtol=1e-4)
    np.testing.assert_allclose((g * e).sum(), (e * e).sum(), rtol=1e-3)
    np.testing.assert_allclose(e, e.T, atol=1e-5)
    assert np.linalg.norm(g - e) < 0.75 * np.linalg.norm(g), name
    factored = factored.copy()
    factored[own] = 0
  assert not factored.any()  # nothing between layers, nothing for the gain


def test_linear_regression_is_exact():
  rng = np.random.default_rng(1)
  draws = [
    jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((7, 3), (7, 2), (3, 2), (2,))
  ]
  predict = lambda params, x: x @ params["kernel"] + params["bias"][None]  # noqa: E731
  inputs, targets, kernel, bias = draws
  problem = Problem(
    predict, squared, {"kernel": kernel, "bias": bias}, inputs, targets, batch_size=4
  )
  vectors = jax.random.normal(jax.random.key(0), (2, 8))
  found = jax.jit(lambda p: analysis.fit_ekfac(p).multiply(vectors, damping=0.1))(problem)
  curvature_product = jax.jit(lambda p, v: analysis.curvature_product(p, v, damping=0.1))
  for vector, own in zip(vectors, found, strict=True):
    expected = curvature_product(problem, vector)
    np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-5)


def test_influence_is_close_to_that_of_the_exact_matrix(problem, matrices):
  """Rank correlation over pairs of examples, on the parameters of layers."""
  exact, _, places, fitted = matrices
  covered = np.concatenate([places[name] for name in NAMES])
  own = np.asarray(jax.jit(analysis.gradients)(problem, problem.inputs, problem.targets))
  solved = np.asarray(fitted.solve(jnp.asarray(own), damping=DAMPING))
  np.testing.assert_allclose(
    fitted.multiply(jnp.asarray(solved), damping=DAMPING)[:, covered], own[:, covered], atol=1e-3
  )
  matrix = exact[np.ix_(covered, covered)] + DAMPING * np.eye(len(covered))
  wanted = own[:, covered] @ np.linalg.solve(matrix, own[:, covered].T)
  pairs = ~np.eye(NUM, dtype=bool)
  correlation = stats.spearmanr((solved @ own.T)[pairs], wanted[pairs]).statistic
  print(correlation)
  assert correlation > 0.75


def test_last_layer(problem, matrices):
  """Solving for the last layer alone is solving with its block of the exact matrix."""
  exact, _, places, _ = matrices
  own, features = analysis.last_layer(problem)
  gradients = jax.jit(analysis.gradients)
  vectors = gradients(own, jax.jit(features)(problem.inputs[:5]), problem.targets[:5])
  whole = gradients(problem, problem.inputs[:5], problem.targets[:5])
  np.testing.assert_allclose(vectors, whole[:, places["fc"]], rtol=1e-4, atol=1e-6)
  block = exact[np.ix_(places["fc"], places["fc"])]
  found = jax.jit(lambda own, v: analysis.direct(own, v, damping=0.1))(own, vectors)
  expected = np.linalg.solve(block + 0.1 * np.eye(len(block)), np.asarray(vectors).T).T
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_networks_that_do_not_fit(problem):
  twice = lambda params, x: x @ params["kernel"] @ params["kernel"]  # noqa: E731
  square = Problem(twice, squared, {"kernel": jnp.eye(2)}, jnp.ones((3, 2)), jnp.ones((3, 2)))
  with pytest.raises(ValueError, match=r"shape \[2, 2\] is used in two layers"):
    analysis.fit_ekfac(square)
  scaled = lambda params, x: x * params["gain"][None]  # noqa: E731
  without = Problem(scaled, squared, {"gain": jnp.ones(2)}, jnp.ones((3, 2)), jnp.ones((3, 2)))
  with pytest.raises(ValueError, match="use conjugate_gradients"):
    analysis.fit_ekfac(without)
  with pytest.raises(ValueError, match="expected a matrix product at the end"):
    analysis.last_layer(without)
  around = lambda params, x: x + x @ params["kernel"]  # noqa: E731
  skipping = Problem(around, squared, {"kernel": jnp.eye(2)}, jnp.ones((3, 2)), jnp.ones((3, 2)))
  with pytest.raises(ValueError, match="more than the last layer leads to the outputs"):
    analysis.last_layer(skipping)
