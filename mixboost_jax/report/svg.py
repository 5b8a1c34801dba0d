# SPDX-License-Identifier: Apache-2.0
"""The pieces that charts are drawn from: colours, lines, dots, bars, texts, axes.

The colours are those of Okabe and Ito, which colour-blind readers can tell, darkened or lightened
for contrast with the page. Nothing comes out malformed: text is escaped, tags are closed.
"""

import dataclasses
import html
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

NUM_COLOURS = 8

PALETTE = """
:root { color-scheme: light dark;
  --ink: #1c2430; --soft: #5a6675; --line: #d9dfe7; --paper: #ffffff; --card: #f5f7fa;
  --good: #0a7a4b; --bad: #b4380f; --mild: #5a6675;
  --c0: #0064a8; --c1: #c2500a; --c2: #00805c; --c3: #a3457d; --c4: #8a6d00; --c5: #3f3f46;
  --c6: #5b45b8; --c7: #b01c3c; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e7ebf0; --soft: #a3afbd; --line: #364150; --paper: #12171e; --card: #1b222c;
  --good: #4fd39a; --bad: #ff9468; --mild: #a3afbd;
  --c0: #62b5f2; --c1: #ff9d4d; --c2: #3fd0a5; --c3: #e79ac6; --c4: #e6cf5a; --c5: #c9ced6;
  --c6: #b3a5ff; --c7: #ff8a9d; } }
"""
STYLE = """
.chart { font-size: 12px; font-family: system-ui, sans-serif; }
.chart text { fill: var(--soft); } .chart text.strong { fill: var(--ink); font-weight: 600; }
.chart text.value { fill: var(--ink); font-variant-numeric: tabular-nums; }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.chart .axis { stroke: var(--soft); stroke-width: 1; }
.chart .diagonal { stroke: var(--soft); stroke-dasharray: 2 4; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.bar { opacity: .65; } .range { stroke-width: 1; opacity: .6; }
.chart text.small { font-size: 10px; fill: var(--ink); }
.heat.positive { fill: var(--c1); } .heat.negative { fill: var(--c0); }
.frame { fill: none; stroke: var(--ink); stroke-width: 2; }
.line.c1 { stroke-dasharray: 7 4; } .line.c2 { stroke-dasharray: 2 4; }
.line.c3 { stroke-dasharray: 10 4 2 4; } .line.c4 { stroke-dasharray: 4 3; }
.line.c5 { stroke-dasharray: 1 5; } .line.c6 { stroke-dasharray: 12 3; }
.line.c7 { stroke-dasharray: 6 3 1 3 1 3; } .level { fill: var(--c1); }
.front { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 5 4; }
.link { stroke: var(--line); stroke-width: 1.5; }
""" + "".join(
  f".c{i} {{ stroke: var(--c{i}); }}\n"
  f".dot.c{i}, .bar.c{i}, .band.c{i}, text.c{i}, .chart text.label.c{i} {{ fill: var(--c{i}); }}\n"
  for i in range(NUM_COLOURS)
)
STYLE += ".band { fill-opacity: .14; } .dot, .bar, .band, .chart text { stroke: none; }\n"


class Markup(str):
  """Text that is markup already."""

  __slots__ = ()


def figure(
  title: str, description: str, width: float, height: float, body: Sequence[Markup]
) -> Markup:
  """Wraps a chart with its title and a description in words."""
  return element(
    "svg",
    element("title", title),
    *body,
    viewBox=f"0 0 {width:g} {height:g}",
    role="img",
    aria_label=description,
    class_="chart broad" if width > 400 else "chart",
    style=f"max-width:{width:g}px;--width:{width:g}px",
  )


