# SPDX-License-Identifier: Apache-2.0
"""One HTML file that needs nothing else: charts and pictures inside, a script only for sorting."""

import base64
import hashlib
import html
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

import mixboost_jax
from mixboost_jax import files
from mixboost_jax.report import content, export, groups, markdown, svg, tables, titles
from mixboost_jax.report.cards import Card
from mixboost_jax.report.content import Charts, Content, Fold, Part
from mixboost_jax.report.figures import Strip
from mixboost_jax.report.groups import Source
from mixboost_jax.report.svg import Markup, element, join
from mixboost_jax.report.tables import Cell, Table
from mixboost_jax.runtime.results import Flag

SCRIPT = """
for (const table of document.querySelectorAll("table.sort")) {
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    const key = (row) => {
      const text = row.cells[column].firstChild?.textContent ?? "";
      const number = parseFloat(text.replace("\u2212", "-").replaceAll(",", ""));
      return column === 0 ? text : Number.isNaN(number) ? Infinity : number;
    };
    button.onclick = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = (a, b) => (a > b ? 1 : b > a ? -1 : 0) * (down ? -1 : 1);
      body.append(...Array.from(body.rows).sort((a, b) => sign(key(a), key(b))));
    };
  });
}
"""
"""Sorts tables; the page says everything without it."""
_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
_POLICY = (
  f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{_HASH}'; "
  "base-uri 'none'; form-action 'none'"
)
"""What a browser may load for the page: styles and pictures inside it, and this one script."""


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
  names = {title: _identity(title) for title in page.sections}
  links = (element("a", title, href=f"#{name}") for title, name in names.items())
  said = [element("p", text) for text in page.summary]
  body = element(
    "body",
    element(
      "header",
      element("h1", page.title),
      element("p", page.subtitle, class_="soft") if page.subtitle else None,
    ),
    element("nav", *links, aria_label="Contents") if len(names) > 1 else None,
    element(
      "main",
      element("div", *said, class_="summary") if said else None,
      _cards(page.cards) if page.cards else None,
      *(_section(page, title, names[title]) for title in page.sections),
    ),
    element("footer", f"mixboost_jax {mixboost_jax.__version__}", class_="soft"),
    element("script", Markup(SCRIPT)) if _sorts(page) else None,
  )
  return "<!DOCTYPE html>\n" + element("html", head, body, lang="en") + "\n"


def _identity(title: str) -> str:
  return re.sub(r"\W+", "-", title.lower())


def _sorts(page: Content) -> bool:
  parts = (part for section in page.sections.values() for part in section)
  return any(isinstance(part, Table) and part.sort for part in parts)


def _cards(found: Sequence[Card | Table]) -> Markup:
  items = []
  for one in found:
    if isinstance(one, Table):
      items.append(element("div", _grid(one), class_="card", **_reach(one.caption)))
      continue
    verdict = tables.VERDICTS.get(one.verdict)
    mark = element("span", verdict, class_=f"verdict {one.verdict}") if verdict else None
    title, note = element("p", one.title, class_="soft"), element("p", one.note)
    values = element("p", element("span", one.values, class_="big"), " ", mark)
    items.append(element("div", title, values, note, class_="card"))
  kind = "cards pairs" if any(isinstance(one, Table) for one in found) else "cards"
  return element("section", *items, class_=kind, aria_label="Summary")


def _section(page: Content, title: str, name: str) -> Markup:
  serious, rest = _flags(page.flags) if title == content.BELIEVE else ([], [])
  parts = (*serious, *map(_part, page.sections[title]), *rest)
  return element("section", element("h2", title), *parts, id=name)


def _flags(flags: Sequence[tuple[str, Flag]]) -> tuple[list[Markup], list[Markup]]:
  """Returns a list of what is serious, and what is only to be noted, folded away."""
  serious, rest = [], []
  for run, flag in flags:
    mark = element("strong", flag.level, class_=f"flag {flag.level}")
    place = f"{run}: " if run else ""
    item = element("li", mark, f" {place}{flag.message} {flag.remedy}")
    (rest if flag.level == "note" else serious).append(item)
  first = [element("ul", *serious)] if serious else []
  return first, [_folded("Sizes and other remarks", element("ul", *rest))] if rest else []


def _folded(title: str, *inside: Markup) -> Markup:
  return element("details", element("summary", title), *inside)


def _part(part: Part) -> Markup:
  if isinstance(part, Table):
    return table(part)
  if isinstance(part, Charts):
    return _charts(part)
  if isinstance(part, Strip):
    return _strip(part)
  if isinstance(part, Fold):
    return _folded(part.title, *map(_part, part.parts))
  if isinstance(part, str):
    return element("p", part, class_="soft")
  return element("ul", *(element("li", text) for text in part))


