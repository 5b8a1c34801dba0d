# SPDX-License-Identifier: Apache-2.0
"""What the papers claim (`ledger.py`), and what results files say about it: verdicts by rule.

Networks are found by what their settings say. They are compared within one regime (data, network,
length of training) and seed by seed: the interval is Student's over the differences or, with one
seed in common, follows from the two test-set intervals as if these were independent.
"""

import dataclasses
import itertools
import math
import os
import pathlib
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mixboost_jax import files, interactions, metrics
from mixboost_jax import settings as settings_lib
from mixboost_jax.report import groups, markdown, page, titles
from mixboost_jax.report.content import Content
from mixboost_jax.report.tables import RELEASED, Cell, Column, Table
from mixboost_jax.runtime.results import ForeignFileError, Results
from mixboost_jax.schema import KEYS

VERDICTS = {
  "reproduced": "better",
  "direction only": "unclear",
  "undecided": "untested",
  "contradicted": "worse",
  "not run": "missing",
}
"""Verdict -> tone of its cell."""
REPRODUCED, DIRECTION, UNDECIDED, CONTRADICTED, NOT_RUN = VERDICTS
CAPTION = (
  "Verdicts follow from results files by rule. Reproduced: the direction is significant at 5 %, as "
  "is the size where the claim states one; where the paper's setting is ours it agrees within a "
  "factor of 2. Direction only: as claimed, but within the noise or of another size. Undecided: "
  "the other way round, within the noise. Contradicted: significantly the other way round. Not "
  "run: a network or a number is missing. What is said of short runs of small networks need not "
  "hold for the papers' own."
)
_REGIME = (
  "data.name",
  "data.note",
  "data.train_examples",
  "data.validation_examples",
  "model.name",
)
_LENGTH = ("train.epochs", "train.steps")
_LEAST = 5
"""Fewest networks for a correlation: with four no permutation test reaches 5 %."""

Conditions = Mapping[str, Any]
"""Dotted key -> value or predicate. `augment.policy` stands for the policy's name, or names."""


class Measured(NamedTuple):
  """A number with its interval; without one it is no evidence."""

  value: float
  low: float = -math.inf
  high: float = math.inf


class Finding(NamedTuple):
  """What a rule decided, over how many seeds, and the numbers."""

  verdict: str
  seeds: int = 0
  evidence: str = ""


class Side(NamedTuple):
  """One number of one kind of network."""

  net: Conditions
  column: Column
  """A metric `CURVE.FIELD@LOW-HIGH` is the mean of a curve over a band of m / (n - 2)."""
  without: Conditions | None = None
  """The network without noise that the curve `interaction_change` compares with."""


@dataclasses.dataclass(frozen=True)
class Network:
  """Results of one config under several seeds."""

  settings: Mapping[str, Any]
  results: Sequence[Results]

  def fits(self, wanted: Conditions) -> bool:
    """Tells whether the settings are as wanted."""
    pairs = ((want, self.settings[key]) for key, want in wanted.items())
    return all(want(found) if callable(want) else want == found for want, found in pairs)

  def by_seed(self, column: Column) -> dict[int, Measured]:
    """Returns a column for every seed that has it."""
    found = (
      (results.settings.get("seed", 0), measured(results, column)) for results in self.results
    )
    return {seed: value for seed, value in found if value is not None}


@dataclasses.dataclass(frozen=True)
class Lower:
  """The first number of each pair is lower than `factor` times the second one.

  A `share` of the pairs must be as claimed; `paper` has its numbers, pair by pair.
  """

  pairs: Sequence[tuple[Side, Side]]
  paper: Sequence[tuple[float, float]] = ()
  factor: float = 1.0
  share: float = 1.0

  def decide(self, networks: Sequence[Network], setting: Conditions) -> Finding:
    """Compares seed by seed."""
    papers = self.paper or [None] * len(self.pairs)
    found = [
      self._pair(networks, pair, paper if setting else None, setting)
      for pair, paper in zip(self.pairs, papers, strict=True)
    ]
    return combined(found, self.share)

  def _pair(
    self, networks: Sequence[Network], pair: Sequence[Side], paper: Any, setting: Conditions
  ) -> Finding:
    used = closest(networks, pair)
    a, b = (by_seed(nets, side) for nets, side in zip(used, pair, strict=True))
    if not (both := [(a[seed], b[seed]) for seed in sorted(a.keys() & b.keys())]):
      return Finding(NOT_RUN)
    gap = difference(both)
    fits = difference(both, factor=self.factor).high < 0
    if paper and all(net.fits(setting) for nets in used for net in nets):
      fits = fits and 0.5 <= gap.value / (paper[0] - paper[1]) <= 2
    first, second = (statistics.fmean(m.value for m in side) for side in zip(*both, strict=True))
    return Finding(judged(gap, fits=fits), len(both), f"{first:.3g} against {second:.3g}")


