# SPDX-License-Identifier: Apache-2.0
"""Synthetic functions of binary inputs whose true baseline values are known by construction.

A term is an AND of literals. If x_i appears plainly, its baseline is 0; if it appears negated, 1:
then the term is silent as soon as one of its variables is absent.

Paper: Ren et al. 2021, arXiv:2105.10719, Table 2 (four of its functions, by hand), and random
functions of the same family.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mixboost_jax.array_types import PRNGKey

Kind = Literal["product", "power", "sigmoid"]


@dataclasses.dataclass(frozen=True)
class Term:
  """One summand of a synthetic function.

  Attributes:
    kind: "product" is scale * prod x; "power" is scale * x_first * (sum of the others)**exponent;
      "sigmoid" is scale * sigmoid(steepness * (sum of signed x) + bias), on when all literals hold.
    variables: numbers of the inputs.
    negated: which of them appear negated ("sigmoid" only).
    scale: coefficient.
    exponent: of "power".
    steepness: of "sigmoid".
  """

  kind: Kind
  variables: tuple[int, ...]
  negated: tuple[int, ...] = ()
  scale: float = -1.0
  exponent: float = 2.4
  steepness: float = 4.0

  def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b"]:
    """Value of the term at `x`."""
    chosen = x[..., np.array(self.variables)]
    if self.kind == "product":
      return self.scale * chosen.prod(-1)
    if self.kind == "power":
      base = jnp.maximum(chosen[..., 1:].sum(-1), 1e-6)  # a finite slope at zero
      return self.scale * chosen[..., 0] * base**self.exponent
    signs = jnp.array([-1.0 if v in self.negated else 1.0 for v in self.variables])
    num_plain = len(self.variables) - len(self.negated)
    level = (chosen * jnp.broadcast_to(signs, chosen.shape)).sum(-1)
    return self.scale * jax.nn.sigmoid(self.steepness * (level - num_plain + 0.5))


@dataclasses.dataclass(frozen=True)
class SyntheticFunction:
  """A sum of terms over disjoint or overlapping variables."""

  num_inputs: int
  terms: tuple[Term, ...]

  def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b"]:
    """Sum of the terms at `x`."""
    total = self.terms[0](x)
    for term in self.terms[1:]:
      total = total + term(x)
    return total

  @property
  def truth(self) -> Float[np.ndarray, " D"]:
    """True baseline: 1 for negated variables, 0 for the others."""
    negated = {v for term in self.terms for v in term.negated}
    return np.array([float(v in negated) for v in range(self.num_inputs)])


PAPER_FUNCTIONS: dict[str, SyntheticFunction] = {
  "F1": SyntheticFunction(
    7, (Term("power", (0, 1, 2), scale=-0.185, exponent=2.432), Term("product", (3, 4, 5, 6)))
  ),
  "F2": SyntheticFunction(
    9,
    (
      Term("sigmoid", (0, 1, 2), negated=(0, 1, 2)),
      Term("power", (3, 4, 5, 6, 7, 8), scale=-0.011, exponent=2.341),
    ),
  ),
  "F3": SyntheticFunction(
    9,
    (
      Term("product", (0, 1, 2)),
      Term("sigmoid", (3, 4, 5, 6), negated=(3, 4, 5, 6), scale=1.0, steepness=5.0),
      Term("product", (7, 8)),
    ),
  ),
  "F4": SyntheticFunction(
    10,
    (
      Term("sigmoid", (0, 1, 2), negated=(1,)),
      Term("product", (3, 4, 5, 6)),
      Term("product", (7, 8, 9)),
    ),
  ),
}
"""Deviation: F3 is printed as sigmoid(-5 x4 x5 x6 x7 + 2.5), for which the stated baseline of 1 is
wrong (0 leaves fewer patterns); it is right for sigmoid(-5 (x4 + x5 + x6 + x7) + 2.5), used here.
F1 and F2 are as printed in the slides; the released file has longer terms."""


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
  terms, first = [], 0
  while first < num_inputs:
    size = int(min(draw.integers(2, 6), num_inputs - first))
    variables = tuple(range(first, first + size))
    kind: Kind = ("product", "power", "sigmoid")[int(draw.integers(3))]
    if size < 3:
      kind = "product"
    scale = float(draw.choice([-1.0, 1.0]))
    if kind == "power":
      exponent = float(draw.uniform(2.0, 2.6))
      terms.append(Term(kind, variables, scale=scale / (size - 1) ** exponent, exponent=exponent))
    elif kind == "sigmoid":
      negated = tuple(v for v in variables if draw.random() < 0.5)
      steepness = float(draw.integers(4, 7))
      terms.append(Term(kind, variables, negated=negated, scale=scale, steepness=steepness))
    else:
      terms.append(Term(kind, variables, scale=scale))
    first += size
  return SyntheticFunction(num_inputs, tuple(terms))


def binary_inputs(num_inputs: int) -> Int[np.ndarray, "rows D"]:
  """Returns all 2**D binary inputs."""
  return (np.arange(1 << num_inputs)[:, None] >> np.arange(num_inputs)) % 2
