# SPDX-License-Identifier: Apache-2.0
"""One number that divides all logits so that confidences become honest.

Paper: Guo et al. 2017, arXiv:1706.04599 (temperature scaling).

The negative log-likelihood is convex in the inverse temperature, so the sign of its slope there
is all that either search needs.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mixboost_jax import checks
from mixboost_jax.array_types import Labels, Logits, Scalar
from mixboost_jax.metrics import classification

_WIDEST = 1e4  # the unrestricted search looks in [1 / _WIDEST, _WIDEST]


def _nll_slope(logits: Logits, labels: Labels, temperature: Scalar) -> Scalar:
  """Returns d NLL / d (1 / T) = mean_n (E_p[z] - z_label), p = softmax(z / T)."""
  probabilities = jax.nn.softmax(logits / temperature, axis=-1)
  centred = logits - jnp.take_along_axis(logits, labels[:, None], axis=-1)
  return (probabilities * centred).sum(axis=-1).mean()


def _bisect(is_too_high: Callable[[Scalar], Array], low: float, high: float, turns: int) -> Scalar:
  def narrow(_: object, bracket: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
    left, right = bracket
    middle = 0.5 * (left + right)
    too_high = is_too_high(middle)
    return jnp.where(too_high, left, middle), jnp.where(too_high, middle, right)

  left, right = jax.lax.fori_loop(0, turns, narrow, (jnp.float32(low), jnp.float32(high)))
  return 0.5 * (left + right)


@checks.inputs(values="known")
def bisect_temperature(
  logits: Logits, labels: Labels, *, low: float = 0.2, high: float = 5.0, tolerance: float = 1e-4
) -> Scalar:
  """Returns the temperature in [low, high] of least negative log-likelihood, by bisection.

  Paper: Hendrycks et al. 2022, arXiv:2112.05135: the published code bisects T in [0.2, 5] to 1e-4.

  Args:
    logits: of a held-out set, never of the test set.
    labels: class numbers in [0, K).
    low: smallest temperature, > 0.
    high: largest temperature, > low.
    tolerance: width of the last bracket.

  Raises:
    ValueError: if the bracket is empty.
  """
  if not 0 < low < high:
    raise ValueError(f"bisect_temperature: expected 0 < low < high, got low={low}, high={high}.")
  turns = max(0, math.ceil(math.log2((high - low) / tolerance)))
  # A negative slope in 1/T: the likelihood still grows towards lower temperatures.
  temperature = _bisect(lambda t: _nll_slope(logits, labels, t) <= 0, low, high, turns)
  return jnp.where(classification.usable(logits, labels).all(), temperature, jnp.nan)


@checks.inputs(values="known")
def fit_temperature(logits: Logits, labels: Labels, *, num_steps: int = 60) -> Scalar:
  """Returns the temperature of least negative log-likelihood, without a narrow search range.

  Bisection of the logarithm of T over [1e-4, 1e4]; 60 halvings reach float32 precision. If all
  predictions are right, colder is always better and the lower end comes back.

  Args:
    logits: of a held-out set, never of the test set.
    labels: class numbers in [0, K).
    num_steps: number of halvings.
  """
  limit = math.log(_WIDEST)
  log_temperature = _bisect(
    lambda log_t: _nll_slope(logits, labels, jnp.exp(log_t)) <= 0, -limit, limit, num_steps
  )
  known = classification.usable(logits, labels).all()
  return jnp.where(known, jnp.exp(log_temperature), jnp.nan)
