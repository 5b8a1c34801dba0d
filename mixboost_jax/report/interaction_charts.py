# SPDX-License-Identifier: Apache-2.0
"""Charts of interactions: curves with bands, a labelled scatter, a map over a picture, a tree."""

import base64
import dataclasses
import math
import struct
import zlib
from collections.abc import Sequence

from mixboost_jax.report import drawing, scales
from mixboost_jax.report.interaction_data import Rows, tree_layout
from mixboost_jax.report.markup import Markup, element


@dataclasses.dataclass(frozen=True)
class Band:
  """One curve with its interval; `points` are (x, y, low, high)."""

  label: str
  colour: int
  points: tuple[tuple[float, float, float | None, float | None], ...]


@dataclasses.dataclass(frozen=True)
class Point:
  """One labelled point with an interval in x."""

  label: str
  x: float
  y: float
  low: float | None
  high: float | None
  colour: int


def bands(title: str, series: Sequence[Band], *, x_label: str, mark: float | None = None) -> Markup:
  """Draws curves over [0, 1] with their intervals as bands.

  Args:
    title: of the chart.
    series: drawn in order.
    x_label: under the axis.
    mark: height of a dotted line.
  """
  width, height, left, right, top, bottom = 480, 290, 44, 12, 12, 38
  every = [p for one in series for p in one.points]
  ends = [value for p in every for value in p[1:] if value is not None]
  low, high = scales.bounds(ends, include=0.0)
  x = scales.Scale(
    min([p[0] for p in every] + [0.0]), max([p[0] for p in every] + [1.0]), left, width - right
  )
  y = scales.Scale(low, high, height - bottom, top)
  body = [
    drawing.grid(x, y, scales.ticks(x.low, x.high, count=5), scales.ticks(low, high, count=5)),
    drawing.text((left + width - right) / 2, height - 6, x_label, "middle"),
  ]
  if mark is not None:
    body.append(drawing.stroke(x.start, y(mark), x.stop, y(mark), "diagonal"))
  for one in series:
    sure = [p for p in one.points if p[2] is not None and p[3] is not None]
    outline = [(p[0], p[3]) for p in sure] + [(p[0], p[2]) for p in reversed(sure)]
    if len(sure) > 1:
      places = " ".join(f"{x(a):.1f},{y(float(b or 0)):.1f}" for a, b in outline)
      kind = f"band {drawing.series_class(one.colour)}"
      body.append(element("polygon", points=places, class_=kind))
  body += [drawing.line([p[:2] for p in one.points], x, y, one.colour) for one in series]
  words = "; ".join(
    f"{one.label}: {one.points[0][1]:.3g} at {one.points[0][0]:.3g}, "
    f"{one.points[-1][1]:.3g} at {one.points[-1][0]:.3g}"
    for one in series
    if one.points
  )
  return drawing.figure(title, f"{title} over {x_label}. {words}", width, height, body)


def scatter(title: str, points: Sequence[Point], *, x_label: str, y_label: str) -> Markup:
  """Draws labelled points with their intervals in x."""
  width, height, left, right, top, bottom = 480, 320, 52, 12, 14, 38
  ends = [e for p in points for e in (p.x, p.low, p.high) if e is not None]
  x = scales.Scale(*scales.bounds(ends), left, width - right)
  y = scales.Scale(*scales.bounds([p.y for p in points]), height - bottom, top)
  body = [
    drawing.grid(x, y, scales.ticks(x.low, x.high, count=5), scales.ticks(y.low, y.high, count=5)),
    drawing.text((left + width - right) / 2, height - 6, x_label, "middle"),
    drawing.turned(12, (top + height - bottom) / 2, y_label),
  ]
  for p in points:
    if p.low is not None and p.high is not None:
      kind = f"range {drawing.series_class(p.colour)}"
      body.append(drawing.stroke(x(p.low), y(p.y), x(p.high), y(p.y), kind))
  taken: list[tuple[float, float]] = []
  for p in points:
    body.append(drawing.dot(x(p.x), y(p.y), 4, p.colour))
    after = x(p.x) < (left + width - right) / 2
    place = (x(p.x) + (7 if after else -7), y(p.y) - 4)
    while any(abs(place[1] - b) < 11 and abs(place[0] - a) < 110 for a, b in taken):
      place = (place[0], place[1] - 11)
    taken.append(place)
    body.append(drawing.text(*place, p.label, "start" if after else "end", "small"))
  words = "; ".join(f"{p.label}: {x_label} {p.x:.4g}, {y_label} {p.y:.4g}" for p in points)
  return drawing.figure(title, f"{title}. {words}", width, height, body)