@dataclasses.dataclass(frozen=True)
class Positive:
  """Every number is above 0."""

  sides: Sequence[Side]

  def decide(self, networks: Sequence[Network], setting: Conditions) -> Finding:
    """Compares each with 0, over its seeds."""
    del setting
    found = []
    for side in self.sides:
      if not (values := list(by_seed(networks, side).values())):
        return Finding(NOT_RUN)
      gap = difference([(Measured(0.0, 0.0, 0.0), value) for value in values])
      evidence = f"{statistics.fmean(value.value for value in values):.3g}"
      found.append(Finding(judged(gap, fits=True), len(values), evidence))
    return combined(found, 1.0)


@dataclasses.dataclass(frozen=True)
class Correlates:
  """Over all networks of a regime, `x` goes up (`sign` 1) or down (-1) with every one of `ys`."""

  x: Column
  ys: Sequence[Column]
  sign: int
  paper: float = 0.0
  """At least so large is |r|."""
  among: Conditions = dataclasses.field(default_factory=dict)
  """The networks that count."""

  def decide(self, networks: Sequence[Network], setting: Conditions) -> Finding:
    """Decides by a permutation test."""
    del setting
    found = []
    for y in self.ys:
      both = [(n.by_seed(self.x), n.by_seed(y)) for n in networks if n.fits(self.among)]
      both = [pair for pair in both if all(pair)]
      points = [[statistics.fmean(m.value for m in d.values()) for d in pair] for pair in both]
      first, second = zip(*points, strict=True) if points else ((), ())
      if min(len(set(first)), len(set(second))) < _LEAST:
        return Finding(NOT_RUN)
      r, p = metrics.permutation_p(first, second)
      # As a number that is below 0 if the sign is as claimed, with an end beyond 0 unless p < 5 %.
      end = 0.0 if p < 0.05 else math.inf
      gap = Measured(-self.sign * r, -self.sign * r - end, -self.sign * r + end)
      seeds = min(len(d) for pair in both for d in pair)
      evidence = f"r = {r:.2f}, p = {p:.2g} over {len(points)} networks"
      found.append(Finding(judged(gap, fits=abs(r) >= self.paper), seeds, evidence))
    return combined(found, 1.0)


@dataclasses.dataclass(frozen=True)
class Near:
  """In the paper's setting a number is within so much of the paper's."""

  side: Side
  paper: float
  within: float

  def decide(self, networks: Sequence[Network], setting: Conditions) -> Finding:
    """Reproduced only if the interval lies within twice that as well."""
    network = best([one for one in networks if one.fits(setting)], self.side)
    if network is None:
      return Finding(NOT_RUN)
    values = list(network.by_seed(self.side.column).values())
    off = difference([(value, Measured(self.paper, self.paper, self.paper)) for value in values])
    if abs(off.value) <= self.within:
      verdict = REPRODUCED if max(-off.low, off.high) <= 2 * self.within else DIRECTION
    else:
      far = off.low > self.within or off.high < -self.within
      verdict = CONTRADICTED if far else UNDECIDED
    return Finding(verdict, len(values), f"{self.paper + off.value:.3g}")


Rule = Lower | Positive | Correlates | Near
"""`decide` looks at the networks of one regime; `setting` is the paper's own, where its numbers can
be compared with ours."""


class Claim(NamedTuple):
  """A statement of a source, where it stands, and the rule that decides."""

  where: str
  text: str
  rule: Rule


class Source(NamedTuple):
  """A paper, its claims, and its setting."""

  title: str
  claims: Sequence[Claim]
  setting: Conditions


def measured(results: Results, column: Column) -> Measured | None:
  """Returns a column of one results file, of published files if there are both."""
  if "@" in column.metric:
    name, _, band = column.metric.partition("@")
    curve, _, field = name.partition(".")
    low, high = map(float, band.split("-"))
    points = [p for p in results.curves.get(curve, ()) if low <= p.get("ratio", -1) <= high]
    ends = (field, f"{field}_low", f"{field}_high")
    columns = [[p[name] for p in points if p.get(name) is not None] for name in ends]
    # The mean of the ends is wide: it takes the errors of all orders to go together.
    return (
      Measured(*(statistics.fmean(found) for found in columns if found)) if columns[0] else None
    )
  base = min((m.dataset for m in results.metrics), key=len, default="")
  # A defense may be named with the preset that it is from: audit/cifar10/iat:rotation/clean.
  known = {
    (m.dataset, re.sub("^audit/.*:", "audit/", m.name)): m
    for m in results.metrics
    if math.isfinite(m.value)
  }
  for end in (RELEASED, ""):
    if m := known.get((f"{base}{column.suffix}{end}", column.metric)):
      ends = (m.low, m.high)
      return Measured(m.value) if None in ends else Measured(m.value, *ends)  # pyright: ignore
  return None


