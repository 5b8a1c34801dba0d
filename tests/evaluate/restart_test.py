# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools
import json
import os
import signal

import jax
import numpy as np
import pytest

from mixboost_jax import evaluate
from mixboost_jax.evaluate import _attacks, _budget, _corruption, _runner, _sanity, _store, _suites
from mixboost_jax.evaluate._session import Scorer, Session
from mixboost_jax.runtime import mesh as mesh_lib

SUITE = "clean,c:contrast:3,c:gaussian_noise:3,p:brightness,pgd,ood:gaussian,temperature"


def numbers(results):
  return results.metrics, results.curves, results.flags


@pytest.fixture(scope="module", autouse=True)
def quick_sanity():
  patch = pytest.MonkeyPatch()
  patch.setattr(_sanity, "NUM_EXAMPLES", 16)
  patch.setattr(_sanity, "NUM_QUERIES", 10)
  patch.setattr(_sanity, "NUM_STEPS", 2)
  patch.setattr(_sanity, "_accuracy", functools.cache(_sanity._accuracy))
  patch.setattr(_sanity, "_gradients", functools.cache(_sanity._gradients))
  yield
  patch.undo()


@pytest.fixture(scope="module")
def one():
  """A single device, for which programs compile fastest."""
  return mesh_lib.create(devices=jax.devices()[:1])


def network(weights, images):
  return (images - 0.5).reshape(len(images), -1) @ weights


@pytest.fixture(scope="session")
def linear_fn(linear_weights):
  """Its parameters are arguments, so what is cached by function is shared by evaluations."""
  return jax.tree_util.Partial(network, linear_weights)


@pytest.fixture(scope="module")
def whole(linear_fn, easy, one):
  return evaluate.evaluate(linear_fn, easy, SUITE, batch_size=32, mesh=one)


def lines(folder):
  text = (folder / "units.jsonl").read_text().splitlines()
  return [json.loads(line) for line in text]


def test_stop_anywhere_and_resume(linear_fn, easy, whole, one, tmp_path, monkeypatch):
  asked = []
  options = {"batch_size": 32, "folder": tmp_path, "mesh": one}

  def stop_after_four():
    asked.append(1)
    return len(asked) > 4

  with pytest.raises(evaluate.Stopped, match="what is done is kept"):
    evaluate.evaluate(linear_fn, easy, SUITE, should_stop=stop_after_four, **options)
  before = lines(tmp_path)
  assert len(before) == 5  # sanity and four pieces
  with open(tmp_path / "units.jsonl", "a") as file:  # a line that a kill cut short
    file.write('{"piece": "12')
  measured = []
  for name, kind in _suites.KINDS.items():

    def noted(session, unit, start, stop, run=kind.measure):
      measured.append(unit.label)
      return run(session, unit, start, stop)

    monkeypatch.setitem(_suites.KINDS, name, dataclasses.replace(kind, measure=noted))
  resumed = evaluate.evaluate(linear_fn, easy, SUITE, **options)
  assert numbers(resumed) == numbers(whole)  # bit for bit
  assert not {record["unit"] for record in before} & set(measured)
  measured.clear()
  again = evaluate.evaluate(linear_fn, easy, SUITE, **options)
  assert measured == []
  assert numbers(again) == numbers(whole)


def test_a_signal_stops_an_evaluation_that_nobody_else_can_stop(
  linear_fn, easy, whole, one, tmp_path, monkeypatch, capfd
):
  options = {"batch_size": 32, "folder": tmp_path, "mesh": one}
  before = signal.getsignal(signal.SIGTERM)
  with monkeypatch.context() as patched:
    name, kind = next(iter(_suites.KINDS.items()))

    def interrupted(*given):
      os.kill(os.getpid(), signal.SIGTERM)
      return kind.measure(*given)

    patched.setitem(_suites.KINDS, name, dataclasses.replace(kind, measure=interrupted))
    with pytest.raises(evaluate.Stopped) as caught:
      evaluate.evaluate(linear_fn, easy, SUITE, **options)
  assert caught.value.code == 75
  assert f"what is done is kept in {tmp_path}." in capfd.readouterr().err
  assert signal.getsignal(signal.SIGTERM) == before
  assert len(lines(tmp_path)) >= 2  # sanity and the piece during which it was asked
  assert numbers(evaluate.evaluate(linear_fn, easy, SUITE, **options)) == numbers(whole)


def test_another_network_or_other_pictures_are_measured_anew(linear_weights, easy, tmp_path):
  def error(weights, pair):
    def logits_fn(images):
      return (images - 0.5).reshape(len(images), -1) @ weights

    found = evaluate.evaluate(logits_fn, pair, "clean", batch_size=96, folder=tmp_path)
    return found.metrics[0].value

  images, labels = easy
  first = error(linear_weights, easy)
  assert error(-linear_weights, easy) != first
  assert error(linear_weights, (255 - images, labels)) != first
  assert error(linear_weights, easy) == first
  assert len(lines(tmp_path)) == 3


