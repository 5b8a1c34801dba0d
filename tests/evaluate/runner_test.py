# SPDX-License-Identifier: Apache-2.0
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics

from mixboost_jax import evaluate, schema
from mixboost_jax.evaluate import _session as session_lib
from mixboost_jax.runtime import mesh as mesh_lib
from mixboost_jax.runtime import results as results_lib

CLASSES = 5


@pytest.fixture(scope="module")
def pictures():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (517, 6, 6, 3)).astype(np.uint8)
  return images, rng.integers(0, CLASSES, 517)


@pytest.fixture(scope="module")
def logits_fn():
  weights = jnp.asarray(np.random.default_rng(1).normal(size=(108, CLASSES)), jnp.float32)
  return lambda images: images.reshape(len(images), -1) @ weights


@pytest.fixture(scope="module")
def results(logits_fn, pictures):
  return evaluate.evaluate(logits_fn, pictures, batch_size=100)


def by_name(results, dataset=None):
  return {m.name: m for m in results.metrics if dataset in (None, m.dataset)}


def padded_by_reflection(images):
  return np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")


@pytest.mark.parametrize("views", ["mirror", "translate"])
def test_several_views_are_averaged(logits_fn, pictures, views):
  images, labels = pictures

  def both(rows):
    return (np.asarray(logits_fn(rows)) + np.asarray(logits_fn(rows[:, :, ::-1]))) / 2

  rows = images / np.float32(255)
  expected = both(rows)
  if views == "translate":
    padded = padded_by_reflection(rows)
    corners = both(padded[:, :6, :6]), both(padded[:, 2:, 2:])
    expected = expected / 2 + sum(corners) / 4
  for given in (logits_fn, jax.jit(logits_fn), jax.tree_util.Partial(logits_fn)):
    found = evaluate.multi_view(given, views)(jnp.asarray(rows))
    np.testing.assert_allclose(found, expected, atol=1e-5)
  error = 100 * np.mean(expected.argmax(1) != labels)
  measured = by_name(evaluate.evaluate(logits_fn, pictures, views=views, batch_size=100))
  assert measured["error"].value == pytest.approx(error, rel=1e-9)
  with pytest.raises(ValueError, match="views: expected one, mirror, translate, got 'two'"):
    evaluate.evaluate(logits_fn, pictures, views="two")


def test_values_against_independent_packages(results, logits_fn, pictures):
  images, labels = pictures
  logits = np.asarray(logits_fn(jnp.asarray(images / np.float32(255))), np.float64)
  probabilities = scipy.special.softmax(logits, axis=1)
  wrong = int((logits.argmax(1) != labels).sum())
  found = by_name(results)
  assert found["error"].value == pytest.approx(100 * wrong / 517, rel=1e-12)
  ends = scipy.stats.binomtest(wrong, 517).proportion_ci(0.95, method="wilson")
  assert (found["error"].low, found["error"].high) == pytest.approx(
    (100 * ends.low, 100 * ends.high)
  )
  nll = sklearn.metrics.log_loss(labels, probabilities, labels=range(CLASSES))
  assert found["nll"].value == pytest.approx(nll, rel=1e-4)
  truth = np.eye(CLASSES)[labels]
  assert found["brier"].value == pytest.approx(
    np.square(probabilities - truth).sum(1).mean(), rel=1e-4
  )
  per_example = -np.log(probabilities[np.arange(517), labels])
  half = 1.96 * per_example.std() / np.sqrt(517)
  # Ends of 1000 bootstrap means: standard error sqrt(.025 * .975 / 1000) / .0584 = .085
  # standard errors of the mean.
  assert found["nll"].high - found["nll"].value == pytest.approx(half, abs=4 * 0.085 * half / 1.96)


