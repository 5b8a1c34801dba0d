# SPDX-License-Identifier: Apache-2.0
"""How far a number can be trusted: intervals and tests, in float64 on the host.

Of proportions (Wilson, Clopper-Pearson), of means (Student), of any statistic of a test set (the
bootstrap: `replicate` for functions of JAX arrays, `resample` for the host), and the tests of
paired runs (Wilcoxon) and of a correlation (permutations).
"""

import dataclasses
import functools
import itertools
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

  ```python
  low, high = metrics.wilson(90, 100)  # 90 of 100 are right: 0.826 to 0.945
  ```

  Paper: Wilson 1927, J. Am. Stat. Assoc. 22, p. 209.
  """
  _check(successes, count, confidence, "wilson")
  z = statistics.NormalDist().inv_cdf(0.5 + 0.5 * confidence)
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

  The ends are the rates at which a binomial tail equals (1 - confidence) / 2: quantiles of two beta
  distributions.

  ```python
  low, high = metrics.clopper_pearson(0, 100)  # no mistake in 100: still up to 3.6 %
  ```

  Paper: Clopper & Pearson 1934, Biometrika 26, p. 404.
  """
  from scipy import special

  _check(successes, count, confidence, "clopper_pearson")
  tail, failures = 0.5 * (1 - confidence), count - successes
  low = special.betaincinv(successes, failures + 1, tail) if successes else 0.0
  high = special.betaincinv(successes + 1, failures, 1 - tail) if failures else 1.0
  return Interval(float(low), float(high))


def _check(successes: int, count: int, confidence: float, place: str) -> None:
  if not 0 <= successes <= count or count < 1:
    raise ValueError(
      f"{place}: expected 0 <= successes <= count and count >= 1, got {successes} of {count}."
    )
  if not 0 < confidence < 1:
    raise ValueError(f"{place}: confidence must be in (0, 1), got {confidence}.")


@checks.inputs()
def student_interval(
  mean: Any, stderr: Any, *, count: int, confidence: float = 0.95
) -> tuple[Any, Any]:
  """Returns the interval (low, high) of a mean of `count` >= 2 independent values, or of several.

  The quantiles are those of Student's t distribution.

  ```python
  runs = np.array([5.9, 6.3, 5.8, 6.1, 6.0])
  low, high = metrics.student_interval(runs.mean(), runs.std(ddof=1) / 5**0.5, count=5)
  ```
  """
  from scipy import special

  if count < 2:
    raise ValueError(
      "student_interval: an interval needs at least two independent blocks of contexts, or two "
      f"pictures, got {count}; measure more of them."
    )
  reach = float(special.stdtrit(count - 1, 0.5 + confidence / 2)) * stderr
  return mean - reach, mean + reach


# The bootstrap (Efron & Tibshirani 1993, "An Introduction to the Bootstrap", ch. 13): `replicate`
# and `resample` draw, `interval_of` makes an interval of what a statistic is on the draws.

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

  ```python
  places = metrics.resample_indices(key, len(labels), num_draws=len(labels))
  accuracy = metrics.accuracy(logits[places], labels[places])
  ```
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

  ```python
  accuracies = metrics.replicate(key, metrics.accuracy, (logits, labels), num_resamples=100)
  ```

  Args:
    key: consumed.
    statistic_fn: arrays -> scalar or tree of scalars, which get a leading axis; must not depend on
      the order of examples, except that arrays sorted by the caller stay sorted.
    arrays: equally long; the same examples are drawn from each.
    num_resamples: >= 1.
    chunk_size: resamples computed at once; memory grows with it, the result does not change.
  """
  lengths = {len(array) for array in arrays}
  if len(lengths) != 1 or 0 in lengths:
    raise ValueError(
      f"bootstrap: expected equally long, non-empty arrays, got lengths {sorted(lengths)}."
    )
  return _replicate(key, arrays, statistic_fn, num_resamples, chunk_size)


# Compiled once per statistic: pass the same function object again to use it again.
@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _replicate(key: PRNGKey, arrays: Any, statistic_fn: Any, num: int, chunk_size: int) -> Any:
  num_examples = len(arrays[0])

  def once(index: Array) -> Any:
    own_key = jax.random.fold_in(key, index)
    places = resample_indices(own_key, num_examples, num_draws=num_examples)
    return statistic_fn(*(array[places] for array in arrays))

  return jax.lax.map(once, jnp.arange(num), batch_size=chunk_size)


@dataclasses.dataclass(frozen=True)
class Resamples:
  """How often each of N examples occurs in each resample."""

  counts: np.ndarray
  """uint16[R, N]."""

  def means(self, values: np.ndarray) -> np.ndarray:
    """Returns the mean of `values[N, ...]` in each resample: [R, ...]."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    found = np.stack([row @ flat for row in self.counts.astype(np.float64)])
    return (found / len(values)).reshape(len(self.counts), *values.shape[1:])


@checks.inputs()
def resample(
  count: int, *, num_resamples: int = 1000, generator: np.random.Generator | None = None
) -> Resamples:
  """Draws resamples of `count` examples on the host; by default the same ones every time.

  Sharing them between several statistics takes each example along through all of these.

  ```python
  draws = metrics.resample(len(labels), num_resamples=100)
  means = draws.means(np.asarray(metrics.nll_per_example(logits, labels)))  # one per draw
  ```
  """
  draw = generator or np.random.Generator(np.random.Philox(key=count))
  drawn = [
    np.bincount(draw.integers(0, count, count), minlength=count) for _ in range(num_resamples)
  ]
  return Resamples(np.stack(drawn).astype(np.uint16))