def table(data: Table) -> Markup:
  """Renders a table, scrolled where it is too wide, and links that save it."""
  kind = "scroll prose" if data.prose else "scroll"
  name = _identity(data.caption)[:30].strip("-")
  found = ((word, *export.address(data, word)) for word in export.FORMATS)
  links = (
    element("a", word, href=place, download=f"{name}.{ending}") for word, ending, place in found
  )
  scrolled = element("div", _grid(data), class_=kind, **_reach(data.caption))
  return join([scrolled, element("p", "Save as ", *links, class_="save")])


def _reach(name: str) -> dict[str, str]:
  """Attributes of what may be scrolled: it can be reached by keyboard, and says what it is."""
  return {"tabindex": "0", "role": "group", "aria_label": name[:80]}


def _grid(data: Table) -> Markup:
  """Rows of one cell span all columns and head a section."""
  width = len(data.header)
  heads = element("tr", *(element("th", text, scope="col") for text in data.header))
  rows = []
  for cells in data.rows:
    if len(cells) == 1 and width > 1:
      heading = element("th", cells[0].text, colspan=width, scope="colgroup")
      rows.append(element("tr", heading, class_="section"))
    else:
      first = element("th", cells[0].text, scope="row")
      kind = cells[0].tone if cells[0].tone == "paper" else None
      rows.append(element("tr", first, *map(_cell, cells[1:]), class_=kind))
  caption = element("caption", element("span", data.caption))
  kind = "sort" if data.sort else None
  return element("table", caption, element("thead", heads), element("tbody", *rows), class_=kind)


def _cell(cell: Cell) -> Markup:
  note = element("small", cell.note) if cell.note else None
  span = cell.span if cell.span > 1 else None
  return element("td", cell.text, note, class_=cell.tone or None, colspan=span)


def _charts(part: Charts) -> Markup:
  figures = []
  for one in part.figures:
    chart = one.chart
    if one.wide:
      chart = element("div", chart, class_="wide", **_reach(one.title))
    figures.append(element("figure", element("h3", one.title), _legend(one.legend), chart))
  grid = element("div", *figures, class_=f"grid {part.size}".rstrip())
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
    alt=f"Pictures of {shared}: {strip.caption}",
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
html { scroll-padding-top: 3.2rem; }
body { margin: 0 auto; max-width: 78rem; padding: 1rem 1.25rem 2rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: 0 0 .15rem; letter-spacing: -.01em;
  overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 1.6rem 0 .4rem; }
h3 { font-size: .9rem; font-weight: 600; margin: 0 0 .25rem; }
p, ul { margin: .3rem 0 .6rem; } header p { margin: 0 0 .4rem; }
a, summary, button { color: var(--c0); }
.soft, figcaption, caption { color: var(--soft); font-size: .85rem; }
nav { position: sticky; top: 0; z-index: 1; display: flex; gap: 1.1rem; overflow-x: auto;
  background: var(--paper); border-bottom: 1px solid var(--line); padding: .45rem 0; }
nav a { white-space: nowrap; font-size: .875rem; text-decoration: none; }
.summary, .card { background: var(--card); border-radius: 6px; padding: .6rem .8rem; }
.summary { border-left: 4px solid var(--c0); margin: 1rem 0; }
.summary p { margin: 0; } .summary p:first-child { font-size: 1.1rem; }
.cards { display: grid; gap: .7rem; margin-top: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(15.5rem, 100%), 1fr)); }
.cards.pairs { grid-template-columns: repeat(auto-fill, minmax(min(23rem, 100%), 1fr)); }
.card p { margin: 0; font-size: .85rem; } .card .big { font-size: 1.25rem; font-weight: 600; }
.card caption { caption-side: top; padding: 0 0 .2rem; color: var(--ink); font-weight: 600;
  font-size: .82rem; }
.pairs .card { padding: .5rem .6rem; } .card table { font-size: .76rem; }
.card thead th { font-weight: 400; font-size: .76rem; }
.card th, .card td { padding: .1rem .3rem .1rem 0; border-bottom: 0; min-width: 0;
  white-space: nowrap; }
.card thead th { border-bottom: 1px solid var(--line); color: var(--soft); }
.card td small { display: inline; padding-left: .25rem; color: inherit; }
.card, .scroll, .wide { min-width: 0; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; padding-top: .4rem; }
caption span { position: sticky; left: 0; display: inline-block;
  max-width: min(100%, calc(100vw - 2rem)); }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0;
  border-bottom: 1px solid var(--line); }
table { font-size: .9rem; } thead th { font-size: .85rem; border-bottom: 2px solid var(--ink); }
tbody th { font-weight: 400; min-width: 8rem; }
tr.section th { font-weight: 600; padding-top: .9rem; }
tr.paper th, tr.paper td { color: var(--soft); font-style: italic; }
td small { display: block; color: var(--soft); font-size: .78rem; line-height: 1.2;
  white-space: nowrap; }
