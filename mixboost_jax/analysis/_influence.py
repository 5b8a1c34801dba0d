# SPDX-License-Identifier: Apache-2.0
"""What single training examples do to the loss on single test examples.

Papers: Koh & Liang 2017, arXiv:1703.04730 (influence functions, conjugate gradients, LiSSA);
Pruthi et al. 2020, arXiv:2002.08484 (TracIn); the lecture of Eghbal-zadeh 2020, slides "Influence
analysis" and "Gradient-norm".

Symbols: L -> loss of an example, g -> its gradient in the parameters, H -> curvature of the mean
training loss plus `damping` times the identity, n -> `num_train`. Where z is taken out of the
training set, the parameters move by about H^-1 g_z / n, and the loss on a test example by

  removal effect(z, test) = + g_test^T H^-1 g_z / n,

so a positive one is that of a helpful example. The formula of the lecture, -g_test^T H^-1 g_z, is
the effect of weighing z up, of the opposite sign; its worked example (0.3 - 0.2 = +0.1) is a
removal effect, and so are all numbers here.

An L2 term weight/2 |params|^2 of the training loss adds weight to the curvature: it is a part of
`damping`. Vectors are flat, in the order of `jax.flatten_util.ravel_pytree`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Shaped

from mixboost_jax import checks, loops
from mixboost_jax.array_types import PerExample, PRNGKey

Inputs = Shaped[Array, "N ..."]
Targets = Shaped[Array, "N ..."]
Vector = Float[Array, " P"]
Vectors = Float[Array, "T P"]
CURVATURES = ("gauss_newton", "hessian")
MAX_DIRECT = 8192
"""Most parameters for which `direct` makes the whole matrix."""


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=("params", "inputs", "targets"),
  meta_fields=("predict", "loss", "batch_size"),
)
@dataclasses.dataclass(frozen=True)
class Problem:
  """A trained network and the examples whose mean loss it minimises; a pytree.

  Attributes:
    predict: `(params, inputs[N, ...]) -> outputs[N, K]`; a row depends on its own input only.
    loss: `(outputs[N, K], targets[N, ...]) -> losses[N]`.
    params: tree of float arrays.
    inputs: of the training examples.
    targets: of the training examples.
    batch_size: examples that are in memory at a time.
  """

  predict: Callable[[Any, Any], Array]
  loss: Callable[[Array, Any], Array]
  params: Any
  inputs: Any
  targets: Any
  batch_size: int = 64

  def losses(self, params: Any, inputs: Any, targets: Any) -> Any:
    """Returns the loss of each example."""
    return self.loss(self.predict(params, inputs), targets)


class Products(NamedTuple):
  """Inner products of some vectors with the gradients of some examples."""

  values: Float[Array, "T N"]
  norms: Float[Array, " N"]
  """Of the gradients."""


class Factors(NamedTuple):
  """g_test^T g = |g_test| |g| cos: what is left of the influence where H is the identity."""

  test_norms: Float[Array, " T"]
  norms: Float[Array, " N"]
  cosines: Float[Array, "T N"]


def gradients(problem: Problem, inputs: Inputs, targets: Targets) -> Float[Array, "N P"]:
  """Returns the gradient of the loss of each example, whatever examples they are.

  ```python
  predict = lambda params, x: x.mean((1, 2)) @ params  # outputs[N, 4]
  problem = analysis.Problem(predict, losses.cross_entropy, jnp.zeros((3, 4)), images, labels)
  assert analysis.gradients(problem, images, labels).shape == (8, 12)
  ```
  """

  def of_example(one: Any, target: Any) -> Vector:
    def loss(params: Any) -> Any:
      return problem.losses(params, one[None], target[None])[0]

    return ravel_pytree(jax.grad(loss)(problem.params))[0]

  def of_rows(rows: Int[Array, " R"]) -> Float[Array, "R P"]:
    return jax.vmap(of_example)(inputs[rows], targets[rows])

  options = {"max_rows": problem.batch_size, "has_gradient": False}
  return loops.map_rows(of_rows, len(inputs), **options)


def inner_products(
  problem: Problem, vectors: Vectors, inputs: Inputs, targets: Targets
) -> Products:
  """Multiplies vectors with the gradients of examples, which are never all in memory.

  ```python
  predict = lambda params, x: x.mean((1, 2)) @ params  # outputs[N, 4]
  problem = analysis.Problem(predict, losses.cross_entropy, jnp.zeros((3, 4)), images, labels)
  tests = analysis.gradients(problem, images[:2], labels[:2])
  products = analysis.inner_products(problem, tests, images, labels)  # values[2, 8], norms[8]
  ```
  """

  def of_rows(rows: Int[Array, " R"]) -> tuple[Float[Array, "R T"], Float[Array, " R"]]:
    own = gradients(problem, inputs[rows], targets[rows])
    return own @ vectors.T, jnp.linalg.norm(own, axis=1)

  options = {"max_rows": problem.batch_size, "has_gradient": False}
  values, norms = loops.map_rows(of_rows, len(inputs), **options)
  return Products(values.T, norms)


@checks.inputs()
def removal_effects(products: Float[Array, "T N"], *, num_train: int) -> Float[Array, "T N"]:
  """Returns by how much the loss on each test example rises where one training example is missing.

  Paper: Koh & Liang 2017, Sec. 2.1 (removal is an up-weighting by -1/n).

  ```python
  products = jnp.array([[8.0, -8.0]])  # one test example, two training examples
  effects = analysis.removal_effects(products, num_train=8)
  assert effects.tolist() == [[1.0, -1.0]]  # the first one helps, the second one harms
  ```

  Args:
    products: of H^-1 g_test (`conjugate_gradients`, `lissa`, `direct`, `EkFac.solve`) with the
      gradients of training examples, real or augmented.
    num_train: n, the examples that the network was trained on.
  """
  return products / num_train


@checks.inputs()
def factorise(
  products: Float[Array, "T N"], test_norms: Float[Array, " T"], norms: Float[Array, " N"]
) -> Factors:
  """Splits g_test^T g into the norms of both gradients and the cosine between them.

  Paper: lecture of Eghbal-zadeh 2020, slides "Gradient-norm" (H^-1 crossed out).

  ```python
  own = jnp.array([[3.0, 4.0], [0.0, 2.0]])  # gradients of two examples
  norms = jnp.linalg.norm(own, axis=1)
  factors = analysis.factorise(own @ own.T, norms, norms)
  assert jnp.allclose(factors.cosines, jnp.array([[1.0, 0.8], [0.8, 1.0]]))
  ```

  Args:
    products: `inner_products(problem, g_test, ...).values`.
    test_norms: of the gradients of the test examples.
    norms: of those of the training examples.
  """
  both = test_norms[:, None] * norms[None]
  return Factors(test_norms, norms, jnp.where(both > 0, products / jnp.maximum(both, 1e-30), 0.0))


def curvature_product(
  problem: Problem, vector: Vector, *, curvature: str = "gauss_newton", damping: float = 0.0
) -> Vector:
  """Multiplies a vector with the curvature of the mean training loss.

  Only reverse mode is used, which every network of this library has.

  ```python
  predict = lambda params, x: x.mean((1, 2)) @ params  # outputs[N, 4]
  problem = analysis.Problem(predict, losses.cross_entropy, jnp.zeros((3, 4)), images, labels)
  product = analysis.curvature_product(problem, jnp.ones(12), damping=0.1)
  ```

  Args:
    problem: network and training examples.
    vector: as many entries as there are parameters.
    curvature: "gauss_newton", J^T (second derivative of the loss in the outputs) J, never negative;
      or "hessian", the whole second derivative.
    damping: added to the diagonal, >= 0.
  """

  def add(total: Vector, rows: Int[Array, " R"], weights: PerExample) -> Vector:
    return total + _product(problem, vector, rows, weights, curvature)

  return over_batches(problem, damping * vector, add)


def over_batches(problem: Problem, start: Any, add: Callable[[Any, Any, Any], Any]) -> Any:
  """Goes through the examples: `add(total, rows, weights)`; weights sum to 1 over all batches.

  What fills the last batch up has weight 0.
  """
  num = len(problem.inputs)
  size = min(problem.batch_size, num)
  count = -(-num // size)

  def step(total: Any, rows: Int[Array, " R"]) -> tuple[Any, None]:
    return add(total, jnp.minimum(rows, num - 1), (rows < num) / num), None

  return loops.scan(step, start, jnp.arange(count * size).reshape(count, size))[0]


def _product(
  problem: Problem, vector: Vector, rows: Int[Array, " R"], weights: PerExample, curvature: str
) -> Vector:
  """Multiplies with the curvature of a weighted sum of losses."""
  if curvature not in CURVATURES:
    raise ValueError(
      f"analysis: curvature must be one of {', '.join(CURVATURES)}, got {curvature!r}."
    )
  flat, unravel = ravel_pytree(problem.params)
  inputs, targets = problem.inputs[rows], problem.targets[rows]

  def predict(flat: Vector) -> Float[Array, "R K"]:
    return problem.predict(unravel(flat), inputs)

  def total(outputs: Float[Array, "R K"]) -> Float[Array, ""]:
    return jnp.sum(weights * problem.loss(outputs, targets))

  if curvature == "hessian":  # it is symmetric, so its transpose does as well
    return jax.vjp(jax.grad(lambda flat: total(predict(flat))), flat)[1](vector)[0]
  outputs, pull = jax.vjp(predict, flat)
  push = jax.vjp(lambda cotangent: pull(cotangent)[0], outputs)[1]  # the transpose of J^T is J
  curved = jax.jvp(jax.grad(total), (outputs,), push(vector))[1]
  return pull(curved)[0]


def conjugate_gradients(
  problem: Problem,
  vectors: Vectors,
  *,
  damping: float,
  curvature: str = "gauss_newton",
  num_steps: int = 100,
  tolerance: float = 1e-5,
) -> Vectors:
  """Solves H x = v for each vector v.

  Paper: Koh & Liang 2017, Sec. 3 (Martens 2010).
  Deviation: the start is 0, where the published code starts at v.

  ```python
  predict = lambda params, x: x.mean((1, 2)) @ params  # outputs[N, 4]
  problem = analysis.Problem(predict, losses.cross_entropy, jnp.zeros((3, 4)), images, labels)
  tests = analysis.gradients(problem, images[:2], labels[:2])
  solved = analysis.conjugate_gradients(problem, tests, damping=0.1)
  ```

  Args:
    problem: network and training examples.
    vectors: gradients of test examples.
    damping: added to the diagonal of the curvature, >= 0; with the Hessian of a network it has to
      outweigh its negative eigenvalues.
    curvature: "gauss_newton" or "hessian".
    num_steps: at most.
    tolerance: of the residual, relative to v.
  """
  product = functools.partial(curvature_product, problem, curvature=curvature, damping=damping)

  def solve(carry: None, vector: Vector) -> tuple[None, Vector]:
    options = {"tol": tolerance, "maxiter": num_steps}
    return carry, jax.scipy.sparse.linalg.cg(product, vector, **options)[0]

  return loops.scan(solve, None, vectors)[1]


def lissa(
  key: PRNGKey,
  problem: Problem,
  vectors: Vectors,
  *,
  damping: float,
  scale: float,
  num_steps: int,
  curvature: str = "gauss_newton",
  repeats: int = 1,
) -> Vectors:
  """Solves H x = v by a series over random batches: x <- v + x - H_batch x / scale, then x / scale.

  Paper: Agarwal et al. 2017, arXiv:1602.03943; Koh & Liang 2017, Sec. 3 (stochastic estimation).

  ```python
  predict = lambda params, x: x.mean((1, 2)) @ params  # outputs[N, 4]
  problem = analysis.Problem(predict, losses.cross_entropy, jnp.zeros((3, 4)), images, labels)
  tests = analysis.gradients(problem, images[:2], labels[:2])
  solved = analysis.lissa(key, problem, tests, damping=0.1, scale=2.0, num_steps=50)
  ```

  Args:
    key: draws the batches, of `problem.batch_size` examples; the same ones for every vector.
    problem: network and training examples.
    vectors: gradients of test examples.
    damping: added to the diagonal of the curvature (d = damping / scale of the published code).
    scale: larger than the largest eigenvalue of any batch plus damping, or the series diverges.
    num_steps: terms of the series; about scale / damping are needed.
    curvature: "gauss_newton" or "hessian".
    repeats: independent series that are averaged.
  """
  num = len(problem.inputs)
  size = min(problem.batch_size, num)
  weights = jnp.full(size, 1.0 / size)

  def one_series(total: Vectors, own: PRNGKey) -> tuple[Vectors, None]:
    def term(index: Int[Array, ""], found: Vectors) -> Vectors:
      rows = jax.random.randint(jax.random.fold_in(own, index), (size,), 0, num)

      def multiply(carry: None, vector: Vector) -> tuple[None, Vector]:
        return carry, _product(problem, vector, rows, weights, curvature) + damping * vector

      return vectors + found - loops.scan(multiply, None, found)[1] / scale

    return total + loops.repeat(term, vectors, num_steps), None

  total, _ = loops.scan(one_series, jnp.zeros_like(vectors), jax.random.split(key, repeats))
  return total / (scale * repeats)


def direct(
  problem: Problem, vectors: Vectors, *, damping: float, curvature: str = "gauss_newton"
) -> Vectors:
  """Solves H x = v with the whole matrix H, for a last layer (`last_layer`) or a tiny network.

  ```python
  predict = lambda params, x: x.mean((1, 2)) @ params  # outputs[N, 4]
  problem = analysis.Problem(predict, losses.cross_entropy, jnp.zeros((3, 4)), images, labels)
  tests = analysis.gradients(problem, images[:2], labels[:2])
  solved = analysis.direct(problem, tests, damping=0.1)
  ```

  Raises:
    ValueError: if the matrix is too large.
  """
  size = vectors.shape[1]
  if size > MAX_DIRECT:
    raise ValueError(
      f"analysis.direct: {size} parameters make a matrix of {size}^2; at most {MAX_DIRECT} are "
      "solved for directly, use conjugate_gradients or fit_ekfac."
    )

  def columns(rows: Int[Array, " R"]) -> Float[Array, "R P"]:
    basis = jax.nn.one_hot(rows, size)
    product = functools.partial(curvature_product, problem, curvature=curvature)
    return jax.vmap(product)(basis)

  matrix = loops.map_rows(columns, size, max_rows=64, has_gradient=False)
  damped = 0.5 * (matrix + matrix.T) + damping * jnp.eye(size)
  return jnp.linalg.solve(damped, vectors.T).T


def tracin(
  problem: Problem,
  checkpoints: Sequence[Any],
  rates: Sequence[float],
  tests: tuple[Any, Any],
  examples: tuple[Any, Any],
) -> Float[Array, "T N"]:
  """Returns sum_k rate_k g_test(k)^T g(k) over checkpoints k: positive for a helpful example.

  Paper: Pruthi et al. 2020, Sec. 3.2 (TracInCP). No curvature is needed.

  ```python
  predict = lambda params, x: x.mean((1, 2)) @ params  # outputs[N, 4]
  problem = analysis.Problem(predict, losses.cross_entropy, jnp.zeros((3, 4)), images, labels)
  checkpoints, rates = [jnp.zeros((3, 4)), jnp.ones((3, 4))], [0.1, 0.01]
  scores = analysis.tracin(problem, checkpoints, rates, (images[:2], labels[:2]), (images, labels))
  ```

  Args:
    problem: network, whose own parameters are not used.
    checkpoints: parameters along the training.
    rates: learning rate at each of them.
    tests: inputs and targets of the test examples.
    examples: inputs and targets of the training examples.
  """
  total: Any = 0.0
  for params, rate in zip(checkpoints, rates, strict=True):
    there = dataclasses.replace(problem, params=params)
    total += rate * inner_products(there, gradients(there, *tests), *examples).values
  return total
