# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals of a proportion, in float64 on the host: plain numbers in and out."""

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mixboost_jax import checks
from mixboost_jax.array_types import PRNGKey


class Interval(NamedTuple):
  """Both ends belong to the interval."""

  low: float
  high: float


@checks.inputs()
def wilson(successes: int, count: int, *, confidence: float = 0.95) -> Interval:
  """Returns Wilson's score interval of a proportion: close to its nominal level on average.

  Paper: Wilson 1927, J. Am. Stat. Assoc. 22, p. 209.

  Args:
    successes: in [0, count].
    count: number of trials, >= 1.
    confidence: level in (0, 1).

  Raises:
    ValueError: if an argument is out of range.
  """
  _check(successes, count, confidence, "wilson")
  z = normal_quantile(0.5 + 0.5 * confidence)
  rate = successes / count
  shrink = 1.0 + z * z / count
  centre = (rate + z * z / (2 * count)) / shrink
  half = z / shrink * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
  low = 0.0 if successes == 0 else max(0.0, centre - half)
  high = 1.0 if successes == count else min(1.0, centre + half)
  return Interval(low, high)


@checks.inputs()
def clopper_pearson(successes: int, count: int, *, confidence: float = 0.95) -> Interval:
  """Returns the exact interval of a proportion: covers at least at its nominal level, always.

  The ends are the rates at which a binomial tail equals (1 - confidence) / 2, found by bisection of
  the summed tail.

  Paper: Clopper & Pearson 1934, Biometrika 26, p. 404.

  Args:
    successes: in [0, count].
    count: number of trials, >= 1.
    confidence: level in (0, 1).

  Raises:
    ValueError: if an argument is out of range.
  """
  _check(successes, count, confidence, "clopper_pearson")
  tail = 0.5 * (1 - confidence)
  low = 0.0 if successes == 0 else _rate_with_tail(successes, count, tail)
  mirrored = count - successes
  high = 1.0 if mirrored == 0 else 1.0 - _rate_with_tail(mirrored, count, tail)
  return Interval(low, high)


def normal_quantile(probability: float) -> float:
  """Returns the quantile of the standard normal distribution."""
  return statistics.NormalDist().inv_cdf(probability)


def _rate_with_tail(successes: int, count: int, tail: float) -> float:
  """Returns the rate p at which P(X >= successes) = tail for X ~ Binomial(count, p)."""
  log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
  wins = np.arange(successes, count + 1)
  log_ways = log_factorial[count] - log_factorial[wins] - log_factorial[count - wins]
  low, high = 0.0, 1.0
  for _ in range(60):
    rate = 0.5 * (low + high)
    upper = np.exp(log_ways + wins * math.log(rate) + (count - wins) * math.log1p(-rate)).sum()
    low, high = (low, rate) if upper > tail else (rate, high)
  return 0.5 * (low + high)


def _check(successes: int, count: int, confidence: float, place: str) -> None:
  if not 0 <= successes <= count or count < 1:
    raise ValueError(
      f"{place}: expected 0 <= successes <= count and count >= 1, got {successes} of {count}."
    )
  if not 0 < confidence < 1:
    raise ValueError(f"{place}: confidence must be in (0, 1), got {confidence}.")


# Intervals of any statistic of a test set, by the bootstrap.
#
# Paper: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", ch. 13.

Method = Literal["percentile", "basic", "recentred"]


class PairedDifference(NamedTuple):
  """Statistic of the first minus that of the second set of values."""

  estimate: float
  interval: Interval
  p_value: float
  """Two-sided: twice the smaller share of resamples on either side of 0."""


@checks.inputs()
def resample_indices(key: PRNGKey, num_examples: int, *, num_draws: int) -> Int[Array, " N"]:
  """Draws `num_draws` of `num_examples` places with replacement, in ascending order.

  Order statistics of uniform variables are normalised sums of exponential ones, so nothing needs
  sorting; values that were sorted stay sorted when they are resampled.
  """
  steps = jax.random.exponential(key, (num_draws + 1,))
  sums = jnp.cumsum(steps)
  places = jnp.floor(sums[:-1] / sums[-1] * num_examples).astype(jnp.int32)
  return jnp.minimum(places, num_examples - 1)


