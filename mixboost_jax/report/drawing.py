# SPDX-License-Identifier: Apache-2.0
"""The pieces that charts are drawn from: lines, dots, bars, texts, axes."""

from collections.abc import Sequence

from mixboost_jax.report import scales
from mixboost_jax.report.markup import Markup, element, join

NUM_COLOURS = 6


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


def grid(
  x: scales.Scale, y: scales.Scale, x_ticks: Sequence[float], y_ticks: Sequence[float]
) -> Markup:
  """Draws both axes, their ticks and the horizontal grid."""
  parts = []
  x_step = x_ticks[1] - x_ticks[0] if len(x_ticks) > 1 else 1.0
  y_step = y_ticks[1] - y_ticks[0] if len(y_ticks) > 1 else 1.0
  for mark in y_ticks:
    parts.append(stroke(x.start, y(mark), x.stop, y(mark), "grid"))
    parts.append(text(x.start - 6, y(mark) + 4, scales.label(mark, y_step), "end"))
  for mark in x_ticks:
    parts.append(stroke(x(mark), y.start, x(mark), y.start + 4, "axis"))
    parts.append(text(x(mark), y.start + 17, scales.label(mark, x_step), "middle"))
  parts.append(stroke(x.start, y.start, x.stop, y.start, "axis"))
  return join(parts)


def line(
  points: Sequence[tuple[float, float]], x: scales.Scale, y: scales.Scale, colour: int
) -> Markup:
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
