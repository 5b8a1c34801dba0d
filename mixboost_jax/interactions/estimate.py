# SPDX-License-Identifier: Apache-2.0
"""What a Monte Carlo estimate of interactions holds: means, standard errors, |I| without bias.

Symbols (Deng et al. 2022, arXiv:2111.06236): Delta v -> `differences`, T -> contexts per pair,
I^(m)(i, j) -> `mean`, |I^(m)(i, j)| -> `absolute`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mixboost_jax.interactions.quantiles import student_quantile

Debias = Literal["none", "half", "jackknife"]
Statistic = Callable[[Array], Array]
"""Of the differences of a pair: the last axis, its contexts, is reduced."""

NUM_SPLITS = 6
"""Ways to part the contexts in the corrections of |I|; more lower the variance a little."""


@dataclasses.dataclass(frozen=True)
class MultiOrder:
  """Sampled Delta v of every order, pair and context; under `vmap` all arrays gain leading axes.

  Attributes:
    orders: the orders m.
    num_players: n of the game.
    pairs: players i, j of each column.
    differences: Delta v(i, j, S); an order with one context only repeats its value.
    clusters: pairs that share evaluations have one number; errors of an average over pairs are
      taken over clusters.
    block: consecutive contexts that belong together (balanced); blocks are independent.
    evaluations: number of coalitions evaluated.
  """

  orders: tuple[int, ...]
  num_players: int
  pairs: Int[Array, "*b P 2"]
  differences: Float[Array, "*b M P T"]
  clusters: Int[Array, "*b P"]
  block: int
  evaluations: int

  @property
  def num_contexts(self) -> int:
    """Contexts T per pair and order."""
    return self.differences.shape[-1]

  @property
  def block_means(self) -> Float[Array, "*b M P B"]:
    """Mean of each independent block of contexts."""
    shape = self.differences.shape
    return self.differences.reshape(*shape[:-1], -1, self.block).mean(-1)

  @property
  def mean(self) -> Float[Array, "*b M P"]:
    """Unbiased estimate of I^(m)(i, j)."""
    return self.differences.mean(-1)

  @property
  def stderr(self) -> Float[Array, "*b M P"]:
    """Standard error of `mean`, from the spread of the blocks; NaN with a single block."""
    blocks = self.block_means
    count = blocks.shape[-1]
    if count < 2:
      return jnp.full(blocks.shape[:-1], jnp.nan)
    return blocks.std(-1, ddof=1) / count**0.5

  def interval(
    self, *, confidence: float = 0.95
  ) -> tuple[Float[Array, "*b M P"], Float[Array, "*b M P"]]:
    """Student t interval of I^(m)(i, j): (low, high)."""
    blocks = self.num_contexts // self.block
    reach = student_quantile(0.5 + confidence / 2, degrees=blocks - 1) * self.stderr
    return self.mean - reach, self.mean + reach

  def absolute(self, *, debias: Debias = "jackknife") -> Float[Array, "*b M P"]:
    """Estimates |I^(m)(i, j)|, to be averaged over pairs.

    The plain |mean| is biased upwards, because noise that crosses zero does not cancel. If noise
    is small against the spread of I over pairs, that bias of the average is proportional to the
    variance of the noise, so sub-samples reveal it.

    Args:
      debias: "none" is |mean|; "half" is `2 |mean| - mean of |half-sample mean|`; "jackknife"
        removes the next term too, with quarter samples. They need an even (divisible by 4) number
        of blocks; with fewer, the weaker correction is used.
    """
    return self._debiased(_size, debias)

  def consistency(self, *, debias: Debias = "jackknife") -> Float[Array, "*b M P"]:
    """Estimates |E Delta v| / E |Delta v|, whose mean over pairs is D^(m); 0 where Delta v is 0.

    The plain ratio is biased upwards as |mean| is, and corrected in the same way.
    """
    return self._debiased(_consistency, debias)

  def absolute_bias(self, *, debias: Debias = "jackknife") -> Float[Array, "*b M P"]:
    """Estimates, to be averaged over pairs, the bias that `absolute` has left.

    It is the weaker correction minus the jackknife. Where that is not small the series behind both
    has not converged, and what the jackknife leaves is of this size or a few times larger. 0 where
    the number of blocks allows no second correction.
    """
    weaker: Debias = "none" if debias == "none" else "half"
    return self.absolute(debias=weaker) - self.absolute(debias="jackknife")

  def _debiased(self, statistic: Statistic, debias: Debias) -> Float[Array, "*b M P"]:
    """Corrects a function of the contexts of a pair by its values on parts of them."""
    shape = self.differences.shape
    blocks = self.differences.reshape(*shape[:-1], -1, self.block)
    count, plain = blocks.shape[-2], statistic(self.differences)
    if debias == "none" or count % 2:
      return plain
    half = _sub_sample(blocks, 2, statistic)
    if debias == "half" or count % 4:
      return 2 * plain - half
    return (8 * plain - 6 * half + _sub_sample(blocks, 4, statistic)) / 3


def _size(contexts: Array) -> Array:
  return jnp.abs(contexts.mean(-1))


def _consistency(contexts: Array) -> Array:
  spread = jnp.abs(contexts).mean(-1)
  return _size(contexts) / jnp.where(spread > 0, spread, 1.0)


def _sub_sample(
  blocks: Float[Array, "*b M P B C"], parts: int, statistic: Statistic
) -> Float[Array, "*b M P"]:
  """Mean of a statistic of a part, averaged over `NUM_SPLITS` fixed ways to part the blocks."""
  count, draw = blocks.shape[-2], np.random.default_rng(0)
  total = jnp.zeros(blocks.shape[:-2])
  for split in range(NUM_SPLITS):
    order = draw.permutation(count) if split else np.arange(count)
    parted = blocks[..., order, :].reshape(*blocks.shape[:-2], parts, -1)
    total += statistic(parted).mean(-1)
  return total / NUM_SPLITS


jax.tree_util.register_dataclass(
  MultiOrder,
  data_fields=["pairs", "differences", "clusters"],
  meta_fields=["orders", "num_players", "block", "evaluations"],
)


def to_json(result: MultiOrder) -> dict[str, Any]:
  """Returns plain lists: orders, pairs, mean, stderr, evaluations."""
  return {
    "orders": list(result.orders),
    "num_players": result.num_players,
    "pairs": np.asarray(result.pairs).tolist(),
    "mean": np.asarray(result.mean, np.float64).tolist(),
    "stderr": np.asarray(result.stderr, np.float64).tolist(),
    "num_contexts": result.num_contexts,
    "block": result.block,
    "evaluations": result.evaluations,
  }