@checks.inputs()
def replicate(
  key: PRNGKey,
  statistic_fn: Callable[..., Any],
  arrays: tuple[Array, ...],
  *,
  num_resamples: int = 1000,
  chunk_size: int = 20,
) -> Any:
  """Returns `statistic_fn` of resampled examples, `num_resamples` times.

  Args:
    key: consumed.
    statistic_fn: arrays -> scalar or tree of scalars; must not depend on the order of examples,
      except that arrays sorted by the caller stay sorted.
    arrays: equally long; the same examples are drawn from each.
    num_resamples: >= 1.
    chunk_size: resamples computed at once; memory grows with it, the result does not change.

  Returns:
    The tree of `statistic_fn` with a leading axis of `num_resamples`.

  Raises:
    ValueError: if there are no examples or the lengths differ.
  """
  lengths = {len(array) for array in arrays}
  if len(lengths) != 1 or 0 in lengths:
    raise ValueError(
      f"bootstrap: expected equally long, non-empty arrays, got lengths {sorted(lengths)}."
    )
  return _replicate(
    key, arrays, statistic_fn=statistic_fn, num_resamples=num_resamples, chunk_size=chunk_size
  )


# Compiled once per statistic: pass the same function object again to use it again.
@functools.partial(jax.jit, static_argnames=("statistic_fn", "num_resamples", "chunk_size"))
def _replicate(
  key: PRNGKey,
  arrays: tuple[Array, ...],
  *,
  statistic_fn: Callable[..., Any],
  num_resamples: int,
  chunk_size: int,
) -> Any:
  num_examples = len(arrays[0])

  def once(index: Array) -> Any:
    own_key = jax.random.fold_in(key, index)
    places = resample_indices(own_key, num_examples, num_draws=num_examples)
    return statistic_fn(*(array[places] for array in arrays))

  return jax.lax.map(once, jnp.arange(num_resamples), batch_size=chunk_size)


@checks.inputs()
def interval_of(
  replicates: Any, estimate: float, *, confidence: float = 0.95, method: Method = "percentile"
) -> Interval:
  """Turns bootstrap replicates into an interval.

  Args:
    replicates: values of the statistic on resamples.
    estimate: its value on the original set.
    confidence: level in (0, 1).
    method: "percentile"; "basic" (reflected at the estimate); "recentred" (percentiles shifted so
      that the replicates' mean meets the estimate: the spread of a statistic that is biased
      upwards by resampling, such as a binned calibration error).

  Raises:
    ValueError: if `method` or `confidence` is out of range.
  """
  if not 0 < confidence < 1:
    raise ValueError(f"bootstrap: confidence must be in (0, 1), got {confidence}.")
  values = np.asarray(replicates, np.float64)
  tail = 50.0 * (1 - confidence)
  low, high = (float(end) for end in np.percentile(values, [tail, 100 - tail]))
  if method == "percentile":
    return Interval(low, high)
  if method == "basic":
    return Interval(2 * estimate - high, 2 * estimate - low)
  shift = estimate - float(values.mean())
  return Interval(low + shift, high + shift)


@checks.inputs()
def bootstrap(
  key: PRNGKey,
  statistic_fn: Callable[..., Array],
  arrays: tuple[Array, ...],
  *,
  num_resamples: int = 1000,
  confidence: float = 0.95,
  method: Method = "percentile",
  chunk_size: int = 20,
) -> Interval:
  """Returns the bootstrap interval of one statistic; see `replicate` and `interval_of`."""
  estimate = float(statistic_fn(*arrays))
  values = replicate(key, statistic_fn, arrays, num_resamples=num_resamples, chunk_size=chunk_size)
  return interval_of(values, estimate, confidence=confidence, method=method)


@checks.inputs()
def paired_bootstrap(
  key: PRNGKey,
  statistic_fn: Callable[..., Array],
  first: tuple[Array, ...],
  second: tuple[Array, ...],
  *,
  num_resamples: int = 1000,
  confidence: float = 0.95,
  chunk_size: int = 20,
) -> PairedDifference:
  """Compares two models on the same examples, drawing the same resamples for both.

  Args:
    key: consumed.
    statistic_fn: arrays -> scalar, independent of the order of examples.
    first: arrays of the first model, one entry per example.
    second: arrays of the second model, same examples in the same order.
    num_resamples: >= 1.
    confidence: level in (0, 1).
    chunk_size: as in `replicate`.

  Raises:
    ValueError: if the lengths differ.
  """
  num_first = len(first)

  def difference(*arrays: Array) -> Array:
    return statistic_fn(*arrays[:num_first]) - statistic_fn(*arrays[num_first:])

  estimate = float(difference(*first, *second))
  values = np.asarray(
    replicate(
      key, difference, (*first, *second), num_resamples=num_resamples, chunk_size=chunk_size
    )
  )
  interval = interval_of(values, estimate, confidence=confidence)
  share = min(float((values <= 0).mean()), float((values >= 0).mean()))
  return PairedDifference(estimate, interval, min(1.0, 2 * share))


# Wilcoxon's signed-rank test of paired runs, exact, in float64 on the host.


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
