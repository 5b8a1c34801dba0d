# SPDX-License-Identifier: Apache-2.0
"""One HTML file that needs nothing else: no script, no network, charts and pictures inside."""

import os
import pathlib
from collections.abc import Iterable, Sequence

import mixboost_jax
from mixboost_jax import files
from mixboost_jax.report import content, groups, markdown, svg, tables, titles
from mixboost_jax.report.content import Charts, Content, Part
from mixboost_jax.report.figures import Strip
from mixboost_jax.report.groups import Source
from mixboost_jax.report.svg import Markup, element, join
from mixboost_jax.report.tables import Cell, Table
from mixboost_jax.runtime.results import Flag

_POLICY = (
  "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
  "form-action 'none'"
)
"""What a browser may load for the page: nothing but the styles and pictures inside it."""


def render(page: Content) -> str:
  """Returns the whole document."""
  head = element(
    "head",
    element("meta", charset="utf-8"),
    element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
    element("meta", name="viewport", content="width=device-width, initial-scale=1"),
    element("meta", name="color-scheme", content="light dark"),
    element("title", f"{page.title} | mixboost_jax report"),
    element("style", Markup(CSS)),
  )
  body = element(
    "body",
    element(
      "header",
      element("h1", page.title),
      element("p", page.subtitle, class_="soft") if page.subtitle else None,
      element("div", *(element("p", text) for text in page.summary), class_="summary"),
    ),
    element(
      "main",
      _section("Before you believe the numbers", _flags(page.flags)) if page.flags else None,
      *(_section(title, *map(_part, parts)) for title, parts in page.sections.items()),
    ),
    element("footer", f"mixboost_jax {mixboost_jax.__version__}", class_="soft"),
  )
  return "<!DOCTYPE html>\n" + element("html", head, body, lang="en") + "\n"


def _section(title: str, *inside: Markup) -> Markup:
  return element("section", element("h2", title), *inside)


def _flags(flags: Sequence[tuple[str, Flag]]) -> Markup:
  items = []
  for run, flag in flags:
    mark = element("strong", flag.level, class_=f"flag {flag.level}")
    place = f"{run}: " if run else ""
    items.append(element("li", mark, f" {place}{flag.message} {flag.remedy}"))
  return element("ul", *items)


def _part(part: Part) -> Markup:
  if isinstance(part, Table):
    return table(part)
  if isinstance(part, Charts):
    return _charts(part)
  if isinstance(part, Strip):
    return _strip(part)
  if isinstance(part, str):
    return element("p", part, class_="soft")
  return element("ul", *(element("li", text) for text in part))


def table(data: Table) -> Markup:
  """Renders a table; rows of one cell span all columns and head a section."""
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
  return element("div", inner, class_="scroll prose" if data.prose else "scroll")


def _cell(cell: Cell) -> Markup:
  note = element("small", cell.note) if cell.note else None
  span = cell.span if cell.span > 1 else None
  return element("td", cell.text, note, class_=cell.tone or None, colspan=span)


def _charts(part: Charts) -> Markup:
  figures = (
    element("figure", element("h3", one.title), _legend(one.legend), one.chart)
    for one in part.figures
  )
  grid = element("div", *figures, class_="grid narrow" if part.narrow else "grid")
  if part.folded:
    count = len(part.figures)
    grid = element(
      "details", element("summary", f"{count} more {'curve' if count == 1 else 'curves'}"), grid
    )
  return join([_legend([(label, i) for i, label in enumerate(part.legend)]), grid])


def _legend(series: Sequence[tuple[str, int]]) -> Markup | None:
  items = []
  for label, i in series:
    line = element("line", x1="0", y1="5", x2="34", y2="5", class_=f"line {svg.series_class(i)}")
    sample = element("svg", line, viewBox="0 0 34 10", aria_hidden="true")
    items.append(element("li", sample, label))
  return element("ul", *items, class_="legend") if items else None


def _strip(strip: Strip) -> Markup:
  shared = titles.listing(list(strip.labels))
  width, height = strip.size
  image = element(
    "img",
    src=strip.data_uri(),
    alt=f"A row of {strip.kind} training pictures of {shared}",
    width=width,
    height=height,
    class_="strip",
  )
  return element("figure", image, element("figcaption", f"{strip.caption} ({shared})"))


