# SPDX-License-Identifier: Apache-2.0

import dataclasses

import pytest

from mixboost_jax.report import compare, content, markdown, page, readme, tables, titles
from mixboost_jax.report.groups import group, load, metric_ids
from mixboost_jax.runtime import results as results_lib
from mixboost_jax.runtime.results import Flag


def groups_of(*results):
  return group(load(results))


def texts(row):
  return [cell.text for cell in row]


def test_metric_table_marks_the_best_and_what_was_not_run(make):
  bare = make.results("mixboost", 8.0, metrics=(make.metric(value=8.0),))
  groups = groups_of(make.results("erm", 10.0), bare)
  table = tables.metric_table(groups, metric_ids(groups))
  assert table.header == ("Metric", "ERM", "MixBoost")
  section, error, ece = table.rows
  assert texts(section) == ["Shapes (2,000 examples, procedural)"]
  assert texts(error) == ["Error (%) ↓", "10.00", "8.00"]
  assert [cell.tone for cell in error[1:]] == ["", "best"]
  assert error[1].note == "[9.00, 11.00]"
  assert texts(ece) == ["Expected calibration error (%) ↓", "2.00", "not run"]
  assert ece[2].tone == "missing"


def test_difference_table_of_many(make):
  runs = [make.results(name, error) for name, error in [("erm", 9.0), ("a", 5.0), ("b", 9.2)]]
  groups = groups_of(*runs)
  keys = [("shapes", "test", "error")]
  table = tables.difference_table(compare.differences(groups, keys))
  assert [texts(row)[0] for row in table.rows] == [
    "a compared with ERM",
    "Error on Shapes",
    "b compared with ERM",
    "Error on Shapes",
  ]
  assert [row[-1].text for row in table.rows[1::2]] == ["better", "within noise"]


def test_config_table_shows_what_differs_only(make):
  other = dataclasses.replace(
    make.results("mixboost", seed=3), settings=make.settings("mixboost", 3, epochs=12.0, extra=1)
  )
  table = tables.config_table(groups_of(make.results("erm"), other))
  assert [texts(row) for row in table.rows] == [
    ["objective.name", "erm", "mixboost"],
    ["train.epochs", "6", "12"],
    ["train.extra", "absent", "1"],
  ]
  assert tables.config_table(groups_of(make.results())).rows == ()


def test_environment_says_equal_things_once(make):
  slow = dataclasses.replace(make.results("mixboost"), seconds={"train": 3700.0, "evaluate": 3.0})
  table = tables.environment_table(groups_of(make.results("erm"), slow))
  rows = {row[0].text: row[1:] for row in table.rows}
  assert texts(rows["Time: train"]) == ["1 min 30 s", "1 h 1 min"]
  assert texts(rows["Hardware"]) == ["2 CPU cores (Some CPU)"]
  assert rows["Hardware"][0].span == 2
  assert texts(rows["Commit of mixboost_jax"]) == ["0123456789ab"]
  assert texts(rows["Versions"]) == ["jax 0.10.2"]
  one = tables.hardware_title({"platform": "cpu", "cores": 1, "cpu": "Some CPU"})
  assert one == "1 CPU core (Some CPU)"


def test_environment_names_the_augmentation(make):
  settings = make.settings("erm")
  steps = [{"name": "random_flip"}, {"name": "cutout", "length": 16, "fill": 0.5}]
  settings["augment"]["policy"] = {"name": "compose", "steps": steps}
  table = tables.environment_table(groups_of(make.results(settings=settings)))
  rows = {row[0].text: row[1:] for row in table.rows}
  said = "compose(steps=[random_flip(), cutout(length=16, fill=0.5)])"
  assert texts(rows["Augmentation"]) == [said]


def test_environment_of_many_seeds_stays_short(make):
  runs = [
    dataclasses.replace(make.results(seed=i), seconds={"train": float(i)}) for i in range(1, 8)
  ]
  table = tables.environment_table(groups_of(*runs))
  rows = {row[0].text: row[1].text for row in table.rows}
  assert rows["Time: train"] == "1.0 s; 2.0 s; … (7 different)"


def test_dirty_commits_and_accelerators(make):
  environment = {
    "hardware": {"platform": "gpu", "device_count": 4, "device_kind": "H200"},
    "git": {"commit": "f" * 40, "dirty": True},
  }
  table = tables.environment_table(groups_of(make.results(environment=environment)))
  rows = {row[0].text: row[1].text for row in table.rows}
  assert rows["Hardware"] == "4 x H200"
  assert rows["Commit of mixboost_jax"] == "ffffffffffff with uncommitted changes"


@pytest.mark.parametrize(
  ("value", "unit", "sign", "want"),
  [
    (12.345, "%", False, "12.35"),
    (0.12345, "nats", False, "0.123"),
    (1234.5, "", False, "1,234.500"),
    (-1.5, "%", False, "\u22121.50"),
    (1.5, "%", True, "+1.50"),
    (-0.001, "%", True, "0.00"),
    (None, "%", False, "undefined"),
    (float("nan"), "%", False, "undefined"),
    (float("inf"), "nats", False, "undefined"),
  ],
)
def test_numbers(value, unit, sign, want):
  assert titles.number(value, unit, sign=sign) == want


def test_names():
  assert titles.run("demo_mixboost") == "demo MixBoost"
  assert titles.run("mixup+boost") == "Mixup + Boost"
  assert titles.metric("some_new_metric") == "some new metric"
  assert titles.dataset("cifar10", "validation") == "CIFAR-10, validation split"
  assert titles.listing([]) == ""
  assert titles.listing(["a"]) == "a"
  assert titles.listing(["a", "b", "c"]) == "a, b and c"


