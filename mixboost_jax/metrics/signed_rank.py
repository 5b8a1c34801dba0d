# SPDX-License-Identifier: Apache-2.0
"""Wilcoxon's signed-rank test of paired runs, exact, in float64 on the host."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from mixboost_jax import checks


class SignedRank(NamedTuple):
  """What the test found."""

  statistic: float
  """Sum of the ranks of the positive differences a - b."""
  p_value: float
  num_pairs: int
  """Pairs that differ."""


@checks.inputs()
def wilcoxon(
  a: Sequence[float] | Any,
  b: Sequence[float] | Any,
  *,
  alternative: Literal["less", "greater", "two-sided"] = "less",
  zeros: Literal["wilcox", "pratt"] = "wilcox",
) -> SignedRank:
  """Tests whether the paired differences a - b are symmetric around 0.

  The p value is exact, also with ties: the distribution of the statistic over all signs of the
  ranks at hand, by dynamic programming. With n = 5 pairs it cannot fall below 1/32 one-sided and
  1/16 two-sided, so at the 5 % level five runs can only ever show a one-sided difference.

  Paper: Wilcoxon 1945, Biometrics Bull. 1, p. 80; Pratt 1959, J. Am. Stat. Assoc. 54, p. 655.

  Args:
    a: one value per run.
    b: the paired values, same length.
    alternative: "less" if a is believed to be smaller (an error, say).
    zeros: equal pairs are dropped before ranking ("wilcox") or after it ("pratt").

  Raises:
    ValueError: if the lengths differ, a value is not finite, or a name is unknown.
  """
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  if a.ndim != 1 or a.shape != b.shape or not len(a):
    raise ValueError(
      f"wilcoxon: expected two equally long lists of paired values, got shapes {a.shape} and "
      f"{b.shape}."
    )
  differences = a - b
  if not np.isfinite(differences).all():
    raise ValueError("wilcoxon: every value must be finite; leave out runs that did not finish.")
  if zeros == "wilcox":
    differences = differences[differences != 0]
  twice_ranks = _twice_ranks(np.abs(differences))[differences != 0]
  signs = differences[differences != 0] > 0
  statistic = int(twice_ranks[signs].sum())
  chances = _distribution(twice_ranks)
  at_most, at_least = chances[: statistic + 1].sum(), chances[statistic:].sum()
  p_value = {
    "less": at_most,
    "greater": at_least,
    "two-sided": 2 * min(at_most, at_least),
  }[alternative]
  return SignedRank(statistic / 2, float(min(1.0, p_value)), len(twice_ranks))


def _twice_ranks(values: np.ndarray) -> np.ndarray:
  """Returns twice the rank of each value, an integer; equal values share their mean rank."""
  ordered = np.sort(values)
  first = np.searchsorted(ordered, values, side="left")
  last = np.searchsorted(ordered, values, side="right")
  return first + last + 1


def _distribution(twice_ranks: np.ndarray) -> np.ndarray:
  """Returns P(sum of a random subset = s) for s = 0, 1, ..., sum(twice_ranks)."""
  chances = np.zeros(int(twice_ranks.sum()) + 1)
  chances[0] = 1.0
  reach = 0
  for rank in map(int, twice_ranks):
    halves = 0.5 * chances[: reach + 1]
    chances[: reach + 1] = halves
    chances[rank : reach + rank + 1] += halves
    reach += rank
  return chances
