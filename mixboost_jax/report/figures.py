# SPDX-License-Identifier: Apache-2.0
"""Which charts the results allow, and from which curves they are drawn."""

import base64
import dataclasses
import math
import pathlib
import statistics
import struct
from collections.abc import Mapping, Sequence

from mixboost_jax.report import analysis, cards, charts, compare, interactions, svg, titles
from mixboost_jax.report.charts import Figure
from mixboost_jax.report.groups import AUDIT, Group, MetricId, own_plain

SEVERITY = "severity/"
"""Prefix of the curves of the error over the severities of a corruption."""
CLASSES = "classes/"
"""Prefix of the errors of single classes, a curve of one point for each."""
RELIABILITY = "reliability/"
"""Prefix of the curves that hold the bins of a reliability diagram."""
ATTACK = "attack/"
"""Prefix of the curves of the error over the radius of an attack."""
MAX_RADIUS = 0.1
"""Up to which a chart of errors over the radius goes; the last one measured makes all grey."""
MISTAKES = "mistakes/"
"""Prefix of the words of the mistakes that are shown, a point for each picture."""
FIRST = ("loss", "clean_error", "error", "nll", "learning_rate")
"""Quantities shown at once; the others are folded away."""
RELIABILITY_NOTE = (
  "Accuracy of the predictions made with a given confidence; on the dotted line a network is as "
  "often right as it says, below it is overconfident. Bars: share of the predictions."
)
_FROM_ZERO = {"clean_error", "error", "learning_rate"}


def training(groups: Sequence[Group]) -> list[Figure]:
  """Returns the training curves, the main ones first, runs overlaid as far as hues reach."""
  elsewhere = (
    *(RELIABILITY, SEVERITY, CLASSES, ATTACK, MISTAKES, f"{AUDIT}/"),
    *analysis.CURVES,
  )
  places = dict.fromkeys(
    (name, field)
    for group in groups
    for run in group.runs
    for name, points in run.results.curves.items()
    if not name.startswith(elsewhere) and name not in interactions.CURVES
    for point in points
    for field in point
    if field != "step"
  )
  ranks = {field: rank for rank, field in enumerate(FIRST)}
  ordered = sorted(places, key=lambda place: ranks.get(place[1], len(FIRST)))
  panels = compare.panels(groups)
  return [figure for place in ordered for panel in panels for figure in _curve(panel, *place)]


def _curve(panel: compare.Panel, name: str, field: str) -> list[Figure]:
  series = []
  for group, i in panel.members:
    for run in group.runs:
      curve = run.results.curves.get(name, ())
      points = tuple((float(point["step"]), point[field]) for point in curve if field in point)
      if points:
        series.append(charts.Series(group.label, points, i))
  part = titles.PARTS.get(name, name)
  title = f"{titles.CURVES.get(field, field.replace('_', ' ').capitalize())}, {part}{panel.number}"
  chart = charts.lines(title, series, from_zero=field in _FROM_ZERO)
  return [Figure(title, chart, panel.legend)] if series else []


def _names(groups: Sequence[Group], prefix: str) -> list[str]:
  """Returns the curves of this kind that any run has."""
  names = (name for group in groups for run in group.runs for name in run.results.curves)
  return [name for name in dict.fromkeys(names) if name.startswith(prefix)]


def reliability(groups: Sequence[Group]) -> list[Figure]:
  """Returns reliability diagrams of each set of pictures; of several seeds the first is drawn."""
  names = _names(groups, RELIABILITY)
  figures = []
  for name, panel in ((name, panel) for name in names for panel in compare.panels(groups)):
    runs = []
    for group, i in panel.members:
      points = group.runs[0].results.curves.get(name, ())
      known = [p for p in points if None not in (p.get("low"), p.get("high"), p.get("count"))]
      if known and len(known) == len(points):
        bins = [
          charts.Bin(p["low"], p["high"], round(p["count"]), p.get("confidence"), p.get("accuracy"))
          for p in known
        ]
        runs.append((group.label, bins, i))
    if runs:
      title = titles.dataset(name.removeprefix(RELIABILITY)) + panel.number
      figures.append(Figure(title, charts.reliability(title, runs), panel.legend))
  return figures