def difference(pairs: Sequence[tuple[Measured, Measured]], *, factor: float = 1.0) -> Measured:
  """Returns first - factor * second over the seeds, with its 95 % interval."""
  gaps = [a.value - factor * b.value for a, b in pairs]
  mean = statistics.fmean(gaps)
  if len(gaps) > 1:
    stderr = statistics.stdev(gaps) / math.sqrt(len(gaps))
    return Measured(mean, *metrics.student_interval(mean, stderr, count=len(gaps)))
  ((a, b),) = pairs
  down = math.hypot(a.value - a.low, factor * (b.high - b.value))
  up = math.hypot(a.high - a.value, factor * (b.value - b.low))
  return Measured(mean, mean - down, mean + up)


def judged(gap: Measured, *, fits: bool) -> str:
  """Returns the verdict on a difference that is claimed to be below 0, and of a size."""
  if gap.high < 0:
    return REPRODUCED if fits else DIRECTION
  if gap.low > 0:
    return CONTRADICTED
  return DIRECTION if gap.value < 0 else UNDECIDED


def combined(found: Sequence[Finding], share: float) -> Finding:
  """One finding for several: a share of them has to be as claimed, and all have to be there."""
  verdicts, needed = [one.verdict for one in found], share * len(found)
  if NOT_RUN in verdicts:
    return Finding(NOT_RUN)
  held, against = verdicts.count(REPRODUCED), verdicts.count(CONTRADICTED)
  if held >= needed:
    verdict = REPRODUCED
  elif against > len(found) - needed:
    verdict = CONTRADICTED
  else:
    verdict = DIRECTION if held + verdicts.count(DIRECTION) >= needed else UNDECIDED
  evidence = f"{held} of {len(found)} reproduced, {against} contradicted"
  evidence = "; ".join(one.evidence for one in found) if len(found) <= 3 else evidence
  return Finding(verdict, min(one.seeds for one in found), evidence)


def best(networks: Sequence[Network], side: Side) -> Network | None:
  """Returns the network that a side means: of several, the one that has it for the most seeds."""
  fitting = [n for n in networks if n.fits(side.net) and n.by_seed(side.column)]
  return max(fitting, key=lambda n: len(n.by_seed(side.column)), default=None)


def closest(
  networks: Sequence[Network], pair: Sequence[Side]
) -> tuple[Sequence[Network], Sequence[Network]]:
  """Returns the network of each of two sides.

  Of several, those with most seeds in common, whose training differs least, and whose measurement
  does. All networks where a side compares with a third one by itself.
  """
  if any(side.without for side in pair):
    return networks, networks
  (these, x), (those, y) = (
    ([n for n in networks if n.fits(side.net)], side.column) for side in pair
  )

  def rank(two: tuple[Network, Network]) -> tuple[int, int, int]:
    common = two[0].by_seed(x).keys() & two[1].by_seed(y).keys()
    training = settings_lib.difference(*(one.results[0].settings for one in two))
    alike = sum(two[0].settings[key] == two[1].settings[key] for key in KEYS)
    return len(common), -len(training), alike

  found = max(itertools.product(these, those), key=rank, default=None)
  return ([found[0]], [found[1]]) if found else ([], [])


def by_seed(networks: Sequence[Network], side: Side) -> dict[int, Measured]:
  """Returns the number of a side for every seed that has it; {} if there is no such network."""
  if side.without is None:
    network = best(networks, side)
    return network.by_seed(side.column) if network else {}
  noisy, plain = (
    next((one for one in networks if one.fits(net)), None) for net in (side.net, side.without)
  )
  if noisy is None or plain is None:
    return {}
  partners = {one.settings.get("seed", 0): one for one in plain.results}
  changed = [
    dataclasses.replace(one, curves={"interaction_change": rows})
    for one in noisy.results
    if (partner := partners.get(one.settings.get("seed", 0))) and (rows := _change(one, partner))
  ]
  return dataclasses.replace(noisy, results=changed).by_seed(side.column)


def _change(noisy: Results, plain: Results) -> Sequence[Mapping[str, Any]]:
  """Delta F^(m) of two results files; () if one has no J^(m), or has it of other orders."""
  curves = [one.curves.get("interactions", ()) for one in (noisy, plain)]
  orders = [[row["step"] for row in rows] for rows in curves]
  return interactions.change_rows(*curves) if orders[0] and orders[0] == orders[1] else ()


