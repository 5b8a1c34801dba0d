# SPDX-License-Identifier: Apache-2.0
"""Synthetic functions of binary inputs whose true baseline values are known by construction.

Every term is an AND of literals, or its complement. If x_i appears plainly in the AND, its
baseline is 0; if it appears negated, 1: then the term is silent as soon as one of its variables
is absent.

Paper: Ren et al. 2021, arXiv:2105.10719, Table 3 in its slides (four of its functions are
printed), and random functions of the same family. `parse` reads the notation of its released
list.
"""

import dataclasses
import functools
import operator
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mixboost_jax.array_types import PRNGKey

Variables = tuple[int, ...]
Columns = Sequence[Float[Array, "*b"]]
MIN_SUM = 1e-6
"""Least sum that is raised to a power: a finite slope at zero."""


def _product(columns: Columns, variables: Variables) -> Float[Array, "*b"]:
  return functools.reduce(operator.mul, [columns[v] for v in variables])


@dataclasses.dataclass(frozen=True)
class Product:
  """scale * (product of `factors`) * (sum of `summed`)**exponent; the power only if `summed`.

  Terms are pytrees of their numbers, so terms of one form share a compiled program.
  """

  factors: Variables
  scale: float = -1.0
  summed: Variables = ()
  exponent: float = 1.0

  def of_columns(self, columns: Columns) -> Float[Array, "*b"]:
    """Value of the term, one array per input."""
    value = _product(columns, self.factors) if self.factors else jnp.ones(columns[0].shape)
    if self.summed:
      total = functools.reduce(operator.add, [columns[v] for v in self.summed])
      value *= jnp.maximum(total, MIN_SUM) ** self.exponent
    return self.scale * value

  @property
  def variables(self) -> Variables:
    """Numbers of the inputs that the term reads."""
    return (*self.factors, *self.summed)

  @property
  def negated(self) -> Variables:
    """Inputs whose true baseline is 1."""
    return ()


@dataclasses.dataclass(frozen=True)
class Sigmoid:
  """scale * sigmoid(steepness * (sum of `plus` products - sum of `minus` products) + bias).

  Let P and N count the products of `plus` and `minus`, and K be the steepness. With bias
  -(P - 0.5) K it is on for one combination only: all of `plus`, none of `minus`. With bias
  (N - 0.5) K it is off for one combination only: all of `minus`, none of `plus`.
  """

  plus: tuple[Variables, ...]
  minus: tuple[Variables, ...]
  bias: float
  scale: float = -1.0
  steepness: float = 4.0

  def of_columns(self, columns: Columns) -> Float[Array, "*b"]:
    """Value of the term, one array per input."""
    signed = [(1.0, one) for one in self.plus] + [(-1.0, one) for one in self.minus]
    level = functools.reduce(operator.add, [sign * _product(columns, one) for sign, one in signed])
    return self.scale * jax.nn.sigmoid(self.steepness * level + self.bias)

  @property
  def variables(self) -> Variables:
    """Numbers of the inputs that the term reads."""
    return tuple(v for one in (*self.plus, *self.minus) for v in one)

  @property
  def negated(self) -> Variables:
    """Inputs whose true baseline is 1.

    Raises:
      ValueError: if the term is neither an AND of literals nor the complement of one.
    """
    level = self.bias / self.steepness
    on = abs(level + len(self.plus) - 0.5) < 1e-6 and all(len(one) == 1 for one in self.minus)
    off = abs(level - len(self.minus) + 0.5) < 1e-6 and all(len(one) == 1 for one in self.plus)
    if not on and not off:
      raise ValueError(f"Sigmoid: {self} is not an AND of literals, so no baseline is true.")
    return tuple(one[0] for one in (self.minus if on else self.plus))


jax.tree_util.register_dataclass(
  Product, data_fields=["scale", "exponent"], meta_fields=["factors", "summed"]
)
jax.tree_util.register_dataclass(
  Sigmoid, data_fields=["bias", "scale", "steepness"], meta_fields=["plus", "minus"]
)


@dataclasses.dataclass(frozen=True)
class SyntheticFunction:
  """A sum of terms."""

  num_inputs: int
  terms: tuple[Product | Sigmoid, ...]

  def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b"]:
    """Sum of the terms at `x`."""
    return self.of_columns([x[..., i] for i in range(self.num_inputs)])

  def of_columns(self, columns: Columns) -> Float[Array, "*b"]:
    """Sum of the terms, one array per input."""
    return functools.reduce(operator.add, [term.of_columns(columns) for term in self.terms])

  @property
  def truth(self) -> Float[np.ndarray, " D"]:
    """True baseline: 1 for negated variables, 0 for the others."""
    negated = {v for term in self.terms for v in term.negated}
    return np.array([float(v in negated) for v in range(self.num_inputs)])


