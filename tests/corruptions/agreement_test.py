# SPDX-License-Identifier: Apache-2.0
"""The committed comparison with the authors' code lists every corruption, and none is off."""

import json
import pathlib

import pytest

from mixboost_jax import corruptions

FOLDER = pathlib.Path(__file__).parents[2] / "results/benchmarks"


@pytest.fixture(scope="module")
def report():
  return json.loads((FOLDER / "corruption_agreement.json").read_text())


def test_every_corruption_is_listed(report):
  for table, levels in corruptions.SEVERITIES.items():
    rows, not_run = report["tables"].get(table, {}), report["not_run"][table]
    assert {*rows, *not_run} == set(levels)
    assert not {*rows} & {*not_run}
    for row in rows.values():
      assert len(row["ours_delta"]) == len(row["peer_delta"]) == len(row["severities"])


def test_what_deviates_stands_in_for_something_else(report):
  for table, rows in report["tables"].items():
    for name, row in rows.items():
      assert row["agrees"] or "substitute" in row, f"{table} {name}"
      assert ("substitute" in row) == (name in corruptions.BENCHMARK_NAMES)


def test_every_film_is_listed_and_none_is_off():
  report = json.loads((FOLDER / "sequence_agreement.json").read_text())
  assert {*report["films"], *report["not_run"]} == set(corruptions.SEQUENCES)
  for name, row in report["films"].items():
    assert row["agrees"], name
    assert ("substitute" in row) == (name in corruptions.BENCHMARK_NAMES)
