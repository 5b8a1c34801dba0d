# SPDX-License-Identifier: Apache-2.0
"""The Gauss-Newton curvature of dense and convolutional layers, factored: EK-FAC.

Papers: George et al. 2018, arXiv:1806.03884 (EK-FAC); Martens & Grosse 2015, arXiv:1503.05671
(K-FAC); Grosse & Martens 2016, arXiv:1602.01573 (convolutions); for influence: Grosse et al. 2023,
arXiv:2308.03296, Sec. 2.2.

Symbols, for one layer: a -> its inputs (of a convolution: the patches under the kernel), with a 1
behind them where it has a bias; g -> gradients in its outputs; A = E[a a^T], S = E[g g^T]; Q_A, Q_S
-> their eigenvectors. The gradient of the layer is sum a g^T over positions, and in the basis
Q_A x Q_S its curvature is taken as diagonal, with the right diagonal: E[(Q_A^T (sum a g^T) Q_S)^2].

Deviation: the outputs' curvature enters as an exact sum over its K square roots, one backward pass
each, where the papers draw labels from the network.

Layers are found in the traced program: a matrix product or a convolution (channels last, one
group) with a parameter as its right side. Any JAX network will do; the bias of a layer is the leaf
`bias` beside its leaf `kernel`. Other parameters (normalisation) are left out.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from mixboost_jax import loops
from mixboost_jax.analysis._influence import Problem, Vectors, over_batches

_CHANNELS_LAST = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
_VIEWS = ("convert_element_type", "reshape", "squeeze", "slice", "copy")
"""Operations that leave a parameter what it is, if its size stays."""
_ROUNDING = 1e-4
"""By how much, relative to the largest, outputs may differ where a network is cut."""


@dataclasses.dataclass(frozen=True, order=True)
class Layer:
  """A matrix product or a convolution; `kernel` and `bias` count the leaves of the parameters."""

  kernel: int
  bias: int | None
  shape: tuple[int, ...]
  """Of the kernel."""
  window: tuple[tuple[str, Any], ...] = ()
  """Of a convolution: strides, padding, dilations."""

  def rows(self, inputs: Float[Array, "N ..."]) -> Float[Array, "N positions A"]:
    """Returns a for every position."""
    if self.window:
      height, width = self.shape[:2]
      options = {**dict(self.window), "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
      inputs = lax.conv_general_dilated_patches(inputs, (height, width), **options)
    flat = inputs.astype(jnp.float32).reshape(len(inputs), -1, inputs.shape[-1])
    return flat if self.bias is None else jnp.pad(flat, ((0, 0), (0, 0), (0, 1)), constant_values=1)

  def matrix(self, leaves: Sequence[Array]) -> Float[Array, "A D"]:
    """Returns the entries of this layer in leaves like the parameters."""
    kernel = leaves[self.kernel]
    if self.window:  # patches have their channels first
      kernel = kernel.transpose(2, 0, 1, 3)
    kernel = kernel.reshape(-1, self.shape[-1])
    return kernel if self.bias is None else jnp.concatenate([kernel, leaves[self.bias][None]])

  def put(self, leaves: list[Array], matrix: Float[Array, "A D"]) -> None:
    """Writes a matrix like that of `matrix` into the list."""
    if self.bias is not None:
      leaves[self.bias], matrix = matrix[-1], matrix[:-1]
    if self.window:
      height, width, inputs, outputs = self.shape
      matrix = matrix.reshape(inputs, height, width, outputs).transpose(1, 2, 0, 3)
    leaves[self.kernel] = matrix.reshape(leaves[self.kernel].shape)


class Seen(NamedTuple):
  """What a run has met, by layer."""

  outputs: Array
  inputs: dict[Layer, Array]
  layer_outputs: dict[Layer, Array]


Change = Callable[[Layer, Array], Array]
"""`(layer, its output) -> what takes its place`."""


def run_layers(
  predict: Callable, params: Any, inputs: Any, *, change: Change = lambda layer, output: output
) -> Seen:
  """Runs a network and notes the inputs and outputs of its layers."""
  leaves, tree = jax.tree.flatten(params)
  places = {path: i for i, (path, _) in enumerate(jax.tree_util.tree_flatten_with_path(params)[0])}
  biases = {i: places.get(_beside(path)) for path, i in places.items()}
  program = jax.make_jaxpr(
    lambda leaves, inputs: predict(jax.tree.unflatten(tree, leaves), inputs)
  )(leaves, inputs)
  noted: dict[Layer, Array] = {}
  made: dict[Layer, Array] = {}

  def visit(equation: Any, values: list[Array], sources: list[int | None]) -> Array:
    output = equation.primitive.bind(*values, **equation.params)
    layer = _layer_of(equation, sources[1], leaves, biases)
    if layer is None:
      return output
    if any(layer.kernel == one.kernel for one in noted):
      raise ValueError(
        f"analysis: parameter number {layer.kernel} of shape {list(layer.shape)} is used in two "
        "layers; EK-FAC needs one layer for each."
      )
    noted[layer], made[layer] = values[0], change(layer, output)
    return made[layer]

  every = [*leaves, *jax.tree.leaves(inputs)]
  sources = [*range(len(leaves)), *(None for _ in every[len(leaves) :])]
  (outputs,), _ = _evaluate(program.jaxpr, program.consts, every, sources, visit)
  return Seen(outputs, noted, made)


def _beside(path: tuple[Any, ...]) -> tuple[Any, ...]:
  """Returns the path of the bias of a kernel; of other leaves a path that there is not."""
  kernel, bias = jax.tree_util.DictKey("kernel"), jax.tree_util.DictKey("bias")
  return (*path[:-1], bias) if path[-1:] == (kernel,) else (*path, bias)


def _evaluate(
  program: Any, consts: Sequence[Any], values: list[Any], sources: list[int | None], visit: Callable
) -> tuple[list[Any], list[int | None]]:
  """Evaluates a program; `sources` says which values are parameters, by number.

  Inner programs that get a parameter are entered, and so lose a derivative rule of their own: that
  of JAX for their content is as good.
  """
  found = dict(zip(program.constvars, consts, strict=True))
  found |= dict(zip(program.invars, values, strict=True))
  source = dict(zip(program.invars, sources, strict=True))

  def read(variable: Any) -> tuple[Any, int | None]:
    if isinstance(variable, core.Literal):
      return variable.val, None
    return found[variable], source.get(variable)

  for equation in program.eqns:
    given = [read(variable) for variable in equation.invars]
    own, whose = [value for value, _ in given], [number for _, number in given]
    inner = _inner(equation)
    if inner is not None and any(number is not None for number in whose):
      made, origins = _evaluate(inner.jaxpr, inner.consts, own, whose, visit)
    elif equation.primitive.name in ("dot_general", "conv_general_dilated"):
      made, origins = [visit(equation, own, whose)], [None]
    else:
      options = equation.primitive.get_bind_params(equation.params)
      functions, options = options if isinstance(options, tuple) else ((), options)  # older JAX
      made = equation.primitive.bind(*functions, *own, **options)
      made = list(made) if equation.primitive.multiple_results else [made]
      is_view = equation.primitive.name in _VIEWS and made[0].size == own[0].size
      origins = [whose[0] if is_view else None] * len(made)
    found |= dict(zip(equation.outvars, made, strict=True))
    source |= dict(zip(equation.outvars, origins, strict=True))
  pairs = [read(variable) for variable in program.outvars]
  return [value for value, _ in pairs], [number for _, number in pairs]


def _inner(equation: Any) -> Any:
  """Returns the program that an equation runs once, if it does."""
  if equation.primitive.name in ("scan", "while", "cond"):
    return None
  for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
    inner = equation.params.get(name)
    if inner is not None and len(getattr(inner, "in_avals", ())) == len(equation.invars):
      return inner
  return None


def _layer_of(
  equation: Any, number: int | None, leaves: Sequence[Array], biases: Mapping[int, int | None]
) -> Layer | None:
  if number is None:
    return None
  shape, params = equation.invars[1].aval.shape, equation.params
  bias = biases[number]
  if bias is not None and leaves[bias].shape != shape[-1:]:
    bias = None
  if equation.primitive.name == "dot_general":
    contracted, batched = params["dimension_numbers"]
    last = equation.invars[0].aval.ndim - 1
    fits = contracted == ((last,), (0,)) and not any(batched) and len(shape) == 2
    return Layer(number, bias, shape) if fits else None
  groups = params["feature_group_count"], params["batch_group_count"]
  if params["dimension_numbers"] != _CHANNELS_LAST or groups != (1, 1):
    return None
  names = ("window_strides", "padding", "lhs_dilation", "rhs_dilation")
  return Layer(number, bias, shape, tuple((name, tuple(params[name])) for name in names))


class Factor(NamedTuple):
  """Eigenvectors of both sides of a layer, and the curvature along each pair of them."""

  left: Float[Array, "A A"]
  right: Float[Array, "D D"]
  values: Float[Array, "A D"]


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=("params", "factors"), meta_fields=("layers",)
)
@dataclasses.dataclass(frozen=True)
class EkFac:
  """A factored curvature; a pytree, made by `fit_ekfac`."""

  params: Any
  """Of the network, whose layout vectors have."""
  factors: tuple[Factor, ...]
  layers: tuple[Layer, ...]

  def multiply(self, vectors: Vectors, *, damping: float = 0.0, power: int = 1) -> Vectors:
    """Multiplies vectors with the curvature plus damping; parameters outside of layers become 0.

    Args:
      vectors: as many entries as there are parameters.
      damping: added to the diagonal, >= 0; > 0 to divide.
      power: 1, or -1 to divide.
    """
    _, unravel = ravel_pytree(self.params)

    def one(vector: Float[Array, " P"]) -> Float[Array, " P"]:
      tree = unravel(vector)
      leaves, structure = jax.tree.flatten(tree)
      kept: list[Array] = [jnp.zeros_like(leaf) for leaf in leaves]
      for layer, (left, right, values) in zip(self.layers, self.factors, strict=True):
        turned = left.T @ layer.matrix(leaves) @ right
        layer.put(kept, left @ (turned * (values + damping) ** power) @ right.T)
      return ravel_pytree(jax.tree.unflatten(structure, kept))[0]

    return jax.vmap(one)(vectors)

  def solve(self, vectors: Vectors, *, damping: float) -> Vectors:
    """Returns H^-1 v for each vector."""
    return self.multiply(vectors, damping=damping, power=-1)


def fit_ekfac(problem: Problem) -> EkFac:
  """Fits the factors on all examples, which it passes twice.

  ```python
  predict = lambda params, x: x.mean((1, 2)) @ params  # outputs[N, 4]
  problem = analysis.Problem(predict, losses.cross_entropy, jnp.zeros((3, 4)), images, labels)
  tests = analysis.gradients(problem, images[:2], labels[:2])
  solved = analysis.fit_ekfac(problem).solve(tests, damping=0.1)
  ```

  Raises:
    ValueError: if the network has no such layer, or one that shares its parameters with another.
  """
  layers = layers_of(problem)
  if not layers:
    raise ValueError(
      "analysis.fit_ekfac: no matrix product or convolution with a parameter was found in "
      "`predict`; use conjugate_gradients."
    )
  start = {layer: [jnp.zeros((n, n)) for n in _sides(layer)] for layer in layers}
  moments = _over_roots(problem, start, _moments)
  bases = {
    layer: (jnp.linalg.eigh(inputs)[1], jnp.linalg.eigh(outputs)[1])
    for layer, (inputs, outputs) in moments.items()
  }
  zeros = {layer: jnp.zeros(_sides(layer)) for layer in layers}
  values = _over_roots(problem, zeros, functools.partial(_diagonal, bases=bases))
  factors = tuple(Factor(*bases[layer], values=values[layer]) for layer in layers)
  return EkFac(problem.params, factors, tuple(layers))


def layers_of(problem: Problem) -> list[Layer]:
  """Returns the layers in the order of the program."""
  layers: list[Layer] = []

  def note(layer: Layer, output: Array) -> Array:
    layers.append(layer)
    return output

  run = functools.partial(run_layers, problem.predict, change=note)
  jax.eval_shape(run, problem.params, problem.inputs[:1])
  return layers


def _sides(layer: Layer) -> tuple[int, int]:
  """Returns the lengths of a and g."""
  return math.prod(layer.shape[:-1]) + (layer.bias is not None), layer.shape[-1]


def _over_roots(problem: Problem, start: Any, add: Callable) -> Any:
  """Sums what `add(total, a of each layer, g of each layer, weights)` makes of each square root."""

  def of_batch(total: Any, rows: Int[Array, " R"], weights: Float[Array, " R"]) -> Any:
    inputs, targets = problem.inputs[rows], problem.targets[rows]

    def shifted(shifts: dict[Layer, Array]) -> tuple[Array, dict[Layer, Array]]:
      seen = run_layers(
        problem.predict, problem.params, inputs, change=lambda layer, out: out + shifts[layer]
      )
      return seen.outputs, seen.inputs

    plain = jax.eval_shape(lambda: run_layers(problem.predict, problem.params, inputs))
    zeros = {layer: jnp.zeros(o.shape, o.dtype) for layer, o in plain.layer_outputs.items()}
    outputs, pull, found = jax.vjp(shifted, zeros, has_aux=True)
    seen = {layer: layer.rows(value) for layer, value in found.items()}

    def of_root(total: Any, cotangent: Float[Array, "R K"]) -> tuple[Any, None]:
      (pulled,) = pull(cotangent.astype(outputs.dtype))
      flat = {layer: g.reshape(len(g), -1, g.shape[-1]) for layer, g in pulled.items()}
      return add(total, seen, jax.tree.map(jnp.float32, flat), weights), None

    roots = jnp.moveaxis(_square_roots(problem, outputs, targets), -1, 0)
    return loops.scan(of_root, total, roots)[0]

  return over_batches(problem, start, of_batch)


def _square_roots(problem: Problem, outputs: Any, targets: Any) -> Float[Array, "N K K"]:
  """Returns R with R R^T the second derivative of each loss in its outputs."""

  def loss(output: Any, target: Any) -> Any:
    return problem.loss(output[None], target[None])[0]

  second = jax.vmap(jax.hessian(loss))(outputs.astype(jnp.float32), targets)
  values, vectors = jnp.linalg.eigh(second)
  return vectors * jnp.sqrt(jnp.maximum(values, 0.0))[:, None]


def _moments(total: Any, rows: Any, gradients: Any, weights: Array) -> Any:
  """Adds up A and S; a constant factor does not change their eigenvectors."""
  found = {}
  for layer, (inputs, outputs) in total.items():
    a, g = rows[layer], gradients[layer]
    found[layer] = [
      inputs + jnp.einsum("n,npa,npb->ab", weights, a, a),
      outputs + jnp.einsum("n,npd,npe->de", weights, g, g),
    ]
  return found


def _diagonal(total: Any, rows: Any, gradients: Any, weights: Array, *, bases: Any) -> Any:
  """Adds up the squares of the examples' gradients in the basis of the factors."""
  found = {}
  for layer, values in total.items():
    left, right = bases[layer]
    turned = jnp.einsum("npa,npd->nad", rows[layer] @ left, gradients[layer] @ right)
    found[layer] = values + jnp.einsum("n,nad->ad", weights, turned**2)
  return found


