# SPDX-License-Identifier: Apache-2.0
"""Telling known pictures from foreign ones, and clean ones from adversarial ones, by a score.

For foreign pictures a higher score means "more in-distribution": `scores_in` are those of the known
set, `scores_out` those of the foreign (out-of-distribution) set. A NaN among the scores makes the
result NaN.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixboost_jax import checks
from mixboost_jax.array_types import Logits, PerExample, Probabilities, Scalar
from mixboost_jax.metrics.classification import namespace

Positive = Literal["id", "ood"]
Scores = PerExample | Float[np.ndarray, " N"]
"""Of NumPy, in both sets: the result is computed in float64 on the host."""
OtherScores = Float[Array, " M"] | Float[np.ndarray, " M"]


@checks.inputs()
def max_softmax(logits: Logits) -> PerExample:
  """Returns the maximum softmax probability.

  ```python
  known, foreign = metrics.max_softmax(logits), metrics.max_softmax(logits_fn(1 - images))
  area = metrics.auroc(known, foreign)
  ```

  Paper: Hendrycks & Gimpel 2017, arXiv:1610.02136.
  """
  return jax.nn.softmax(logits, axis=-1).max(axis=-1)


@checks.inputs()
def max_logit(logits: Logits) -> PerExample:
  """Returns the largest logit.

  ```python
  known, foreign = metrics.max_logit(logits), metrics.max_logit(logits_fn(1 - images))
  area = metrics.auroc(known, foreign)
  ```

  Paper: Hendrycks et al. 2022, arXiv:1911.11132.
  """
  return logits.max(axis=-1)


@checks.inputs()
def negative_energy(logits: Logits, *, temperature: float = 1.0) -> PerExample:
  """Returns T logsumexp(logits / T), minus the energy.

  ```python
  score = metrics.negative_energy(logits)
  assert (score >= metrics.max_logit(logits)).all()  # a smooth maximum
  ```

  Paper: Liu et al. 2020, arXiv:2010.03759.
  """
  return temperature * jax.nn.logsumexp(logits / temperature, axis=-1)


@checks.inputs()
def auroc(scores_in: Scores, scores_out: OtherScores) -> Scalar | float:
  """Returns P(in > out) + P(in = out) / 2, the area under the ROC curve, in [0, 1].

  ```python
  known, foreign = jnp.array([0.9, 0.8]), jnp.array([0.85, 0.1])
  assert metrics.auroc(known, foreign) == 0.75  # three of four pairs are in order
  ```
  """
  xp = namespace(scores_in, scores_out)
  ordered = xp.sort(scores_out, stable=True)
  below = xp.searchsorted(ordered, scores_in, side="left")
  not_above = xp.searchsorted(ordered, scores_in, side="right")
  area = ((below + not_above) / (2.0 * len(ordered))).mean()
  return _or_nan(area, scores_in, scores_out)


@checks.inputs()
def aupr(
  scores_in: Scores, scores_out: OtherScores, *, positive: Positive = "ood"
) -> Scalar | float:
  """Returns the average precision of finding the `positive` set, in [0, 1].

  It depends on how common the positives are: the convention of Hendrycks et al. 2019
  (arXiv:1812.04606) is five known pictures for every foreign one.

  ```python
  chance = metrics.aupr(jnp.zeros(5), jnp.zeros(1))
  assert jnp.isclose(chance, 1 / 6)  # scores that tell nothing: the share of positives
  ```
  """
  found, rest = _oriented(scores_in, scores_out, positive)
  hits, false_alarms = _count_at_least(found, found), _count_at_least(rest, found)
  return _or_nan((hits / (hits + false_alarms)).mean(), scores_in, scores_out)


@checks.inputs()
def fpr_at_tpr(
  scores_in: Scores, scores_out: OtherScores, *, tpr: float = 0.95, positive: Positive = "id"
) -> Scalar | float:
  """Returns the fraction of negatives flagged at the threshold whose recall is closest to `tpr`.

  `positive="id"` is the definition of the MixBoost tables: the fraction of foreign pictures taken
  for known ones while 95 % of the known ones are kept. `positive="ood"` is that of the outlier
  exposure code (Hendrycks et al. 2019, arXiv:1812.04606): the fraction of known pictures flagged
  while 95 % of the foreign ones are found.

  ```python
  known, foreign = jnp.array([0.9, 0.8, 0.7]), jnp.array([0.75, 0.1])
  assert metrics.fpr_at_tpr(known, foreign) == 0.5  # who keeps 0.7 takes 0.75 as well
  ```

  Deviation: thresholds are scores of positives; where several thresholds share the closest recall
    the outlier exposure code takes the lowest of them, which also flags the negatives between two
    neighbouring positives. Of two recalls equally close the larger is taken, as there.
  """
  if not 0 < tpr <= 1:
    raise ValueError(f"fpr_at_tpr: tpr must be in (0, 1], got {tpr}.")
  found, rest = _oriented(scores_in, scores_out, positive)
  num_found = _count_at_least(found, found)  # falls, so argmin meets the larger recall first
  threshold = found[abs(num_found - tpr * len(found)).argmin()]
  return _or_nan((rest >= threshold).mean(), scores_in, scores_out)


def _oriented(scores_in: Scores, scores_out: OtherScores, positive: Positive) -> tuple[Any, Any]:
  """Returns the scores of positives and of negatives, higher meaning positive, both ascending."""
  pair = (scores_in, scores_out) if positive == "id" else (-scores_out[::-1], -scores_in[::-1])
  # A stable sort takes no time where a bootstrap hands over what is in order already.
  found, rest = (namespace(*pair).sort(scores, stable=True) for scores in pair)
  return found, rest


def _or_nan(value: Any, scores_in: Scores, scores_out: OtherScores) -> Scalar | float:
  """Returns the value; sorting puts NaN last, where it would pass for the best of scores."""
  xp = namespace(scores_in, scores_out)
  broken = xp.isnan(scores_in).any() | xp.isnan(scores_out).any()
  return xp.where(broken, xp.nan, value)[()]


def _count_at_least(ordered: Any, thresholds: Any) -> Any:
  return len(ordered) - namespace(ordered).searchsorted(ordered, thresholds, side="left")


# Adversarial inputs are told by how much a prediction changes under a defense: there a higher score
# means "more adversarial". Symbols (Pang et al. 2020, arXiv:1909.11515): F -> plain, F_MI ->
# defended, y-hat -> argmax F, DG -> detection gap.


class Gap(NamedTuple):
  """A difference of two means with its standard error."""

  value: float
  stderr: float


class Roc(NamedTuple):
  """A receiver operating characteristic; entry i flags every score >= `thresholds[i]`."""

  thresholds: np.ndarray
  """Falling, from infinity (nothing is flagged)."""
  false_positive_rate: np.ndarray
  """Share of clean inputs flagged."""
  true_positive_rate: np.ndarray
  auc: float


class Threshold(NamedTuple):
  """Scores above `value` are flagged: a share of the `count` held-out clean ones that chose it."""

  value: float
  false_positive_rate: float
  count: int


@checks.inputs()
def detection_score(plain: Probabilities, defended: Probabilities) -> PerExample:
  """Returns `F_yhat(x) - F_MI,yhat(x)`: large for adversarial inputs.

  Paper: Sec. 3.1, the change of the predicted class's probability, eq. 9, with the opposite sign.

  ```python
  defended = defenses.gaussian_noise(key, logits_fn, images, noise_std=0.1, num_draws=5)
  scores = defenses.detection_score(jax.nn.softmax(logits), defended)
  ```
  """
  predicted = jnp.argmax(plain, axis=-1)[:, None]
  return jnp.take_along_axis(plain - defended, predicted, axis=-1)[:, 0]


@checks.inputs()
def confidence_gap(plain: Probabilities, defended: Probabilities) -> PerExample:
  """Returns `max_k F - max_k F_MI`, the statistic of the published code and of MI-Combined.

  It differs from `detection_score` where the defense predicts another class.

  ```python
  defended = defenses.gaussian_noise(key, logits_fn, images, noise_std=0.1, num_draws=5)
  scores = defenses.confidence_gap(jax.nn.softmax(logits), defended)
  ```
  """
  return jnp.max(plain, axis=-1) - jnp.max(defended, axis=-1)


@checks.inputs()
def detection_gap(clean_scores: Scores, adversarial_scores: OtherScores) -> Gap:
  """Returns the mean score of adversarial inputs minus that of clean ones; higher is better.

  Deviation: eq. 11 of the paper has the opposite sign; its eqs. 14 and 16 and "a higher value is
  better" have this one.

  ```python
  gap = defenses.detection_gap(np.array([0.0, 0.1]), np.array([0.3, 0.5]))
  print(f"{gap.value:.2f} +- {gap.stderr:.2f}")
  ```
  """
  clean, adversarial = np.asarray(clean_scores), np.asarray(adversarial_scores)
  variance = sum(s.var(ddof=1) / len(s) if len(s) > 1 else np.nan for s in (clean, adversarial))
  return Gap(float(adversarial.mean() - clean.mean()), float(np.sqrt(variance)))


@checks.inputs()
def roc(clean_scores: Scores, adversarial_scores: OtherScores) -> Roc:
  """Returns the curve over all thresholds.

  Paper: Fig. 3a, 1,000 clean and 1,000 adversarial inputs.

  ```python
  curve = defenses.roc(np.array([0.0, 0.1, 0.4]), np.array([0.3, 0.5]))
  assert np.isclose(curve.auc, 5 / 6)  # one of six pairs is in the wrong order
  ```
  """
  clean, adversarial = np.asarray(clean_scores), np.asarray(adversarial_scores)
  if not len(clean) or not len(adversarial):
    raise ValueError(f"defenses.roc: both sets need scores, got {len(clean)}, {len(adversarial)}.")
  if not (np.isfinite(clean).all() and np.isfinite(adversarial).all()):
    raise ValueError("defenses.roc: scores must be finite.")
  levels = np.unique(np.concatenate([clean, adversarial]))[::-1]
  thresholds = np.concatenate([[np.inf], levels])

  def above(scores: np.ndarray) -> np.ndarray:
    return 1 - np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores)

  return Roc(thresholds, above(clean), above(adversarial), float(auroc(adversarial, clean)))


@checks.inputs()
def choose_threshold(clean_scores: Scores, *, false_positive_rate: float) -> Threshold:
  """Returns the lowest threshold that flags at most the stated share of held-out clean inputs.

  Their scores must not be used for any other number. Flagging none is always possible, so unless
  the rate is 0, so few scores that not one false positive is allowed are an error.

  ```python
  threshold = defenses.choose_threshold(np.arange(100) / 100, false_positive_rate=0.05)
  assert threshold.value == 0.94  # 0.95 to 0.99 lie above it
  ```
  """
  scores = np.sort(np.asarray(clean_scores))[::-1]
  if not 0 <= false_positive_rate < 1 or not len(scores):
    raise ValueError(
      f"defenses.choose_threshold: expected a rate in [0, 1) and some scores, got "
      f"{false_positive_rate} and {len(scores)}."
    )
  allowed = int(np.floor(false_positive_rate * len(scores) + 1e-9))
  if false_positive_rate > 0 and allowed == 0:
    raise ValueError(
      f"defenses.choose_threshold: {len(scores)} clean scores cannot resolve a false positive rate "
      f"of {false_positive_rate}; use at least {int(np.ceil(1 / false_positive_rate))}."
    )
  value = scores[allowed]  # `allowed` scores lie above it, ties excepted
  return Threshold(float(value), float((scores > value).mean()), len(scores))


@checks.inputs()
def flag(scores: Scores, threshold: float) -> np.ndarray:
  """Returns which inputs are taken for adversarial.

  ```python
  threshold = defenses.choose_threshold(np.arange(100) / 100, false_positive_rate=0.05)
  assert defenses.flag(np.array([0.5, 0.99]), threshold.value).tolist() == [False, True]
  ```
  """
  return np.asarray(scores) > threshold
