# SPDX-License-Identifier: Apache-2.0
"""The pieces that charts are drawn from: lines, dots, bars, texts, axes."""

import dataclasses
import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

NUM_COLOURS = 6

# HTML and SVG that cannot come out malformed: text is escaped, tags are closed.


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
    class_="chart",
    style=f"max-width:{width:g}px",
  )


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
  x_step = x_ticks[1] - x_ticks[0] if len(x_ticks) > 1 else 1.0
  y_step = y_ticks[1] - y_ticks[0] if len(y_ticks) > 1 else 1.0
  for mark in y_ticks:
    parts.append(stroke(x.start, y(mark), x.stop, y(mark), "grid"))
    parts.append(text(x.start - 6, y(mark) + 4, label(mark, y_step), "end"))
  for mark in x_ticks:
    parts.append(stroke(x(mark), y.start, x(mark), y.start + 4, "axis"))
    parts.append(text(x(mark), y.start + 17, label(mark, x_step), "middle"))
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
  parts = []
  for child in children:
    if child is None:
      continue
    if isinstance(child, Markup):
      parts.append(str(child))
    elif isinstance(child, list | tuple):
      parts.append(str(join(child)))
    else:
      parts.append(html.escape(_printable(str(child)), quote=False))
  return Markup("".join(parts))


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

  Args:
    values: may hold numbers that are not finite.
    include: a number that must be inside (0 for quantities that cannot be negative).
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


def thin(points: list[tuple[float, float]], *, limit: int = 400) -> list[tuple[float, float]]:
  """Keeps at most about `limit` points, the last one among them."""
  stride = max(1, math.ceil(len(points) / limit))
  kept = points[::stride]
  return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]