def heat(title: str, cells: Rows, picture: Rows) -> Markup:
  """Draws a picture, and beside it I(i, j) of the framed cell i with every cell j.

  Args:
    title: of the chart.
    cells: "value" and "chosen" of each cell, row by row.
    picture: "red", "green", "blue" of each pixel, row by row, and its "column".
  """
  side, gap, top, bar = 200.0, 24.0, 4.0, 46.0
  grid = math.isqrt(len(cells))
  cell = side / grid
  limit = max(abs(float(row["value"])) for row in cells) or 1.0
  body = []
  if picture:
    body.append(
      element(
        "image",
        href=_data_uri(picture),
        x="0",
        y=f"{top:g}",
        width=f"{side:g}",
        height=f"{side:g}",
        preserveAspectRatio="none",
        style="image-rendering:pixelated",
      )
    )
  offsets = (0.0, side + gap) if picture else (0.0,)
  frames = []
  for row in cells:
    number = int(row["step"])
    place = (number % grid * cell, top + number // grid * cell)
    share = abs(float(row["value"])) / limit
    kind = "positive" if float(row["value"]) > 0 else "negative"
    body.append(_square(offsets[-1] + place[0], place[1], cell, f"heat {kind}", share))
    if row.get("chosen"):
      frames += [_square(offset + place[0], place[1], cell, "frame") for offset in offsets]
  body += frames
  edge = offsets[-1] + side + 12
  for k in range(21):
    share = 1 - k / 10
    kind = "positive" if share > 0 else "negative"
    body.append(
      element(
        "rect",
        x=f"{edge:g}",
        y=f"{top + k * side / 21:.1f}",
        width="10",
        height=f"{side / 21 + 0.3:.1f}",
        class_=f"heat {kind}",
        style=f"fill-opacity:{abs(share):.3f}",
      )
    )
  for share, place in ((1, top + 10), (0, top + side / 2 + 4), (-1, top + side)):
    sign = "+" if share > 0 else "\u2212" if share < 0 else ""
    body.append(drawing.text(edge + 14, place, f"{sign}{abs(share) * limit:.2g}", "start"))
  strongest = max(cells, key=lambda row: abs(float(row["value"])))
  words = (
    f"{title}: {grid} by {grid} cells; the strongest interaction is "
    f"{float(strongest['value']):.3g} with cell {int(strongest['step'])}"
  )
  return drawing.figure(title, words, edge + bar + 14, side + 2 * top, body)


def _square(x: float, y: float, side: float, kind: str, opacity: float | None = None) -> Markup:
  style = None if opacity is None else f"fill-opacity:{opacity:.3f}"
  size = f"{side:.2f}"
  return element(
    "rect", x=f"{x:.2f}", y=f"{y:.2f}", width=size, height=size, class_=kind, style=style
  )


def tree(title: str, rows: Rows) -> Markup:
  """Draws a tree of cells; the height of a node is T of its span."""
  width, height, left, right, top, bottom = 480, 270, 52, 14, 14, 40
  places, players, tallest = tree_layout(rows)
  x = scales.Scale(-0.5, max(1, len(players)) - 0.5, left, width - right)
  y = scales.Scale(0.0, 1.08 * tallest, height - bottom, top)
  marks = scales.ticks(0.0, tallest, count=5)
  step = marks[1] - marks[0] if len(marks) > 1 else 1.0
  body = []
  for mark in marks:
    body.append(drawing.stroke(x.start, y(mark), x.stop, y(mark), "grid"))
    body.append(drawing.text(x.start - 6, y(mark) + 4, scales.label(mark, step), "end"))
  for number, player in enumerate(players):
    body.append(drawing.text(x(number), height - bottom + 16, str(player), "middle"))
  body.append(drawing.text((left + width - right) / 2, height - 6, "cell", "middle"))
  body.append(drawing.turned(12, (top + height - bottom) / 2, "T([A])"))
  for row in rows:
    if row.get("left") is None:
      continue
    here = places[int(row["step"])]
    colour = 0 if float(row["interaction"]) >= 0 else 1
    for child in (places[int(row["left"])], places[int(row["right"])]):
      corner = [(child[0], child[1]), (child[0], here[1]), (here[0], here[1])]
      body.append(drawing.line(corner, x, y, colour))
    body.append(drawing.dot(x(here[0]), y(here[1]), 3, colour))
  words = f"{title}: {len(players)} cells, T of all together {tallest:.3g}"
  return drawing.figure(title, words, width, height, body)


def _data_uri(picture: Rows) -> str:
  """The picture as a PNG inside the page."""
  width = 1 + max(int(row["column"]) for row in picture)
  lines = []
  for start in range(0, len(picture), width):
    line = picture[start : start + width]
    lines.append(b"\0" + bytes(int(row[c]) for row in line for c in ("red", "green", "blue")))

  def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check

  header = struct.pack(">IIBBBBB", width, len(lines), 8, 2, 0, 0, 0)
  png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
  png += chunk(b"IDAT", zlib.compress(b"".join(lines))) + chunk(b"IEND", b"")
  return f"data:image/png;base64,{base64.b64encode(png).decode()}"