# The style sheet of the page around its charts: light, dark and print.

CSS = (
  svg.PALETTE
  + svg.STYLE
  + """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1.25rem 3rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.85rem; line-height: 1.2; margin: 0 0 .25rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: .95rem; font-weight: 600; margin: 0 0 .25rem; }
p, ul { margin: .4rem 0 .8rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .875rem; }
.summary { background: var(--card); border-left: 4px solid var(--c0); border-radius: 0 6px 6px 0;
  padding: .9rem 1.1rem; margin: 1.25rem 0; }
.summary p { margin: 0 0 .5rem; } .summary p:last-child { margin: 0; }
.summary p:first-child { font-size: 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; padding-top: .5rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .9rem .4rem 0;
  border-bottom: 1px solid var(--line); }
thead th { font-size: .875rem; border-bottom: 2px solid var(--ink); }
tbody th { font-weight: 400; min-width: 8.5rem; }
tr.section th { font-weight: 600; padding-top: 1.1rem; }
td small { display: block; color: var(--soft); font-size: .8rem; white-space: nowrap; }
.best { font-weight: 700; } .best small { font-weight: 400; }
.better { color: var(--good); font-weight: 600; } .worse { color: var(--bad); font-weight: 600; }
.flag.red { color: var(--bad); } .flag.amber { color: var(--c4); }
.flag.note { color: var(--mild); font-weight: 400; }
.unclear, .untested, .missing { color: var(--mild); }
.prose td, .prose tbody th { font-size: .875rem; overflow-wrap: anywhere; }
.prose td[class] { overflow-wrap: normal; }
figure { margin: 0; } figure + figure { margin-top: 1rem; }
.grid { display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }
.grid.narrow { grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); }
.scroll + .grid { margin-top: 1.5rem; }
.grid figure + figure { margin-top: 0; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; }
.legend svg { width: 2.2rem; height: .7rem; margin-right: .4rem; vertical-align: middle; }
.chart { display: block; width: 100%; height: auto; }
.strip { max-width: 100%; height: auto; image-rendering: pixelated; display: block;
  border-radius: 4px; }
details { margin-top: 1rem; } summary { cursor: pointer; color: var(--c0); }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .75rem; }
@media (max-width: 40rem) { body { font-size: 15px; padding: 1rem; } .chart { font-size: 15px; } }
@media print { body { max-width: none; font-size: 11pt; padding: 0; }
  figure, tr, .summary { break-inside: avoid; } h2 { break-after: avoid; }
  .grid { grid-template-columns: 1fr 1fr; } }
"""
)

# `write`: results in, one HTML file and one Markdown file out.

DEFAULT_NAME = "report.html"


def write(results: Source | Iterable[Source], path: str | os.PathLike) -> pathlib.Path:
  """Writes the report of one or more runs.

  Runs that differ in their seed only are shown as mean ± standard deviation. The first run trained
  without extras, or else the first run, is the baseline of all comparisons.

  Args:
    results: `Results` in memory, results files, run folders, folders of run folders, or a list of
      them. Sample pictures of `Results` in memory are looked for beside the report.
    path: the `.html` file, or a folder for `report.html`; a `.md` file of the same name goes beside
      it.

  Returns:
    Path of the HTML file.

  Raises:
    ValueError: if there is nothing to report, or a file is not a results file.
    WriteError: if the report cannot be written; an older one stays.
  """
  target = pathlib.Path(path)
  if target.suffix.lower() not in (".html", ".htm"):
    target = target / DEFAULT_NAME
  gathered = content.gather(results, sample_folder=target.parent)
  html, text = render(gathered), markdown.render(gathered)
  files.make_folder(target.parent)
  files.write_text(target, html)
  files.write_text(target.with_suffix(".md"), text)
  return target


def robustness_table(results: Source | Iterable[Source]) -> str | None:
  """Returns the columns of the MixBoost paper as a Markdown table, or None if they were not run.

  Raises:
    ValueError: if there is nothing to read, or a file is not a results file.
  """
  runs = groups.load(results)
  with groups.explaining(runs):
    data = tables.standard_table(groups.group(runs))
  return None if data is None else f"{markdown.table(data)}\n\n{data.caption}"
