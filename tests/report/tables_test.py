# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from mixboost_jax.report import aggregate, compare, tables, titles


def groups_of(*results):
  return aggregate.group(aggregate.load(results))


def texts(row):
  return [cell.text for cell in row]


def test_metric_table_marks_the_best_and_what_was_not_run(make):
  bare = make.results("mixboost", 8.0, metrics=(make.metric(value=8.0),))
  groups = groups_of(make.results("erm", 10.0), bare)
  table = tables.metric_table(groups, aggregate.metric_ids(groups))
  assert table.header == ("Metric", "ERM", "MixBoost")
  section, error, ece = table.rows
  assert texts(section) == ["Shapes (2,000 examples, procedural)"]
  assert texts(error) == ["Error (%) ↓", "10.00", "8.00"]
  assert [cell.tone for cell in error[1:]] == ["", "best"]
  assert error[1].note == "[9.00, 11.00]"
  assert texts(ece) == ["Expected calibration error (%) ↓", "2.00", "not run"]
  assert ece[2].tone == "missing"


def test_two_groups_are_compared_in_the_same_table(make):
  groups = groups_of(make.results("erm", 20.0), make.results("mixboost", 10.0))
  keys = aggregate.metric_ids(groups)
  table = tables.metric_table(groups, keys, compare.differences(groups, keys))
  assert table.header[-2:] == ("Difference from ERM", "Verdict")
  assert texts(table.rows[1])[-2:] == ["\u221210.00 points", "better"]
  assert table.rows[1][-2].note == "[\u221211.41, \u22128.59]"


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
  assert texts(rows["Commit"]) == ["0123456789ab"]
  assert texts(rows["Versions"]) == ["jax 0.10.2"]


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
  assert rows["Commit"] == "ffffffffffff with uncommitted changes"


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