def test_every_metric_says_what_it_is(results):
  assert [m.name for m in results.metrics] == [
    "error",
    "nll",
    "ece",
    "adaptive_ece",
    "rms_calibration_error",
    "rms_calibration_error_exact",
    "mad_calibration_error",
    "brier",
    "aurra",
  ]
  for metric in results.metrics:
    assert metric.count == 517
    assert metric.low <= metric.value <= metric.high
    assert (metric.dataset, metric.split, metric.source) == ("arrays", "test", "arrays")
    assert metric.better == ("higher" if metric.name == "aurra" else "lower")
  assert results.seconds["evaluate"] > 0


def test_results_can_be_written_and_read(results, tmp_path):
  results_lib.write(tmp_path / "results.json", results)
  assert results_lib.read(tmp_path / "results.json") == results


def test_reliability_curve_adds_up(results):
  points = results.curves["reliability/arrays"]
  assert len(points) == 15
  assert sum(point["count"] for point in points) == 517
  filled = [point for point in points if point["count"]]
  gap = sum(p["count"] * abs(p["confidence"] - p["accuracy"]) for p in filled) / 517
  assert by_name(results)["ece"].value == pytest.approx(100 * gap, rel=1e-4)
  assert all(p["low"] <= p["confidence"] <= p["high"] + 1e-6 for p in filled)


@pytest.mark.parametrize(("batch_size", "num_devices"), [(517, 1), (64, 2), (1000, 8)])
def test_batches_and_devices_change_nothing(results, logits_fn, pictures, batch_size, num_devices):
  mesh = mesh_lib.create(devices=jax.devices()[:num_devices])
  other = evaluate.evaluate(logits_fn, pictures, batch_size=batch_size, mesh=mesh)
  for first, second in zip(results.metrics, other.metrics, strict=True):
    assert second.value == pytest.approx(first.value, rel=1e-5)
    assert (second.low, second.high) == pytest.approx((first.low, first.high), rel=1e-4)


def test_float_pictures_score_like_bytes(results, logits_fn, pictures):
  images, labels = pictures
  other = evaluate.evaluate(logits_fn, (images / np.float32(255), labels), batch_size=100)
  for first, second in zip(results.metrics, other.metrics, strict=True):
    assert second.value == pytest.approx(first.value, rel=1e-6)


def test_few_examples_leave_out_what_has_no_bins(logits_fn, pictures):
  images, labels = pictures
  few = evaluate.evaluate(logits_fn, (images[:150], labels[:150]), confidence=0.8)
  assert "rms_calibration_error" not in by_name(few)
  assert by_name(few)["error"].count == 150
  assert by_name(few)["error"].confidence == 0.8


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"suite": "claen"}, "Did you mean 'clean'"),
    ({"suite": "shapes"}, "procedural set"),
    ({"confidence": 95.0}, "confidence must be in"),
    ({"ece_bins": 0}, "ece_bins must be >= 1"),
    ({"batch_size": 0}, "batch_size must be >= 1"),
  ],
)
def test_wrong_options(logits_fn, pictures, options, message):
  with pytest.raises(ValueError, match=message):
    evaluate.evaluate(logits_fn, pictures, **options)


def test_run_records_the_config(logits_fn, pictures, monkeypatch):
  from mixboost_jax.evaluate import _runner as runner

  settings = object.__new__(schema.Settings)
  chosen = schema.Evaluate(batch_size=200, ece_bins=10, confidence=0.9)
  for name, value in {"name": "mine", "evaluate": chosen}.items():
    object.__setattr__(settings, name, value)
  monkeypatch.setattr(schema.Settings, "to_json", lambda self: {"name": self.name})
  monkeypatch.setattr(runner.settings_lib, "config_hash", lambda settings: "abc")
  results = evaluate.run(logits_fn, pictures, settings)
  assert (results.name, results.settings, results.config_hash) == ("mine", {"name": "mine"}, "abc")
  assert len(results.curves["reliability/arrays"]) == 10
  assert by_name(results)["error"].confidence == 0.9