@checks.inputs()
def interval_of(
  replicates: Any, estimate: float, *, confidence: float = 0.95, method: Method = "percentile"
) -> Interval:
  """Turns bootstrap replicates into an interval.

  ```python
  errors = metrics.replicate(key, metrics.clean_error, (logits, labels), num_resamples=100)
  low, high = metrics.interval_of(errors, float(metrics.clean_error(logits, labels)))
  ```

  Args:
    replicates: values of the statistic on resamples.
    estimate: its value on the original set.
    confidence: level in (0, 1).
    method: "percentile"; "basic" (reflected at the estimate); "recentred" (percentiles shifted so
      that the replicates' mean meets the estimate: the spread of a statistic that is biased
      upwards by resampling, such as a binned calibration error).
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
  """Returns the bootstrap interval of one statistic; see `replicate` and `interval_of`.

  ```python
  low, high = metrics.bootstrap(key, metrics.nll, (logits, labels), num_resamples=100)
  ```
  """
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
  """Compares two models on the same resamples of the same examples, which come in the same order.

  The arrays of a model have one entry per example; see `replicate` for the rest.

  ```python
  first, second = (logits, labels), (logits_fn(1 - images), labels)
  found = metrics.paired_bootstrap(key, metrics.clean_error, first, second, num_resamples=100)
  assert found.interval.high <= 0  # the first errs less often
  ```
  """
  num_first = len(first)

  def difference(*arrays: Array) -> Array:
    return statistic_fn(*arrays[:num_first]) - statistic_fn(*arrays[num_first:])

  estimate = float(difference(*first, *second))
  options = {"num_resamples": num_resamples, "chunk_size": chunk_size}
  values = np.asarray(replicate(key, difference, (*first, *second), **options))
  interval = interval_of(values, estimate, confidence=confidence)
  share = min(float((values <= 0).mean()), float((values >= 0).mean()))
  return PairedDifference(estimate, interval, min(1.0, 2 * share))


class Statistic(NamedTuple):
  """A number of a set of scored pictures, and how it is read: an entry of `metrics.STATISTICS`."""

  fn: Callable[[Any, int], Any]
  """`(examples, bins of ECE) -> number`: the examples come in ascending order of confidence and
  have a field for each score of `evaluate`: confidence, correct, nll, brier, max_logit,
  negative_energy."""
  unit: str = "%"
  better: Literal["lower", "higher"] = "lower"
  recentred: bool = False
  """Whether resampling biases it, so that its interval is moved back to it; see `interval_of`."""
  fewest: int = 1
  """Examples below which it is left out: no number is better than a wrong one."""


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

  ```python
  test = metrics.wilcoxon([5.1, 5.3, 4.9, 5.0, 5.2], [5.4, 5.5, 5.3, 5.2, 5.6])
  assert test.p_value == 1 / 32  # better in all five runs
  ```

  Paper: Wilcoxon 1945, Biometrics Bull. 1, p. 80; Pratt 1959, J. Am. Stat. Assoc. 54, p. 655.

  Args:
    a: one value per run.
    b: the paired values, same length.
    alternative: "less" if a is believed to be smaller (an error, say).
    zeros: equal pairs are dropped before ranking ("wilcox") or after it ("pratt").
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
  both = 2 * min(at_most, at_least)
  p_value = {"less": at_most, "greater": at_least, "two-sided": both}[alternative]
  return SignedRank(statistic / 2, float(min(1.0, p_value)), len(twice_ranks))


def _twice_ranks(values: np.ndarray) -> np.ndarray:
  """Returns twice the rank of each value, an integer; equal values share their mean rank."""
  ordered = np.sort(values)
  first = np.searchsorted(ordered, values, side="left")
  last = np.searchsorted(ordered, values, side="right")
  return first + last + 1


def _distribution(twice_ranks: np.ndarray) -> np.ndarray:
  """Returns P(sum of a random subset = s) for s = 0, 1, ..., sum(twice_ranks)."""
  chances = np.ones(1)
  for rank in twice_ranks:
    chances = 0.5 * np.pad(chances, (0, rank)) + 0.5 * np.pad(chances, (rank, 0))
  return chances


@checks.inputs()
def permutation_p(
  x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, *, num_permutations: int = 4999
) -> tuple[float, float]:
  """Returns Pearson's r and the share of random pairings with |r| at least as large.

  All pairings are tried if there are at most 5,040.

  ```python
  r, p = metrics.permutation_p([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])  # 0.8, and still p = 0.13
  ```
  """
  first, second = (np.asarray(side, np.float64) - np.mean(side) for side in (x, y))
  scale = float(np.linalg.norm(first) * np.linalg.norm(second))
  if len(first) != len(second) or len(first) < 3 or not scale:
    raise ValueError(
      f"permutation_p: needs two lists of one length of at least 3 numbers that are not all "
      f"equal, got {len(first)} and {len(second)}."
    )
  r = float(first @ second) / scale
  draw, are_few = np.random.default_rng(0), math.factorial(len(first)) <= 5040
  if are_few:
    orders = np.array(list(itertools.permutations(range(len(first)))))
  else:
    orders = np.stack([draw.permutation(len(first)) for _ in range(num_permutations)])
  reached = np.abs(second[orders] @ first) / scale >= abs(r) - 1e-12
  return r, float(reached.mean()) if are_few else (1 + int(reached.sum())) / (1 + num_permutations)
