# SPDX-License-Identifier: Apache-2.0

import base64
import csv
import dataclasses
import hashlib
import html.parser
import itertools
import math
import re
from xml.etree import ElementTree

import pytest

from mixboost_jax import report
from mixboost_jax.report import __main__ as command_line
from mixboost_jax.report import (
  compare,
  content,
  export,
  groups,
  leaderboard,
  markdown,
  page,
  svg,
  tables,
)
from mixboost_jax.runtime import results as results_lib
from mixboost_jax.runtime.results import Flag


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


def test_a_notebook_shows_the_page_in_a_frame(make):
  shown = page.show(make.results("erm", 20.0))
  assert f'srcdoc="{html.escape(shown)}"' in shown._repr_html_()
  assert shown.startswith("<!DOCTYPE html>")
  assert len(repr(shown)) < 40


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
  assert not {"connect-src", "frame-src"} & set(allowed)
  (script,) = tree(text).iter("script")  # sorts tables, and is the only one that may run
  assert script.attrib == {}
  digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
  assert allowed["script-src"] == f"'sha256-{digest}'"
  assert "hidden" not in page.CSS.replace("overflow", "")
  for one in tree(text).iter():  # nothing waits for the script
    assert not [name for name in one.attrib if name.startswith("on") or name == "hidden"]
  assert text.index("Content-Security-Policy") < text.index("<style")


def parsed(text):
  tags = Tags()
  tags.feed(text)
  return tags


def test_the_page_needs_nothing_else(both):
  text, _ = both
  assert "http" not in text.replace("http-equiv", "")
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
  assert (
    "Error, Shapes20.00 → 10.00\u00a0% better\u221210.00 points [\u221211.41, \u22128.59]" in text
  )
  assert "made once (one seed)" in text
  assert "no benchmark result" in text
  assert "As they are (ERM and MixBoost)" in text
  assert "Second, masked view (MixBoost)" in text
  assert "<summary>2 curves</summary>" in both[0]


def sixteen(make):
  """Eight methods and their boosts, corruptions by severity, and everything else there is."""
  found = []
  for k, boosted in ((k, boosted) for k in range(8) for boosted in (False, True)):
    name = f"{'plain' if k == 0 else f'method{k}'}{'+boost' if boosted else ''}"
    settings = make.settings("mixboost" if boosted else "erm")
    settings |= {"augment": {"policy": {"name": "none" if k == 0 else f"m{k}"}}}
    error = 10.0 + k - 3 * boosted
    metrics = [
      make.metric("error", error, dataset="cifar10"),
      make.metric("mce", 2 * error, dataset="cifar10-c", source="generated"),
      make.metric("error", 90 - error, dataset="cifar10-pgd"),
      make.metric("error", 95 - error, dataset="cifar10-pgd-10"),
      make.metric("error", 96 - error, dataset="cifar10-pgd-50"),
    ]
    levels = [{"step": s, "error": error * s} for s in (1, 2, 3)]
    curves = {
      **make.results().curves,
      **{f"severity/cifar10-c/{one}": levels for one in ("fog", "snow")},
      **{f"classes/cifar10/{one}": [{"step": 0, "error": error}] for one in ("cat", "dog")},
      "attack/cifar10": [{"step": i, "epsilon": i / 255, "error": 9.0 * i} for i in range(3)],
    }
    note = (Flag("subset", "note", "c: 500 of 10,000.", "Take all."),)
    changes = {"name": f"study_{name}", "settings": settings, "flags": note, "curves": curves}
    found.append(make.results(error=error, **{**changes, "metrics": tuple(metrics)}))
  return found


def test_cards_show_errors_then_means_over_corruptions_then_calibration(make):
  names = ("rms_calibration_error", "mean_error_severity_3", "error", "error:fog_severity_3")
  found = tuple(make.metric(name, 9.0, dataset="shapes-c") for name in names)
  cards = content.gather([make.results(metrics=found)]).cards
  assert [card.title.partition(",")[0] for card in cards] == [
    "Error",
    "Mean error at severity 3",
    "RMS calibration error",
  ]


def test_a_single_corruption_has_a_card(make):
  fog = make.metric("error:fog_severity_3", 31.0, dataset="shapes-c")
  shown = content.gather(make.results(metrics=(make.metric(), fog)))
  assert [card.title for card in shown.cards] == [
    "Error, Shapes",
    "Error, fog at severity 3, Shapes-C",
  ]


