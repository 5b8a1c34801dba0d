# SPDX-License-Identifier: Apache-2.0
"""Which charts the results allow, and from which curves they are drawn."""

import base64
import dataclasses
import pathlib
import struct
from collections.abc import Sequence

from mixboost_jax.report import analysis, charts, interactions, titles
from mixboost_jax.report.charts import Figure
from mixboost_jax.report.groups import AUDIT, Group, MetricId

SEVERITY = "severity/"
"""Prefix of the curves of the error over the severities of a corruption."""
RELIABILITY = "reliability/"
"""Prefix of the curves that hold the bins of a reliability diagram."""
FIRST = ("loss", "clean_error", "error", "nll", "learning_rate")
"""Quantities shown at once; the others are folded away."""
ERRORS = "Dots are values, whiskers their intervals (or ± one standard deviation over seeds)."
RELIABILITY_NOTE = (
  "Accuracy of the predictions made with a given confidence; on the dotted line a network is as "
  "often right as it says, below it is overconfident. Bars: share of the predictions."
)
_FROM_ZERO = {"clean_error", "error", "learning_rate"}


def errors(groups: Sequence[Group], keys: Sequence[MetricId]) -> Figure | None:
  """Returns the errors of all groups on all sets, with their intervals."""
  clusters = []
  for key in keys:
    if key[2] not in ("error", "clean_error"):
      continue
    row = []
    for i, group in enumerate(groups):
      value = group.value(key)
      if value is None:
        continue
      low, high, text = value.low, value.high, titles.with_unit(value.mean, "%")
      if value.deviation is not None:
        low, high = value.mean - value.deviation, value.mean + value.deviation
        text = f"{titles.number(value.mean, '%')} ± {titles.with_unit(value.deviation, '%')}"
      row.append(charts.Whisker(group.label, value.mean, low, high, i, text))
    if row:
      clusters.append((titles.dataset(*key[:2]), row))
  if not clusters:
    return None
  return Figure("Error", charts.whiskers("Error", clusters, unit="error in %, lower is better"))


def training(groups: Sequence[Group]) -> tuple[list[Figure], list[Figure]]:
  """Returns the main training curves and the remaining ones, all runs overlaid."""
  elsewhere = (RELIABILITY, SEVERITY, f"{AUDIT}/", *analysis.CURVES)
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
  first = sorted((p for p in places if p[1] in FIRST), key=lambda place: FIRST.index(place[1]))
  more = [place for place in places if place[1] not in FIRST]
  return [_curve(groups, *p) for p in first], [_curve(groups, *p) for p in more]


def _curve(groups: Sequence[Group], name: str, field: str) -> Figure:
  series = []
  for i, group in enumerate(groups):
    for run in group.runs:
      curve = run.results.curves.get(name, ())
      points = tuple((float(point["step"]), point[field]) for point in curve if field in point)
      if points:
        series.append(charts.Series(group.label, points, i))
  part = titles.PARTS.get(name, name)
  title = f"{titles.CURVES.get(field, field.replace('_', ' '))}, {part}"
  return Figure(title, charts.lines(title, series, from_zero=field in _FROM_ZERO))


def reliability(groups: Sequence[Group]) -> list[Figure]:
  """Returns one reliability diagram per set of pictures; of several seeds the first is drawn."""
  names = dict.fromkeys(
    name for group in groups for run in group.runs for name in run.results.curves
  )
  figures = []
  for name in names:
    if not name.startswith(RELIABILITY):
      continue
    runs = []
    for i, group in enumerate(groups):
      points = group.runs[0].results.curves.get(name, ())
      known = [p for p in points if None not in (p.get("low"), p.get("high"), p.get("count"))]
      if known and len(known) == len(points):
        bins = [
          charts.Bin(p["low"], p["high"], round(p["count"]), p.get("confidence"), p.get("accuracy"))
          for p in known
        ]
        runs.append((group.label, bins, i))
    if runs:
      title = titles.dataset(name.removeprefix(RELIABILITY))
      figures.append(Figure(title, charts.reliability(title, runs)))
  return figures


# Strips of sample pictures, carried inside the page.

CAPTIONS = {
  "clean": "As they are",
  "augmented": "As they are trained on, first view",
  "masked": "Second, masked view",
}
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class Strip:
  """One PNG with the groups that share it."""

  kind: str
  labels: tuple[str, ...]
  png: bytes

  @property
  def caption(self) -> str:
    """What the strip shows."""
    return CAPTIONS.get(self.kind, self.kind)

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
  problems = []
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
        problems.append(f"{group.label}: the {kind} sample pictures ({relative}) cannot be read.")
        continue
      found.setdefault((kind, png), []).append(group.label)
  order = list(CAPTIONS)
  strips = [Strip(kind, tuple(labels), png) for (kind, png), labels in found.items()]
  strips.sort(key=lambda strip: order.index(strip.kind) if strip.kind in order else len(order))
  return strips, problems