def heat_maps(groups: Sequence[Group], prefix: str) -> list[Figure]:
  """Returns the errors of the corruptions by severity, or of the classes, a map per data set."""
  sets: dict[str, list[str]] = {}
  for name in _names(groups, prefix):
    sets.setdefault(name.rpartition("/")[0], []).append(name)
  found = []
  for place, names in sets.items():
    rows = {name: [_by_step(group, name) for group in groups] for name in names}
    steps = sorted({step for row in rows.values() for known in row for step in known})
    columns = tuple(f"{step:g}" for step in steps) if len(steps) > 1 else ("",)
    blocks = [
      charts.Block(
        group.label, columns, tuple(tuple(map(row[i].get, steps)) for row in rows.values())
      )
      for i, group in enumerate(groups)
      if any(row[i] for row in rows.values())
    ]
    what = "severity" if prefix == SEVERITY else "class"
    title = f"{titles.dataset(place.removeprefix(prefix))}: error in % by {what}, {_range(rows)}"
    words = [name.rpartition("/")[2].replace("_", " ") for name in names]
    if steps:
      found.append(Figure(title, charts.heat_map(title, words, blocks), wide=True))
  return found


def _range(rows: Mapping[str, Sequence[Mapping[float, float]]]) -> str:
  """Says what the faintest and the strongest cell of a map mean."""
  every = [v for row in rows.values() for known in row for v in known.values()] or [math.nan]
  low, high = f"{min(every):.0f}", f"{max(every):.0f}"
  return low if low == high else f"{low} (faintest) to {high} (strongest)"


def _by_step(group: Group, name: str) -> Mapping[float, float]:
  """Returns the mean error over the runs of a group at every step of a curve."""
  values: dict[float, list[float]] = {}
  for run in group.runs:
    for point in run.results.curves.get(name, ()):
      if point.get("error") is not None:
        values.setdefault(point["step"], []).append(point["error"])
  return {step: statistics.fmean(found) for step, found in values.items()}


def trade_offs(groups: Sequence[Group], keys: Sequence[MetricId]) -> list[Figure]:
  """Returns what each run pays in clean error for each robust one; needs three runs."""
  errors = [pair for pair in cards.headline(keys).items() if pair[1][2] in cards.ERRORS]
  colours, found = compare.colours(groups), []
  for title, key in errors[1:]:
    values = [(one, one.value(errors[0][1]), one.value(key)) for one in groups]
    known = [(one, a, b) for one, a, b in values if a and b and math.isfinite(a.mean + b.mean)]
    points = [
      charts.Point(one.label, a.mean, b.mean, None, None, colours[one.label]) for one, a, b in known
    ]
    place = {one.label: i for i, (one, _, _) in enumerate(known)}
    pairs = [(own_plain(one, groups), one) for one, _, _ in known]
    links = [(place[a.label], place[b.label]) for a, b in pairs if a and a.label in place]
    if len(points) > 2:
      words = {"x_label": f"{errors[0][0]} in %", "y_label": f"{title} in %"}
      chart = charts.scatter(title, points, **words, links=links, front=True)
      wide = len(points) > svg.NUM_COLOURS
      found.append(Figure(f"{title} against {errors[0][0]}", chart, wide=wide))
  return found


