# SPDX-License-Identifier: Apache-2.0
"""Charts as inline SVG: lines over steps, intervals side by side, reliability diagrams.

Colours come from the page's style sheet (classes `c0`, `c1`, ...), so charts follow light and dark;
every series also has its own dash pattern. Each chart carries a title and a description in words.
"""

import dataclasses
import math
from collections.abc import Sequence

from mixboost_jax.report import svg
from mixboost_jax.report.svg import Markup, join


@dataclasses.dataclass(frozen=True)
class Series:
  """One line. Points whose y is None or not finite leave a gap."""

  label: str
  points: tuple[tuple[float, float | None], ...]
  colour: int


@dataclasses.dataclass(frozen=True)
class Whisker:
  """One value with its interval."""

  label: str
  value: float
  low: float | None
  high: float | None
  colour: int
  text: str


@dataclasses.dataclass(frozen=True)
class Bin:
  """One bin of a reliability diagram; empty bins have count 0."""

  low: float
  high: float
  count: int
  confidence: float | None
  accuracy: float | None


def lines(
  title: str,
  series: Sequence[Series],
  *,
  x_label: str = "step",
  from_zero: bool = False,
  from_low: bool = False,
) -> Markup:
  """Draws lines over a common x axis; the title names the y axis.

  With `from_zero` the y axis starts at 0; with `from_low` the x axis starts at the smallest x
  instead of 0, and every point is marked.
  """
  width, height, left, right, top, bottom = 480, 270, 52, 12, 12, 38
  known = [_finite(one.points) for one in series]
  all_x = [x for points in known for x, _ in points]
  low_x, high_x = 0.0, max([*all_x, 0.0]) or 1.0  # steps are counted from 0
  if from_low and all_x:
    low_x, high_x = svg.bounds(all_x)
  ys = [y for points in known for _, y in points]
  low_y, high_y = svg.bounds(ys, include=0.0 if from_zero else None)
  x = svg.Scale(low_x, high_x, left, width - right)
  y = svg.Scale(low_y, high_y, height - bottom, top)
  body = [
    svg.grid(x, y, svg.ticks(low_x, high_x, count=5), svg.ticks(low_y, high_y, count=5)),
    svg.text((left + width - right) / 2, height - 6, x_label, "middle"),
  ]
  for one in series:
    body += [svg.line(run, x, y, one.colour) for run in _unbroken(one.points)]
    if from_low:
      body += [svg.dot(x(a), y(b), 3, one.colour) for a, b in _finite(one.points)]
  words = [
    f"{one.label}: from {p[0][1]:.4g} to {p[-1][1]:.4g} at {x_label} {p[-1][0]:.4g}"
    for one, p in zip(series, known, strict=True)
    if p
  ]
  return svg.figure(title, f"{title} over {x_label}. " + "; ".join(words), width, height, body)


def whiskers(title: str, clusters: Sequence[tuple[str, Sequence[Whisker]]], *, unit: str) -> Markup:
  """Draws values with their intervals as dots with whiskers, in clusters with a label each."""
  width, left, right, top, bottom, row = 720, 120, 120, 4, 40, 20
  heading = 30  # room for the name above each cluster
  height = top + bottom + sum(heading + row * len(values) for _, values in clusters)
  every = [w for _, values in clusters for w in values]
  ends = [e for w in every for e in (w.low, w.high, w.value) if e is not None]
  low, high = svg.bounds(ends, include=0.0)
  x = svg.Scale(low, high, left, width - right)
  body = []
  for mark, words in svg.labelled(svg.ticks(low, high, count=6)):
    body.append(svg.stroke(x(mark), top + 8, x(mark), height - bottom + 4, "grid"))
    body.append(svg.text(x(mark), height - bottom + 18, words, "middle"))
  body.append(svg.text((left + width - right) / 2, height - 4, unit, "middle"))
  place = float(top)
  for name, values in clusters:
    body.append(svg.text(0, place + 18, name, "start", "strong"))
    place += heading
    for value in values:
      body.append(_whisker(value, x, place + row / 2, left))
      place += row
  words = "; ".join(
    f"{name}: " + ", ".join(f"{w.label} {w.text}" for w in values) for name, values in clusters
  )
  return svg.figure(title, f"{title} in {unit}. {words}", width, height, body)


