# SPDX-License-Identifier: Apache-2.0
"""Charts as inline SVG: lines over steps, scatters, heat maps, reliability diagrams.

Colours come from the page's style sheet (classes `c0`, `c1`, ...), so charts follow light and dark;
every series also has its own dash pattern. Each chart carries a title and a description in words.
"""

import dataclasses
import itertools
import math
import textwrap
from collections.abc import Sequence

from mixboost_jax.report import svg
from mixboost_jax.report.svg import Markup


@dataclasses.dataclass(frozen=True)
class Series:
  """One line. Points whose y is None or not finite leave a gap."""

  label: str
  points: tuple[tuple[float, float | None], ...]
  colour: int


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
  low_y, high_y, marks = svg.span(ys, include=0.0 if from_zero else None)
  x = svg.Scale(low_x, high_x, left, width - right)
  y = svg.Scale(low_y, high_y, height - bottom, top)
  body = [
    svg.grid(x, y, svg.ticks(low_x, high_x, count=5), marks),
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


@dataclasses.dataclass(frozen=True)
class Point:
  """One labelled point with an interval in x."""

  label: str
  x: float
  y: float
  low: float | None
  high: float | None
  colour: int


def scatter(
  title: str,
  points: Sequence[Point],
  *,
  x_label: str,
  y_label: str,
  links: Sequence[tuple[int, int]] = (),
  front: bool = False,
) -> Markup:
  """Draws labelled points with their intervals in x.

  `links` are numbers of points to join; with `front` a line runs along those that no other point
  beats in both directions (lower is better).
  """
  width, height, left, right, top, bottom = 480, 320, 52, 12, 14, 38
  ends = [e for p in points for e in (p.x, p.low, p.high) if e is not None]
  x = svg.Scale(*svg.bounds(ends), left, width - right)
  y = svg.Scale(*svg.bounds([p.y for p in points]), height - bottom, top)
  body = [
    svg.grid(x, y, svg.ticks(x.low, x.high, count=5), svg.ticks(y.low, y.high, count=5)),
    svg.text((left + width - right) / 2, height - 6, x_label, "middle"),
    svg.turned(12, (top + height - bottom) / 2, y_label),
  ]
  for p in points:
    if p.low is not None and p.high is not None:
      kind = f"range {svg.series_class(p.colour)}"
      body.append(svg.stroke(x(p.low), y(p.y), x(p.high), y(p.y), kind))
  for a, b in ((points[i], points[j]) for i, j in links):
    body.append(svg.stroke(x(a.x), y(a.y), x(b.x), y(b.y), "link"))
  best = pareto_front([(p.x, p.y) for p in points]) if front else []
  for a, b in itertools.pairwise(best):
    body.append(svg.stroke(x(a[0]), y(a[1]), x(b[0]), y(b[1]), "front"))
  body += [svg.dot(x(p.x), y(p.y), 4, p.colour) for p in points]
  body += _beside([(x(p.x), y(p.y), p.label) for p in points], left, width, top)
  words = "; ".join(f"{p.label}: {x_label} {p.x:.4g}, {y_label} {p.y:.4g}" for p in points)
  return svg.figure(title, f"{title}. {words}", width, height, body)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
  """Returns the points that no other one beats in both coordinates (lower is better), by x."""
  front: list[tuple[float, float]] = []
  for point in sorted(points):
    if not front or point[1] < front[-1][1]:
      front.append(point)
  return front


def _beside(
  places: Sequence[tuple[float, float, str]], left: float, right: float, top: float
) -> list[Markup]:
  """Writes labels beside dots, as near as nothing else stands; a line leads to those far off."""
  taken = [(x - 5, y + 4, 10.0) for x, y, _ in places]  # the dots themselves
  found = []

  def is_free(start: float, at: float, wide: float) -> bool:
    return (
      at > top
      and left < start < right - wide
      and all(abs(at - b) >= 11 or start > a + w or a > start + wide for a, b, w in taken)
    )

  for x, y, label in places:
    wide = 5.8 * len(label)
    sides = sorted((x + 7, x - 7 - wide), reverse=x > (left + right) / 2)
    steps = (sign * 11 * k for k in range(len(places) + 1) for sign in (-1, 1))
    tried = ((start, y + 4 + step) for step in steps for start in sides)
    start, at = next((place for place in tried if is_free(*place, wide)), (sides[0], y + 4))
    taken.append((start, at, wide))
    edge, anchor = (start, "start") if start > x else (start + wide, "end")
    if abs(at - y - 4) > 12:
      found.append(svg.stroke(x, y, edge, at - 4, "axis"))
    found.append(svg.text(edge, at, label, anchor, "small"))
  return found


@dataclasses.dataclass(frozen=True)
class Block:
  """One part of a heat map: columns side by side under a title."""

  title: str
  columns: tuple[str, ...]
  """Empty texts if the title says all."""
  values: tuple[tuple[float | None, ...], ...]
  """One row per row of the map."""


def heat_map(title: str, rows: Sequence[str], blocks: Sequence[Block]) -> Markup:
  """Draws a table of cells, stronger for larger values, with the numbers where there is room."""
  label, gap, row, line = 6.4 * max(map(len, rows), default=0) + 8, 8, 17, 12
  count = sum(len(block.columns) for block in blocks)
  cell = min(40.0, max(11.0, (1180 - label - gap * len(blocks)) / max(1, count)))
  wide = [max(cell * len(block.columns), 52.0) for block in blocks]
  heads = [
    textwrap.wrap(block.title, max(8, int(across / 6)))
    for block, across in zip(blocks, wide, strict=True)
  ]
  top = line * max(map(len, heads), default=0) + 20
  every = [v for block in blocks for values in block.values for v in values if v is not None]
  shade = svg.Scale(*svg.bounds(every), 0.04, 0.84)
  body = [svg.text(label - 6, top + row * (i + 1) - 5, name, "end") for i, name in enumerate(rows)]
  left, words = label, []
  for block, head, across in zip(blocks, heads, wide, strict=True):
    size = across / len(block.columns)
    body += [
      svg.text(left + across / 2, line * (k + 1), text, "middle", "small")
      for k, text in enumerate(head)
    ]
    for j, column in enumerate(block.columns):
      body.append(svg.text(left + size * (j + 0.5), top - 5, column, "middle", "small"))
      for i, values in enumerate(block.values):
        body += _cell(left + size * j, top + row * i, size, row, values[j], shade)
    worst, name = max(zip(map(_largest, block.values), rows, strict=True))
    words.append(f"{block.title}: at most {worst:.3g} ({name})")
    left += across + gap
  description = f"{title}. {'; '.join(words)}"
  return svg.figure(title, description, left, top + row * len(rows) + 4, body)


def _cell(
  x: float, y: float, width: float, height: float, value: float | None, shade: svg.Scale
) -> list[Markup]:
  if value is None or not math.isfinite(value):
    return []
  box = svg.element(
    "rect",
    x=f"{x:.1f}",
    y=f"{y:.1f}",
    width=f"{width - 1:.1f}",
    height=f"{height - 1:g}",
    class_="level",
    style=f"fill-opacity:{shade(value):.2f}",
  )
  if width < 24:
    return [box]
  return [box, svg.text(x + width / 2, y + height - 5, f"{value:.0f}", "middle", "small")]


def _largest(values: Sequence[float | None]) -> float:
  return max((v for v in values if v is not None and math.isfinite(v)), default=-math.inf)


@dataclasses.dataclass(frozen=True)
class Figure:
  """A chart and its heading; `legend` lists (label, colour) if the page's legend does not hold."""

  title: str
  chart: Markup
  legend: tuple[tuple[str, int], ...] = ()
  wide: bool = False
  """Whether it is scrolled, not shrunk, on narrow screens."""
