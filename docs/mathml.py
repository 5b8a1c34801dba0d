# SPDX-License-Identifier: Apache-2.0
"""Formulas as MathML, which browsers set themselves: a page needs neither scripts nor a network."""

from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml


def setup(app: Any) -> dict[str, bool]:
  """Registers the renderer that `html_math_renderer` names."""
  app.add_html_math_renderer("mathml", (_inline, None), (_displayed, None))
  return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(translator: Any, node: Any) -> None:
  translator.body.append(latex2mathml.tex2mathml(node.astext()))
  raise nodes.SkipNode


def _displayed(translator: Any, node: Any) -> None:
  formula = latex2mathml.tex2mathml(node.astext().strip(), as_block=True)
  # Scrolled where it is too wide, so it must be reached by keyboard.
  reach = 'tabindex="0" role="group" aria-label="Formula"'
  translator.body.append(f'<div class="formula" {reach}>{formula}</div>\n')
  raise nodes.SkipNode