def reliability(title: str, runs: Sequence[tuple[str, Sequence[Bin], int]]) -> Markup:
  """Draws accuracy against confidence, and below it how often each confidence occurs.

  A run is (label, bins, colour).
  """
  width, height, left, right, top, bottom, bars = 320, 360, 46, 10, 10, 38, 56
  x = svg.Scale(0, 1, left, width - right)
  y = svg.Scale(0, 1, height - bottom - bars - 12, top)
  marks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
  body = [svg.grid(x, y, [], marks), svg.stroke(x(0), y(0), x(1), y(1), "diagonal")]
  floor, words = height - bottom, []
  totals = [max(1, sum(b.count for b in bins)) for _, bins, _ in runs]
  shares = [b.count / total for (_, bins, _), total in zip(runs, totals, strict=True) for b in bins]
  tall = svg.Scale(0, max(shares, default=1) or 1.0, floor, floor - bars)
  for i, ((label, bins, colour), total) in enumerate(zip(runs, totals, strict=True)):
    filled = [b for b in bins if b.count and b.confidence is not None and b.accuracy is not None]
    points = [(float(b.confidence or 0), float(b.accuracy or 0)) for b in filled]
    body.append(svg.line(points, x, y, colour))
    for (confidence, accuracy), b in zip(points, filled, strict=True):
      size = 1.5 + 4.5 * math.sqrt(b.count / total)
      body.append(svg.dot(x(confidence), y(accuracy), size, colour))
    for b in bins:
      slot, peak = (x(b.high) - x(b.low) - 1) / len(runs), tall(b.count / total)
      body.append(svg.bar(x(b.low) + i * slot, peak, slot, floor - peak, colour))
    gap = sum(b.count * abs(float(b.confidence or 0) - float(b.accuracy or 0)) for b in filled)
    words.append(f"{label}: mean gap {100 * gap / total:.2f} %")
  body.append(svg.stroke(left, floor, width - right, floor, "axis"))
  body.append(svg.text((left + width - right) / 2, height - 6, "confidence", "middle"))
  body.append(svg.turned(13, (y(0) + y(1)) / 2, "accuracy"))
  body.append(svg.turned(13, floor - bars / 2, "share"))
  body += [svg.text(x(mark), floor + 15, f"{mark:g}", "middle") for mark in marks]
  return svg.figure(
    title, f"{title}: accuracy against confidence. " + "; ".join(words), width, height, body
  )


def _finite(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float]]:
  return [(x, y) for x, y in points if y is not None and math.isfinite(y)]


def _unbroken(points: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
  pieces: list[list[tuple[float, float]]] = [[]]
  for x, y in points:
    if y is None or not math.isfinite(y):
      pieces.append([])
    else:
      pieces[-1].append((x, y))
  return [svg.thin(piece) for piece in pieces if piece]


def _whisker(value: Whisker, x: svg.Scale, place: float, left: float) -> Markup:
  colour = svg.series_class(value.colour)
  parts = [svg.text(left - 8, place + 4, value.label, "end", f"label {colour}")]
  end = x(value.value) if math.isfinite(value.value) else x.start
  if value.low is not None and value.high is not None:
    low, end = x(value.low), x(value.high)
    parts.append(svg.stroke(low, place, end, place, f"whisker {colour}"))
    for tip in (low, end):
      parts.append(svg.stroke(tip, place - 4, tip, place + 4, f"whisker {colour}"))
  if math.isfinite(value.value):
    parts.append(svg.dot(x(value.value), place, 4, value.colour))
  parts.append(svg.text(end + 8, place + 4, value.text, "start", "value"))
  return join(parts)


@dataclasses.dataclass(frozen=True)
class Figure:
  """A chart and its heading; `legend` lists (label, colour) if the page's legend does not hold."""

  title: str
  chart: Markup
  legend: tuple[tuple[str, int], ...] = ()
