# SPDX-License-Identifier: Apache-2.0
"""The report as Markdown, without charts and pictures."""

from mixboost_jax.report.cards import Card
from mixboost_jax.report.content import Content, Fold, Part
from mixboost_jax.report.tables import VERDICTS, Cell, Table
from mixboost_jax.runtime.results import Flag


def render(content: Content) -> str:
  """Returns the whole document."""
  parts = [f"# {escape(content.title)}", escape(content.subtitle)]
  parts += [escape(text) for text in content.summary]
  for card in content.cards:
    parts += [f"**{escape(card.caption)}**\n\n{table(card)}"] if isinstance(card, Table) else []
  parts.append("\n".join(_card(card) for card in content.cards if isinstance(card, Card)))
  parts.append("\n".join(_flag(run, flag) for run, flag in content.flags))
  for title, section in content.sections.items():
    inside = [text for part in section for text in _part(part)]
    parts += [f"## {title}", *inside] if inside else []
  return "\n\n".join(part for part in parts if part) + "\n"


def _card(card: Card) -> str:
  verdict = f", **{VERDICTS[card.verdict]}**" if card.verdict else ""
  return f"- {escape(card.title)}: {escape(card.values)} ({escape(card.note)}){verdict}"


def _part(part: Part) -> list[str]:
  if isinstance(part, Fold):
    return [text for one in part.parts for text in _part(one)]
  if isinstance(part, Table):
    return [table(part), f"*{escape(part.caption)}*"]
  if isinstance(part, tuple):
    return ["\n".join(f"- {escape(text)}" for text in part)]
  return []


def _flag(run: str, flag: Flag) -> str:
  place = f"{run}: " if run else ""
  return f"- **{flag.level}** {escape(f'{place}{flag.message} {flag.remedy}')}"


def table(data: Table) -> str:
  """Renders a table; section rows become bold lines."""
  width = len(data.header)
  lines = [_row([escape(text) for text in data.header])]
  lines.append(_row(["---"] * width))
  for cells in data.rows:
    if len(cells) == 1 and width > 1:
      lines.append(_row([f"**{escape(cells[0].text)}**"] + [""] * (width - 1)))
    else:
      filled = [text for cell in cells for text in [_cell(cell), *[""] * (cell.span - 1)]]
      lines.append(_row(filled))
  return "\n".join(lines)


def _row(cells: list[str]) -> str:
  return "| " + " | ".join(cells) + " |"


def _cell(cell: Cell) -> str:
  text = escape(cell.text)
  text = f"**{text}**" if cell.tone in ("best", "better", "worse") and text else text
  return f"{text} {escape(cell.note)}".strip()


def escape(text: str) -> str:
  """Keeps a name from being read as markup, and a cell on one line."""
  for character in "\\`*_|<>[":
    text = text.replace(character, f"\\{character}")
  return " ".join(text.split())