def networks_of(runs: Iterable[Results]) -> list[Network]:
  """Puts the results of one config together as reports do, whatever the file and the seed."""
  networks = []
  for one in groups.group([groups.Run(one, None) for one in runs if one.settings]):
    results = [run.results for run in one.runs]
    given = settings_lib.flatten(results[0].settings)
    settings = {key: given.get(key, field.default) for key, field in KEYS.items()}
    policy = results[0].settings.get("augment", {}).get("policy", {})
    settings["augment.policy"] = _policy_name(policy)
    networks.append(Network(settings, results))
  return networks


def _policy_name(policy: Mapping[str, Any]) -> str:
  """`mixup`, `random_crop + random_flip`: a gate that is always open is none."""
  name = policy.get("name", "none")
  if name == "compose":
    return " + ".join(map(_policy_name, policy["steps"]))
  if name == "with_probability" and policy["p"] == 1:
    return _policy_name(policy["policy"])
  return name


def decide(claim: Claim, networks: Sequence[Network], setting: Conditions) -> Finding:
  """Returns the finding of the regime that says most.

  From most seeds, on pictures that were not there to choose by, trained longest.
  """
  regimes: dict[tuple[Any, ...], list[Network]] = {}
  for network in networks:
    regime = tuple(network.settings[key] for key in _REGIME + _LENGTH)
    regimes.setdefault(regime, []).append(network)
  found = [(claim.rule.decide(inside, setting), regime) for regime, inside in regimes.items()]
  found = [(one, regime) for one, regime in found if one.verdict != NOT_RUN]
  if not found:
    return Finding(NOT_RUN)
  one, regime = max(found, key=lambda pair: (pair[0].seeds, not pair[1][3], *pair[1][-2:]))
  data, note, examples, held_out, model, epochs, steps = regime
  parts = [f"{titles.dataset(data)}{f' ({note})' if note else ''}", model]
  parts += [f"{examples:,} pictures"] if examples else []
  parts += [f"{held_out:,} held out"] if held_out else []
  parts += [f"{epochs:g} epochs" if epochs else f"{steps:,} steps"]
  parts += [f"{one.seeds} seed{'' if one.seeds == 1 else 's'}"]
  return one._replace(evidence=f"{one.evidence} ({', '.join(parts)})")


def gather(sources: Sequence[Source], runs: Iterable[Results]) -> Content:
  """Returns the ledger as a page: one row per claim, a section per source."""
  networks, counts = networks_of(runs), dict.fromkeys(VERDICTS, 0)
  rows: list[tuple[Cell, ...]] = []
  for source in sources:
    rows.append((Cell(source.title),))
    for claim in source.claims:
      one = decide(claim, networks, source.setting)
      counts[one.verdict] += 1
      texts = (claim.text, claim.where, _numbers(claim.rule), one.evidence)
      rows.append((*map(Cell, texts), Cell(one.verdict, tone=VERDICTS[one.verdict])))
  header = ("Claim", "Where", "Paper", "Here", "Verdict")
  said = f"{sum(counts.values())} claims: {', '.join(f'{n} {word}' for word, n in counts.items())}."
  tables = {"Ledger": [Table(CAPTION, header, tuple(rows), prose=True)]}
  return Content("Claims of the papers", "", (said,), (), tables)


def _numbers(rule: Rule) -> str:
  if isinstance(rule, Near):
    return f"{rule.paper:g} ± {rule.within:g}"
  if isinstance(rule, Correlates):
    return f"{'r' if rule.sign > 0 else '-r'} ≥ {rule.paper:g}" if rule.paper else ""
  return ", ".join(f"{a:g} < {b:g}" for a, b in rule.paper) if isinstance(rule, Lower) else "> 0"


def read(places: Sequence[str | os.PathLike]) -> list[Results]:
  """Reads results files and all below folders; JSON files of another kind are passed by.

  Raises:
    ResultsError: if a file is damaged.
  """
  runs: list[Results] = []
  for place in map(pathlib.Path, places):
    for file in sorted(place.rglob("*.json")) if place.is_dir() else [place]:
      try:
        runs += [run.results for run in groups.load(file)]
      except ForeignFileError:
        continue
  return runs


def write(
  sources: Sequence[Source], places: Sequence[str | os.PathLike], path: pathlib.Path
) -> pathlib.Path:
  """Writes the ledger, filled from results files and all below folders, as HTML and Markdown.

  Raises:
    ResultsError: if a file is damaged; JSON files of another kind are passed by.
    WriteError: if the page cannot be written.
  """
  content = gather(sources, read(places))
  files.make_folder(path.parent)
  files.write_text(path, page.render(content))
  files.write_text(path.with_suffix(".md"), markdown.render(content))
  return path