def test_another_definition_of_a_unit_is_another_piece(linear_fn, easy, monkeypatch):
  examples = evaluate.from_dataset(easy, split="test")
  session = Session(Scorer(lambda v, x: x, batch_size=16), (), examples, {})
  units = evaluate.expand("clean,c:fog:3,p:tilt,pgd,ood:blobs,temperature")

  def names(session=session):
    pieces = [_runner.Piece(unit, 0, 90) for unit in units]
    return _runner.names_of(session, "network", pieces)

  def changed(before, after):
    pairs = zip(units, before, after, strict=True)
    return [unit.family for unit, one, other in pairs if one != other]

  first = names()
  assert len(set(first)) == len(first)
  assert names() == first
  with monkeypatch.context() as patch:
    patch.setattr(_corruption.corruptions, "parameters", lambda *_, **__: (0.5,))
    assert changed(first, names()) == ["c"]
  with monkeypatch.context() as patch:
    patch.setitem(_attacks.ATTACKS, "pgd", {**_attacks.ATTACKS["pgd"], "num_steps": 21})
    assert changed(first, names()) == ["pgd"]
  held_out = dataclasses.replace(session, held_out=session.part(0, 45))
  assert changed(first, names(held_out)) == ["temperature"]


def test_a_damaged_file_is_measured_again(linear_fn, easy, tmp_path):
  first = evaluate.evaluate(linear_fn, easy, "clean", batch_size=96, folder=tmp_path)
  (file,) = tmp_path.glob("*.npz")
  file.write_bytes(file.read_bytes()[:100])
  second = evaluate.evaluate(linear_fn, easy, "clean", batch_size=96, folder=tmp_path)
  assert numbers(second) == numbers(first)


def test_pieces_cover_every_example_once(linear_fn, easy, monkeypatch):
  small = dataclasses.replace(_suites.KINDS["pictures"], piece=20)
  monkeypatch.setitem(_suites.KINDS, "pictures", small)
  results = evaluate.evaluate(linear_fn, easy, "clean", batch_size=16)
  plain = [m for m in results.metrics if m.name == "error"]
  assert (plain[0].count, plain[0].value) == (90, 20.0)
  examples = evaluate.from_dataset(easy, split="test")
  session = Session(Scorer(lambda v, x: x, batch_size=16), (), examples, {})
  cut = _runner.cut(session, {evaluate.Unit("pictures", "clean"): 90})
  assert [(one.start, one.stop) for one in cut] == [(0, 32), (32, 64), (64, 90)]


@pytest.mark.parametrize("num_devices", [2, 8])
def test_devices_change_nothing(linear_fn, easy, whole, num_devices):
  mesh = mesh_lib.create(devices=jax.devices()[:num_devices])
  assert mesh.size == num_devices
  other = evaluate.evaluate(linear_fn, easy, SUITE, batch_size=32, mesh=mesh)
  for first, second in zip(whole.metrics, other.metrics, strict=True):
    assert (first.dataset, first.name, first.count) == (second.dataset, second.name, second.count)
    exact = first.name.startswith(("error", "flip", "m"))
    tolerance = 0 if exact else 1e-4
    assert second.value == pytest.approx(first.value, rel=tolerance, abs=tolerance)
  assert whole.flags == other.flags


def test_budget_plans_sizes_keeps_them_and_says_so(
  linear_fn, easy, one, tmp_path, monkeypatch, capsys
):
  speed = _budget.Speed(compilation=1.0, step=1.0)
  probes = []

  def probe(session, units, most):
    probes.append(units)
    return dict.fromkeys(most, speed)

  monkeypatch.setattr(_budget, "probe", probe)
  monkeypatch.setattr(_runner.Clock, "seconds", lambda self: 0.0)
  suite = "clean,c:contrast:1,c:contrast:3"
  options = {"batch_size": 16, "budget": "10s", "folder": tmp_path, "mesh": one}
  found = evaluate.evaluate(linear_fn, easy, suite, **options)
  # 9 of 10 s less 3 compilations leave 6: 3 steps of clean fit into half of it, and into the rest
  # 1 step of each of the two units of -C.
  counts = {m.dataset: m.count for m in found.metrics}
  assert counts == {"arrays": 48, "arrays-c": 16}
  told = capsys.readouterr().err
  assert "clean:" in told
  assert "of 90 examples" in told
  assert [flag.name for flag in found.flags] == ["subset", "subset"]
  again = evaluate.evaluate(linear_fn, easy, suite, **options)
  assert len(probes) == 1
  assert numbers(again) == numbers(found)
  wide = {m.name: m.high - m.low for m in found.metrics if m.dataset == "arrays"}
  full = evaluate.evaluate(linear_fn, easy, "clean", batch_size=16)
  narrow = {m.name: m.high - m.low for m in full.metrics}
  assert wide["error"] > narrow["error"]


