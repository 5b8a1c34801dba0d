# SPDX-License-Identifier: Apache-2.0
"""Whether a classifier is right as often as it says.

Every metric here is a function of `confidence` (largest probability) and `correct` alone; the
functions that take probabilities and labels are the same ones with that first step included.

Where examples are put in order of confidence, those of equal confidence (1 exactly, above all)
share their mean correctness, so that no result depends on the order of the input.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixboost_jax import checks
from mixboost_jax.array_types import Labels, Logits, PerExample, Probabilities, Scalar
from mixboost_jax.metrics import classification

Sorted = PerExample | Float[np.ndarray, " N"]
"""Of NumPy: the result is computed in float64 on the host."""
PerBin = Float[Array, " B"] | Float[np.ndarray, " B"]


class Bins(NamedTuple):
  """Sums over the examples of each bin; empty bins have count 0."""

  count: PerBin
  confidence_sum: PerBin
  correct_sum: PerBin

  def gap(self) -> PerBin:
    """Returns |mean confidence - accuracy| per bin, 0 for empty bins."""
    xp = classification.namespace(*self)
    return abs(self.confidence_sum - self.correct_sum) / xp.maximum(self.count, 1.0)


@checks.inputs(values="known")
def equal_width_bins(confidence: PerExample, is_correct: PerExample, *, num_bins: int) -> Bins:
  """Sorts the examples into the bins (i / num_bins, (i + 1) / num_bins] of confidence.

  ```python
  confidence, is_correct = jnp.array([0.3, 0.8, 0.9, 0.9]), jnp.array([0.0, 1.0, 1.0, 0.0])
  bins = metrics.equal_width_bins(confidence, is_correct, num_bins=2)
  assert bins.count.tolist() == [1, 3] and bins.correct_sum.tolist() == [0, 2]
  ```
  """
  place = jnp.clip(jnp.ceil(confidence * num_bins) - 1, 0, num_bins - 1)
  inside = place[None, :] == jnp.arange(num_bins, dtype=place.dtype)[:, None]
  columns = jnp.stack([jnp.ones_like(confidence), confidence, is_correct], axis=1)
  sums = jnp.dot(inside.astype(columns.dtype), columns, precision="highest")
  return Bins(sums[:, 0], sums[:, 1], sums[:, 2])


@checks.inputs(values="known")
def tied_means(sorted_confidence: Sorted, is_correct: Sorted) -> Any:
  """Replaces each value by its mean over the examples of equal confidence.

  It is what an example at this place is worth on average when ties are put in random order.

  ```python
  shared = metrics.tied_means(jnp.array([0.5, 0.9, 0.9]), jnp.array([1.0, 1.0, 0.0]))
  assert shared.tolist() == [1, 0.5, 0.5]
  ```
  """
  xp = classification.namespace(sorted_confidence, is_correct)
  changes = sorted_confidence[1:] != sorted_confidence[:-1]
  tie = xp.concatenate([xp.zeros(1, changes.dtype), changes]).cumsum()
  options = {"length": len(tie)} if xp is jnp else {}
  sums, counts = (xp.bincount(tie, weights, **options) for weights in (is_correct, None))
  return (sums / xp.maximum(counts, 1))[tie]


@checks.inputs(values="known")
def equal_mass_bins(
  sorted_confidence: PerExample, is_correct: PerExample, *, num_bins: int
) -> Bins:
  """Cuts the examples, already in order of confidence, into `num_bins` runs of equal size +-1.

  Examples of equal confidence count with `tied_means`, on whichever side of an edge they fall.

  ```python
  confidence, is_correct = jnp.array([0.3, 0.8, 0.9, 1.0]), jnp.array([0.0, 1.0, 1.0, 1.0])
  bins = metrics.equal_mass_bins(confidence, is_correct, num_bins=2)
  assert bins.count.tolist() == [2, 2] and bins.correct_sum.tolist() == [1, 2]
  ```
  """
  num_examples = len(sorted_confidence)
  place = jnp.asarray(np.arange(num_examples) * num_bins // max(num_examples, 1))

  def add_up(values: PerExample) -> Float[Array, " B"]:
    return jnp.zeros(num_bins, values.dtype).at[place].add(values, indices_are_sorted=True)

  return _bins(sorted_confidence, is_correct, add_up)


@checks.inputs(values="known")
def fixed_size_bins(sorted_confidence: Sorted, is_correct: Sorted, *, bin_size: int) -> Bins:
  """Cuts the examples, already in order of confidence, into runs of `bin_size`.

  The remainder joins the last run. Examples of equal confidence count with `tied_means`, on
  whichever side of an edge they fall.

  ```python
  confidence, is_correct = np.array([0.3, 0.6, 0.8, 0.9, 1.0]), np.array([0.0, 1.0, 0.0, 1.0, 1.0])
  bins = metrics.fixed_size_bins(confidence, is_correct, bin_size=2)
  assert bins.count.tolist() == [2, 3]
  ```

  Raises:
    ValueError: if there are fewer than `bin_size` examples.
  """
  num_examples = len(sorted_confidence)
  num_bins = num_examples // bin_size
  if num_bins < 1:
    raise ValueError(
      f"calibration bins: expected at least bin_size={bin_size} examples, got {num_examples}; "
      "score more examples or pass a smaller bin_size."
    )
  whole = num_bins * bin_size
  xp = classification.namespace(sorted_confidence, is_correct)

  def add_up(values: Any) -> Any:
    sums = values[:whole].reshape(num_bins, bin_size).sum(axis=1)
    return xp.concatenate([sums[:-1], sums[-1:] + values[whole:].sum()])

  return _bins(sorted_confidence, is_correct, add_up)


def _bins(sorted_confidence: Sorted, is_correct: Sorted, add_up: Callable[[Any], Any]) -> Bins:
  ones = classification.namespace(sorted_confidence).ones_like(sorted_confidence)
  tied = tied_means(sorted_confidence, is_correct)
  return Bins(*(add_up(values) for values in (ones, sorted_confidence, tied)))


def _sorted(probabilities: Probabilities, labels: Labels) -> tuple[PerExample, PerExample]:
  confidence = classification.confidence(probabilities)
  is_correct = classification.hits(probabilities, labels)
  is_correct += 0.0 * is_correct.sum()  # NaN anywhere: not only in a bin that may be left out
  order = jnp.argsort(confidence)
  return confidence[order], is_correct[order]


@checks.inputs(values="known")
def mean_gap(bins: Bins, *, skip_last_bin: bool = False) -> Any:
  """Returns sum_b n_b / N |mean confidence - accuracy|, in [0, 1]; options as of `rms_gap`.

  ```python
  confidence, is_correct = jnp.array([0.75, 0.75]), jnp.array([1.0, 0.0])
  bins = metrics.equal_width_bins(confidence, is_correct, num_bins=10)
  assert metrics.mean_gap(bins) == 0.25  # says 75 %, is right in 50 %
  ```
  """
  gaps = bins.count * bins.gap()
  kept = _without_last(gaps) if skip_last_bin else gaps
  return kept.sum() / bins.count.sum()


@checks.inputs(values="known")
def rms_gap(bins: Bins, *, skip_last_bin: bool = False) -> Any:
  """Returns sqrt(sum_b n_b / N (mean confidence - accuracy)^2), in [0, 1].

  With `skip_last_bin` the bin of highest confidence is left out of the sum; N still counts it.

  ```python
  sums = np.array([30.0, 45.0]), np.array([25.0, 45.0])  # of confidence, of right answers
  bins = metrics.Bins(np.array([50, 50]), *sums)
  assert metrics.rms_gap(bins) >= metrics.mean_gap(bins)  # large gaps weigh more
  ```
  """
  squares = bins.count * bins.gap() ** 2
  kept = _without_last(squares) if skip_last_bin else squares
  return classification.namespace(kept).sqrt(kept.sum() / bins.count.sum())


def _without_last(values: Any) -> Any:
  if len(values) < 2:
    raise ValueError(
      "calibration bins: skip_last_bin=True expects at least two bins, got one; score at least "
      "2 * bin_size examples, pass a smaller bin_size or skip_last_bin=False."
    )
  return values[:-1]


@checks.inputs(values="known")
def ece(probabilities: Probabilities, labels: Labels, *, num_bins: int = 15) -> Scalar:
  """Returns the expected calibration error over bins of equal width, in [0, 1].

  Biased upwards: a perfectly calibrated model has a positive value on a finite set.

  ```python
  error = 100 * metrics.ece(jax.nn.softmax(logits), labels)  # in %
  ```

  Paper: Guo et al. 2017, arXiv:1706.04599.
  """
  confidence = classification.confidence(probabilities)
  is_correct = classification.hits(probabilities, labels)
  return mean_gap(equal_width_bins(confidence, is_correct, num_bins=num_bins))


@checks.inputs(values="known")
def adaptive_ece(probabilities: Probabilities, labels: Labels, *, num_bins: int = 15) -> Scalar:
  """Returns the expected calibration error over bins of equal mass (+-1 example), in [0, 1].

  Equal confidences on both sides of an edge count with their mean correctness, see `tied_means`.

  ```python
  error = 100 * metrics.adaptive_ece(jax.nn.softmax(logits), labels, num_bins=4)  # in %
  ```
  """
  return mean_gap(equal_mass_bins(*_sorted(probabilities, labels), num_bins=num_bins))


@checks.inputs(values="known")
def rms_calibration_error(
  probabilities: Probabilities, labels: Labels, *, bin_size: int = 100, skip_last_bin: bool = True
) -> Scalar:
  """Returns the root mean square calibration error over bins of `bin_size` examples, in [0, 1].

  The examples are sorted by confidence and cut into runs; the remainder joins the last run. The
  noise floor of a calibrated model with accuracy p is about sqrt(p (1 - p) / bin_size).

  ```python
  probabilities = jax.nn.softmax(logits)
  error = metrics.rms_calibration_error(probabilities, labels, bin_size=4, skip_last_bin=False)
  ```

  Paper: Hendrycks et al. 2022, arXiv:2112.05135 (RMS calibration error, adaptive bins).
  Deviation: `skip_last_bin=True` repeats the published code, whose loop leaves the
    bin of highest confidence out of the sum. `skip_last_bin=False` is the definition itself. The
    published code leaves equal confidences in whatever order a sort gives them; here they count
    with their mean correctness, so the noise between bins of one and the same confidence is gone.

  Raises:
    ValueError: with fewer than `bin_size` examples (twice that if the last bin is skipped).
  """
  bins = fixed_size_bins(*_sorted(probabilities, labels), bin_size=bin_size)
  return rms_gap(bins, skip_last_bin=skip_last_bin)


@checks.inputs(values="known")
def mad_calibration_error(
  probabilities: Probabilities, labels: Labels, *, bin_size: int = 100, skip_last_bin: bool = True
) -> Scalar:
  """Returns the mean absolute calibration error over the bins of `rms_calibration_error`.

  ```python
  error = metrics.mad_calibration_error(jax.nn.softmax(logits), labels, bin_size=4)
  ```
  """
  bins = fixed_size_bins(*_sorted(probabilities, labels), bin_size=bin_size)
  return mean_gap(bins, skip_last_bin=skip_last_bin)


@checks.inputs(values="known")
def aurra(probabilities: Probabilities, labels: Labels) -> Scalar:
  """Returns the area under the response rate accuracy curve, in [0, 1].

  The mean over k = 1..N of the accuracy on the k most confident examples.

  ```python
  area = 100 * metrics.aurra(jax.nn.softmax(logits), labels)  # in %; 100 without a mistake
  ```

  Paper: Hendrycks et al. 2021, arXiv:1907.07174 (AURRA).
  Deviation: equal confidences count with their mean correctness, which gives the expected value
    over all orders of them; the published code takes the order that a sort happens to give.
  """
  known = classification.usable(probabilities, labels).all()
  return jnp.where(known, sorted_aurra(*_sorted(probabilities, labels)), jnp.nan)


@checks.inputs(values="known")
def sorted_aurra(sorted_confidence: PerExample, is_correct: PerExample) -> Scalar:
  """Returns `aurra` of examples in ascending order of confidence.

  ```python
  area = metrics.sorted_aurra(jnp.array([0.6, 0.9]), jnp.array([0.0, 1.0]))
  assert area == 0.75  # the mean of 1 (the most confident) and 1/2 (both)
  ```
  """
  hits = jnp.cumsum(tied_means(sorted_confidence, is_correct)[::-1])
  return (hits / jnp.arange(1, len(hits) + 1)).mean()


@checks.inputs(values="known")
def soft_f1(probabilities: Probabilities, labels: Labels) -> Scalar:
  """Returns the soft F1 score of "doubt detects mistakes", in [0, 1]; higher is better.

  2 sum((1 - c) w) / sum(1 - c + w) with c the confidence and w = 1 for wrong predictions.

  ```python
  probabilities = jnp.array([[1.0, 0.0], [0.5, 0.5]])
  score = metrics.soft_f1(probabilities, jnp.array([0, 1]))  # 2/3: only the mistake is in doubt
  ```
  """
  doubt = 1.0 - classification.confidence(probabilities)
  wrong = 1.0 - classification.hits(probabilities, labels)
  total = (doubt + wrong).sum()
  return jnp.where(total == 0, 0.0, 2.0 * (doubt * wrong).sum() / jnp.maximum(total, 1e-30))


# A temperature divides all logits so that confidences become honest (Guo et al. 2017,
# arXiv:1706.04599); it has to be fitted on held-out examples, never on the test set.

_WIDEST = 1e4  # the unrestricted search looks in [1 / _WIDEST, _WIDEST]


def _bisect(
  logits: Logits,
  labels: Labels,
  low: float,
  high: float,
  *,
  turns: int,
  temperature_of: Callable[[Scalar], Scalar],
) -> Scalar:
  """Returns the best `temperature_of` a number in [low, high].

  The negative log-likelihood is convex in 1 / T with slope mean_n (E_p[z] - z_label),
  p = softmax(z / T): where that is negative, lower temperatures are better still.
  """

  def narrow(_: object, bracket: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
    left, right = bracket
    middle = 0.5 * (left + right)
    probabilities = jax.nn.softmax(logits / temperature_of(middle), axis=-1)
    centred = logits - jnp.take_along_axis(logits, labels[:, None], axis=-1)
    too_high = (probabilities * centred).sum(axis=-1).mean() <= 0
    return jnp.where(too_high, left, middle), jnp.where(too_high, middle, right)

  left, right = jax.lax.fori_loop(0, turns, narrow, (jnp.float32(low), jnp.float32(high)))
  known = classification.usable(logits, labels).all()
  return jnp.where(known, temperature_of(0.5 * (left + right)), jnp.nan)


@checks.inputs(values="known")
def bisect_temperature(
  logits: Logits, labels: Labels, *, low: float = 0.2, high: float = 5.0, tolerance: float = 1e-4
) -> Scalar:
  """Returns the temperature in [low, high] of least negative log-likelihood, by bisection.

  ```python
  temperature = metrics.bisect_temperature(logits, labels)  # of held-out pictures
  probabilities = jax.nn.softmax(logits_fn(images) / temperature)
  ```

  Paper: Hendrycks et al. 2022, arXiv:2112.05135: the published code bisects T in [0.2, 5] until the
  bracket is 1e-4 wide (`tolerance`).
  """
  if not 0 < low < high:
    raise ValueError(f"bisect_temperature: expected 0 < low < high, got low={low}, high={high}.")
  turns = max(0, math.ceil(math.log2((high - low) / tolerance)))
  return _bisect(logits, labels, low, high, turns=turns, temperature_of=lambda t: t)


@checks.inputs(values="known")
def fit_temperature(logits: Logits, labels: Labels, *, num_steps: int = 60) -> Scalar:
  """Returns the temperature of least negative log-likelihood, without a narrow search range.

  Halves the logarithm of T over [1e-4, 1e4]; 60 times reach float32 precision. If all predictions
  are right, colder is always better and the lower end comes back.

  ```python
  temperature = metrics.fit_temperature(logits, labels)  # of held-out pictures
  probabilities = jax.nn.softmax(logits_fn(images) / temperature)
  ```
  """
  limit = math.log(_WIDEST)
  return _bisect(logits, labels, -limit, limit, turns=num_steps, temperature_of=jnp.exp)
