# SPDX-License-Identifier: Apache-2.0
"""HTML and SVG that cannot come out malformed: text is escaped, tags are closed."""

import html
from collections.abc import Iterable
from typing import Any

_VOID = {"meta", "img", "br", "hr"}  # HTML elements that are never closed


class Markup(str):
  """Text that is markup already."""

  __slots__ = ()


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
