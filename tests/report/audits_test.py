# SPDX-License-Identifier: Apache-2.0

from mixboost_jax.report import audits, content, page, readme
from mixboost_jax.report.groups import group, load, metric_ids
from mixboost_jax.runtime import results as results_lib

ROWS = {
  "none": {"clean": 90.0, "oblivious-10": 5.0, "eot-ce-20": 1.0, "worst-case": 0.5, "claim": 0.5},
  "mi-ol": {
    "clean": 80.0, "oblivious-10": 30.0, "published": 28.0, "eot-ce-20": 4.0,
    "worst-case": 3.0, "claim": 3.0,
  },
}  # fmt: skip
PLAN = {"epsilon": 8 / 255, "samples": 5, "redraws": 2, "eot_steps": 20, "restarts": 1}


def audited(make, name="mixup", **changes):
  metrics = [
    make.metric(f"audit/{label}/{word}", value, better="higher")
    for label, row in ROWS.items()
    for word, value in row.items()
  ]
  metrics.append(make.metric("audit/auc/mi-pl", 0.8, 0.1, unit="", better="higher"))
  adversarial = [
    {"step": i, "mix_weight": 0.5 * i, "true_class": 0.1, "predicted_class": -0.2} for i in (0, 1)
  ]
  clean = [{"step": i, "mix_weight": 0.5 * i, "true_class": 0.0, "ideal": 0.1} for i in (0, 1)]
  grid = [{"step": i, "strength": i, "clean": 90.0 - i, "adversarial": 5.0 + i} for i in (0, 1)]
  rates = [{"step": i, "false_positive_rate": i, "true_positive_rate": i} for i in (0, 1)]
  curves = {
    "audit/plan": [{"step": 0, **PLAN}],
    "audit/samples/mi-ol": [{"step": n, "accuracy": 9.0 - n, "low": 0, "high": 9} for n in (1, 5)],
    "audit/roc/mi-pl": rates,
    "audit/tradeoff/mi-ol": grid,
    "audit/lambda/pl/clean": clean,
    "audit/lambda/pl/adversarial": adversarial,
  }
  return make.results(name, metrics=tuple(metrics), curves=curves, **changes)


def groups_of(*results):
  return group(load(list(results)))


def test_rows_are_defenses_and_columns_attacks(make):
  data = audits.table(groups_of(audited(make)))
  assert data is not None
  assert data.header == (
    "Accuracy in %", "Clean", "Oblivious PGD-10", "Published code", "End-to-end PGD-20, CE",
    "Worst case", "Claim",
  )  # fmt: skip
  heading, none, mi_ol = data.rows
  assert "ε = 8/255" in heading[0].text
  assert "5 draws per gradient, 2 re-draws" in heading[0].text
  assert [cell.text for cell in none] == [
    "no defense", "90.00", "5.00", "not applicable", "1.00", "0.50", "0.50",
  ]  # fmt: skip
  assert [cell.text for cell in mi_ol][:3] == ["MI-OL", "80.00", "30.00"]
  assert mi_ol[-1].tone == "best"
  assert mi_ol[-1].note == "[2.00, 4.00]"


def test_the_same_defense_of_two_presets(make):
  metrics = [
    make.metric(f"audit/{label}/{word}", value, better="higher")
    for label, value in (("mi-ol", 40.0), ("cifar10/at:mi-ol", 50.0))
    for word in ("clean", "claim")
  ]
  groups = groups_of(make.results("at", metrics=tuple(metrics)))
  data = audits.table(groups)
  assert data is not None
  assert data.header == ("Accuracy in %", "Clean", "Claim")
  assert [row[0].text for row in data.rows[1:]] == ["MI-OL", "MI-OL (cifar10/at)"]
  (card,) = audits.cards(groups)
  assert [[cell.text for cell in row] for row in card.rows] == [
    ["MI-OL", "40.00 → 40.00"],
    ["MI-OL (cifar10/at)", "50.00 → 50.00"],
  ]


def test_without_an_audit_there_is_no_table(make):
  groups = groups_of(make.results())
  assert audits.table(groups) is None
  assert audits.figures(groups) == []
  assert audits.cards(groups) == []


def test_titles():
  assert audits.attack_title("oblivious-50-targeted") == "Oblivious PGD-50, targeted"
  assert audits.attack_title("adaptive") == "Adaptive PGD (eq. 24)"
  assert audits.attack_title("my-attack") == "my-attack"
  assert audits.defense_title("cifar10/iat:rotation") == "rotation (cifar10/iat)"


def test_the_audit_stands_beside_the_evaluation_of_its_run(make, tmp_path):
  measured = audited(make)
  results_lib.write(tmp_path / "audit.json", measured)
  (alone,) = groups_of(tmp_path)
  assert audits.table([alone]) is not None
  results_lib.write(tmp_path / "results.json", make.results("mixup"))
  gathered = content.gather(tmp_path)
  names = [key[2] for key in metric_ids(groups_of(tmp_path))]
  assert names == ["error", "ece", "audit/auc/mi-pl"]
  assert [cell.text for cell in gathered.cards[-1].rows[0]] == ["no defense", "90.00 → 0.50"]
  table, charts = gathered.sections["Defenses under attack"]
  assert table.header[0] == "Accuracy in %"
  assert [figure.title for figure in charts.figures] == [
    "Adaptive attack: accuracy in %",
    "Detection: true positive rate",
    "Oblivious PGD-10: accuracy in %",
    "Change of the probability, MI-PL",
  ]
  assert len(charts.figures[-1].legend) == 4
  text = page.render(gathered)
  assert "Defenses under attack" in text
  assert "Detection AUC, MI-PL" in text
  curves = [
    figure.title for fold in gathered.sections["Training"] for figure in fold.parts[0].figures
  ]
  assert curves
  assert not any("audit" in title for title in curves)


def test_in_a_readme(make):
  text = "<!-- results:demo table=defenses -->\n<!-- /results -->"
  filled = readme.fill(text, load([audited(make)]))
  assert "| MI-OL | 80.00" in filled
  assert audits.NOTE in filled
  assert readme.fill(text, []).splitlines()[-2] == "| demo | not run |"
