# SPDX-License-Identifier: Apache-2.0
import json
import pathlib

import numpy as np
import pytest

from mixboost_jax import interactions
from mixboost_jax.report import __main__ as command_line
from mixboost_jax.report import claims, ledger, page
from mixboost_jax.report.claims import Claim, Correlates, Lower, Near, Positive, Side, Source
from mixboost_jax.runtime import results as results_lib

RESULTS = pathlib.Path(__file__).parents[2] / "results"
ERROR, NLL = ledger.column("error"), ledger.column("nll")
ERM, BOOST = {"objective.name": "erm"}, {"objective.name": "mixboost"}
PAIR = (Side(BOOST, ERROR), Side(ERM, ERROR))
PAPER = {"model.name": "wrn-10-1"}


def seeds(make, objective, values, name="error", half=1.0, **train):
  return [
    make.results(
      objective,
      seed=seed,
      settings=make.settings(objective, seed, **train),
      metrics=(make.metric(name, value, half),),
    )
    for seed, value in enumerate(values)
  ]


def verdict(rule, *runs, setting=None):
  networks = claims.networks_of([one for group in runs for one in group])
  return claims.decide(Claim("", "", rule), networks, setting or {}).verdict


@pytest.mark.parametrize(
  ("boost", "erm", "expected"),
  [
    ([10.0, 11.0, 12.0], [14.0, 15.1, 16.2], "reproduced"),  # paired: their spread is larger
    ([10.0, 20.0, 12.0], [14.0, 15.1, 16.2], "direction only"),
    ([10.0, 20.0, 18.0], [14.0, 15.1, 16.2], "undecided"),
    ([14.0, 15.1, 16.2], [10.0, 11.0, 12.0], "contradicted"),
    ([10.0], [15.0], "reproduced"),  # one seed: by the intervals of +-1
    ([14.0], [15.0], "direction only"),
    ([15.0], [14.0], "undecided"),
    ([15.0], [10.0], "contradicted"),
    ([], [10.0], "not run"),
  ],
)
def test_lower(make, boost, erm, expected):
  runs = seeds(make, "mixboost", boost), seeds(make, "erm", erm)
  assert verdict(Lower((PAIR,)), *runs) == expected


def test_only_seeds_in_common_are_compared_and_only_within_a_regime(make):
  other = [make.results("erm", settings=make.settings("erm", 7), metrics=(make.metric(),))]
  assert verdict(Lower((PAIR,)), seeds(make, "mixboost", [5.0]), other) == "not run"
  longer, fewer = seeds(make, "erm", [20.0], epochs=9.0), seeds(make, "erm", [20.0])
  fewer[0].settings["data"]["validation_examples"] = 5000
  for elsewhere in (longer, fewer):
    assert verdict(Lower((PAIR,)), seeds(make, "mixboost", [5.0]), elsewhere) == "not run"


def test_the_networks_that_differ_least_are_compared(make):
  rested, alike = seeds(make, "erm", [3.0]), seeds(make, "erm", [20.0])
  rested[0].settings["model"]["dropout"] = 0.7
  boost = seeds(make, "mixboost", [10.0])
  for erm in ([*rested, *alike], [*alike, *rested]):
    assert verdict(Lower((PAIR,)), boost, erm) == "reproduced"
  several = seeds(make, "erm", [3.0, 4.0])
  for one in several:
    one.settings["model"]["dropout"] = 0.7
  both = seeds(make, "mixboost", [10.0, 10.5])  # two seeds say more than one that is closer
  assert verdict(Lower((PAIR,)), both, [*several, *alike]) == "contradicted"


def test_of_equal_trainings_the_one_measured_alike_is_compared(make):
  rested, plain, elsewhere = (seeds(make, "erm", [value]) for value in (10.0, 20.0, 3.0))
  rested[0].settings["model"]["dropout"] = 0.7
  elsewhere[0].settings["mask"] = {"grid": 4}  # is not read
  dropped = Side({"model.dropout": 0.7}, ERROR), Side({"model.dropout": lambda p: p != 0.7}, ERROR)
  for others in ([*plain, *elsewhere], [*elsewhere, *plain]):
    assert verdict(Lower((dropped,)), rested, others) == "reproduced"


def test_pictures_to_choose_by_decide_last(make):
  held = [*seeds(make, "mixboost", [5.0], epochs=9.0), *seeds(make, "erm", [20.0], epochs=9.0)]
  for one in held:
    one.settings["data"]["validation_examples"] = 500
  assert verdict(Lower((PAIR,)), held) == "reproduced"
  shown = seeds(make, "mixboost", [20.0]), seeds(make, "erm", [10.0])
  assert verdict(Lower((PAIR,)), held, *shown) == "contradicted"