_NUMBER = r"\d+(?:\.\d+)?"
_SIGMOID = re.compile(rf"([+-])sigmoid\((.*?)([+-]{_NUMBER})\)")
_MONOMIAL = re.compile(rf"([+-])({_NUMBER})([a-z](?:\*[a-z])*)")
_POWER = re.compile(rf"([+-])({_NUMBER})?\*?([a-z](?:\*[a-z])*)?(?:\*?\(([a-z+]+)\)\^({_NUMBER}))?")


def parse(text: str) -> SyntheticFunction:
  """Reads a function such as "-0.185*a*(b+c)^2.432|+sigmoid(-6d*e-6f+6g+9.00)".

  Terms are parted by "|"; the variables a, b, ... are inputs 0, 1, ...

  Raises:
    ValueError: if a term cannot be read.
  """
  terms = tuple(_term(part.strip()) for part in text.split("|"))
  return SyntheticFunction(1 + max(v for term in terms for v in term.variables), terms)


def _term(text: str) -> Product | Sigmoid:
  if found := _SIGMOID.fullmatch(text):
    sign, inner, bias = found.groups()
    parts = _MONOMIAL.findall(inner)
    slopes = {slope for _, slope, _ in parts}
    if len(slopes) == 1 and "".join(map("".join, parts)) == inner:
      plus, minus = (tuple(_numbers(m) for s, _, m in parts if s == side) for side in "+-")
      return Sigmoid(plus, minus, float(bias), float(f"{sign}1"), float(slopes.pop()))
  elif (found := _POWER.fullmatch(text)) and (found[3] or found[4]):
    sign, scale, factors, summed, exponent = found.groups()
    return Product(
      _numbers(factors or ""), float(sign + (scale or "1")), _numbers(summed or ""),
      float(exponent or 1),
    )  # fmt: skip
  raise ValueError(f"functions.parse: cannot read the term {text!r}.")


def _numbers(letters: str) -> Variables:
  return tuple(ord(letter) - ord("a") for letter in letters if letter.isalpha())


PAPER_FUNCTIONS: dict[str, SyntheticFunction] = {
  "F1": parse("-0.185*a*(b+c)^2.432|-d*e*f*g"),
  "F2": parse("-sigmoid(-4a-4b-4c+2.00)|-0.011*d*(e+f+g+h+i)^2.341"),
  "F3": parse("-a*b*c|+sigmoid(-5d-5e-5f-5g+2.50)|-h*i"),
  "F4": parse("-sigmoid(+4a-4b+4c-6.00)|-d*e*f*g|-h*i*j"),
}
"""Deviation: F3 is printed as sigmoid(-5 x4 x5 x6 x7 + 2.5), for which the stated baseline of 1 is
wrong (0 leaves fewer patterns); it is right for sigmoid(-5 (x4 + x5 + x6 + x7) + 2.5), used here.
F1 and F2 are as printed in the slides; the released file has longer terms."""

PRINTED_F3 = parse("-a*b*c|+sigmoid(-5d*e*f*g+2.50)|-h*i")
"""F3 as printed; `truth` is 0 everywhere, against the 1 that the slides state for x4 to x7."""


def random_function(
  key: PRNGKey, *, min_inputs: int = 6, max_inputs: int = 12
) -> SyntheticFunction:
  """Draws a function of the paper's family: disjoint terms of 2 to 5 variables.

  Args:
    key: consumed.
    min_inputs: fewest variables.
    max_inputs: most variables.
  """
  draw = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
  num_inputs = int(draw.integers(min_inputs, max_inputs + 1))
  terms: list[Product | Sigmoid] = []
  first = 0
  while first < num_inputs:
    size = int(min(draw.integers(2, 6), num_inputs - first))
    variables = tuple(range(first, first + size))
    kind = ("product", "power", "sigmoid")[int(draw.integers(3))] if size > 2 else "product"
    scale = float(draw.choice([-1.0, 1.0]))
    if kind == "power":
      exponent = float(draw.uniform(2.0, 2.6))
      scale /= (size - 1) ** exponent
      terms.append(Product(variables[:1], scale, variables[1:], exponent))
    elif kind == "sigmoid":
      minus = tuple((v,) for v in variables if draw.random() < 0.5)
      plus = tuple((v,) for v in variables if (v,) not in minus)
      steepness = float(draw.integers(4, 7))
      terms.append(Sigmoid(plus, minus, -(len(plus) - 0.5) * steepness, scale, steepness))
    else:
      terms.append(Product(variables, scale))
    first += size
  return SyntheticFunction(num_inputs, tuple(terms))


def binary_inputs(num_inputs: int) -> Int[np.ndarray, "rows D"]:
  """Returns all 2**D binary inputs."""
  return (np.arange(1 << num_inputs)[:, None] >> np.arange(num_inputs)) % 2


def accuracy(baseline: Float[Array, " D"], truth: Float[Array, " D"]) -> Float[Array, ""]:
  """Fraction of features on the true side of 0.5, strictly; 0.5 itself counts as wrong."""
  return jnp.mean(jnp.where(truth > 0.5, baseline > 0.5, baseline < 0.5))
