# SPDX-License-Identifier: Apache-2.0
"""A measured curve J^(m) as plain rows and numbers, each with an interval over pictures.

Symbols (Deng et al. 2022, arXiv:2111.06236; Liu et al., MixBoost): J^(m) -> "relative",
M(a, b, c) -> "proxy", Delta F^(m) -> "change".
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mixboost_jax.interactions.proxies import proxy
from mixboost_jax.interactions.quantiles import student_quantile
from mixboost_jax.interactions.strength import Strength

NUM_RESAMPLES = 2000
LOW, HIGH = 0.2, 0.8
"""Orders up to 0.2 n are low, from 0.8 n on high: the bounds of M in the paper."""


@dataclasses.dataclass(frozen=True)
class Estimate:
  """One number with its interval; the ends are None with a single picture."""

  value: float
  low: float | None
  high: float | None


def curve_rows(
  result: Strength, *, confidence: float = 0.95, noisy: Strength | None = None
) -> list[dict[str, Any]]:
  """Returns one row per order: J^(m) with its interval, and the other quantities of the order.

  Args:
    result: from `estimate_strength`.
    confidence: level of the interval of J^(m), Student t over pictures: it holds the sampling of
      pictures, pairs and contexts. "stderr" is that of these pictures alone.
    noisy: the same pictures with noise; adds Delta F^(m) as "change".
  """
  reach = np.full(len(result.orders), np.nan)
  if len(result.per_game) > 1:
    quantile = student_quantile(0.5 + confidence / 2, degrees=len(result.per_game) - 1)
    reach = quantile * result.relative_stderr_over_games
  columns = {
    "ratio": np.asarray(result.orders) / max(1, result.num_players - 2),
    "relative": result.relative,
    "low": np.maximum(result.relative - reach, 0.0),  # J cannot be negative; NaN stays NaN
    "high": result.relative + reach,
    "stderr": result.relative_stderr,
    "strength": result.strength,
    "strength_stderr": result.stderr("absolute"),
    "average": result.average,
    "average_stderr": result.stderr("mean"),
    "positive_ratio": result.positive_ratio,
    "disentanglement": result.disentanglement,
    "bias": result.bias,
    "is_biased": result.is_biased.astype(float),
  }
  if noisy is not None:
    columns["change"] = np.abs(noisy.relative - result.relative)
  return [
    {"step": order, **{name: float(column[k]) for name, column in columns.items()}}
    for k, order in enumerate(result.orders)
  ]


def measures(
  result: Strength, *, confidence: float = 0.95, abc: tuple[float, float, float] = (0.2, 0.2, 0.8)
) -> dict[str, Estimate]:
  """Returns M(a, b, c) and the mean J of low, middle and high orders, with bootstrap intervals.

  A measure whose orders are not sampled is left out.

  Args:
    result: from `estimate_strength`.
    confidence: level of the intervals (percentiles over resampled pictures).
    abc: bounds of M.
  """
  ratios = np.asarray(result.orders) / max(1, result.num_players - 2)
  parts = {
    "interaction_low": ratios <= LOW,
    "interaction_middle": (ratios > LOW) & (ratios < HIGH),
    "interaction_high": ratios >= HIGH,
  }
  curves = np.concatenate([result.relative[None], _resampled(result)])
  table = {name: curves[:, rows].mean(1) for name, rows in parts.items() if rows.any()}
  try:
    a, b, c = abc
    bounds = {"num_players": result.num_players, "a": a, "b": b, "c": c}
    table = {"interaction_proxy": proxy(curves, result.orders, **bounds), **table}
  except ValueError:  # no low or no middle order was sampled
    pass
  return {name: _estimate(column, confidence) for name, column in table.items()}


def _resampled(result: Strength) -> Float[np.ndarray, "R M"]:
  """Curves J of pictures drawn with replacement."""
  count = len(result.per_game)
  if count < 2:
    return np.empty((0, len(result.orders)))
  rows = np.random.default_rng(0).integers(0, count, (NUM_RESAMPLES, count))
  curves = result.per_game[rows, 0].mean(1)
  return curves / curves.mean(1, keepdims=True)


def _estimate(column: Float[np.ndarray, " R"], confidence: float) -> Estimate:
  value, rest = float(column[0]), column[1:]
  if not len(rest):
    return Estimate(value, None, None)
  tail = (1 - confidence) / 2
  low, high = (float(end) for end in np.quantile(rest, (tail, 1 - tail)))
  return Estimate(value, min(low, value), max(high, value))


def permutation_p(
  x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, *, num_permutations: int = 4999
) -> tuple[float, float]:
  """Returns Pearson's r and the share of random pairings with |r| at least as large.

  All pairings are tried if there are at most 5,040.
  """
  first, second = (np.asarray(side, np.float64) - np.mean(side) for side in (x, y))
  scale = float(np.linalg.norm(first) * np.linalg.norm(second))
  if len(first) != len(second) or len(first) < 3 or not scale:
    raise ValueError(
      f"permutation_p: needs two lists of one length of at least 3 numbers that are not all "
      f"equal, got {len(first)} and {len(second)}."
    )
  r = float(first @ second) / scale
  if math.factorial(len(first)) <= 5040:
    orders = np.array(list(itertools.permutations(range(len(first)))))
    return r, float(np.mean(np.abs(second[orders] @ first) / scale >= abs(r) - 1e-12))
  draw = np.random.default_rng(0)
  orders = np.stack([draw.permutation(len(first)) for _ in range(num_permutations)])
  reached = int(np.sum(np.abs(second[orders] @ first) / scale >= abs(r) - 1e-12))
  return r, (1 + reached) / (1 + num_permutations)
