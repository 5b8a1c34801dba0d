# SPDX-License-Identifier: Apache-2.0
"""Which views a training step needs, and how their logits become one loss per example."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mixboost_jax import losses
from mixboost_jax.array_types import Logits, PerExample, SoftLabels
from mixboost_jax.schema import Mask, Objective

ViewLoss = Callable[[Sequence[Logits], SoftLabels], dict[str, PerExample]]


class ViewObjective(NamedTuple):
  """A loss over several views of each example.

  Attributes:
    keep_rates: fraction of cells kept in each masked view; the clean view comes before them.
    terms: `([clean, *masked] logits, soft labels) -> {"loss": ..., term: ...}`, per example.
  """

  keep_rates: tuple[float, ...]
  terms: ViewLoss


def build(objective: Objective, mask: Mask) -> ViewObjective:
  """Returns the objective that the settings describe."""
  if objective.name == "erm":
    return _erm(objective)
  if objective.name == "mixboost":
    return _mixboost(objective, mask)
  return _interaction(objective)


def _erm(objective: Objective) -> ViewObjective:
  def terms(views: Sequence[Logits], labels: SoftLabels) -> dict[str, PerExample]:
    (clean,) = views
    return {"loss": losses.cross_entropy(clean, labels, label_smoothing=objective.label_smoothing)}

  return ViewObjective((), terms)


def _mixboost(objective: Objective, mask: Mask) -> ViewObjective:
  """Liu et al., MixBoost, eq. 3-4: CE(clean) - lambda H(clean - align * masked)."""
  align = 1 / mask.keep_rate if objective.align == "ratio" else 1.0

  def terms(views: Sequence[Logits], labels: SoftLabels) -> dict[str, PerExample]:
    clean, masked = views
    loss = losses.mixboost(
      clean,
      masked,
      labels,
      weight=objective.boost_weight,
      align=align,
      difference=objective.difference,
      label_smoothing=objective.label_smoothing,
      stop_gradient_clean=objective.stop_gradient_clean,
    )
    boost = losses.boost_entropy(clean, masked, align=align, difference=objective.difference)
    return {
      "loss": loss,
      "cross_entropy": loss + objective.boost_weight * boost,
      "boost_entropy": boost,
    }

  return ViewObjective((mask.keep_rate,), terms)


def _interaction(objective: Objective) -> ViewObjective:
  """CE + lambda1 L-(low_rates) + lambda2 L+(mid_rates) + lambda3 L-(high_rates)."""
  parts = [
    (name, weight, rates, mode)
    for name, weight, rates, mode in (
      ("low", objective.low_weight, objective.low_rates, "penalize"),
      ("mid", objective.mid_weight, objective.mid_rates, "encourage"),
      ("high", objective.high_weight, objective.high_rates, "penalize"),
    )
    if weight > 0
  ]
  keep_rates = tuple(sorted({rate for _, _, rates, _ in parts for rate in rates} - {1.0}))
  view_of = {1.0: 0} | {rate: 1 + i for i, rate in enumerate(keep_rates)}

  def terms(views: Sequence[Logits], labels: SoftLabels) -> dict[str, PerExample]:
    cross_entropy = losses.cross_entropy(
      views[0], labels, label_smoothing=objective.label_smoothing
    )
    out = {"loss": cross_entropy, "cross_entropy": cross_entropy}
    for name, weight, (r1, r2), mode in parts:
      term = losses.interaction(
        views[view_of[r2]], views[view_of[r1]], labels, r1=r1, r2=r2, mode=mode
      )
      out["loss"] = out["loss"] + weight * term
      out[f"{name}_interaction"] = term
    return out

  return ViewObjective(keep_rates, terms)