def alone(chart: Markup, heading: str, legend: Sequence[tuple[str, int]]) -> str:
  """Returns a chart as an SVG file of its own: in light colours, heading and legend above it."""
  opening, _, body = chart.removesuffix("</svg>").partition(">")
  (width, height), *_ = re.findall(r'viewBox="0 0 (\S+) ([^"]+)"', opening)
  lines = textwrap.wrap(heading, 60)
  above = [text(4, 16 * k, line, "start", "strong") for k, line in enumerate(lines, 1)]
  for k, (name, colour) in enumerate(legend, 1 + len(lines)):
    above.append(stroke(4, 16 * k - 4, 38, 16 * k - 4, f"line {series_class(colour)}"))
    above.append(text(46, 16 * k, name, "start"))
  top = 16 * (len(lines) + len(legend)) + 12
  light = dict(re.findall(r"(--\w+): (#\w+);", PALETTE.partition("@media")[0]))
  style = re.sub(r"var\((--\w+)\)", lambda found: light[found[1]], STYLE)
  moved = element("g", Markup(body), transform=f"translate(0 {top})")
  drawn = element(
    "svg",
    element("style", Markup(style)),
    element("rect", width="100%", height="100%", fill=light["--paper"]),
    element("g", *above, moved, class_="chart"),
    xmlns="http://www.w3.org/2000/svg",
    viewBox=f"0 0 {width} {float(height) + top:g}",
    width=width,
  )
  return f"{drawn}\n"


# From data to places on paper: round tick marks and straight lines.


@dataclasses.dataclass(frozen=True)
class Scale:
  """A linear map from [low, high] to [start, stop] in SVG units."""

  low: float
  high: float
  start: float
  stop: float

  def __call__(self, value: float) -> float:
    """Returns the place of a value."""
    share = (value - self.low) / (self.high - self.low)
    return self.start + share * (self.stop - self.start)


