# SPDX-License-Identifier: Apache-2.0
"""Telling known pictures from foreign ones by a score.

Everywhere: a higher score means "more in-distribution". `scores_in` are those of the known set,
`scores_out` those of the foreign (out-of-distribution) set. A NaN among the scores makes the result
NaN.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixboost_jax import checks
from mixboost_jax.array_types import Logits, PerExample, Scalar

Positive = Literal["id", "ood"]
ScoresIn = Float[Array, " N"]
ScoresOut = Float[Array, " M"]


@checks.inputs()
def max_softmax(logits: Logits) -> PerExample:
  """Returns the maximum softmax probability.

  Paper: Hendrycks & Gimpel 2017, arXiv:1610.02136.
  """
  return jax.nn.softmax(logits, axis=-1).max(axis=-1)


@checks.inputs()
def max_logit(logits: Logits) -> PerExample:
  """Returns the largest logit.

  Paper: Hendrycks et al. 2022, arXiv:1911.11132.
  """
  return logits.max(axis=-1)


@checks.inputs()
def negative_energy(logits: Logits, *, temperature: float = 1.0) -> PerExample:
  """Returns T logsumexp(logits / T), minus the energy.

  Paper: Liu et al. 2020, arXiv:2010.03759.
  """
  return temperature * jax.nn.logsumexp(logits / temperature, axis=-1)


@checks.inputs()
def auroc(scores_in: ScoresIn, scores_out: ScoresOut) -> Scalar:
  """Returns P(in > out) + P(in = out) / 2, the area under the ROC curve, in [0, 1]."""
  ordered = jnp.sort(scores_out)
  below = jnp.searchsorted(ordered, scores_in, side="left")
  not_above = jnp.searchsorted(ordered, scores_in, side="right")
  area = ((below + not_above) / (2.0 * len(ordered))).mean()
  return _or_nan(area, scores_in, scores_out)


@checks.inputs()
def aupr(scores_in: ScoresIn, scores_out: ScoresOut, *, positive: Positive = "ood") -> Scalar:
  """Returns the average precision, in [0, 1].

  It depends on how common the positives are: the convention of Hendrycks et al. 2019
  (arXiv:1812.04606) is five known pictures for every foreign one.

  Args:
    scores_in: higher means in-distribution.
    scores_out: same scale.
    positive: which set is to be found.

  Raises:
    ValueError: if `positive` is unknown.
  """
  found, rest = _oriented(scores_in, scores_out, positive)
  hits = _count_at_least(found, found)
  false_alarms = _count_at_least(rest, found)
  return _or_nan((hits / (hits + false_alarms)).mean(), scores_in, scores_out)


@checks.inputs()
def fpr_at_tpr(
  scores_in: ScoresIn, scores_out: ScoresOut, *, tpr: float = 0.95, positive: Positive = "id"
) -> Scalar:
  """Returns the fraction of negatives flagged at the threshold whose recall is closest to `tpr`.

  `positive="id"` is the definition of the MixBoost tables: the fraction of foreign pictures taken
  for known ones while 95 % of the known ones are kept. `positive="ood"` is that of the outlier
  exposure code (Hendrycks et al. 2019, arXiv:1812.04606): the fraction of known pictures flagged
  while 95 % of the foreign ones are found.

  Deviation: thresholds are scores of positives; where several thresholds share the closest recall
    the outlier exposure code takes the lowest of them, which also flags the negatives between two
    neighbouring positives. Of two recalls equally close the larger is taken, as there.

  Args:
    scores_in: higher means in-distribution.
    scores_out: same scale.
    tpr: wanted recall of the positives, in (0, 1].
    positive: which set is to be found.

  Raises:
    ValueError: if `tpr` or `positive` is out of range.
  """
  if not 0 < tpr <= 1:
    raise ValueError(f"fpr_at_tpr: tpr must be in (0, 1], got {tpr}.")
  found, rest = _oriented(scores_in, scores_out, positive)
  thresholds = jnp.sort(found)  # ascending: recall falls, so argmin meets the larger recall first
  num_found = _count_at_least(found, thresholds)
  threshold = thresholds[jnp.argmin(jnp.abs(num_found - tpr * len(found)))]
  return _or_nan((rest >= threshold).astype(jnp.float32).mean(), scores_in, scores_out)


def _oriented(
  scores_in: ScoresIn, scores_out: ScoresOut, positive: Positive
) -> tuple[Array, Array]:
  """Returns (scores of positives, scores of negatives), higher meaning positive."""
  return (scores_in, scores_out) if positive == "id" else (-scores_out, -scores_in)


def _or_nan(value: Scalar, scores_in: ScoresIn, scores_out: ScoresOut) -> Scalar:
  """Returns the value; sorting puts NaN last, where it would pass for the best of scores."""
  broken = jnp.isnan(scores_in).any() | jnp.isnan(scores_out).any()
  return jnp.where(broken, jnp.nan, value)


def _count_at_least(scores: Array, thresholds: Array) -> Array:
  return len(scores) - jnp.searchsorted(jnp.sort(scores), thresholds, side="left")