def test_a_number_without_an_interval_is_no_evidence(make):
  runs = seeds(make, "mixboost", [1.0], half=None), seeds(make, "erm", [90.0])
  assert verdict(Lower((PAIR,)), *runs) == "direction only"


@pytest.mark.parametrize(
  ("boost", "expected"),
  [(5.0, "reproduced"), (8.5, "direction only"), (10.5, "undecided"), (14.0, "contradicted")],
)
def test_lower_by_a_factor(make, boost, expected):
  runs = seeds(make, "mixboost", [boost]), seeds(make, "erm", [10.0])
  assert verdict(Lower((PAIR,), factor=0.9), *runs) == expected


@pytest.mark.parametrize(
  ("boost", "expected"),
  [(6.0, "reproduced"), (1.0, "direction only"), (9.0, "direction only")],
)
def test_in_the_papers_setting_the_size_counts(make, boost, expected):
  runs = seeds(make, "mixboost", [boost], half=0.1), seeds(make, "erm", [10.0], half=0.1)
  rule = Lower((PAIR,), paper=((6.0, 10.0),))
  assert verdict(rule, *runs, setting=PAPER) == expected
  assert verdict(rule, *runs, setting={"model.name": "wrn-40-4"}) == "reproduced"
  assert verdict(rule, *runs) == "reproduced"


def test_several_pairs(make):
  backwards = PAIR[::-1]
  runs = seeds(make, "mixboost", [5.0]), seeds(make, "erm", [10.0])
  assert verdict(Lower((PAIR, PAIR)), *runs) == "reproduced"
  assert verdict(Lower((PAIR, backwards)), *runs) == "contradicted"
  assert verdict(Lower((PAIR, PAIR, backwards), share=0.51), *runs) == "reproduced"
  assert verdict(Lower((PAIR, backwards, backwards), share=0.51), *runs) == "contradicted"
  assert verdict(Lower((PAIR, (PAIR[0], Side(ERM, NLL)))), *runs) == "not run"


def test_one_contradiction_is_not_enough_against_most(make):
  runs = [
    make.results(
      name, metrics=(make.metric("error", error), make.metric("nll", nll), make.metric("ece", nll))
    )
    for name, error, nll in (("mixboost", 15.0, 14.0), ("erm", 10.0, 15.0))
  ]
  along = [(Side(BOOST, column), Side(ERM, column)) for column in (NLL, ledger.column("ece"))]
  assert verdict(Lower((PAIR, *along), share=0.51), runs) == "direction only"
  assert verdict(Lower((PAIR, *along)), runs) == "contradicted"


@pytest.mark.parametrize(
  ("slope", "noise", "count", "expected"),
  [
    (1.0, 0.1, 7, "reproduced"),
    (1.0, 1.5, 7, "direction only"),  # significant, but below 0.9
    (1.0, 4.0, 7, "direction only"),
    (-1.0, 4.0, 7, "undecided"),
    (-1.0, 0.1, 7, "contradicted"),
    (1.0, 0.1, 4, "not run"),
  ],
)
def test_correlates(make, slope, noise, count, expected):
  shape = np.array([1, -1, 0.5, -0.5, 0, 1, -1.0]) * np.sign(slope)
  runs = [
    make.results(
      settings=make.settings(batch_size=k),
      metrics=(
        make.metric("error", 10.0 + k),
        make.metric("nll", 50 + slope * k + noise * shape[k]),
      ),
    )
    for k in range(count)
  ]
  assert verdict(Correlates(ERROR, (NLL,), 1, 0.9), runs) == expected


@pytest.mark.parametrize(
  ("values", "half", "expected"),
  [
    ([10.2], 0.5, "reproduced"),
    ([10.2], 5.0, "direction only"),
    ([12.0], 3.0, "undecided"),
    ([15.0], 0.5, "contradicted"),
    ([], 0.5, "not run"),
  ],
)
def test_near(make, values, half, expected):
  rule = Near(Side(ERM, ERROR), 10.0, 1.0)
  assert verdict(rule, seeds(make, "erm", values, half=half), setting=PAPER) == expected
  elsewhere = {"model.name": "wrn-40-4"}
  assert verdict(rule, seeds(make, "erm", values, half=half), setting=elsewhere) == "not run"


