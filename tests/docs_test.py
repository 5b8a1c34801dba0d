# SPDX-License-Identifier: Apache-2.0
"""What the pages of docs/ show is what happens, and their numbers are those of the results."""

import contextlib
import copy
import io
import pathlib
import re

import pytest

from docs import pictures, tables
from mixboost_jax import augment, metrics

ROOT = pathlib.Path(__file__).parents[1]
BLOCKS = re.compile(r"^```(python|text)\n(.*?)^```", re.S | re.M)
EXTENDED = (augment.AUGMENTATIONS, metrics.STATISTICS)
"""Tables that pages add an entry of their own to."""


def blocks(page):
  return BLOCKS.findall(page.read_text(encoding="utf-8"))


PYTHON = [page for page in tables.PAGES[1:] if any(kind == "python" for kind, _ in blocks(page))]


@pytest.fixture
def restored():
  kept = [dict(table) for table in EXTENDED]
  yield
  for table, before in zip(EXTENDED, kept, strict=True):
    table.clear()
    table.update(before)


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.stem)
def test_snippets_print_what_they_say(page, restored, tmp_path, monkeypatch):
  """The blocks of a page run one after the other; a text right below is what they print."""
  monkeypatch.chdir(tmp_path)
  space = {"__name__": page.stem}
  printed = ""
  for number, (kind, text) in enumerate(blocks(page)):
    if kind == "python":
      with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(text, f"{page.name}, block {number}", "exec"), space)
      printed = out.getvalue()
    elif printed:
      assert printed.split() == text.split()
      printed = ""
  assert not printed, "the page does not say what is printed"


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.stem)
def test_numbers_are_those_of_the_committed_results(page):
  text = page.read_text(encoding="utf-8")
  assert tables.filled(text, place=page.name) == text, "run: python -m docs.tables"


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("<!-- table:peers -->\n", "malformed or not closed"),
    ("<!-- table:nothing -->\n<!-- /table -->", "no table 'nothing'; there are step_time"),
    ("a <!-- number:benchmarks/versions.json a.b d -->1<!-- /number -->", "has no a.b"),
    ("<!-- number:benchmarks/versions.json a.b d -->1<!-- /number -->", "cannot begin a line"),
  ],
)
def test_wrong_markers(text, message):
  with pytest.raises(ValueError, match=message):
    tables.filled(text, place="page.md")


def test_numbers_change_with_the_results(monkeypatch):
  found = copy.deepcopy(tables.read("autoattack_agreement"))
  found["classes"]["10"]["images_that_differ"] = 77
  monkeypatch.setattr(tables, "read", lambda name: found)
  assert "| 77 |" in tables.filled("<!-- table:autoattack -->\n<!-- /table -->", place="page.md")


def test_the_picture_has_the_errors_of_the_demo():
  drawn = (pictures.OUT / "errors.svg").read_text(encoding="utf-8")
  assert pictures.outgoing() in drawn, "run: python -m docs.pictures"


@pytest.mark.parametrize("page", tables.PAGES[1:], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
  for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
    made = {"api", "gallery"} & set(pathlib.PurePath(target).parts)  # by Sphinx, which checks them
    assert made or (page.parent / target).exists(), target