def test_seeds_are_titled_by_their_config_and_every_value_is_shown(make):
  runs = [
    dataclasses.replace(make.results(error=error, seed=seed), name=f"mine_seed{seed}")
    for seed, error in enumerate((9.0, 11.5))
  ]
  shown = content.gather(runs)
  assert shown.title == "Mine"
  (fold,) = (part for part in shown.sections["All numbers"] if part.title == "Every metric")
  assert fold.parts[0].rows[1][1].note == "2 seeds: 9.00, 11.50"


def test_the_name_of_a_given_model_stays_as_it_is(make):
  given = make.results(settings={})
  assert content.gather(dataclasses.replace(given, name="my CNN")).title == "my CNN"


def test_sixteen_runs_fit_on_a_page(make):
  gathered = content.gather(sixteen(make))
  text = page.render(gathered)
  root = tree(text)
  pairs = [card for card in gathered.cards if isinstance(card, tables.Table)]
  assert [card.caption for card in pairs][:2] == [
    "plain → plain + Boost",
    "plain → method1 → method1 + Boost",
  ]
  assert len(pairs) == 8  # seven methods between the baseline and their boosts
  boost = {row[0].text: row[1:] for row in pairs[1].rows}
  assert [cell.text for cell in boost["Clean"]] == [
    "10.00 → 11.00 → 8.00",
    "+1.00",
    "\u22123.00",
  ]
  assert [cell.note for cell in boost["Clean"]] == ["", "noise", "better"]
  assert text.count("c: 500 of 10,000.") == 1  # of all runs, said once
  opened = [e for e in root.iter("details") if e.get("open")]
  assert not opened
  assert len(list(root.iter("details"))) >= 6
  links = {link.get("href") for link in root.find("body/nav").iter("a")}
  assert {f"#{section.get('id')}" for section in root.iter("section")} - {"#None"} == links
  heads = {"Leaderboard", "Corruptions", "Trade-off", "Attacks", "Classes", "Training"}
  assert heads < {head.text for head in root.iter("h2")}


def test_no_chart_needs_more_than_eight_hues(make):
  root = tree(page.render(content.gather(sixteen(make))))
  assert svg.NUM_COLOURS == 8
  charts = [e for e in root.iter("svg") if e.get("role") == "img"]
  curves = [[e.get("class") for e in chart.iter("polyline")] for chart in charts]
  assert max(map(len, curves)) == 8
  assert all(len(set(classes)) == len(classes) for classes in curves)
  lines = [
    one
    for panel in compare.panels(groups.group(groups.load(sixteen(make))))
    for one in panel.members
  ]
  assert {group.label for group, _ in lines} == {
    c.label for c in groups.group(groups.load(sixteen(make)))
  }
  assert [group.label for group, colour in lines if colour == 0] == 3 * ["plain"]


def test_the_paper_stands_in_grey_beside_the_runs(make):
  root = tree(page.render(content.gather(sixteen(make))))
  (board,) = [e for e in root.iter("table") if e.get("class") == "sort"]
  rows = ["".join(row.find("th").itertext()) for row in board.find("tbody")]
  assert rows[0] == "plain"
  assert rows[16:] == [f"{name}, paper" for name in leaderboard.METHODS]
  grey = [row for row in board.find("tbody") if row.get("class") == "paper"]
  assert " ".join(cell.text for cell in grey[-1][1:]) == "3.0 6.5 9.0 1.2 2.3 3.9 4.4 68.4"


def test_every_table_can_be_saved(make):
  gathered = content.gather(sixteen(make)[:2])
  root = tree(page.render(gathered))
  shown = [e for e in root.iter("table") if e.get("class") == "sort"]
  saved = [e for e in root.iter("a") if e.get("download")]
  folded = [t for parts in gathered.sections.values() for part in parts for t in found_tables(part)]
  assert len(saved) == 3 * len(folded)
  assert {link.get("download").rpartition(".")[2] for link in saved} == {"csv", "md", "tex"}
  first = next(link for link in saved if link.get("download").endswith(".csv"))
  body = base64.b64decode(first.get("href").partition(",")[2]).decode()
  rows = list(csv.reader(body.splitlines()))
  assert len(rows) == 1 + len(shown[0].find("tbody"))
  row = dict(zip(rows[0], rows[2], strict=True))
  assert row["Run"] == "plain + Boost"
  assert (row["Clean Error"], row["Clean Error, note"]) == ("7.00", "[6.00, 8.00]")