def test_plan_gives_what_a_cheap_group_leaves_to_the_others():
  groups = [("pictures", "clean"), ("attack", "pgd")]
  speeds = {groups[0]: _budget.Speed(0.0, 0.1), groups[1]: _budget.Speed(2.0, 1.0)}
  sizes = _budget.plan(
    12.0,
    speeds,
    dict.fromkeys(groups, 1),
    dict.fromkeys(groups, 1000),
    dict.fromkeys(groups, 100),
  )
  assert sizes == {groups[0]: 1000, groups[1]: 900}  # 10 s: 1 for clean, 9 steps of PGD
  poor = _budget.plan(
    1.0,
    speeds,
    dict.fromkeys(groups, 1),
    dict.fromkeys(groups, 1000),
    dict.fromkeys(groups, 100),
  )
  assert poor == {groups[0]: 100, groups[1]: 100}


def test_sizes_are_planned_in_parts_of_batches(easy):
  examples = evaluate.from_dataset(easy, split="test")
  scorer = Scorer(lambda v, x: x, batch_size=504)
  session = Session(scorer, (), examples, {})
  step_of = functools.partial(_budget.step_of, session)
  assert scorer.mesh.size == 8
  assert step_of(("corruption", "c"), 10_000) == 104  # 100, rounded up to the devices
  assert step_of(("corruption", "c"), 60) == 64
  assert step_of(("sequence", "p"), 10_000) == 8
  assert step_of(("autoattack", "autoattack"), 10_000) == 256


@pytest.mark.parametrize(("clean", "foreign"), [(45, 9), (90, 18)])
def test_a_budget_keeps_five_known_pictures_for_each_foreign_one(easy, monkeypatch, clean, foreign):
  examples = evaluate.from_dataset(easy, split="test")
  session = Session(Scorer(lambda v, x: x, batch_size=16), (), examples, {})
  planned = {("pictures", "clean"): clean, ("ood", "ood"): 90}
  monkeypatch.setattr(_budget, "_planned", lambda *_: planned)
  units = evaluate.expand("clean,ood:blobs")
  options = {
    "max_examples": 0,
    "max_clean": 0,
    "max_films": 0,
    "budget": "1s",
    "store": _store.Store(None),
    "network": "",
  }
  counted, _ = _budget.sizes(session, units, "clean,ood:blobs", **options)
  assert list(counted.values()) == [clean, foreign]


def test_clean_pictures_and_films_have_limits_of_their_own(easy):
  examples = evaluate.from_dataset(easy, split="test")
  session = Session(Scorer(lambda v, x: x, batch_size=16), (), examples, {})
  units = evaluate.expand("clean,p:brightness")
  options = {"max_examples": 12, "budget": "", "store": _store.Store(None), "network": ""}
  for max_clean, max_films, expected in ((0, 0, [12, 12]), (20, 5, [20, 5]), (-1, 0, [None, 12])):
    limits = {"max_clean": max_clean, "max_films": max_films, **options}
    counted, _ = _budget.sizes(session, units, "clean", **limits)
    assert list(counted.values()) == [expected[0] or len(examples), expected[1]]


@pytest.mark.parametrize(
  ("text", "seconds"), [("90s", 90), ("10min", 600), ("1.5h", 5400), ("7", 7)]
)
def test_durations(text, seconds):
  assert _budget.seconds(text) == seconds
  assert evaluate.budget_problem(text) is None


@pytest.mark.parametrize("text", ["10 weeks", "-5s", "0", "soon"])
def test_wrong_durations(text):
  assert "expected a duration" in (evaluate.budget_problem(text) or "")


def test_the_first_examples_are_a_fair_sample_of_sorted_classes(linear_fn, easy):
  images, labels = easy
  order = np.argsort(labels, kind="stable")
  examples = evaluate.from_dataset((images[order], labels[order]), split="test")
  session = Session(Scorer(lambda v, x: x, batch_size=8), (), examples, {})
  assert len(np.unique(session.part(0, 40).labels)) == len(np.unique(labels))
  np.testing.assert_array_equal(np.sort(session.examples.order), np.arange(90))


def test_columns_survive_the_store_bit_for_bit(tmp_path):
  kept = _store.Store(tmp_path)
  columns = {"a": np.float32([1 / 3, np.nan]), "b": np.int32([1, 2])}
  kept.write("x", columns, {"unit": "u"})
  read = _store.Store(tmp_path).read("x")
  for name, values in columns.items():
    np.testing.assert_array_equal(read[name], values)
    assert read[name].dtype == values.dtype
  assert _store.Store(tmp_path).read("y") is None


def test_arrays_of_both_kinds_are_told_apart_by_every_value():
  zeros = np.zeros(5000, np.float32)
  other = zeros.copy()
  other[2500] = 1
  assert evaluate.digest(jax.numpy.asarray(zeros)) != evaluate.digest(jax.numpy.asarray(other))
  assert evaluate.digest(jax.numpy.asarray(other)) == evaluate.digest(other)
