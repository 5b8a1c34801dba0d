# SPDX-License-Identifier: Apache-2.0
from xml.etree import ElementTree

from mixboost_jax.report.markup import Markup, element, join


def test_text_is_escaped_and_markup_is_not():
  made = element("p", "<b> & co", Markup("<i>x</i>"), None, ["a", "<"])
  assert made == "<p>&lt;b&gt; &amp; co<i>x</i>a&lt;</p>"


def test_attributes():
  made = element("td", colspan=2, class_="wide", aria_label='say "<hi>"', hidden=True, id=None)
  assert made == (
    '<td colspan="2" class="wide" aria-label="say &quot;&lt;hi&gt;&quot;" hidden="hidden"></td>'
  )


def test_void_elements_have_no_end():
  assert element("img", src="x", alt="") == '<img src="x" alt=""/>'


def test_control_characters_never_reach_the_page():
  made = element("p", "a\x00b\x1bc\x7f", title="\x01")
  parsed = ElementTree.fromstring(made)
  assert parsed.text == "a\ufffdb\ufffdc\ufffd"
  assert parsed.get("title") == "\ufffd"


def test_join_escapes_too():
  assert join(["a<b", Markup("<br/>")]) == "a&lt;b<br/>"
