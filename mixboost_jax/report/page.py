# SPDX-License-Identifier: Apache-2.0
"""One HTML file that needs nothing else: no script, no network, charts and pictures inside."""

from collections.abc import Sequence

import mixboost_jax
from mixboost_jax.report import charts, interaction_figures, titles
from mixboost_jax.report.content import Content
from mixboost_jax.report.figures import Figure
from mixboost_jax.report.markup import Markup, element, join
from mixboost_jax.report.pictures import Strip
from mixboost_jax.report.style import CSS
from mixboost_jax.report.tables import Cell, Table
from mixboost_jax.runtime.results import Flag

_POLICY = (
  "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
  "form-action 'none'"
)
"""What a browser may load for the page: nothing but the styles and pictures inside it."""


def render(content: Content) -> str:
  """Returns the whole document."""
  labels = [group.label for group in content.groups]
  head = element(
    "head",
    element("meta", charset="utf-8"),
    element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
    element("meta", name="viewport", content="width=device-width, initial-scale=1"),
    element("meta", name="color-scheme", content="light dark"),
    element("title", f"{content.title} | mixboost_jax report"),
    element("style", Markup(CSS)),
  )
  body = element(
    "body",
    element(
      "header",
      element("h1", content.title),
      element("p", content.subtitle, class_="soft") if content.subtitle else None,
      element("div", *(element("p", text) for text in content.summary), class_="summary"),
    ),
    element(
      "main",
      _flags(content.flags),
      _section("Robustness", table(content.standard)),
      _errors(content.errors),
      _section("Metrics", table(content.metrics) if content.metrics.rows else None),
      _section("Comparisons", table(content.differences)),
      _section("Published files and pictures made here", table(content.deviations)),
      _section("Training pictures", _strips(content.strips)),
      _section("Training", _curves(content, labels)),
      _section("Reliability", _reliability(content.reliability, labels)),
      _section("Interactions", _interactions(content.interactions)),
      _section("Defenses under attack", _audits(content)),
      _section("Differences between the configs", table(content.settings, "prose")),
      _section("Environment", table(content.environment, "prose")),
      _section("Notes", element("ul", *(element("li", note) for note in content.notes))),
    ),
    element("footer", f"mixboost_jax {mixboost_jax.__version__}", class_="soft"),
  )
  return "<!DOCTYPE html>\n" + element("html", head, body, lang="en") + "\n"


def _flags(flags: Sequence[tuple[str, Flag]]) -> Markup | None:
  if not flags:
    return None
  items = []
  for run, flag in flags:
    mark = element("strong", flag.level, class_=f"flag {flag.level}")
    place = f"{run}: " if run else ""
    items.append(element("li", mark, f" {place}{flag.message} {flag.remedy}"))
  return _section("Before you believe the numbers", element("ul", *items))


def _section(title: str, inside: Markup | None) -> Markup | None:
  return element("section", element("h2", title), inside) if inside else None


def table(data: Table | None, kind: str = "") -> Markup | None:
  """Renders a table; rows of one cell span all columns and head a section."""
  if data is None:
    return None
  width = len(data.header)
  heads = element("tr", *(element("th", text, scope="col") for text in data.header))
  rows = []
  for cells in data.rows:
    if len(cells) == 1 and width > 1:
      heading = element("th", cells[0].text, colspan=width, scope="colgroup")
      rows.append(element("tr", heading, class_="section"))
    else:
      rows.append(element("tr", element("th", cells[0].text, scope="row"), *map(_cell, cells[1:])))
  caption = element("caption", data.caption)
  inner = element("table", caption, element("thead", heads), element("tbody", *rows))
  return element("div", inner, class_=f"scroll {kind}".strip())


def _cell(cell: Cell) -> Markup:
  note = element("small", cell.note) if cell.note else None
  span = cell.span if cell.span > 1 else None
  return element("td", cell.text, note, class_=cell.tone or None, colspan=span)


def _errors(figure: Figure | None) -> Markup | None:
  if figure is None:
    return None
  caption = "Dots are values, whiskers their intervals (or ± one standard deviation over seeds)."
  return element("figure", figure.chart, element("figcaption", caption))


def _curves(content: Content, labels: Sequence[str]) -> Markup | None:
  if not content.curves and not content.more_curves:
    return None
  folded = None
  if content.more_curves:
    count = len(content.more_curves)
    summary = element("summary", f"{count} more {'curve' if count == 1 else 'curves'}")
    folded = element("details", summary, _grid(content.more_curves))
  return join([_legend(labels), _grid(content.curves), folded])


def _grid(figures: Sequence[Figure], kind: str = "") -> Markup | None:
  if not figures:
    return None
  parts = (
    element(
      "figure",
      element("h3", one.title),
      _legend_of(one.legend) if one.legend else None,
      one.chart,
    )
    for one in figures
  )
  return element("div", *parts, class_=f"grid {kind}".strip())


def _legend(labels: Sequence[str]) -> Markup:
  return _legend_of([(label, i) for i, label in enumerate(labels)])


def _legend_of(series: Sequence[tuple[str, int]]) -> Markup:
  items = []
  for label, i in series:
    kind = f"line c{i % charts.NUM_COLOURS}"
    sample = element("line", x1="0", y1="5", x2="34", y2="5", class_=kind)
    items.append(
      element("li", element("svg", sample, viewBox="0 0 34 10", aria_hidden="true"), label)
    )
  return element("ul", *items, class_="legend")


def _reliability(figures: Sequence[Figure], labels: Sequence[str]) -> Markup | None:
  if not figures:
    return None
  text = (
    "Accuracy of the predictions made with a given confidence; on the dotted line a network is as "
    "often right as it says, below it is overconfident. Bars: share of the predictions."
  )
  return join([_legend(labels), _grid(figures, "narrow"), element("p", text, class_="soft")])


def _interactions(figures: Sequence[Figure]) -> Markup | None:
  if not figures:
    return None
  return join([element("p", interaction_figures.NOTE, class_="soft"), _grid(figures)])


def _audits(content: Content) -> Markup | None:
  if content.audits is None:
    return None
  return join([table(content.audits), _grid(content.audit_figures)])


def _strips(strips: Sequence[Strip]) -> Markup | None:
  if not strips:
    return None
  parts = []
  for strip in strips:
    caption = f"{strip.caption} ({titles.listing(list(strip.labels))})"
    width, height = strip.size
    image = element(
      "img",
      src=strip.data_uri(),
      alt=f"A row of {strip.kind} training pictures of {titles.listing(list(strip.labels))}",
      width=width,
      height=height,
      class_="strip",
    )
    parts.append(element("figure", image, element("figcaption", caption)))
  return join(parts)