def grid(x: Scale, y: Scale, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> Markup:
  """Draws both axes, their ticks and the horizontal grid."""
  parts = []
  for mark, words in labelled(y_ticks):
    parts.append(stroke(x.start, y(mark), x.stop, y(mark), "grid"))
    parts.append(text(x.start - 6, y(mark) + 4, words, "end"))
  for mark, words in labelled(x_ticks):
    parts.append(stroke(x(mark), y.start, x(mark), y.start + 4, "axis"))
    parts.append(text(x(mark), y.start + 17, words, "middle"))
  parts.append(stroke(x.start, y.start, x.stop, y.start, "axis"))
  return join(parts)


def line(points: Sequence[tuple[float, float]], x: Scale, y: Scale, colour: int) -> Markup:
  """Draws a line through points, or a dot for one point."""
  if len(points) == 1:
    return dot(x(points[0][0]), y(points[0][1]), 3, colour)
  places = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
  return element("polyline", points=places, class_=f"line {series_class(colour)}")


def series_class(colour: int) -> str:
  """Returns the class of a series; colours repeat."""
  return f"c{colour % NUM_COLOURS}"


def stroke(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
  """Draws a straight line of one kind (a class of the style sheet)."""
  return element(
    "line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=kind
  )


def dot(x: float, y: float, size: float, colour: int) -> Markup:
  """Draws a disc."""
  return element(
    "circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{size:.1f}", class_=f"dot {series_class(colour)}"
  )


def bar(x: float, y: float, width: float, height: float, colour: int) -> Markup:
  """Draws a rectangle in a series' colour."""
  return element(
    "rect",
    x=f"{x:.1f}",
    y=f"{y:.1f}",
    width=f"{max(0.0, width):.1f}",
    height=f"{max(0.0, height):.1f}",
    class_=f"bar {series_class(colour)}",
  )


def text(x: float, y: float, words: str, anchor: str, kind: str | None = None) -> Markup:
  """Writes a text."""
  return element("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=kind)


def turned(x: float, y: float, words: str) -> Markup:
  """Writes a text that reads upwards."""
  return element(
    "text", words, transform=f"translate({x:.1f} {y:.1f}) rotate(-90)", text_anchor="middle"
  )


_VOID = {"meta", "img", "br", "hr"}  # HTML elements that are never closed


def element(tag: str, *children: Any, **attributes: Any) -> Markup:
  """Returns one element.

  Args:
    tag: name of the element.
    *children: strings are escaped, `Markup` is taken as it is, None is left out, lists are joined.
    **attributes: None and False are left out, True gives `name="name"`; `class_` stands for
      `class`, other underscores become hyphens.
  """
  opening = tag + "".join(_attribute(name, value) for name, value in attributes.items())
  inner = join(children)
  if tag in _VOID:
    return Markup(f"<{opening}/>")
  return Markup(f"<{opening}>{inner}</{tag}>")


def join(children: Iterable[Any]) -> Markup:
  """Escapes what is no markup and puts everything in a row."""
  return Markup("".join(_inner(child) for child in children if child is not None))


def _inner(child: Any) -> str:
  if isinstance(child, list | tuple):
    return join(child)
  return child if isinstance(child, Markup) else html.escape(_printable(str(child)), quote=False)


def _attribute(name: str, value: Any) -> str:
  if value is None or value is False:
    return ""
  name = name.rstrip("_").replace("_", "-")
  text = name if value is True else str(value)
  return f' {name}="{html.escape(_printable(text))}"'


def _printable(text: str) -> str:
  """Replaces control characters, which no HTML document may hold."""
  return "".join(c if c in "\t\n" or (c >= " " and c != "\x7f") else "\ufffd" for c in text)


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
  """Returns about `count` round numbers in [low, high]."""
  if not high > low:
    return [low]
  raw = (high - low) / max(1, count)
  power = 10.0 ** math.floor(math.log10(raw))
  step = power * min((m for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9)), default=10)
  first = math.ceil(low / step - 1e-9)
  last = math.floor(high / step + 1e-9)
  return [i * step for i in range(first, last + 1)]


def bounds(values: Iterable[float], *, include: float | None = None) -> tuple[float, float]:
  """Returns limits around the finite values with a little room; never an empty range.

  `include` must be inside (0 for quantities that cannot be negative).
  """
  finite = [value for value in values if math.isfinite(value)]
  if include is not None:
    finite.append(include)
  if not finite:
    return 0.0, 1.0
  low, high = min(finite), max(finite)
  room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
  bottom = low if include is not None and low == include else low - room
  return bottom, high + room


def span(
  values: Iterable[float], *, include: float | None = None, count: int = 5
) -> tuple[float, float, list[float]]:
  """Returns limits as `bounds` does, and ticks; the outermost ticks have all values between them.

  So nothing lies beyond the last number of an axis.
  """
  finite = [value for value in values if math.isfinite(value)]
  low, high = bounds(finite, include=include)
  marks = ticks(low, high, count=count)
  step = marks[1] - marks[0] if len(marks) > 1 else high - low
  if max(finite, default=low) > marks[-1]:
    marks.append(marks[-1] + step)
  if min(finite, default=high) < marks[0]:
    marks.insert(0, marks[0] - step)
  return min(low, marks[0]), max(high, marks[-1]), marks


def label(value: float, step: float) -> str:
  """Writes a tick with as many decimals as its step needs."""
  if value == 0:
    return "0"
  if abs(value) >= 10_000 and step >= 1000:
    return f"{value / 1000:g}k"
  if abs(step) < 1e-3:
    return f"{value:.3g}"
  decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 3
  return f"{value:,.{decimals}f}".replace("-", "\u2212")


def labelled(marks: Sequence[float]) -> list[tuple[float, str]]:
  """Returns ticks with their labels."""
  step = marks[1] - marks[0] if len(marks) > 1 else 1.0
  return [(mark, label(mark, step)) for mark in marks]


def thin(points: list[tuple[float, float]], *, limit: int = 400) -> list[tuple[float, float]]:
  """Keeps at most about `limit` points, the last one among them."""
  stride = max(1, math.ceil(len(points) / limit))
  kept = points[::stride]
  return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]
