# SPDX-License-Identifier: Apache-2.0
"""Audits of defenses: the table of Mixup Inference with its claim, and the curves of its figures.

Layout of Tables 2 and 3 of Pang et al. 2020 (arXiv:1909.11515): a row per defense, a column per
attack; beside the oblivious attacks stand those that know the defense.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mixboost_jax.audit import plan
from mixboost_jax.report import charts, svg, titles
from mixboost_jax.report.charts import Figure
from mixboost_jax.report.groups import AUDIT, Group, MetricId, key_of
from mixboost_jax.report.tables import MISSING, Cell, Table, value_cell

CLEAN, WORST, CLAIM = "clean", "worst-case", "claim"
DEFENSES = {
  "none": "no defense",
  "mi-pl": "MI-PL",
  "mi-ol": "MI-OL",
  "mi-combined": "MI-Combined",
  "gaussian-noise": "Gaussian noise",
  "rotation": "rotation",
  "crop-pad": "crop and pad",
  "crop-resize": "crop and resize",
  "confidence": "confidence alone",
  **{
    f"{name}-{attack}": f"{title}, {attack} attack"
    for name, title in {"ml-loo": "ML-LOO", "rank": "rank", "mi-pl": "MI-PL"}.items()
    for attack in ("oblivious", "aware")
  },
}
"""Defenses, and what the detection of Fig. 3a looks at."""
KINDS = {
  "oblivious": "Oblivious PGD{steps}",
  "transfer": "Transfer{steps}",
  **{word: f"Transfer{{steps}}, {name.upper()}" for word, name in plan.TRANSFERS.items()},
  "adaptive": "Adaptive PGD{steps} (eq. 24)",
  "published": "Published code{steps}",
  "eot-ce": "End-to-end PGD{steps}, CE",
  "eot-margin": "End-to-end PGD{steps}, margin",
  "eot-dlr": "End-to-end PGD{steps}, DLR",
  "apgd-ce": "End-to-end APGD{steps}, CE",
  "apgd-t": "End-to-end APGD{steps}, targeted DLR",
  "square": "Square{steps}",
  CLEAN: "Clean",
  WORST: "Worst case",
  CLAIM: "Claim",
}
Line = tuple[str, Sequence[Mapping[str, Any]], str, str]
"""Label, points, and which of their fields is x and which y."""
_RATES, _ACCURACIES = ("false_positive_rate", "true_positive_rate"), ("clean", "adversarial")
MASKED = "not to be trusted: gradient masked"
PASSED = "gradient masked; attacks through BPDA got around it"

NOTE = (
  "Oblivious and transfer attacks do not know the defense, all others do. A random defense is "
  "drawn anew several times to score each image; the worst case takes for each image the attack "
  "that fooled most of these draws and scores it with further ones. The claim is the lowest number "
  "of the row: it holds against these attacks only, and a stronger one can lower it. Where the "
  "gradient of a defense is masked it is marked, and attacks that follow the gradient run again "
  "with rounding as the identity (BPDA)."
)


def attack_title(word: str) -> str:
  """Returns the title of an attack's word, e.g. `oblivious-50-targeted`."""
  attack = _parsed(word)
  if attack is None:
    return KINDS.get(word, word)
  title = KINDS[attack.kind].format(steps=f"-{attack.steps}" if attack.steps else "")
  title += ", targeted" if attack.targeted else ""
  return f"{title}, through BPDA" if attack.bpda else title


def _parsed(word: str) -> plan.Attack | None:
  try:
    return plan.parse_attack(word)
  except ValueError:  # no attack of this package
    return None


def _place_of(word: str) -> tuple[int, int, bool, bool]:
  """Orders columns: clean, then as in `KINDS`, fewer steps first, targeted and BPDA last."""
  attack = _parsed(word)
  if attack is None:
    word = word if word in KINDS else WORST
    return -1 if word == CLEAN else list(KINDS).index(word), 0, False, False
  return list(KINDS).index(attack.kind), attack.steps or 0, attack.targeted, attack.bpda


def defense_title(word: str) -> str:
  """Returns the title of a defense."""
  source, _, entry = word.rpartition(":")
  title = DEFENSES.get(entry, entry)
  return f"{title} ({source})" if source else title


def table(groups: Sequence[Group]) -> Table | None:
  """Returns one row per defense of every run, one column per attack; None without an audit."""
  found = {group.label: _audited(group) for group in groups}
  words = list(dict.fromkeys(_parts(key)[1] for keys in found.values() for key in keys))
  columns = sorted(words, key=_place_of)
  if not columns:
    return None
  rows: list[tuple[Cell, ...]] = []
  for group in groups:
    keys = found[group.label]
    if not keys:
      continue
    rows.append((Cell(_heading(group, keys)),))
    for place, defense in dict.fromkeys((key[:2], _parts(key)[0]) for key in keys):
      cells = [_cell(group, (*place, f"{AUDIT}/{defense}/{word}"), keys) for word in columns]
      rows.append((Cell(defense_title(defense)), *cells))
  header = ("Accuracy in %", *(attack_title(word) for word in columns))
  return Table(NOTE, header, tuple(rows))


def cards(groups: Sequence[Group]) -> list[Table]:
  """Returns one small table per run: accuracies before and after the worst attack."""
  found = []
  for group in groups:
    rows = []
    for key in _audited(group):
      name, attack = _parts(key)
      value, clean = group.value(key), group.value((*key[:2], f"{AUDIT}/{name}/{CLEAN}"))
      if attack != CLAIM or value is None or clean is None:
        continue
      note = _masked(group, name)
      arrow = f"{titles.number(clean.mean, '%')} → {titles.number(value.mean, '%')}"
      rows.append((Cell(defense_title(name)), Cell(arrow, note, "worse" if note == MASKED else "")))
    if rows:
      title = f"{group.label}: accuracy, clean → under the worst attack"
      found.append(Table(title, ("Defense", "In %"), tuple(rows)))
  return found


