# SPDX-License-Identifier: Apache-2.0
"""How well scores tell known from foreign pictures, per set and on average, with intervals."""

from collections.abc import Mapping

import numpy as np

from mixboost_jax.evaluate import replicates
from mixboost_jax.evaluate.foreign import KNOWN_PER_FOREIGN
from mixboost_jax.evaluate.replicates import Place
from mixboost_jax.evaluate.store import Columns
from mixboost_jax.runtime.results import Metric

SCORES = {"confidence": "msp", "max_logit": "max_logit", "negative_energy": "energy"}
"""Column -> name of the score in metrics; higher means known."""
STATISTICS = ("auroc", "aupr", "aupr_id", "fpr95", "fpr95_oe")
"""`aupr` has the foreign pictures as positives (outlier exposure code), `aupr_id` the known ones;
both depend on how many of each there are, see `known_per_foreign`. `fpr95` is the share of foreign
pictures accepted while 95 % of the known ones are (MixBoost); `fpr95_oe` the share of known
pictures flagged while 95 % of the foreign ones are found (outlier exposure code)."""


def foreign_count(num_known: int) -> int:
  """Returns how many foreign pictures go with so many known ones."""
  return max(num_known // KNOWN_PER_FOREIGN, 1)


def statistics(known: np.ndarray, foreign: np.ndarray) -> np.ndarray:
  """Returns `STATISTICS` in % from two samples of scores in ascending order.

  In float64 on the host; the same definitions as `metrics.auroc`, `aupr` and `fpr_at_tpr`.
  """
  below = np.searchsorted(foreign, known, side="left")
  not_above = np.searchsorted(foreign, known, side="right")
  auroc = float((below + not_above).mean() / (2 * len(foreign)))
  aupr = _average_precision(foreign, known)
  aupr_id = _average_precision(-known[::-1], -foreign[::-1])
  accepted = _rest_at_recall(known, foreign)
  flagged = _rest_at_recall(-foreign[::-1], -known[::-1])
  return 100 * np.array([auroc, aupr, aupr_id, accepted, flagged])


def _average_precision(positive: np.ndarray, rest: np.ndarray) -> float:
  """Returns the mean precision at every positive; here low scores speak for positives."""
  hits = np.searchsorted(positive, positive, side="right")
  alarms = np.searchsorted(rest, positive, side="right")
  return float((hits / (hits + alarms)).mean())


def _rest_at_recall(positive: np.ndarray, rest: np.ndarray, *, recall: float = 0.95) -> float:
  """Returns the share of `rest` at or above the positive score whose recall is closest."""
  found = len(positive) - np.searchsorted(positive, positive, side="left")
  threshold = positive[np.argmin(np.abs(found - recall * len(positive)))]
  return float((rest >= threshold).mean())


def summarise(
  place: Place, known: Columns, sets: Mapping[str, Columns], *, sources: Mapping[str, str]
) -> list[Metric]:
  """Returns every statistic of every score for each set, then the means over sets.

  Each set also gets `known_per_foreign`, the ratio at which its AUPR holds: `KNOWN_PER_FOREIGN` as
  in published tables, or more if a set has too few pictures for that.

  Args:
    place: its `dataset` names the known pictures.
    known: columns of the known pictures.
    sets: foreign set -> columns.
    sources: foreign set -> where it comes from.
  """
  found: list[Metric] = []
  for column, score in SCORES.items():
    all_values, all_spreads = [], []
    for name, columns in sets.items():
      values, spreads = replicates.two_samples(statistics, known[column], columns[column])
      all_values.append(values)
      all_spreads.append(spreads)
      own = place._replace(dataset=f"{place.dataset}-ood-{name}", source=sources[name])
      found += _metrics(own, score, values, spreads, len(columns[column]))
      if column == "confidence":
        found.append(_ratio(own, len(known[column]), len(columns[column])))
    kinds = sorted({sources[name] for name in sets})
    if len(sets) > 1 and len(kinds) == 1:  # sets of different sources are never averaged
      own = place._replace(dataset=f"{place.dataset}-ood", source=kinds[0])
      count = sum(len(columns[column]) for columns in sets.values())
      mean, spread = np.mean(all_values, axis=0), np.mean(all_spreads, axis=0)
      found += _metrics(own, score, mean, spread, count)
  order = [f"{place.dataset}-ood", *(f"{place.dataset}-ood-{name}" for name in sets)]
  return sorted(found, key=lambda one: order.index(one.dataset))


def _ratio(place: Place, num_known: int, num_foreign: int) -> Metric:
  return replicates.metric(
    place,
    "known_per_foreign",
    num_known / num_foreign,
    None,
    count=num_foreign,
    unit="",
    better="none",
  )


def _metrics(
  place: Place, score: str, values: np.ndarray, spreads: np.ndarray, count: int
) -> list[Metric]:
  return [
    replicates.metric(
      place,
      f"{name}_{score}",
      float(values[i]),
      spreads[:, i],
      count=count,
      better="lower" if name.startswith("fpr") else "higher",
    )
    for i, name in enumerate(STATISTICS)
  ]
