# SPDX-License-Identifier: Apache-2.0
"""A kind of evaluation is one entry, and so is a metric: all else is told of it by the entry."""

import dataclasses
import json

import numpy as np
import pytest

from mixboost_jax import evaluate, metrics, report
from mixboost_jax.evaluate import _suites
from mixboost_jax.evaluate._kind import Kind, error
from mixboost_jax.evaluate._session import columns_of
from mixboost_jax.report import groups, tables
from mixboost_jax.runtime import results as results_lib

NEGATIVES = {"corner": (slice(0, 3), slice(0, 3)), "row": (slice(0, 1),)}
"""Member -> where the pictures are turned into their negatives."""


def negative(session, unit, start, stop):
  part = session.part(start, stop)
  images = part.images.copy()
  for image in images:
    image[NEGATIVES[unit.member]] = 255 - image[NEGATIVES[unit.member]]
  return columns_of(session.scorer(session.variables, dataclasses.replace(part, images=images)))


def worst(family):
  """The error on the pictures that no member leaves right."""
  right = np.min([columns["correct"] for columns in family.columns.values()], axis=0)
  points = [{"step": i, "members": count} for i, count in enumerate((1, len(family.members)))]
  return [error(family.place, right)], {f"negative/{family.place.dataset}": points}


@pytest.fixture
def negatives(monkeypatch):
  kind = Kind(
    words={"negative": tuple(NEGATIVES)},
    measure=negative,
    aggregate=worst,
    piece=32,
    default_examples=70,
    counted="negatives of ",
    definition=lambda session, unit: repr(NEGATIVES[unit.member]),
  )
  monkeypatch.setitem(_suites.KINDS, "negative", kind)


def test_one_entry_reaches_words_pieces_restart_results_and_report(
  negatives, linear_fn, easy, tmp_path
):
  suite = "clean,negative"
  assert [unit.label for unit in evaluate.expand(suite)] == [
    "clean",
    "negative:corner",
    "negative:row",
  ]
  assert evaluate.suite_problem("negative:right") is not None
  assert evaluate.asks_for(suite, kinds=("negative",))
  asked = []

  def stop_after_two():
    asked.append(1)
    return len(asked) > 2

  options = {"batch_size": 32, "folder": tmp_path / "kept"}
  with pytest.raises(evaluate.Stopped, match="negative:corner"):
    evaluate.evaluate(linear_fn, easy, suite, should_stop=stop_after_two, **options)
  resumed = evaluate.evaluate(linear_fn, easy, suite, **options)
  lines = (tmp_path / "kept" / "units.jsonl").read_text().splitlines()
  pieces = [(one["unit"], one["start"], one["stop"]) for one in map(json.loads, lines)]
  assert len(pieces) == len(set(pieces)) == 1 + 2 * 3  # nothing was measured twice
  found = {(metric.dataset, metric.name): metric for metric in resumed.metrics}
  own = found["arrays-negative", "error"]
  assert (own.count, own.source) == (70, "arrays")
  assert own.value > found["arrays", "error"].value
  assert own.low < own.value < own.high
  assert resumed.curves["negative/arrays-negative"][1]["members"] == 2
  assert [flag.message for flag in resumed.flags] == [
    "negative: negatives of 70 of 90 examples in each of 2 units."
  ]
  results_lib.write(tmp_path / "results.json", resumed)
  report.write(tmp_path / "results.json", tmp_path / "report.html")
  text = (tmp_path / "report.html").read_text()
  assert "arrays-negative" in text
  assert f"{own.value:.2f}" in text


def overconfidence(examples, bins):
  """In %, of the wrong answers alone."""
  assert bins == 15
  wrong = 1 - examples.correct
  return 100 * (examples.confidence * wrong).sum() / wrong.sum()


def distance(known, foreign):
  return abs(known.mean() - foreign.mean())


def test_a_statistic_is_one_entry_too(linear_fn, easy, tmp_path, monkeypatch):
  """Of any set of pictures, or of known and foreign scores: it reaches suite, table and report."""
  entry = metrics.Statistic(overconfidence, fewest=30)
  suite, options = "clean,occluded,ood:gaussian", {"batch_size": 90, "name": "mine"}
  plain = evaluate.evaluate(linear_fn, easy, suite, **options)
  monkeypatch.setitem(metrics.STATISTICS, "overconfidence", entry)
  monkeypatch.setitem(metrics.DETECTION, "distance", distance)
  found = evaluate.evaluate(linear_fn, easy, suite, **options)
  more = [metric for metric in found.metrics if metric not in plain.metrics]
  assert len(more) == len(found.metrics) - len(plain.metrics)  # all others stay as they were
  assert [(metric.dataset, metric.name) for metric in more] == [
    ("arrays", "overconfidence"),
    ("arrays-occluded", "overconfidence"),
    *(("arrays-ood-gaussian", f"distance_{score}") for score in ("msp", "max_logit", "energy")),
  ]
  images, labels = easy
  logits = np.asarray(linear_fn(images / np.float32(255)), np.float64)
  probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  sure = probabilities.max(axis=1)[logits.argmax(axis=1) != labels]
  first = more[0]
  assert first.value == pytest.approx(100 * sure.mean(), rel=1e-5)
  assert (first.interval, first.unit, first.count) == ("bootstrap", "%", 90)
  assert first.low < first.value < first.high
  few = evaluate.evaluate(linear_fn, (images[:29], labels[:29]), "clean")
  assert "overconfidence" not in {metric.name for metric in few.metrics}
  results_lib.write(tmp_path / "results.json", found)
  report.write(tmp_path / "results.json", tmp_path / "report.html")
  text = (tmp_path / "report.html").read_text()
  loaded = groups.group(groups.load([tmp_path / "results.json"]))
  rows = tables.metric_table(loaded, groups.metric_ids(loaded)).rows
  shown = [(row[0].text, row[1].text) for row in rows if len(row) > 1]
  assert ("overconfidence (%) ↓", f"{first.value:.2f}") in shown
  assert ("distance msp (%) ↑", f"{more[2].value:.2f}") in shown
  assert "overconfidence" in text
  assert f"{first.value:.2f}" in text


def test_a_budget_plans_it(negatives, linear_fn, easy):
  planned = evaluate.evaluate(linear_fn, easy, "negative", batch_size=32, budget="10min")
  assert [metric.count for metric in planned.metrics] == [90]


def test_another_definition_is_measured_anew(negatives, linear_fn, easy, tmp_path, monkeypatch):
  def measure():
    evaluate.evaluate(linear_fn, easy, "negative:corner", batch_size=96, folder=tmp_path)
    return len((tmp_path / "units.jsonl").read_text().splitlines())

  assert (measure(), measure()) == (1, 1)
  monkeypatch.setitem(NEGATIVES, "corner", (slice(0, 2),))
  assert measure() == 2
