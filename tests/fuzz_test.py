# SPDX-License-Identifier: Apache-2.0
"""A part of `benchmarks/fuzz.py`, and whether it would notice what it looks for."""

import json
import os
import pathlib
import shutil
import time

import pytest

from benchmarks import bad_files, fuzz

COMMITTED = pathlib.Path(__file__).parents[1] / "results/benchmarks/fuzz.json"


@pytest.fixture(scope="module", autouse=True)
def sound():
  yield
  shutil.rmtree(bad_files.sound())


def case(run, **options):
  return bad_files.Case("data", "x", run, **options)


@pytest.mark.parametrize("kind", ["configs", "data", "results"])
def test_a_sample_of_bad_inputs_gives_clear_errors(tmp_path, kind):
  known = [case for case in bad_files.cases() if case.kind == kind]
  wrong = []
  for i, one in enumerate(known[::23]):
    place = tmp_path / str(i)
    place.mkdir()
    verdict, said = fuzz.judge(one, place)
    if verdict not in fuzz.GOOD:
      wrong.append((one.name, verdict, said))
  assert len(known[::23]) >= 20
  assert wrong == []


def refuse(folder):
  bad_files.settings.resolve({})


@pytest.mark.parametrize(
  ("one", "verdict"),
  [
    (case(refuse, word="config"), fuzz.CLEAR),
    (case(refuse, word="another word"), "unclear error"),
    (case(lambda folder: json.loads("{")), "foreign error"),
    (case(lambda folder: b"\xff".decode()), "foreign error"),
    (case(lambda folder: {}[folder]), "foreign error"),
    (case(lambda folder: 1), "accepted"),
    (case(lambda folder: 1, sound=lambda: 2), "accepted"),
    (case(lambda folder: 1, sound=lambda: 1), fuzz.SAME),
    (case(lambda folder: 1, sound=lambda: 2, accepted="npy"), fuzz.DOCUMENTED),
  ],
)
def test_verdicts(tmp_path, one, verdict):
  assert fuzz.judge(one, tmp_path)[0] == verdict


def test_what_takes_too_long_or_too_much_is_ended(monkeypatch):
  monkeypatch.setattr(fuzz, "BYTES", 2**25)
  for run, seconds, verdict in (
    (_sleep, 0.1, "too slow"),
    (_fill, 60, "too much memory"),
    (_leave, 60, "crash"),
  ):
    monkeypatch.setattr(fuzz, "SECONDS", seconds)
    worker = fuzz.Worker([case(run)])
    assert worker.run(0)[0] == verdict
    assert not worker.is_alive


def _sleep(folder):
  time.sleep(60)


def _fill(folder):
  content = bytearray(b"x") * 2**27
  time.sleep(60)
  return content


def _leave(folder):
  os._exit(3)


def test_the_committed_run_found_nothing():
  found = json.loads(COMMITTED.read_text())
  assert found["wrong"] == []
  assert found["cases"] >= 500
  assert sum(sum(counts.values()) for counts in found["counts"].values()) == found["cases"]
  assert {"data", "bombs", "configs", "results"} <= set(found["counts"])
  assert {verdict for counts in found["counts"].values() for verdict in counts} <= set(fuzz.GOOD)
  assert set(found["accepted_as_documented"]) <= set(bad_files.NO_CHECKSUM.values())
