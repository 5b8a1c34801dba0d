# SPDX-License-Identifier: Apache-2.0

import dataclasses
import html.parser
import itertools
import math
import re
from xml.etree import ElementTree

import pytest

from mixboost_jax import report
from mixboost_jax.report import __main__ as command_line
from mixboost_jax.report import content, markdown, page
from mixboost_jax.runtime import results as results_lib


def rendered(*results, **options):
  gathered = content.gather(list(results), **options)
  return page.render(gathered), markdown.render(gathered)


def tree(text):
  return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>\n"))


class Tags(html.parser.HTMLParser):
  """Checks that tags are nested as a browser expects them."""

  def __init__(self):
    super().__init__()
    self.open, self.seen = [], []

  def handle_starttag(self, tag, attrs):
    self.open.append(tag)
    self.seen.append((tag, dict(attrs)))

  def handle_startendtag(self, tag, attrs):
    self.seen.append((tag, dict(attrs)))

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


@pytest.fixture
def both(make, tmp_path):
  for kind, colour in (("clean", 1), ("masked", 2)):
    (tmp_path / f"{kind}.png").write_bytes(make.png(colour))
  erm = make.results("erm", 20.0, samples={"clean": "clean.png"})
  mixboost = make.results("mixboost", 10.0, samples={"clean": "clean.png", "masked": "masked.png"})
  return rendered(erm, mixboost, sample_folder=tmp_path)


def test_the_page_is_well_formed_for_both_kinds_of_parser(both):
  text, _ = both
  tree(text)
  tags = Tags()
  tags.feed(text)
  tags.close()
  assert tags.open == []
  assert text.startswith("<!DOCTYPE html>\n<html lang=")


def test_a_browser_may_load_nothing(both):
  text, _ = both
  policies = [
    attributes["content"]
    for tag, attributes in parsed(text).seen
    if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
  ]
  assert len(policies) == 1
  allowed = dict(part.strip().split(" ", 1) for part in policies[0].split(";"))
  assert allowed["default-src"] == "'none'"
  assert allowed["img-src"] == "data:"
  assert not {"script-src", "connect-src", "frame-src"} & set(allowed)
  assert text.index("Content-Security-Policy") < text.index("<style")


def parsed(text):
  tags = Tags()
  tags.feed(text)
  return tags


def test_the_page_needs_nothing_else(both):
  text, _ = both
  assert "http" not in text.replace("http-equiv", "")
  assert "<script" not in text
  assert "<link" not in text
  assert "@import" not in text
  assert not re.search(r"url\((?!data:)", text)
  tags = Tags()
  tags.feed(text)
  sources = [attrs["src"] for _, attrs in tags.seen if "src" in attrs]
  assert len(sources) == 2  # the clean strip is shared
  assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_the_page_can_be_read_aloud(both):
  root = tree(both[0])
  assert all(image.get("alt") for image in root.iter("img"))
  assert all(table.find("caption") is not None for table in root.iter("table"))
  charts = [svg for svg in root.iter("svg") if svg.get("aria-hidden") is None]
  assert charts
  assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in charts)
  assert all(head.get("scope") for head in root.iter("th"))
  levels = [int(e.tag[1]) for e in root.iter() if re.fullmatch(r"h\d", str(e.tag))]
  assert levels[0] == 1
  assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_page_says_what_was_found(both):
  text = "".join(tree(both[0]).find("body").itertext())
  assert "Demo: ERM and MixBoost" in text
  assert "MixBoost lowers the error on Shapes from 20.00\u00a0% to 10.00\u00a0%" in text
  assert "clearly outside the noise" in text
  assert "made once (one seed)" in text
  assert "no benchmark result" in text
  assert "As they are (ERM and MixBoost)" in text
  assert "Second, masked view (MixBoost)" in text
  assert "<summary>1 more curve</summary>" in both[0]


def test_markdown_says_the_same(both):
  _, text = both
  assert text.startswith("# Demo: ERM and MixBoost\n")
  assert "| Error (%) ↓ | 20.00 \\[19.00, 21.00] | **10.00** \\[9.00, 11.00] |" in text
  assert "| objective.name | erm | mixboost |" in text
  rows = [line for line in text.splitlines() if line.startswith("|")]
  widths = {len(re.split(r"(?<!\\)\|", row)) for row in rows}
  assert widths == {7, 5}  # metrics with difference and verdict; settings and environment


EVIL = '<script>alert("x")</script> & | *bold* `code` [a](b)\x00\nnew line'


def test_names_from_files_are_escaped(make):
  evil = dataclasses.replace(
    make.results("mixboost"),
    name=EVIL,
    command=EVIL,
    settings={**make.settings("mixboost"), "note": EVIL, EVIL: 1},
    metrics=(make.metric(EVIL, dataset=EVIL, source=EVIL, interval=EVIL, unit=EVIL),),
    curves={EVIL: [{"step": 1, EVIL: 1.0}, {"step": 2, EVIL: 2.0}], f"reliability/{EVIL}": []},
    samples={"clean": EVIL},
  )
  html_text, text = rendered(make.results("erm"), evil)
  root = tree(html_text)
  assert not list(root.iter("script"))
  assert "alert" in "".join(root.itertext())
  assert "<script" not in html_text
  assert "<script" not in text.replace("\\<", "")
  rows = [line for line in text.splitlines() if line.startswith("|")]
  assert all(line.endswith("|") for line in rows)