@pytest.fixture
def measured(make):
  def one(objective, error):
    metrics = tuple(
      make.metric(name, value, dataset=dataset, source=source, count=count)
      for dataset, name, value, source, count in [
        ("cifar10", "error", error, "files", 2000),
        ("cifar10", "rms_calibration_error", 3.0, "files", 2000),
        ("cifar10-c", "mce", error + 10, "generated", 500),
        ("cifar10-c", "rms_calibration_error", 5.0, "generated", 500),
        ("cifar10-p", "mfr", 1.5, "generated", 200),
        ("cifar10-pgd", "error", 80.0, "files", 1000),
      ]
    )
    return make.results(objective, metrics=metrics, curves={"severity/cifar10-c/fog": []})

  return [one("erm", 4.0), one("mixboost", 3.0)]


def groups_from(results):
  return group(load(results))


def test_columns_of_the_paper(measured):
  table = tables.standard_table(groups_from(measured))
  assert table.header == (
    "Run",
    "Clean Error",
    "CIFAR-C mCE",
    "CIFAR-C̄ mCE",
    "CIFAR-P mFR",
    "Clean RMS",
    "CIFAR-C RMS",
    "CIFAR-C̄ RMS",
    "PGD Error",
  )
  heading, first, second = table.rows
  assert [cell.text for cell in heading] == ["CIFAR-10"]
  texts = [cell.text for cell in first]
  assert texts == ["ERM", "4.00", "14.00", "not run", "1.50", "3.00", "5.00", "not run", "80.00"]
  assert second[1].tone == second[2].tone == "best"
  assert "CIFAR-C mCE 500" in table.caption
  assert "generated" in table.caption


def test_the_table_says_what_recompressed_pictures_do_to_it(measured):
  assert "quality 75" not in tables.standard_table(groups_from(measured)).caption
  copies = [
    dataclasses.replace(
      one,
      metrics=tuple(
        dataclasses.replace(each, dataset=f"cifar10 (JPEG){each.dataset.removeprefix('cifar10')}")
        for each in one.metrics
      ),
    )
    for one in measured
  ]
  assert "quality 75" in tables.standard_table(groups_from(copies)).caption


def test_published_files_come_first_and_are_compared(measured, make):
  released = make.metric("mce", 16.0, dataset="cifar10-c-released", source="released", count=10_000)
  both = dataclasses.replace(measured[0], metrics=(*measured[0].metrics, released))
  groups = groups_from(both)
  assert tables.standard_table(groups).rows[1][2].text == "16.00"
  (row,) = tables.deviation_table(groups).rows
  assert [cell.text for cell in row[1:]] == ["16.00", "14.00", f"{titles.MINUS}2.00"]
  assert tables.deviation_table(groups_from(measured)).rows == ()


def test_no_table_without_a_whole_list(make):
  assert tables.standard_table(groups_from(make.results())) is None


def test_flags_stand_at_the_top_and_are_kept_in_the_file(measured, tmp_path):
  note = Flag("subset", "note", "c: 500 of 2,000 examples.", "Take all.")
  red = Flag("zero_gradients", "red", "No gradient <at all>.", "Use bpda.")
  flagged = dataclasses.replace(measured[1], flags=(note, red))
  results_lib.write(tmp_path / "results.json", flagged)
  read = results_lib.read(tmp_path / "results.json")
  assert read.flags == (note, red)
  gathered = content.gather([measured[0], read])
  assert [flag.level for _, flag in gathered.flags] == ["red", "note"]
  html, text = page.render(gathered), markdown.render(gathered)
  assert html.index("Before you believe the numbers") < html.index("No gradient")
  assert "No gradient &lt;at all&gt;." in html
  assert "**red** MixBoost: No gradient \\<at all\\>. Use bpda." in text
  assert "CIFAR-P mFR" in html
  assert "severity/" not in html


def test_wrong_flags_are_refused(measured, tmp_path):
  wrong = dataclasses.replace(measured[0], flags=(Flag("x", "blue", "y", "z"),))
  with pytest.raises(results_lib.ResultsError, match="expected one of red, amber, note, got blue"):
    results_lib.write(tmp_path / "results.json", wrong)


@pytest.mark.parametrize(
  ("name", "title"),
  [
    ("cifar10-c", "CIFAR-10-C"),
    ("cifar10-c_bar-released", "CIFAR-10-C̄, published files"),
    ("shapes-pgd-50", "Shapes under PGD-50, L∞ 8/255"),
    ("cifar10-ood-shuffled_pixels", "CIFAR-10 against shuffled pixels"),
    ("mine-occluded", "mine, 30 % painted over"),
    ("shapes-conflicting", "Shapes, conflicting texture"),
    ("-c", "-c"),
  ],
)
def test_titles_of_derived_sets(name, title):
  assert titles.dataset(name) == title


@pytest.mark.parametrize(
  ("name", "title"),
  [
    ("error:frost_procedural", "Error, frost procedural"),
    ("error:fog_severity_3_4", "Error, fog at severity 3, 4"),
    ("auroc_max_logit", "AUROC, maximum logit"),
    ("fpr95_oe_energy", "FPR at 95 % recall of foreign pictures, energy"),
    ("mean_error_severity_3", "Mean error at severity 3"),
    ("nll", "Negative log-likelihood"),
  ],
)
def test_titles_of_metrics(name, title):
  assert titles.metric(name) == title


def test_in_a_readme(measured):
  text = "<!-- results:demo table=robustness -->\n<!-- /results -->"
  filled = readme.fill(text, load(measured))
  assert "| ERM | 4.00" in filled
  assert "CIFAR-P mFR" in filled
  assert "not run" in readme.fill(text, [])
  with pytest.raises(ValueError, match="table: unknown name 'else'"):
    readme.fill(text.replace("robustness", "else"), [])
