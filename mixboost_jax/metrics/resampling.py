# SPDX-License-Identifier: Apache-2.0
"""Intervals of any statistic of a test set, by the bootstrap.

Paper: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", ch. 13.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mixboost_jax import checks
from mixboost_jax.array_types import PRNGKey
from mixboost_jax.metrics.intervals import Interval

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