class LastLayer(NamedTuple):
  """The problem of the last layer alone, and what makes its inputs."""

  problem: Problem
  features: Callable[[Any], Array]
  """Inputs of the network -> inputs of the last layer, `problem.batch_size` at a time."""


def last_layer(problem: Problem) -> LastLayer:
  """Takes the parameters before the last matrix product as given.

  What is left is small enough for `direct`: a dict of `kernel` and, if the layer has one, `bias`.

  ```python
  params = jnp.ones((3, 5)), jnp.ones((5, 4))
  predict = lambda params, x: jnp.tanh(x.mean((1, 2)) @ params[0]) @ params[1]
  problem = analysis.Problem(predict, losses.cross_entropy, params, images, labels)
  assert analysis.last_layer(problem).features(images).shape == (8, 5)
  ```

  Raises:
    ValueError: if there is no matrix product at the end, or more than it leads to the outputs.
  """
  layer = next(iter(layers_of(problem)[::-1]), None)
  if layer is None or layer.window:
    raise ValueError("analysis.last_layer: expected a matrix product at the end of the network.")
  leaves = jax.tree.leaves(problem.params)
  params = {"kernel": leaves[layer.kernel]}
  if layer.bias is not None:
    params["bias"] = leaves[layer.bias]
  example = jnp.zeros_like(problem.inputs[:1])

  def predict(params: Any, features: Any) -> Array:
    """Lets the network go on behind the product; what comes before it is not computed."""
    output = features @ params["kernel"]
    if layer.bias is not None:  # the network adds its own
      output += (params["bias"] - leaves[layer.bias])[None]
    shown = jnp.repeat(example, len(output), axis=0)

    def replace(one: Layer, old: Array) -> Array:
      return output if one == layer else old

    return run_layers(problem.predict, problem.params, shown, change=replace).outputs

  def features(inputs: Any) -> Array:
    def of_rows(rows: Int[Array, " R"]) -> Array:
      return run_layers(problem.predict, problem.params, inputs[rows]).inputs[layer]

    options = {"max_rows": problem.batch_size, "has_gradient": False}
    return loops.map_rows(of_rows, len(inputs), **options)

  @jax.jit
  def difference(few: Any) -> tuple[Array, Array]:
    wanted = problem.predict(problem.params, few)
    found = predict(params, features(few))
    return jnp.max(jnp.abs(found - wanted)), jnp.max(jnp.abs(wanted))

  error, largest = difference(problem.inputs[:8])
  if not error <= _ROUNDING * largest:
    raise ValueError("analysis.last_layer: more than the last layer leads to the outputs.")
  inputs = jax.jit(features)(problem.inputs)
  own = Problem(predict, problem.loss, params, inputs, problem.targets, problem.batch_size)
  return LastLayer(own, features)
