# SPDX-License-Identifier: Apache-2.0
"""A table as CSV and as LaTeX, and as links inside a page that save it in these and in Markdown."""

import base64
import csv as csv_lib
import io
from collections.abc import Callable, Iterator

from mixboost_jax.report import markdown, titles
from mixboost_jax.report.tables import Table


def csv(data: Table) -> str:
  """Writes one line per row; what stands small in a cell (an interval) has a column of its own.

  The rows that head a section become a first column.
  """
  bodies = [(section, cells) for section, cells in _with_sections(data)]
  noted = [
    any(len(cells) > i and cells[i].note for _, cells in bodies) for i in range(len(data.header))
  ]
  sectioned = any(section for section, _ in bodies)
  names = [
    (text, f"{text}, note") if note else (text,)
    for text, note in zip(data.header, noted, strict=True)
  ]
  out = io.StringIO()
  write = csv_lib.writer(out, lineterminator="\n").writerow
  write([*(["Section"] if sectioned else []), *(name for pair in names for name in pair)])
  for section, cells in bodies:
    row = [section] if sectioned else []
    filled = [(cell.text, cell.note) for cell in cells for _ in range(cell.span)]
    for (text, note), own in zip(filled, noted, strict=True):
      row += [_plain(text), _plain(note)] if own else [_plain(text)]
    write(row)
  return out.getvalue()


def _with_sections(data: Table) -> Iterator[tuple[str, tuple]]:
  section = ""
  for cells in data.rows:
    if len(cells) == 1 and len(data.header) > 1:
      section = cells[0].text
    else:
      yield section, cells


def _plain(text: str) -> str:
  """Writes numbers as programs read them."""
  return text.replace(titles.MINUS, "-").replace(titles.NO_BREAK, " ")


_LATEX = {
  "\\": r"\textbackslash{}",
  **{character: f"\\{character}" for character in "&%$#_{}"},
  "~": r"\textasciitilde{}",
  "^": r"\textasciicircum{}",
  titles.MINUS: "$-$",
  titles.NO_BREAK: "~",
  "<": "$<$",
  ">": "$>$",
  "±": r"$\pm$",
  "↓": r"$\downarrow$",
  "↑": r"$\uparrow$",
  "→": r"$\to$",
  "≤": r"$\le$",
  "≥": r"$\ge$",
  "∞": r"$\infty$",
  "ε": r"$\varepsilon$",
  "λ": r"$\lambda$",
  "Δ": r"$\Delta$",
  "C̄": r"$\bar{\mathrm{C}}$",
}


def latex(data: Table) -> str:
  """Writes a `tabular` that needs no package; small texts stand behind their numbers."""
  width = len(data.header)
  columns = "l" + ("l" if data.prose else "r") * (width - 1)
  lines = [rf"\begin{{tabular}}{{{columns}}}", r"\hline"]
  lines += [" & ".join(map(_escaped, data.header)) + r" \\", r"\hline"]
  for cells in data.rows:
    if len(cells) == 1 and width > 1:
      lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textbf{{{_escaped(cells[0].text)}}}}} \\")
      continue
    texts = []
    for cell in cells:
      text = _escaped(cell.text)
      text = rf"\textbf{{{text}}}" if cell.tone == "best" else text
      text += rf" {{\small {_escaped(cell.note)}}}" if cell.note else ""
      texts.append(rf"\multicolumn{{{cell.span}}}{{l}}{{{text}}}" if cell.span > 1 else text)
    lines.append(" & ".join(texts) + r" \\")
  return "\n".join([*lines, r"\hline", r"\end{tabular}", ""])


def _escaped(text: str) -> str:
  whole = _LATEX["C̄"].join(
    "".join(_LATEX.get(character, character) for character in part) for part in text.split("C̄")
  )
  return " ".join(whole.split())


FORMATS: dict[str, tuple[str, str, Callable[[Table], str]]] = {
  "CSV": ("csv", "text/csv", csv),
  "Markdown": ("md", "text/markdown", lambda data: f"{markdown.table(data)}\n"),
  "LaTeX": ("tex", "text/x-tex", latex),
}
"""Name -> ending, media type, writer."""


def address(data: Table, name: str) -> tuple[str, str]:
  """Returns file ending and `data:` address of a table in one of `FORMATS`."""
  ending, kind, write = FORMATS[name]
  body = base64.b64encode(write(data).encode()).decode()
  return ending, f"data:{kind};charset=utf-8;base64,{body}"