def found_tables(part):
  if isinstance(part, content.Fold):
    return [table for inner in part.parts for table in found_tables(inner)]
  return [part] if isinstance(part, tables.Table) else []


def test_tables_in_latex_and_csv():
  rows = (
    (tables.Cell("A & B"),),
    (tables.Cell("x_1"), tables.Cell("\u22121.5", "[\u22122, 1]", "best"), tables.Cell("5 % ± 1")),
    (tables.Cell("y"), tables.Cell("both", span=2)),
  )
  data = tables.Table("Caption", ("Run", "C̄ ↓", "p"), rows)
  assert export.latex(data).splitlines()[2:-2] == [
    r"Run & $\bar{\mathrm{C}}$ $\downarrow$ & p \\",
    r"\hline",
    r"\multicolumn{3}{l}{\textbf{A \& B}} \\",
    r"x\_1 & \textbf{$-$1.5} {\small [$-$2, 1]} & 5 \% $\pm$ 1 \\",
    r"y & \multicolumn{2}{l}{both} \\",
  ]
  assert list(csv.reader(export.csv(data).splitlines())) == [
    ["Section", "Run", "C̄ ↓", "C̄ ↓, note", "p"],
    ["A & B", "x_1", "-1.5", "[-2, 1]", "5 % ± 1"],
    ["A & B", "y", "both", "", "both"],
  ]


def test_mistakes_are_put_in_words(make, tmp_path):
  (tmp_path / "mistakes.png").write_bytes(make.png(3))
  curves = {
    "mistakes/cat taken for dog": [{"step": 1, "confidence": 0.8}],
    "mistakes/dog taken for cat": [{"step": 0, "confidence": 0.97}],
  }
  text, _ = rendered(
    make.results(samples={"mistakes": "mistakes.png"}, curves=curves), sample_folder=tmp_path
  )
  assert "Surest mistakes: dog taken for cat (97 %); cat taken for dog (80 %)" in text


def test_markdown_says_the_same(both):
  _, text = both
  assert text.startswith("# Demo: ERM and MixBoost\n")
  assert "| Error (%) ↓ | 20.00 \\[19.00, 21.00] | **10.00** \\[9.00, 11.00] |" in text
  assert "| objective.name | erm | mixboost |" in text
  rows = [line for line in text.splitlines() if line.startswith("|")]
  widths = {len(re.split(r"(?<!\\)\|", row)) for row in rows}
  assert widths == {4, 5, 7}  # leaderboard, comparisons, and all others


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
  assert [script.text for script in root.iter("script")] == [page.SCRIPT]
  assert "alert" in "".join(root.itertext())
  assert html_text.count("<script") == 1
  assert "<script" not in text.replace("\\<", "")
  rows = [line for line in text.splitlines() if line.startswith("|")]
  assert all(line.endswith("|") for line in rows)


def test_one_run_alone(make):
  html_text, text = rendered(make.results())
  tree(html_text)
  assert "Every comparison" not in html_text
  assert "Verdict" not in text
  assert "The run was made once" in text


def test_three_runs_are_compared_in_their_own_table(make):
  html_text, text = rendered(*[make.results(name) for name in ("erm", "mixboost", "interaction")])
  tree(html_text)

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


def test_notes_on_trial_runs_and_on_few_pictures(make):
  few = make.metric("ece", 4.0, count=150)
  command = "mixboost --config=cifar10:boost+smoke"
  shown = content.gather(make.results(metrics=(make.metric(), few), command=command))
  first, *_ = shown.sections[content.BELIEVE][0]
  assert "smoke makes a run of seconds" in first
  text = page.render(shown)
  assert "needs at least 200 pictures (two bins of 100); 150 are too few" in text
  usual = page.render(content.gather(make.results()))
  assert "smoke" not in usual
  assert "too few" not in usual


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
  assert (tmp_path / "report.md").read_text().startswith("# Demo ERM")


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