button { font: inherit; font-weight: 600; border: 0; padding: 0; background: none; cursor: pointer;
  text-align: left; }
[aria-sort=ascending] button::after { content: " \u2191"; }
[aria-sort=descending] button::after { content: " \u2193"; }
.save { font-size: .78rem; color: var(--soft); margin-top: 0; } .save a { margin-right: .6rem; }
.best { font-weight: 700; } .best small { font-weight: 400; }
.better { color: var(--good); font-weight: 600; } .worse { color: var(--bad); font-weight: 600; }
.flag.red { color: var(--bad); } .flag.amber { color: var(--c4); }
.flag.note { color: var(--mild); font-weight: 400; }
.unclear, .untested, .missing { color: var(--mild); }
.prose td, .prose tbody th { font-size: .85rem; overflow-wrap: anywhere; min-width: 5.5rem; }
.prose td[class] { overflow-wrap: normal; }
figure { margin: 0; min-width: 0; display: flex; flex-direction: column; }
figure > .chart, figure > .wide { margin-top: auto; } figure + figure { margin-top: .8rem; }
.grid { display: grid; gap: 1.1rem; margin-top: .5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); }
.grid.small { grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); }
.grid.large { grid-template-columns: repeat(auto-fill, minmax(min(32rem, 100%), 1fr)); }
.grid.whole { grid-template-columns: minmax(0, 1fr); }
.grid figure + figure { margin-top: 0; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; list-style: none; padding: 0;
  font-size: .85rem; }
.legend svg { width: 2.2rem; height: .7rem; margin-right: .4rem; vertical-align: middle; }
.chart { display: block; width: 100%; height: auto; }
.strip { max-width: 100%; height: auto; image-rendering: pixelated; display: block;
  border-radius: 4px; }
details { margin: .4rem 0; } summary { cursor: pointer; }
details > :not(summary) { margin-left: .2rem; }
footer { margin-top: 2rem; border-top: 1px solid var(--line); padding-top: .6rem; }
@media (max-width: 40rem) { body { padding: 1rem .9rem; } .chart.broad { font-size: 15px; }
  .wide .chart { min-width: min(40rem, var(--width)); font-size: 12px; }
  .card td small { display: block; padding: 0; } }
@media print { body { max-width: none; font-size: 10pt; padding: 0; }
  nav, .save { display: none; } .scroll, .wide, .card { overflow: visible; }
  figure, tr, .card, .summary { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .grid { grid-template-columns: 1fr 1fr; } }
"""
)

# `write`: results in, one HTML file and one Markdown file out.

DEFAULT_NAME = "report.html"


def write(results: Source | Iterable[Source], path: str | os.PathLike) -> pathlib.Path:
  """Writes the report of one or more runs.

  Runs that differ in their seed only are shown as mean ± standard deviation. The first run trained
  without extras, or else the first run, is the baseline of all comparisons.

  ```python
  results = evaluate.evaluate(logits_fn, (images, labels), suite="clean")
  report.write(results, "report.html")
  ```

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
  rendered, text = render(gathered), markdown.render(gathered)
  files.make_folder(target.parent)
  files.write_text(target, rendered)
  files.write_text(target.with_suffix(".md"), text)
  return target


class Shown(str):
  """A page that a notebook shows below the cell whose last value it is."""

  __slots__ = ()

  def __repr__(self) -> str:
    return f"<report of {len(self) / 1024:.0f} KiB>"

  def _repr_html_(self) -> str:
    style = "width: 100%; height: 40rem; border: 0"
    return f'<iframe title="Report" style="{style}" srcdoc="{html.escape(self)}"></iframe>'


def show(results: Source | Iterable[Source]) -> Shown:
  """Returns the page that `write` would write, for a notebook to show.

  ```python
  report.show(evaluate.evaluate(logits_fn, (images, labels), suite="clean"))
  ```

  Raises:
    ValueError: if there is nothing to report, or a file is not a results file.
  """
  return Shown(render(content.gather(results)))


def robustness_table(results: Source | Iterable[Source]) -> str | None:
  """Returns the columns of the MixBoost paper as a Markdown table, or None if they were not run.

  ```python
  results = evaluate.evaluate(logits_fn, (images, labels), suite="clean")
  assert report.robustness_table(results) is None  # what it shows is measured by suite="standard"
  ```

  Raises:
    ValueError: if there is nothing to read, or a file is not a results file.
  """
  runs = groups.load(results)
  with groups.explaining(runs):
    data = tables.standard_table(groups.group(runs))
  return None if data is None else f"{markdown.table(data)}\n\n{data.caption}"
