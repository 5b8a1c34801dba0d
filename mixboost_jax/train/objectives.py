# SPDX-License-Identifier: Apache-2.0
"""Which pictures and masked views a step needs, and how their logits become one loss per example.

An example enters the loss through its *pictures* (the clean one, and augmented or adversarial ones
beside it), and through *masked views* of some of these pictures:

  loss = label loss of the pictures + terms that compare a picture with its masked views

| settings                           | pictures                        | label loss               |
| ---------------------------------- | ------------------------------- | ------------------------ |
| default                            | clean                           | cross-entropy            |
| objective.jsd_weight > 0           | clean, augmented, augmented     | cross-entropy + w JSD    |
| adversary.name "at" or "iat"       | (clean,) adversarial            | weighted cross-entropies |
| adversary.name "trades"            | clean, adversarial              | cross-entropy + beta KL  |

| objective.name | terms on masked views                                                |
| -------------- | -------------------------------------------------------------------- |
| erm            | none                                                                 |
| mixboost       | - lambda H(picture - align * masked)                                 |
| interaction    | lambda1 L-(low_rates) + lambda2 L+(mid_rates) + lambda3 L-(high_rates) |
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxtyping import Array

from mixboost_jax import losses
from mixboost_jax.array_types import Logits, PerExample, SoftLabels
from mixboost_jax.schema import Adversary, Mask, Objective

Terms = dict[str, PerExample]
ViewLoss = Callable[[Sequence[Array], Array], Terms]


class ViewObjective(NamedTuple):
  """A loss over pictures and masked views of each example.

  Attributes:
    keep_rates: fraction of cells kept in each masked view.
    terms: `([pictures, *masked] logits, soft labels) -> {"loss": ..., term: ...}`, one value per
      example. Rows are grouped by example: row = example * number of pictures + picture.
    pictures: their names.
    masked: positions of the pictures that are masked.
  """

  keep_rates: tuple[float, ...]
  terms: ViewLoss
  pictures: tuple[str, ...] = ("clean",)
  masked: tuple[int, ...] = (0,)


class _LabelLoss(NamedTuple):
  """Names of the pictures, and `(logits, labels) -> terms`, lists with one entry per picture."""

  pictures: tuple[str, ...]
  terms: Callable[[Sequence[Logits], Sequence[SoftLabels]], Terms]


class _MaskedTerms(NamedTuple):
  """What masked views add: `(picture, masked views, labels) -> {name: (weight, value)}`."""

  keep_rates: tuple[float, ...]
  terms: Callable[[Logits, Sequence[Logits], SoftLabels], dict[str, tuple[float, PerExample]]]


def build(objective: Objective, mask: Mask, adversary: Adversary | None = None) -> ViewObjective:
  """Returns the objective that the settings describe; no adversary if None."""
  pictures, label_terms = _label_loss(objective, adversary)
  masked = _masked_pictures(objective.boost_on, pictures)
  keep_rates, masked_terms = _MASKED_TERMS[objective.name](objective, mask)

  def terms(views: Sequence[Array], labels: Array) -> Terms:
    targets = by_picture(labels, len(pictures))
    out = label_terms(by_picture(views[0], len(pictures)), targets)
    if not keep_rates:
      return out
    out = {"cross_entropy": out["loss"], **out}
    compared = pick(views[0], masked, of=len(pictures))
    added = masked_terms(compared, views[1:], pick(labels, masked, of=len(pictures)))
    for name, (weight, value) in added.items():
      out[name] = _mean_over_pictures(value, len(masked))
      out["loss"] = out["loss"] + weight * out[name]
    return out

  return ViewObjective(keep_rates, terms, pictures, masked)


def by_picture(rows: Array, num: int) -> list[Array]:
  """Splits rows (example * num + picture) into one array per picture."""
  return [pick(rows, (picture,), of=num) for picture in range(num)]


def pick(rows: Array, pictures: tuple[int, ...], *, of: int) -> Array:
  """Returns the rows of some of the `of` pictures of each example, in the same order of rows."""
  if len(pictures) == of:
    return rows
  grouped = rows.reshape(-1, of, *rows.shape[1:])
  return grouped[:, list(pictures)].reshape(-1, *rows.shape[1:])


def _masked_pictures(which: str, pictures: tuple[str, ...]) -> tuple[int, ...]:
  """Returns the positions of the pictures of which masked views are made."""
  if which == "all":
    return tuple(range(len(pictures)))
  fitting = [i for i, name in enumerate(pictures) if (name == "clean") == (which == "clean")]
  return tuple(fitting[:1]) or (0,)


def _mean_over_pictures(values: Array, num: int) -> PerExample:
  return values if num == 1 else values.reshape(-1, num).mean(axis=1)


def _label_loss(objective: Objective, adversary: Adversary | None) -> _LabelLoss:
  """Returns the loss of the pictures: plain, consistent, adversarial."""

  def cross_entropy(logits: Logits, labels: SoftLabels) -> PerExample:
    return losses.cross_entropy(logits, labels, label_smoothing=objective.label_smoothing)

  if adversary is not None and adversary.name == "trades":
    return _trades(cross_entropy, adversary.beta)
  if adversary is not None and adversary.name in ("at", "iat"):
    return _adversarial(cross_entropy, adversary.clean_weight)
  if objective.jsd_weight > 0:
    return _consistency(cross_entropy, objective.jsd_weight)
  return _LabelLoss(
    ("clean",), lambda logits, labels: {"loss": cross_entropy(logits[0], labels[0])}
  )


def _adversarial(cross_entropy: Callable, clean_weight: float) -> _LabelLoss:
  """Madry et al. 2018, arXiv:1706.06083 (weight 0); Lamb et al. 2019, arXiv:1906.06784, Alg. 1."""
  if clean_weight == 0:
    return _LabelLoss(
      ("adversarial",), lambda logits, labels: {"loss": cross_entropy(logits[0], labels[0])}
    )

  def terms(logits: Sequence[Logits], labels: Sequence[SoftLabels]) -> Terms:
    clean, adversarial = (cross_entropy(*pair) for pair in zip(logits, labels, strict=True))
    return {
      "loss": clean_weight * clean + (1 - clean_weight) * adversarial,
      "clean_cross_entropy": clean,
      "adversarial_cross_entropy": adversarial,
    }

  return _LabelLoss(("clean", "adversarial"), terms)


def _trades(cross_entropy: Callable, beta: float) -> _LabelLoss:
  """Zhang et al. 2019, arXiv:1901.08573, eq. 5: CE(clean) + beta KL(clean || adversarial)."""

  def terms(logits: Sequence[Logits], labels: Sequence[SoftLabels]) -> Terms:
    clean = cross_entropy(logits[0], labels[0])
    divergence = losses.kl_divergence(logits[0], logits[1])
    return {
      "loss": clean + beta * divergence,
      "clean_cross_entropy": clean,
      "divergence": divergence,
    }

  return _LabelLoss(("clean", "adversarial"), terms)


def _consistency(cross_entropy: Callable, weight: float) -> _LabelLoss:
  """Hendrycks et al. 2020, arXiv:1912.02781, Sec. 3: CE(clean) + w JSD(clean; two augmented)."""

  def terms(logits: Sequence[Logits], labels: Sequence[SoftLabels]) -> Terms:
    clean = cross_entropy(logits[0], labels[0])
    divergence = losses.jensen_shannon(logits)
    return {
      "loss": clean + weight * divergence,
      "clean_cross_entropy": clean,
      "jensen_shannon": divergence,
    }

  return _LabelLoss(("clean", "augmented", "augmented_again"), terms)


def _nothing(objective: Objective, mask: Mask) -> _MaskedTerms:
  del objective, mask
  return _MaskedTerms((), lambda picture, masked, labels: {})


def _mixboost(objective: Objective, mask: Mask) -> _MaskedTerms:
  """Liu et al., MixBoost, eq. 3-4: - lambda H(clean - align * masked)."""
  align = 1 / mask.keep_rate if objective.align == "ratio" else 1.0

  def terms(picture: Logits, masked: Sequence[Logits], labels: SoftLabels) -> dict:
    del labels
    boost = losses.boost_entropy(
      picture,
      masked[0],
      align=align,
      difference=objective.difference,
      stop_gradient_clean=objective.stop_gradient_clean,
    )
    return {"boost_entropy": (-objective.boost_weight, boost)}

  return _MaskedTerms((mask.keep_rate,), terms)


def _interaction(objective: Objective, mask: Mask) -> _MaskedTerms:
  """Deng et al. 2022, arXiv:2111.06236: one term per range of orders."""
  del mask
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

  def terms(picture: Logits, masked: Sequence[Logits], labels: SoftLabels) -> dict:
    views = [picture, *masked]
    return {
      f"{name}_interaction": (
        weight,
        losses.interaction(views[view_of[r2]], views[view_of[r1]], labels, r1=r1, r2=r2, mode=mode),
      )
      for name, weight, (r1, r2), mode in parts
    }

  return _MaskedTerms(keep_rates, terms)


_MASKED_TERMS: dict[str, Callable[[Objective, Mask], _MaskedTerms]] = {
  "erm": _nothing,
  "mixboost": _mixboost,
  "interaction": _interaction,
}