@pytest.mark.parametrize(
  ("values", "half", "expected"),
  [
    ([2.0, 2.1, 2.2], None, "reproduced"),
    ([2.0], 1.0, "reproduced"),
    ([0.5], 1.0, "direction only"),
    ([-0.5], 1.0, "undecided"),
    ([-2.0], 1.0, "contradicted"),
    ([], 1.0, "not run"),
  ],
)
def test_positive(make, values, half, expected):
  sides = (Side(ERM, ERROR),)
  assert verdict(Positive(sides), seeds(make, "erm", values, half=half)) == expected
  assert verdict(Positive((*sides, Side(ERM, NLL))), seeds(make, "erm", values)) == "not run"


def test_only_networks_that_count_are_correlated(make):
  runs = [
    make.results(
      settings=make.settings(batch_size=k),
      metrics=(make.metric("error", 10.0 + k), make.metric("nll", 50.0 + k + 40 * (k > 9))),
    )
    for k in range(1, 15)
  ]
  few = {"train.batch_size": lambda size: size <= 4}
  assert verdict(Correlates(ERROR, (NLL,), 1), runs) == "reproduced"
  assert verdict(Correlates(ERROR, (NLL,), 1, among=few), runs) == "not run"


def curve_of(values):
  rows = ({"step": k, "ratio": k / 2, "relative": v, "high": v + 0.1} for k, v in enumerate(values))
  return {"interactions": list(rows)}


@pytest.mark.parametrize(
  ("shapes", "textures", "expected"),
  [
    ([1.0, 1.2, 1.0], [1.0, 2.0, 3.0], "reproduced"),
    ([1.0, 2.0, 3.0], [1.0, 1.2, 1.0], "contradicted"),
    ([1.0, 1.2, 1.0], [0.7, 1.0, 1.0], "direction only"),
    ([1.0, 1.2], [1.0, 2.0, 3.0], "not run"),  # of other orders than without noise
    ([], [1.0, 2.0, 3.0], "not run"),
  ],
)
def test_change_by_noise(make, shapes, textures, expected):
  """Textures and shapes as in `configs/studies/encoding.py`: dJ of each order, then its mean."""
  runs = []
  for agreement, noisy in ((0.1, shapes), (1.0, textures)):
    for policy, values in (("none", [1.0, 1.0, 1.0]), ("gaussian_noise", noisy)):
      settings = make.settings("erm")
      settings["data"]["texture_agreement"] = agreement
      settings["augment"]["policy"] = {"name": policy}
      runs.append(make.results(settings=settings, curves=curve_of(values)))
  (claim,) = (
    claim
    for source in ledger.SOURCES
    for claim in source.claims
    if claim.text == "Textures are encoded with more flexibility than shapes"
  )
  found = claims.decide(claim, claims.networks_of(runs), {})
  assert found.verdict == expected
  if expected == "reproduced":
    assert found.evidence.startswith("0.0667 against 1 ")


def test_the_network_with_the_most_seeds_decides(make):
  few = seeds(make, "mixboost", [90.0])
  many = seeds(make, "mixboost", [5.0, 5.1, 5.2], batch_size=7)
  assert verdict(Lower((PAIR,)), few, many, seeds(make, "erm", [10.0, 10.0, 10.0])) == "reproduced"


def test_settings_that_are_not_named_have_their_default(make):
  (network,) = claims.networks_of([make.results()])
  assert network.fits({"mask.keep_rate": 0.7, "augment.policy": "none", "data.outliers": 0})
  assert not network.fits({"mask.keep_rate": 0.5})
  assert network.fits({"train.epochs": lambda epochs: epochs > 5})


def test_a_gate_that_is_always_open_is_none(make):
  def named(policy):
    settings = make.settings()
    settings["augment"]["policy"] = policy
    (network,) = claims.networks_of([make.results(settings=settings)])
    return network.settings["augment.policy"]

  def gated(p, name):
    return {"name": "with_probability", "p": p, "policy": {"name": name}}

  assert named({"name": "pixmix"}) == "pixmix"
  assert named(gated(1.0, "mixup")) == "mixup"
  assert named(gated(0.5, "mixup")) == "with_probability"
  both = {"name": "compose", "steps": [gated(1.0, "random_flip"), {"name": "color_jitter"}]}
  assert named(both) == "random_flip + color_jitter"


def test_published_files_come_first_and_suites_are_told_apart(make):
  metrics = (
    make.metric("mce", 30.0, dataset="shapes-c"),
    make.metric("mce", 20.0, dataset="shapes-c-released"),
    make.metric("mce", 40.0, dataset="shapes-c_bar"),
    make.metric("error", 5.0),
  )
  found = claims.measured(make.results(metrics=metrics), ledger.C)
  assert found == (20.0, 19.0, 21.0)
  assert claims.measured(make.results(metrics=metrics), ledger.PGD) is None