def attacks(groups: Sequence[Group], keys: Sequence[MetricId]) -> list[Figure]:
  """Returns the error over the radius and over the steps of PGD."""
  found = []
  curves = {group.label: _radii(group) for group in groups}
  steps = {group.label: _steps(group, keys) for group in groups}
  for title, lines, label in (
    ("Error in %, PGD of 10 steps, pictures it had right", curves, "radius \u03b5 in 1/255"),
    ("Error in % at \u03b5 = 8/255", steps, "steps of PGD"),
  ):
    for panel in compare.panels(groups):
      series = [
        charts.Series(group.label, lines[group.label], colour)
        for group, colour in panel.members
        if len(lines[group.label]) > 1
      ]
      if series:
        chart = charts.lines(title, series, x_label=label, from_zero=True)
        found.append(Figure(title + panel.number, chart, panel.legend))
  return found


def _radii(group: Group) -> tuple[tuple[float, float | None], ...]:
  for name in _names([group], ATTACK):
    points = group.runs[0].results.curves.get(name, ())
    return tuple((255 * p["epsilon"], p["error"]) for p in points if p["epsilon"] < MAX_RADIUS)
  return ()


def _steps(group: Group, keys: Sequence[MetricId]) -> tuple[tuple[float, float | None], ...]:
  found = []
  for key in keys:
    head, _, count = key[0].rpartition("-pgd-")
    if head and count.isdigit() and (value := group.value(key)) is not None:
      found.append((float(count), value.mean))
  return tuple(sorted(found))


# Strips of sample pictures, carried inside the page.

CAPTIONS = {
  "clean": "As they are",
  "augmented": "As they are trained on, first view",
  "masked": "Second, masked view",
  "mistakes": "Surest mistakes",
  "adversarial": "Test pictures, the same after PGD-10 within 8/255, 16 times the difference",
}
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class Strip:
  """One PNG with the groups that share it."""

  kind: str
  labels: tuple[str, ...]
  png: bytes
  words: tuple[str, ...] = ()
  """What is said of its pictures, one by one."""

  @property
  def caption(self) -> str:
    """What the strip shows."""
    said = f": {'; '.join(self.words)}" if self.words else ""
    return CAPTIONS.get(self.kind, self.kind) + said

  @property
  def size(self) -> tuple[int, int]:
    """Width and height in pixels, from the header of the file."""
    width, height = struct.unpack(">II", self.png[16:24])
    return width, height

  def data_uri(self) -> str:
    """Returns the picture as the address of an `img` element."""
    return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def collect(
  groups: Sequence[Group], *, fallback: pathlib.Path | None
) -> tuple[list[Strip], list[str]]:
  """Reads the strips of each group's first run (equal pictures appear once), and lists failures.

  The paths of results that were not read from a file are relative to `fallback`.
  """
  found: dict[tuple[str, bytes], list[str]] = {}
  unread: dict[tuple[str, str], list[str]] = {}
  for group in groups:
    run = group.runs[0]
    folder = run.folder or fallback
    for kind, relative in run.results.samples.items():
      if folder is None:
        continue
      try:
        png = (folder / relative).read_bytes()
      except OSError:
        png = b""
      if not png.startswith(_PNG) or len(png) < 24:
        unread.setdefault((kind, relative), []).append(group.label)
        continue
      found.setdefault((kind, png), []).append(group.label)
  problems = [
    f"{titles.listing(labels)}: the {kind} sample pictures ({relative}) cannot be read."
    for (kind, relative), labels in unread.items()
  ]
  order = list(CAPTIONS)
  said = {group.label: _mistakes(group) for group in groups}
  strips = [
    Strip(kind, tuple(labels), png, said[labels[0]] if kind == "mistakes" else ())
    for (kind, png), labels in found.items()
  ]
  strips.sort(key=lambda strip: order.index(strip.kind) if strip.kind in order else len(order))
  return strips, problems


def _mistakes(group: Group) -> tuple[str, ...]:
  """Returns "cat taken for dog (97 %)" for each picture among the mistakes that are shown."""
  curves = group.runs[0].results.curves
  found = [
    (point["step"], f"{name.removeprefix(MISTAKES)} ({100 * point['confidence']:.0f} %)")
    for name in _names([group], MISTAKES)
    for point in curves.get(name, ())
  ]
  return tuple(words for _, words in sorted(found))