def _masked(group: Group, defense: str) -> str:
  """Returns what to say where a red flag says that the gradient of a defense proves nothing."""
  place = f"{AUDIT}/{defense}"
  results = [run.results for run in group.runs]
  flags = [flag for one in results for flag in one.flags]
  if not any(flag.level == "red" and flag.name.rpartition("/")[0] == place for flag in flags):
    return ""
  values = {metric.name: metric.value for one in results for metric in one.metrics}
  passed = any(
    values[twin] < values[name]
    for name in values
    if name.startswith(f"{place}/") and (twin := f"{name}-bpda") in values
  )
  return PASSED if passed else MASKED


def _audited(group: Group) -> list[MetricId]:
  """Returns the accuracies of an audit, without areas under curves."""
  keys = [key_of(metric) for run in group.runs for metric in run.results.metrics]
  return [
    key for key in dict.fromkeys(keys) if key[2].startswith(f"{AUDIT}/") and "/auc/" not in key[2]
  ]


def _parts(key: MetricId) -> tuple[str, str]:
  """Splits `audit/DEFENSE/ATTACK`; a defense may have slashes, as `cifar10/at:mi-ol` has."""
  defense, _, attack = key[2].removeprefix(f"{AUDIT}/").rpartition("/")
  return defense, attack


def _heading(group: Group, keys: Sequence[MetricId]) -> str:
  value = group.value(keys[0])
  assert value is not None
  plan = group.runs[0].results.curves.get(f"{AUDIT}/plan", ({},))[0]
  parts = [titles.dataset(*keys[0][:2]), f"{value.metric.count:,} images"]
  if "epsilon" in plan:
    l2 = plan.get("is_l2", 0)
    parts.append(f"L2, ε = {plan['epsilon']:g}" if l2 else f"ε = {255 * plan['epsilon']:g}/255")
    parts.append(f"{plan['samples']:g} draws per gradient, {plan['redraws']:g} re-draws")
    words = {key[2].split("/")[2] for key in keys}
    if any(word.startswith("eot-") and not re.search(r"\d", word) for word in words):
      parts.append(f"end to end {plan['eot_steps']:g} steps")
    parts.append(f"restarts {plan['restarts']:g}")
  return f"{group.label} ({', '.join(parts)})"


def _cell(group: Group, key: MetricId, keys: Sequence[MetricId]) -> Cell:
  if key not in keys:
    published = _parts(key)[1].startswith("published")
    return Cell("not applicable", tone="missing") if published else MISSING
  defense, attack = _parts(key)
  cell = value_cell(group, key, best=attack == CLAIM)
  if attack == CLAIM and (said := _masked(group, defense)):
    return dataclasses.replace(cell, note=f"{cell.note}; {said}", tone="unclear")
  return cell


def figures(groups: Sequence[Group]) -> list[Figure]:
  """Returns the charts that the curves of the audits allow: Figs. 2 to 4."""
  found: list[Figure] = []
  for title, kind, x, y, label in (
    ("Adaptive attack: accuracy in %", "samples", "step", "accuracy", "adaptive samples per step"),
    ("Detection: true positive rate", "roc", *_RATES, "false positive rate"),
    ("Detectors: true positive rate", "detectors", *_RATES, "false positive rate"),
    ("Oblivious PGD-10: accuracy in %", "tradeoff", *_ACCURACIES, "clean accuracy in %"),
  ):
    found += _chart(title, _series(groups, kind, x, y), label, from_low=kind == "tradeoff")
  for group in groups:
    curves = group.runs[0].results.curves
    for mode, title in (("pl", "MI-PL"), ("ol", "MI-OL")):
      lines: list[Line] = []
      for kind in ("clean", "adversarial"):
        points = curves.get(f"{AUDIT}/lambda/{mode}/{kind}", ())
        fields = {"true_class": "true class"}
        if kind == "adversarial":
          fields["predicted_class"] = "predicted class"
        elif points and "ideal" in points[0]:
          fields["ideal"] = "linear model"
        named = {f"{kind}, {label}": y for y, label in fields.items() if points}
        lines += [(label, points, "mix_weight", y) for label, y in named.items()]
      place = f", {group.label}" if len(groups) > 1 else ""
      found += _chart(f"Change of the probability, {title}{place}", lines, "mix ratio λ")
  return found


def _series(groups: Sequence[Group], kind: str, x: str, y: str) -> list[Line]:
  found = []
  for group in groups:
    for name, points in group.runs[0].results.curves.items():
      if name.startswith(f"{AUDIT}/{kind}/"):
        word = defense_title(name.split("/", 2)[2])
        found.append((f"{group.label}, {word}" if len(groups) > 1 else word, points, x, y))
  return found


def _chart(
  title: str, found: Sequence[Line], x_label: str, *, from_low: bool = False
) -> list[Figure]:
  figures = []
  for start in range(0, len(found), svg.NUM_COLOURS):
    series = []
    for i, (label, points, x, y) in enumerate(found[start : start + svg.NUM_COLOURS]):
      places = [(float(point[x]), point[y]) for point in points]
      series.append(charts.Series(label, tuple(sorted(places) if from_low else places), i))
    chart = charts.lines(title, series, x_label=x_label, from_low=from_low)
    figures.append(Figure(title, chart, tuple((one.label, one.colour) for one in series)))
  return figures