def test_a_defense_may_be_named_with_its_preset(make):
  for word in ("rotation", "cifar10/iat:rotation"):
    run = make.results(metrics=(make.metric(f"audit/{word}/oblivious-10", 50.0),))
    column = ledger.column("audit/rotation/oblivious-10")
    assert claims.measured(run, column) == (50.0, 49.0, 51.0)


def test_a_curve_is_averaged_over_a_band_of_orders(make):
  points = [
    {"step": k, "ratio": k / 10, "size": 1.0 * k, "size_low": k - 1.0, "size_high": k + 2.0}
    for k in range(11)
  ]
  run = make.results(curves={"interaction_attack": points})
  assert claims.measured(run, ledger.UTILITY) == (9.0, 8.0, 11.0)
  assert claims.measured(run, ledger.STRENGTH) is None


def columns_of(rule):
  if isinstance(rule, Correlates):
    return [rule.x, *rule.ys]
  if isinstance(rule, Positive):
    return [side.column for side in rule.sides]
  sides = [rule.side] if isinstance(rule, Near) else [side for pair in rule.pairs for side in pair]
  return [side.column for side in sides]


def written():
  """What committed results hold, and the fields of curves that no committed file has."""
  names, fields = set(), {}
  for path in RESULTS.rglob("*.json"):
    tree = json.loads(path.read_text())
    base = min((m["dataset"] for m in tree.get("metrics", ())), key=len, default="")
    names |= {(m["dataset"].removeprefix(base), m["name"]) for m in tree.get("metrics", ())}
    for name, points in tree.get("curves", {}).items() if "metrics" in tree else ():
      fields.setdefault(name, set()).update(*points)
  utilities = interactions.utility_rows(np.ones((2, 3, 4)), orders=(0, 1, 2), num_players=4)
  fields["interaction_attack"] = set(utilities[0])
  rows = curve_of([1.0])["interactions"]
  made = interactions.Strength((0, 4), 6, np.ones((2, 5, 2)), np.zeros((5, 2, 5, 2)), 1, 1, 1)
  fields["interaction_outliers"] = set(interactions.outlier_rows(made, made)[0])
  fields["interaction_change"] = set(interactions.change_rows(rows, rows)[0])
  return names, fields


def test_every_claim_refers_to_what_is_written_and_every_paper_number_to_a_pair():
  names, fields = written()
  preset = {"none", "mi-ol", "mi-combined", "gaussian-noise", "rotation", "crop-pad", "crop-resize"}
  entries = [claim for source in ledger.SOURCES for claim in source.claims]
  assert len(ledger.SOURCES) == 5
  assert len(entries) >= 25
  assert len({claim.text for claim in entries}) == len(entries)
  for claim in entries:
    for column in columns_of(claim.rule):
      place, _, band = column.metric.partition("@")
      curve, _, field = place.partition(".")
      if band:
        assert field in fields[curve], column
      elif place.startswith("audit/") and "/auc/" not in place:
        _, defense, attack = place.split("/")
        assert defense in preset
        assert ("", f"audit/none/{attack}") in names, column
      elif "/auc/" not in place:
        assert (column.suffix, place) in names, column
    if isinstance(claim.rule, Lower):
      assert len(claim.rule.paper) in (0, len(claim.rule.pairs)), claim.text
      assert all(a < b for a, b in claim.rule.paper), claim.text


def test_page_and_command(make, tmp_path, capsys):
  for k, run in enumerate([*seeds(make, "mixboost", [5.0]), *seeds(make, "erm", [10.0])]):
    (tmp_path / "results" / f"{k}").mkdir(parents=True)
    results_lib.write(tmp_path / "results" / f"{k}" / "x.json", run)
  (tmp_path / "results" / "other.json").write_text("{}")
  content = claims.gather(
    [Source("Some paper", [Claim("Table 1", "Boost < ERM", Lower((PAIR,), ((1, 2),)))], {})],
    [*seeds(make, "mixboost", [5.0]), *seeds(make, "erm", [10.0])],
  )
  assert content.summary[0].startswith("1 claims: 1 reproduced, 0 direction only")
  html = page.render(content)
  assert '<td class="better">reproduced</td>' in html
  assert "5 against 10 (Shapes, wrn-10-1, 6 epochs, 1 seed)" in html
  out = tmp_path / "out" / "claims.html"
  assert command_line.main(["--claims", str(tmp_path / "results"), f"--out={out}"]) == 0
  assert str(out) in capsys.readouterr().out
  assert "| not run |" in out.with_suffix(".md").read_text()
  assert "Pang, Xu" in out.read_text()
