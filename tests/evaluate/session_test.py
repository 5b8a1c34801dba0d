# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mixboost_jax import evaluate
from mixboost_jax.evaluate import _pictures
from mixboost_jax.evaluate._session import Scorer, Scores
from mixboost_jax.runtime import mesh as mesh_lib


def make_examples(count, labels=None):
  rng = np.random.default_rng(count)
  images = rng.integers(0, 256, (count, 4, 4, 1)).astype(np.uint8)
  labels = rng.integers(0, 3, count) if labels is None else np.asarray(labels)
  return evaluate.from_dataset((images, labels), split="test")


def linear(weights, images):
  return images.reshape(len(images), -1) @ weights


@pytest.fixture
def weights(key):
  return jax.random.normal(key, (16, 3))


@pytest.mark.parametrize("count", [1, 8, 16, 17])
def test_every_example_is_scored_once_and_in_order(weights, count):
  examples = make_examples(count)
  scores = Scorer(linear, batch_size=16)(weights, examples)
  logits = linear(weights, jnp.asarray(examples.images, jnp.float32) / 255)
  log_probabilities = np.asarray(jax.nn.log_softmax(logits))
  assert len(scores.nll) == count
  np.testing.assert_allclose(
    scores.nll, -log_probabilities[np.arange(count), examples.labels], rtol=1e-4
  )
  np.testing.assert_array_equal(scores.correct, logits.argmax(-1) == examples.labels)
  np.testing.assert_allclose(scores.confidence, np.exp(log_probabilities.max(-1)), rtol=1e-5)
  np.testing.assert_allclose(scores.max_logit, np.asarray(logits).max(-1), rtol=1e-5)
  np.testing.assert_allclose(
    scores.negative_energy, np.log(np.exp(np.float64(logits)).sum(-1)), rtol=1e-5
  )
  squares = np.square(np.exp(log_probabilities) - np.eye(3)[examples.labels])
  np.testing.assert_allclose(scores.brier, squares.sum(-1), rtol=1e-4, atol=1e-6)


def test_new_variables_need_no_new_compilation(weights):
  traces = []

  def apply_fn(variables, images):
    traces.append(images.shape)
    return linear(variables, images)

  scorer = Scorer(apply_fn, batch_size=8)
  examples = make_examples(20)
  first, second = scorer(weights, examples), scorer(-weights, examples)
  assert traces == [(8, 4, 4, 1)]
  assert not np.allclose(first.nll, second.nll)


def test_sharded_variables_stay_where_they_are(weights):
  mesh = mesh_lib.create(fsdp=2)
  sharded = jax.device_put(weights, NamedSharding(mesh, PartitionSpec("fsdp")))
  scorer = Scorer(linear, batch_size=8, mesh=mesh)
  assert scorer.placed(sharded) is sharded
  examples = make_examples(11)
  np.testing.assert_allclose(
    scorer(sharded, examples).nll, scorer(weights, examples).nll, rtol=1e-5
  )


def test_works_inside_a_transfer_guard(weights):
  scorer = Scorer(linear, batch_size=8)
  with jax.transfer_guard("disallow"):
    assert len(scorer(weights, make_examples(9)).nll) == 9


@pytest.mark.parametrize("jitted", [False, True])
def test_parameters_become_arguments(weights, jitted):
  closure = lambda images: linear(weights, images)  # noqa: E731
  apply_fn, constants = evaluate.open_up(jax.jit(closure) if jitted else closure, (8, 4, 4, 1))
  assert [c.shape for c in constants] == [(16, 3)]
  images = jnp.ones((8, 4, 4, 1))
  np.testing.assert_allclose(apply_fn([2 * weights], images), 2 * closure(images), rtol=1e-6)


def test_a_partial_is_open_already(weights):
  partial = jax.tree_util.Partial(linear, weights)
  apply_fn, variables = evaluate.open_up(partial, (8, 4, 4, 1))
  assert variables is partial
  images = jnp.ones((8, 4, 4, 1))
  np.testing.assert_array_equal(apply_fn(variables, images), linear(weights, images))


def test_monitor_compiles_once_for_all_parameters(weights):
  traces = []

  def network(variables, images):
    traces.append(images.shape)
    return linear(variables, images)

  examples = make_examples(20)
  pair = (examples.images, examples.labels)
  monitor = evaluate.make_monitor(pair, split="validation", batch_size=8)
  first, second = (monitor(jax.tree_util.Partial(network, w)) for w in (weights, -weights))
  assert len(traces) == 1
  closure = monitor(lambda images: linear(weights, images))
  assert closure == pytest.approx(first)
  assert first["nll"] != second["nll"]
  results = evaluate.evaluate(lambda images: linear(weights, images), pair)
  assert first["clean_error"] == pytest.approx(results.metrics[0].value)


def test_headline_by_hand():
  scores = Scores(*np.array([[1, 0, 1, 0], [0.9] * 4, [1, 2, 3, 6], *3 * [[0] * 4]], np.float32))
  assert _pictures.headline(scores) == {"clean_error": 50.0, "nll": 3.0}


@pytest.mark.parametrize(
  ("apply_fn", "message"),
  [
    (lambda v, x: x.reshape(len(x), -1), None),
    (lambda v, x: x, r"must return \[B, K\] = \[8, K\]"),
    (lambda v, x: x.reshape(len(x), -1)[:, :2], "label has no column"),
    (lambda v, x: jnp.log(x.reshape(len(x), -1) - 1), "not finite"),
  ],
)
def test_outputs_that_are_no_logits(apply_fn, message):
  scorer = Scorer(apply_fn, batch_size=8)
  examples = make_examples(9, labels=[0, 1, 2] * 3)
  if message is None:
    scorer((), examples)
    return
  with pytest.raises(ValueError, match=message):
    scorer((), examples)


@pytest.mark.parametrize(
  ("logits_fn", "message"),
  [
    (lambda x: jnp.asarray(np.asarray(x)), "made of JAX operations"),
    (lambda x: (x, x), "one array, got 2"),
  ],
)
def test_functions_that_cannot_be_compiled(logits_fn, message):
  with pytest.raises(ValueError, match=message):
    evaluate.open_up(logits_fn, (2, 4, 4, 1))