def test_one_run_alone(make):
  html_text, text = rendered(make.results())
  tree(html_text)
  assert "Comparisons" not in html_text
  assert "Verdict" not in text
  assert "The run was made once" in text


def test_three_runs_are_compared_in_their_own_table(make):
  html_text, text = rendered(*[make.results(name) for name in ("erm", "mixboost", "interaction")])
  tree(html_text)
  assert "## Comparisons" in text
  assert "Interaction loss compared with ERM" in text


def test_almost_nothing_was_measured(make):
  empty = make.results(
    settings={},
    environment={},
    metrics=(),
    curves={},
    seconds={},
    started="",
    command="",
    config_hash="",
  )
  html_text, text = rendered(empty)
  tree(html_text)
  assert "No metric has been measured." in text


def test_undefined_numbers(make):
  bad = make.results(
    "mixboost",
    metrics=(make.metric(value=math.nan, half=None),),
    curves={"train": [{"step": 1, "loss": None}]},
  )
  html_text, text = rendered(make.results("erm"), bad)
  tree(html_text)
  assert "undefined" in text


def test_unreadable_pictures_are_named(make, tmp_path):
  (tmp_path / "clean.png").write_bytes(b"no picture")
  _, text = rendered(make.results(samples={"clean": "clean.png"}), sample_folder=tmp_path)
  assert "the clean sample pictures (clean.png) cannot be read" in text


def test_the_same_results_give_the_same_page(make):
  assert rendered(make.results()) == rendered(make.results())


def test_notes_that_apply(make):
  dirty = make.results("mixboost", environment={"git": {"commit": "b" * 40, "dirty": True}})
  curves = {"test": [{"step": 1, "clean_error": 5.0}]}
  tested = make.results("erm", curves=curves)
  _, text = rendered(tested, dirty)
  assert "changes that are in no commit" in text
  assert "different commits" in text
  assert "Nothing was selected on it" in text
  seeds = [make.results("erm", seed=i) for i in range(3)]
  _, text = rendered(*seeds, make.results("mixboost"))
  assert "Runs per config: ERM: 3, MixBoost: 1." in text


@pytest.fixture
def workdir(make, tmp_path):
  for name, error in (("erm", 20.0), ("mixboost", 10.0)):
    folder = tmp_path / "demo" / name
    (folder / "samples").mkdir(parents=True)
    (folder / "samples" / "clean.png").write_bytes(make.png(7))
    results = make.results(name, error, samples={"clean": "samples/clean.png"})
    results_lib.write(folder / "results.json", results)
  return tmp_path / "demo"


def test_write_a_file_or_into_a_folder(make, tmp_path):
  assert report.write(make.results(), tmp_path / "new" / "page.html").name == "page.html"
  assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["page.html", "page.md"]
  assert report.write([make.results()], tmp_path) == tmp_path / "report.html"
  assert (tmp_path / "report.md").read_text().startswith("# demo ERM")


def test_pictures_are_found_in_the_folder_of_each_run(workdir):
  page = report.write([workdir / "erm", workdir / "mixboost"], workdir)
  assert page.read_text().count("data:image/png") == 1
  assert "cannot be read" not in page.read_text()


def test_a_failed_report_leaves_the_old_one(workdir):
  page = report.write(workdir, workdir)
  before = page.read_bytes()
  (workdir / "erm" / "results.json").write_text("{")
  with pytest.raises(ValueError, match="not a JSON file"):
    report.write(workdir, workdir)
  assert page.read_bytes() == before


def test_command_line(workdir, capsys):
  assert command_line.main([str(workdir)]) == 0
  assert (workdir / "report.html").exists()
  out = workdir.parent / "elsewhere.html"
  runs = [str(workdir / "mixboost"), str(workdir / "erm")]
  assert command_line.main([*runs, f"--out={out}"]) == 0
  assert out.exists()
  assert "elsewhere.html" in capsys.readouterr().out
  (workdir / "report.html").unlink()
  assert command_line.main(runs) == 0  # several folders: in the one around them
  assert (workdir / "report.html").exists()


def test_command_line_updates_a_readme(workdir, capsys):
  path = workdir.parent / "README.md"
  path.write_text("<!-- results:demo -->\n<!-- /results -->\n")
  arguments = [f"--update-readme={path}", str(workdir / "erm" / "results.json")]
  assert command_line.main(arguments) == 0
  assert "| ERM |" in path.read_text()
  before = path.stat().st_mtime_ns
  assert command_line.main(arguments) == 0
  assert path.stat().st_mtime_ns == before
  assert capsys.readouterr().out.splitlines()[-1].endswith("already up to date")


@pytest.mark.parametrize("arguments", [[], ["absent"], ["absent", "--out=x.html"]])
def test_command_line_errors_are_one_line(arguments, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert command_line.main(arguments) == command_line.EXIT_USER_ERROR
  printed = capsys.readouterr()
  assert printed.err.startswith("error: ")
  assert len(printed.err.splitlines()) == 1
  assert list(tmp_path.iterdir()) == []


def test_command_line_refuses_a_readme_without_a_place(tmp_path, capsys):
  path = tmp_path / "README.md"
  path.write_text("text")
  assert command_line.main([f"--update-readme={path}"]) == command_line.EXIT_USER_ERROR
  assert "no place for results" in capsys.readouterr().err
  assert path.read_text() == "text"
