# SPDX-License-Identifier: Apache-2.0

import dataclasses
import math

import pytest

from mixboost_jax.report import groups as groups_lib
from mixboost_jax.report import page
from mixboost_jax.report.groups import best_groups, common_prefix, load, metric_ids
from mixboost_jax.runtime import results as results_lib

ERROR = ("shapes", "test", "error")


def groups_of(*results):
  return groups_lib.group(load(results))


def test_seeds_of_one_config_are_one_group(make):
  results = [make.results("erm", error, seed) for seed, error in enumerate((9.0, 10.0, 14.0))]
  named = [dataclasses.replace(r, name=f"demo_erm_seed{i}") for i, r in enumerate(results)]
  (first, second) = groups_of(*named, make.results("mixboost", 5.0))
  assert (first.label, len(first.runs)) == ("ERM", 3)
  assert (second.label, len(second.runs)) == ("MixBoost", 1)
  value = first.value(ERROR)
  assert value.mean == 11.0
  assert value.deviation == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
  assert (value.low, value.high) == (None, None)
  assert value.by_seed == ((0, 9.0), (1, 10.0), (2, 14.0))
  single = second.value(ERROR)
  assert (single.mean, single.low, single.high, single.deviation) == (5.0, 4.0, 6.0, None)


def test_files_of_several_jobs_are_one_run(make):
  names = ("a/results.json", "b/results.json")
  two = [make.results("erm", 10.0, seed) for seed in range(2)]
  proxy = tuple(make.metric("interaction_proxy", 0.1 * seed) for seed in range(2))
  elsewhere = [
    make.results("erm", seed=seed, name=f"orders_{name}", metrics=(proxy[seed],))
    for seed, name in enumerate(names)
  ]
  (group,) = groups_of(*two, *elsewhere)
  assert [run.seed for run in group.runs] == [0, 1]
  assert group.value(("shapes", "test", "interaction_proxy")).mean == pytest.approx(0.05)
  assert group.value(ERROR, seeds=[1]).by_seed == ((1, 10.0),)


def test_where_the_files_lay_and_how_the_set_is_called(make):
  def at(**data):
    return make.results(settings={**make.settings(), "data": {"name": "cifar10", **data}})

  assert len(groups_of(at(dir="a"), at(dir="b"))) == 1
  assert len(groups_of(at(dir="a"), at(note="JPEG"))) == 2


def test_another_setting_is_another_group(make):
  other = dataclasses.replace(make.results(), settings=make.settings("erm", 0, epochs=12.0))
  labels = [group.label for group in groups_of(make.results(), other)]
  assert labels == ["demo ERM", "demo ERM (2)"]


def test_files_of_another_kind_are_passed_by(make, tmp_path, capsys):
  results_lib.write(tmp_path / "erm.json", make.results())
  (tmp_path / "package.json").write_text('{"name": "x"}')
  found = load(sorted(tmp_path.glob("*.json")))
  assert [run.results.name for run in found] == ["demo_erm"]
  assert "warning: report: passed by: results" in capsys.readouterr().err
  with pytest.raises(results_lib.ForeignFileError, match="it has no schema_version"):
    load(tmp_path / "package.json")
  (tmp_path / "erm.json").write_text('{"schema_version": 1')
  with pytest.raises(results_lib.ResultsError, match=r"erm\.json: not a JSON file"):
    load(sorted(tmp_path.glob("*.json")))


@pytest.mark.parametrize(
  "changes",
  [
    {"settings": {"data": 5}},
    {"environment": {"git": "abc"}},
    {"environment": {"hardware": [1]}},
    {"curves": {"interactions": [{"step": 0}]}},
    {"curves": {"audit/roc/mi-pl": [{"step": 0}]}},
  ],
)
def test_shapes_that_the_schema_leaves_open_give_one_error(make, tmp_path, changes):
  results_lib.write(tmp_path / "erm.json", make.results(**changes))
  with pytest.raises(
    results_lib.ResultsError, match="settings, environment or curves of demo_erm are not as"
  ):
    page.write(tmp_path / "erm.json", tmp_path)
  assert not (tmp_path / "report.html").exists()


def test_models_of_strangers_stay_apart(make):
  one = make.results(settings={}, name="theirs")
  two = make.results(settings={}, name="ours")
  assert [group.label for group in groups_of(one, two)] == ["theirs", "ours"]


def test_missing_and_best(make):
  extra = make.results("mixboost", 8.0, metrics=(make.metric(value=8.0),))
  first, second = groups_of(make.results("erm", 10.0), extra)
  assert second.value(("shapes", "test", "ece")) is None
  assert best_groups([first, second], ERROR) == {"MixBoost"}
  assert best_groups([first, second], ("shapes", "test", "ece")) == set()
  keys = metric_ids([first, second])
  assert keys == [ERROR, ("shapes", "test", "ece")]


def test_the_best_depends_on_the_direction(make):
  def accuracy(name, value):
    metric = make.metric("accuracy", value, better="higher")
    return make.results(name, metrics=(metric,))

  groups = groups_of(accuracy("erm", 80.0), accuracy("mixboost", 90.0))
  assert best_groups(groups, ("shapes", "test", "accuracy")) == {"MixBoost"}


def test_an_undefined_value_is_never_the_best(make):
  undefined = make.results("mixboost", metrics=(make.metric(value=math.nan, half=None),))
  groups = groups_of(make.results("erm", 10.0), undefined, make.results("interaction", 11.0))
  assert best_groups(groups, ERROR) == {"ERM"}


def test_rows_of_one_dataset_stay_together(make):
  names = [("shapes", "error"), ("other", "error"), ("shapes", "ece")]
  metrics = tuple(make.metric(name, dataset=dataset) for dataset, name in names)
  (group,) = groups_of(make.results(metrics=metrics))
  assert [key[0] for key in metric_ids([group])] == ["shapes", "shapes", "other"]


@pytest.mark.parametrize(
  ("names", "want"),
  [
    (["demo_erm", "demo_mixboost"], "demo_"),
    (["demo_erm"], ""),
    (["demo", "demo_mixboost"], ""),
    (["erm", "erased"], ""),
    (["a_b_c", "a_b_d", "a_c"], "a_"),
  ],
)
def test_common_prefix(names, want):
  assert common_prefix(names) == want


def test_load_finds_results_wherever_they_are_named(make, tmp_path):
  for name in ("erm", "mixboost"):
    (tmp_path / name).mkdir()
    results_lib.write(tmp_path / name / "results.json", make.results(name))
  by_parent = load(tmp_path)
  assert [run.results.name for run in by_parent] == ["demo_erm", "demo_mixboost"]
  assert by_parent[0].folder == tmp_path / "erm"
  assert load([tmp_path / "erm", tmp_path / "mixboost"]) == by_parent
  assert load(str(tmp_path / "erm" / "results.json")) == by_parent[:1]
  assert load(make.results())[0].folder is None


def test_load_says_what_is_missing(tmp_path):
  with pytest.raises(ValueError, match=r"holds no results\.json"):
    load(tmp_path)
  with pytest.raises(ValueError, match="cannot read"):
    load(tmp_path / "absent.json")
  with pytest.raises(ValueError, match="no results were given"):
    load([])
