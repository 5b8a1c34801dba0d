# SPDX-License-Identifier: Apache-2.0
import math

import pytest

from mixboost_jax import metrics
from mixboost_jax.report import compare
from mixboost_jax.report import groups as groups_lib
from mixboost_jax.report.groups import load

ERROR = ("shapes", "test", "error")


def groups_of(*results):
  return groups_lib.group(load(results))


def compared(*results):
  first, second = groups_of(*results)
  return compare.difference(first, second, ERROR)


def test_square_and_add_by_hand(make):
  before = make.results("erm", metrics=(make.metric(value=20.0, low=17.0, high=24.0),))
  after = make.results("mixboost", metrics=(make.metric(value=10.0, low=7.0, high=14.0),))
  item = compared(before, after)
  assert item.estimate == -10.0
  assert item.low == pytest.approx(-10 - math.hypot(3, 4))
  assert item.high == pytest.approx(-10 + math.hypot(4, 3))
  assert item.verdict == "better"


def test_square_and_add_is_newcombes_method_for_proportions(make):
  # Newcombe 1998, Table II, example (a): 56/70 - 48/80, method 10: 0.0524 to 0.3339.
  def run(name, hits, count):
    low, high = metrics.wilson(hits, count)
    return make.results(name, metrics=(make.metric(value=hits / count, low=low, high=high),))

  item = compared(run("erm", 48, 80), run("mixboost", 56, 70))
  assert item.estimate == pytest.approx(0.2)
  assert (item.low, item.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


@pytest.mark.parametrize(
  ("after", "better", "verdict"),
  [
    (8.0, "lower", "better"),
    (12.0, "lower", "worse"),
    (10.5, "lower", "unclear"),
    (8.0, "higher", "worse"),
    (12.0, "higher", "better"),
    (8.0, "none", "unclear"),
  ],
)
def test_verdicts_follow_the_direction(make, after, better, verdict):
  def run(name, value):
    return make.results(name, metrics=(make.metric(value=value, half=1.0, better=better),))

  assert compared(run("erm", 10.0), run("mixboost", after)).verdict == verdict


def test_seeds_are_compared_by_the_signed_rank_test(make):
  before = [make.results("erm", 10.0 + seed / 10, seed) for seed in range(5)]
  after = [make.results("mixboost", 9.0 + seed / 7, seed) for seed in range(5)]
  item = compared(*before, *after)
  assert item.p_value == 1 / 32
  assert (item.method, item.verdict) == ("signed rank", "better")
  back = compare.difference(*reversed(groups_of(*before, *after)), ERROR)
  assert (back.p_value, back.verdict) == (1.0, "worse")


def test_few_seeds_show_the_mean_of_the_pairs_and_its_range(make):
  before = [make.results("erm", error, seed) for seed, error in enumerate((10.0, 20.0, 30.0, 99.0))]
  after = [make.results("mixboost", error, seed) for seed, error in enumerate((9.0, 21.0, 27.0))]
  item = compared(*before, *after)  # the seed without a partner does not count
  assert item.estimate == pytest.approx((-1 + 1 - 3) / 3)
  assert (item.low, item.high, item.p_value) == (-3.0, 1.0, None)
  assert (item.verdict, len(item.before.by_seed)) == ("untested", 3)
  assert item.method == "too few seeds"


def test_one_seed_in_common_is_compared_by_its_intervals(make):
  before = [make.results("erm", error, seed) for seed, error in enumerate((10.0, 99.0))]
  item = compared(*before, make.results("mixboost", 5.0, 0))
  assert (item.estimate, item.method, item.verdict) == (-5.0, "intervals", "better")


def test_each_method_is_compared_with_its_own_boost(make):
  def run(policy, objective, error, **mask):
    changed = make.settings(objective)
    changed |= {"augment": {"policy": {"name": policy}}, "mask": mask}
    changed["objective"]["boost_on"] = "changed" if objective == "mixboost" else "clean"
    return make.results(objective, error, name=f"t_{policy}_{objective}", settings=changed)

  groups = groups_of(
    run("none", "erm", 10.0, keep_rate=0.7),
    run("none", "mixboost", 9.0, keep_rate=0.7),
    run("pixmix", "erm", 8.0, keep_rate=0.7),
    run("pixmix", "mixboost", 7.0, keep_rate=0.3),
    run("cutmix", "mixboost", 6.0, keep_rate=0.7),
  )
  pairs = [(d.challenger, d.baseline) for d in compare.differences(groups, [ERROR])]
  assert pairs == [
    ("none MixBoost", "none ERM"),
    ("PixMix ERM", "none ERM"),
    ("PixMix MixBoost", "PixMix ERM"),
    ("CutMix MixBoost", "none ERM"),
  ]


def test_a_boost_is_compared_on_its_own_copy_of_the_data(make):
  def run(objective, error, policy="none", note=""):
    changed = make.settings(objective)
    changed |= {"data": {"name": "cifar10", "note": note}, "augment": {"policy": {"name": policy}}}
    return make.results(objective, error, name=f"t_{policy}_{objective}{note}", settings=changed)

  boosted = run("mixboost", 7.0, "pixmix", note="JPEG")
  plain, elsewhere = run("erm", 8.0, "pixmix", note="JPEG"), run("erm", 8.0, "pixmix")
  groups = groups_of(run("erm", 10.0), elsewhere, boosted)
  assert groups_lib.own_plain(groups[-1], groups) is None
  pairs = {d.challenger: d.baseline for d in compare.differences(groups, [ERROR])}
  assert pairs[groups[-1].label] == groups[0].label, "the baseline of all for want of its own"
  groups = groups_of(run("erm", 10.0), elsewhere, plain, boosted)
  pairs = {d.challenger: d.baseline for d in compare.differences(groups, [ERROR])}
  assert pairs[groups[-1].label] == groups[2].label


def test_few_or_unpaired_seeds_are_not_tested(make):
  before = [make.results("erm", 10.0, seed) for seed in range(4)]
  after = [make.results("mixboost", 1.0, seed) for seed in range(4)]
  assert compared(*before, *after).verdict == "untested"
  shifted = [make.results("mixboost", 1.0, seed + 100) for seed in range(6)]
  item = compared(*[make.results("erm", 10.0, seed) for seed in range(6)], *shifted)
  assert (item.verdict, item.method) == ("untested", "other seeds")


def test_no_interval_no_verdict(make):
  bare = make.results("mixboost", metrics=(make.metric(value=1.0, half=None),))
  item = compared(make.results("erm"), bare)
  assert (item.verdict, item.method) == ("untested", "none")


def test_a_metric_that_one_lacks_is_not_compared(make):
  assert compared(make.results("erm"), make.results("mixboost", metrics=())) is None


def test_the_baseline_is_the_plain_run_wherever_it_stands(make):
  groups = groups_of(make.results("mixboost"), make.results("erm"))
  assert compare.baseline_of(groups).label == "ERM"
  assert compare.baseline_of(groups[:1]).label == groups[0].label