SUITE = "clean,temperature,c:contrast,c:brightness,pgd-10"


def test_a_second_evaluation_compiles_nothing_and_sees_new_parameters(compiled):
  weights = {"w": jnp.asarray(np.random.default_rng(1).normal(size=(48, 3)), jnp.float32)}
  images = np.random.default_rng(0).uniform(size=(24, 4, 4, 3)).astype(np.float32)

  def logits_fn(x):
    return (x - 0.5).reshape(len(x), -1) @ weights["w"]

  labels = np.asarray(logits_fn(jnp.asarray(images)).argmax(-1))
  mesh = mesh_lib.create(devices=jax.devices()[:1])

  def measure():
    before = len(compiled)
    found = evaluate.evaluate(logits_fn, (images, labels), SUITE, mesh=mesh)
    return by_name(found, "arrays"), len(compiled) - before

  first, anew = measure()
  assert anew > 5
  again, anew = measure()
  assert anew == 0
  assert [metric.value for metric in again.values()] == [m.value for m in first.values()]
  weights["w"] = -weights["w"]
  jax.block_until_ready(weights)
  changed, anew = measure()
  assert anew == 0
  assert (first["error"].value, changed["error"].value) == (0, 100)
  before = len(compiled)
  evaluate.evaluate(lambda x: logits_fn(x) + 1, (images, labels), "c:contrast", mesh=mesh)
  assert len(compiled) - before < 5  # another network, the same pictures


def test_several_views_compile_once(compiled):
  images, labels = np.zeros((4, 2, 2, 1), np.float32), np.zeros(4, int)
  weights = jnp.ones((4, 4))

  def logits_fn(x):
    return x.reshape(len(x), -1) @ weights

  for given in (logits_fn, jax.tree_util.Partial(logits_fn)):
    for views in ("mirror", "one"):
      evaluate.evaluate(given, (images, labels), views=views)
    before = len(compiled)
    evaluate.evaluate(given, (images, labels), views="mirror")
    assert len(compiled) == before


def test_what_was_compiled_is_forgotten_with_the_network():
  images, labels = np.zeros((4, 2, 2, 1), np.float32), np.zeros(4, int)
  logits_fn = jax.jit(lambda x: x.reshape(len(x), -1) + jnp.arange(4.0)[None])
  evaluate.evaluate(logits_fn, (images, labels), views="mirror")
  program = next(iter(session_lib._NETWORKS[logits_fn].values())).scorer
  inside, scorer = weakref.ref(logits_fn.__wrapped__), weakref.ref(program)
  del logits_fn, program
  gc.collect()
  assert inside() is None
  assert scorer() is None


def test_inner_programs_with_other_constants_are_not_taken_for_the_same():
  images, labels = np.ones((4, 2, 2, 1), np.float32), np.zeros(4, int)
  sign = [1.0]

  def logits_fn(x):
    column = jnp.asarray([sign[0], 0.0, 0.0, 0.0])
    return jax.jit(lambda x: x.reshape(len(x), -1) * column[None])(x)

  assert by_name(evaluate.evaluate(logits_fn, (images, labels)))["error"].value == 0
  sign[0] = -1.0
  assert by_name(evaluate.evaluate(logits_fn, (images, labels)))["error"].value == 100


def test_softmax_outputs_are_flagged_without_an_attack(logits_fn, pictures):
  found = evaluate.evaluate(lambda x: jax.nn.softmax(0.1 * logits_fn(x)), pictures)
  assert [flag.name for flag in found.flags] == ["probabilities"]
  assert evaluate.evaluate(logits_fn, pictures).flags == ()


def test_labels_outside_the_classes_are_refused_before_anything_is_scored(logits_fn, pictures):
  images, labels = pictures
  with pytest.raises(ValueError, match=r"labels must be in 0 \.\. 4, .* got 99"):
    evaluate.evaluate(logits_fn, (images, np.where(labels == 0, 99, labels)))
