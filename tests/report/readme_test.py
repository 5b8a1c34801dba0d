# SPDX-License-Identifier: Apache-2.0
import pytest

from mixboost_jax.report import groups, readme

MARKED = "Before.\n<!-- results:demo{} -->\nold\n<!-- /results -->\nAfter.\n"


def filled(options, *results):
  runs = groups.load(results) if results else []
  return readme.fill(MARKED.format(options), runs)


def rows(text):
  lines = [line for line in text.splitlines() if line.startswith("|")]
  return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_a_table_takes_the_place_between_the_markers(make):
  text = filled("", make.results("erm", 20.0), make.results("mixboost", 10.0))
  assert text.startswith("Before.\n<!-- results:demo -->\n| Run |")
  assert text.endswith("|\n<!-- /results -->\nAfter.\n")
  assert "old" not in text
  header, _, first, second = rows(text)
  assert header[:3] == ["Run", "Shapes: error (%) ↓", "Shapes: expected calibration error (%) ↓"]
  assert first[:2] == ["ERM", "20.00 \\[19.00, 21.00]"]
  assert second[:2] == ["MixBoost", "**10.00** \\[9.00, 11.00]"]
  assert first[3:] == ["1", "1 min 30 s on 2 CPU cores (Some CPU)", "0123456"]


def test_one_source_alone_fills_a_file(make, tmp_path):
  page = tmp_path / "page.md"
  page.write_text(MARKED.format(""))
  assert readme.update(page, make.results("erm", 20.0))
  assert rows(page.read_text())[-1][1] == "20.00 \\[19.00, 21.00]"


def test_titles_within_a_sentence_keep_their_symbols(make):
  metrics = [make.metric(name, 1.0) for name in ("rms_calibration_error", "interaction_low")]
  header, *_ = rows(filled("", make.results(metrics=tuple(metrics))))
  assert header[1].startswith("Shapes: RMS calibration error")
  assert header[2].startswith("Shapes: interactions: J of low orders")


def test_filling_twice_changes_nothing(make):
  results = [make.results("erm"), make.results("mixboost")]
  once = filled("", *results)
  assert readme.fill(once, groups.load(results)) == once


def test_wanted_rows_without_results_say_not_run(make):
  options = " runs=erm,mixboost metrics=error datasets=shapes,cifar10"
  header, _, first, second = rows(filled(options, make.results("erm", 20.0)))
  assert header[:2] == ["Run", "Shapes: error (%) ↓"]
  assert first[0] == "ERM"
  assert second == ["MixBoost", "not run", "not run", "not run", "not run"]


def test_without_any_results_the_columns_are_still_there():
  header, _, row = rows(filled(" runs=erm metrics=error,ece datasets=cifar10"))
  assert header[1:3] == ["CIFAR-10: error", "CIFAR-10: expected calibration error"]
  assert row == ["ERM", *["not run"] * 5]
  header, _, row = rows(filled(""))
  assert row == ["demo", *["not run"] * 3]


def test_other_results_do_not_leak_in(make):
  other = make.results("erm", name="cifar10_erm")
  lookalike = make.results("mixboost", name="demonstration")
  assert rows(filled("", other, lookalike))[-1] == ["demo", *["not run"] * 3]


def test_seeds_and_dirty_commits(make):
  runs = [make.results("erm", 10.0 + 2 * i, seed=i) for i in range(2)]
  dirty = {"git": {"commit": "f" * 40, "dirty": True}}
  runs.append(make.results("erm", 12.0, seed=2, environment=dirty))
  row = rows(filled(" metrics=error", *runs))[-1]
  assert row[1] == "11.33 ± 1.15 3 seeds"
  assert row[2] == "3"
  assert row[-1] == "0123456, fffffff+"


def test_what_the_boost_changes(make):
  def run(objective, seed, error):
    sets = {"": "error", "-c": "mce", "-pgd": "error"}
    metrics = tuple(make.metric(name, error, dataset=f"shapes{end}") for end, name in sets.items())
    return make.results(objective, seed=seed, metrics=metrics)

  runs = [run("erm", seed, 10.0) for seed in range(5)]
  runs += [run("mixboost", seed, 8.0 + seed / 10) for seed in range(5)]
  header, _, _, row = rows(filled(" table=boost", *runs))
  assert header[:3] == ["Boost on", "Clean Error", "Shapes-C mCE"]
  assert row[:2] == ["ERM → MixBoost", "**\u22121.80** one-sided p = 0.0312, 5 seeds"]
  assert row[3] == "not run"
  _, _, _, row = rows(filled(" table=boost", *runs[:3], *runs[5:8]))
  assert row[1] == "\u22121.90 \\[\u22122.00, \u22121.80], 3 seeds"
  _, _, row = rows(filled(" table=boost"))
  assert row[1] == "not run"


def test_several_places(make):
  text = MARKED.format("") + MARKED.format(" metrics=ece").replace("demo", "cifar10")
  filled_text = readme.fill(text, groups.load([make.results()]))
  assert filled_text.count("| Run |") == 2
  assert filled_text.count("Before.") == filled_text.count("After.") == 2


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("nothing here", "no place for results"),
    ("<!-- results:a -->\nnever closed", "no place for results"),
    (MARKED.format("") + "<!-- results:b -->", "malformed or not closed"),
    ("<!-- results:a -->\n" + MARKED.format(""), "malformed or not closed"),
    (MARKED.format(" colour=red"), "unknown option 'colour'"),
  ],
)
def test_broken_markers(text, message):
  with pytest.raises(ValueError, match=message):
    readme.fill(text, [])
