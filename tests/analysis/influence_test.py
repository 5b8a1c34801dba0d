# SPDX-License-Identifier: Apache-2.0
"""Influence against what really happens where an example is left out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

from mixboost_jax import analysis, losses
from mixboost_jax.analysis import Problem


def squared(outputs, targets):
  return 0.5 * ((outputs - targets) ** 2).sum(-1)


def linear(params, inputs):
  return inputs @ params


def mlp(params, inputs):
  return jnp.tanh(inputs @ params["w1"]) @ params["w2"] + params["b2"][None]


INNER_PRODUCTS, GRADIENTS = jax.jit(analysis.inner_products), jax.jit(analysis.gradients)


def newton(risk, params, num_steps):
  """Minimises a convex function of a flat vector."""
  step = lambda _, p: p - jnp.linalg.solve(jax.hessian(risk)(p), jax.grad(risk)(p))  # noqa: E731
  return jax.lax.fori_loop(0, num_steps, step, params)


@pytest.fixture(scope="module")
def ridge():
  """(problem, test inputs, test targets, weight): n = 40 examples of 4 numbers, 1 output."""
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(46, 4)) * [1.0, 2.0, 0.5, 1.0]
  targets = inputs @ rng.normal(size=(4, 1)) + 0.5 * rng.normal(size=(46, 1))
  x, y, weight = inputs[:40], targets[:40], 0.3
  solution = np.linalg.solve(x.T @ x / 40 + weight * np.eye(4), x.T @ y / 40)
  parts = (solution, x, y, inputs[40:], targets[40:])
  params, x, y, *tests = (jnp.asarray(part, jnp.float32) for part in parts)
  return Problem(linear, squared, params, x, y, batch_size=16), *tests, weight


def solved_by(name, problem, vectors, weight):
  if name == "cg":
    return analysis.conjugate_gradients(problem, vectors, damping=weight, tolerance=1e-6)
  if name == "direct":
    return analysis.direct(problem, vectors, damping=weight)
  return analysis.fit_ekfac(problem).solve(vectors, damping=weight)


@pytest.mark.parametrize("solver", ["cg", "direct", "ekfac"])
def test_ridge_regression_is_exact_up_to_leverage(ridge, solver):
  """Left-out example i moves the solution by H^-1 g_i / n / (1 - h_i) exactly, and the loss on a
  test example by the gradient times that, plus half the square of the change of its output."""
  problem, test_x, test_y, weight = ridge

  @jax.jit
  def effects_of(problem, test_x, test_y):
    tested = analysis.gradients(problem, test_x, test_y)
    vectors = solved_by(solver, problem, tested, weight)
    found = analysis.inner_products(problem, vectors, problem.inputs, problem.targets)
    return analysis.removal_effects(found.values, num_train=40)

  effects = np.asarray(effects_of(problem, test_x, test_y), np.float64)
  x, y, test_x, test_y = (
    np.asarray(a, np.float64) for a in (problem.inputs, problem.targets, test_x, test_y)
  )
  curvature = x.T @ x / 40 + weight * np.eye(4)
  whole = np.linalg.solve(curvature, x.T @ y / 40)
  leverage = np.einsum("ni,ni->n", x, np.linalg.solve(curvature, x.T).T) / 40
  for i in range(40):
    kept = np.arange(40) != i
    a, b = x[kept], y[kept]
    refit = np.linalg.solve(a.T @ a / 40 + weight * np.eye(4), a.T @ b / 40)
    rise = 0.5 * ((test_x @ refit - test_y) ** 2 - (test_x @ whole - test_y) ** 2)[:, 0]
    moved = (test_x @ (refit - whole))[:, 0]
    expected = effects[:, i] / (1 - leverage[i]) + 0.5 * moved**2
    np.testing.assert_allclose(rise, expected, rtol=1e-3, atol=1e-5)
  assert abs(effects).max() > 0.01


def test_logistic_regression_left_out_one_by_one():
  rng = np.random.default_rng(1)
  inputs = jnp.asarray(rng.normal(size=(90, 4)), jnp.float32)
  labels = jnp.argmax(inputs @ rng.normal(size=(4, 3)) + rng.gumbel(size=(90, 3)), axis=1)
  soft, weight = jax.nn.one_hot(labels, 3), 0.02
  x, y, test_x, test_y = inputs[:80], soft[:80], inputs[80:], soft[80:]

  def risk(keep, flat):
    values = losses.cross_entropy(linear(flat.reshape(4, 3), x), y)
    return (keep * values).sum() / 80 + 0.5 * weight * (flat**2).sum()

  def refit(keep):
    return newton(functools.partial(risk, keep), jnp.zeros(12), 8)

  def test_losses(flat):
    return losses.cross_entropy(linear(flat.reshape(4, 3), test_x), test_y)

  whole = jax.jit(refit)(jnp.ones(80))
  left_out = jax.jit(jax.vmap(refit))(1 - jnp.eye(80))
  exact = np.asarray(jax.jit(jax.vmap(test_losses))(left_out) - test_losses(whole)[None]).T
  problem = Problem(linear, losses.cross_entropy, whole.reshape(4, 3), x, y, batch_size=32)
  tested = GRADIENTS(problem, test_x, test_y)
  options = {"damping": weight, "curvature": "hessian", "num_steps": 50}
  solve = jax.jit(functools.partial(analysis.conjugate_gradients, **options))
  found = INNER_PRODUCTS(problem, solve(problem, tested), x, y).values
  effects = np.asarray(analysis.removal_effects(found, num_train=80))
  assert stats.spearmanr(effects.ravel(), exact.ravel()).statistic > 0.99
  assert abs(effects - exact).sum() < 0.15 * abs(exact).sum()


@pytest.fixture(scope="module")
def retrained():
  """A tiny network at its minimum, and the test losses of 200 that were trained without one."""
  rng = np.random.default_rng(2)
  inputs = jnp.asarray(rng.normal(size=(210, 3)), jnp.float32)
  labels = (inputs[:, 0] * inputs[:, 1] + 0.4 * rng.normal(size=210) > 0).astype(int)
  soft, weight = jax.nn.one_hot(labels, 2), 0.01
  x, y, tests = inputs[:200], soft[:200], (inputs[200:], soft[200:])
  sizes = {"w1": (3, 6), "w2": (6, 2), "b2": (2,)}
  first = {name: jnp.asarray(rng.normal(size=size), jnp.float32) for name, size in sizes.items()}

  def risk(params, keep):
    values = losses.cross_entropy(mlp(params, x), y)
    return (keep * values).sum() / 200 + 0.5 * weight * sum((p**2).sum() for p in params.values())

  flat, unravel = ravel_pytree(first)
  pull = jax.grad(lambda flat, keep: risk(unravel(flat), keep))

  def train(flat, keep, num_steps):
    def step(_, state):
      flat, velocity = state
      velocity = 0.9 * velocity - 0.3 * pull(flat, keep)
      return flat + velocity, velocity

    return jax.lax.fori_loop(0, num_steps, step, (flat, jnp.zeros_like(flat)))[0]

  @jax.jit
  def retrain(flat):
    flat, keep = train(flat, jnp.ones(200), 4000), 1 - jnp.eye(200)
    again = jax.vmap(train, (None, 0, None))(flat, keep, 1000)
    left = jnp.linalg.norm(jax.vmap(pull)(again, keep), axis=1).max()
    value = lambda flat: losses.cross_entropy(mlp(unravel(flat), tests[0]), tests[1])  # noqa: E731
    return flat, jax.vmap(value)(again) - value(flat)[None], left

  flat, rise, left = retrain(flat)
  assert left < 3e-4  # the example itself pulled with about 5e-3
  params, exact = unravel(flat), np.asarray(rise).T
  problem = Problem(mlp, losses.cross_entropy, params, x, y)
  return problem, tests, weight, exact


@pytest.mark.parametrize(
  ("method", "bound"), [("hessian", 0.97), ("gauss_newton", 0.95), ("ekfac", 0.7), ("tracin", 0.5)]
)
def test_rank_correlation_with_200_retrainings(retrained, method, bound):
  problem, tests, weight, exact = retrained

  def solve(problem, vectors):
    if method == "ekfac":
      return analysis.fit_ekfac(problem).solve(vectors, damping=weight)
    return analysis.direct(problem, vectors, damping=weight, curvature=method)

  vectors = GRADIENTS(problem, *tests)
  if method != "tracin":
    vectors = jax.jit(solve)(problem, vectors)
  effects = INNER_PRODUCTS(problem, vectors, problem.inputs, problem.targets).values
  correlation = stats.spearmanr(np.asarray(effects).ravel(), exact.ravel()).statistic
  print(method, correlation)
  assert correlation > bound


@pytest.fixture(scope="module")
def small():
  rng = np.random.default_rng(3)
  sizes = {"w1": (3, 4), "w2": (4, 2), "b2": (2,)}
  params = {name: jnp.asarray(rng.normal(size=size), jnp.float32) for name, size in sizes.items()}
  inputs = jnp.asarray(rng.normal(size=(11, 3)), jnp.float32)
  return Problem(
    mlp, losses.cross_entropy, params, inputs, jax.nn.one_hot(jnp.arange(11) % 2, 2), batch_size=4
  )


def dense(problem, curvature):
  flat, unravel = ravel_pytree(problem.params)

  def risk(flat):
    return problem.losses(unravel(flat), problem.inputs, problem.targets).mean()

  if curvature == "hessian":
    return jax.jit(jax.hessian(risk))(flat)
  jacobian = jax.jit(jax.jacfwd(lambda flat: mlp(unravel(flat), problem.inputs)))(flat)
  p = jax.nn.softmax(mlp(problem.params, problem.inputs))
  second = jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None]
  return jnp.einsum("nka,nkl,nlb->ab", jacobian, second, jacobian) / len(p)


@pytest.mark.parametrize("curvature", ["hessian", "gauss_newton"])
def test_products_are_those_of_the_whole_matrix(small, curvature):
  """11 examples in batches of 4: the last batch is not full."""
  matrix = dense(small, curvature)
  vectors = jax.random.normal(jax.random.key(0), (2, len(matrix)))
  options = {"curvature": curvature, "damping": 2.0}
  found = jax.jit(functools.partial(analysis.direct, **options))(small, vectors)
  expected = jnp.linalg.solve(matrix + 2 * jnp.eye(len(matrix)), vectors.T).T
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_lissa_arrives_where_every_batch_is_the_same(small):
  same = Problem(
    mlp,
    losses.cross_entropy,
    small.params,
    small.inputs[:1].repeat(5, 0),
    small.targets[:5] * 0 + 0.5,
  )
  vectors = jax.random.normal(jax.random.key(1), (2, 22))
  options = {"damping": 0.5, "scale": 6.0, "num_steps": 150, "repeats": 2}
  found = jax.jit(functools.partial(analysis.lissa, **options))(jax.random.key(2), same, vectors)
  matrix = dense(same, "gauss_newton") + 0.5 * jnp.eye(22)
  assert float(jnp.linalg.norm(matrix, 2)) < 6.0
  expected = jnp.linalg.solve(matrix, vectors.T).T
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_tracin_and_the_factors_of_the_lecture(small):
  checkpoints = [small.params, jax.tree.map(lambda leaf: 0.5 * leaf, small.params)]
  tests, examples = (small.inputs[:2], small.targets[:2]), (small.inputs, small.targets)
  found = jax.jit(lambda p, c: analysis.tracin(p, c, (0.1, 0.3), tests, examples))(
    small, checkpoints
  )

  @jax.jit
  def by_hand(params):
    flat, unravel = ravel_pytree(params)
    jacobian = jax.jacrev(lambda flat: small.losses(unravel(flat), *examples))(flat)
    return jacobian[:2] @ jacobian.T

  expected = 0.1 * by_hand(checkpoints[0]) + 0.3 * by_hand(checkpoints[1])
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
  vectors = GRADIENTS(small, *tests)
  products = INNER_PRODUCTS(small, vectors, *examples)
  norms = jnp.linalg.norm(vectors, axis=1)
  factors = analysis.factorise(products.values, norms, products.norms)
  np.testing.assert_allclose(jnp.diag(factors.cosines), 1, rtol=1e-5)
  whole = norms[:, None] * products.norms[None] * factors.cosines
  np.testing.assert_allclose(whole, by_hand(small.params), rtol=1e-4, atol=1e-6)


def test_wrong_arguments(small):
  vectors = jnp.zeros((1, 22))
  with pytest.raises(ValueError, match="curvature must be one of gauss_newton, hessian"):
    analysis.curvature_product(small, vectors[0], curvature="fisher")
  with pytest.raises(ValueError, match=r"9000 parameters make a matrix .* use conjugate_gradients"):
    analysis.direct(small, jnp.zeros((1, 9000)), damping=1.0)
