# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from mixboost_jax.report import aggregate, content, markdown, page, readme, robustness, titles
from mixboost_jax.runtime import results as results_lib
from mixboost_jax.runtime.results import Flag


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


def groups_of(results):
  return aggregate.group(aggregate.load(results))


def test_columns_of_the_paper(measured):
  table = robustness.standard_table(groups_of(measured))
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


def test_published_files_come_first_and_are_compared(measured, make):
  released = make.metric("mce", 16.0, dataset="cifar10-c-released", source="released", count=10_000)
  both = dataclasses.replace(measured[0], metrics=(*measured[0].metrics, released))
  groups = groups_of(both)
  assert robustness.standard_table(groups).rows[1][2].text == "16.00"
  (row,) = robustness.deviation_table(groups).rows
  assert [cell.text for cell in row[1:]] == ["16.00", "14.00", f"{titles.MINUS}2.00"]
  assert robustness.deviation_table(groups_of(measured)) is None


def test_no_table_without_a_whole_list(make):
  assert robustness.standard_table(groups_of(make.results())) is None


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
  assert "Before you believe the numbers" in html
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
  filled = readme.fill(text, aggregate.load(measured))
  assert "| ERM | 4.00" in filled
  assert "CIFAR-P mFR" in filled
  assert "not run" in readme.fill(text, [])
  with pytest.raises(ValueError, match="table: unknown name 'else'"):
    readme.fill(text.replace("robustness", "else"), [])
