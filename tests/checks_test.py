# SPDX-License-Identifier: Apache-2.0
"""Wrong arguments of every public function end in one clear sentence; right ones cost nothing."""

import inspect

import bad_inputs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import attacks, augment, checks, losses, masks, metrics

PICTURES, LABELS, linear = bad_inputs.PICTURES, bad_inputs.LABELS, bad_inputs.linear
FUNCTIONS = bad_inputs.public_functions()
BUDGET = {"epsilon": 0.1, "step_size": 0.01, "num_steps": 1}
LONGEST = 400


def complaint(call):
  """Returns what a call says, or None if it is accepted."""
  try:
    call()
  except ValueError as error:
    return str(error)
  return None


def unclear(cases):
  found = []
  for name, call, word in cases:
    said = complaint(call)
    if said is None or word not in said or len(said) > LONGEST or "\n" in said:
      found.append((name, said))
  return found


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_wrong_argument_is_refused(name):
  assert unclear(bad_inputs.of_function(name, FUNCTIONS[name])) == []


def test_what_no_signature_says_is_refused():
  assert unclear(bad_inputs.by_hand()) == []


def test_there_are_many_bad_inputs():
  assert len(bad_inputs.cases()) > 2500


def test_an_unchecked_function_is_noticed():
  bare = augment.random_flip.__wrapped__
  wrong = bad_inputs.of_function("augment.random_flip", getattr(bare, "__wrapped__", bare))
  with pytest.raises((TypeError, AttributeError)):
    unclear(wrong)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (
      lambda: attacks.pgd(0, linear, PICTURES, LABELS, **BUDGET),
      "pgd: key must be a typed key, jax.random.key(seed), or one per example, got 0; make one "
      "with jax.random.key(seed); legacy keys: jax.random.wrap_key_data(key).",
    ),
    (
      lambda: augment.random_flip(jax.random.key(0), (PICTURES * 255).astype(jnp.uint8)),
      "random_flip: images must be float32 pictures [N, H, W, C] in [0, 1], got uint8[4, 8, 8, 3]; "
      "divide by 255: images.astype(jnp.float32) / 255.",
    ),
    (
      lambda: augment.random_flip(jax.random.key(0), PICTURES[0]),
      "random_flip: images must be float32 pictures [N, H, W, C] in [0, 1], got float32[8, 8, 3]; "
      "one picture is a batch of one: images[None].",
    ),
    (
      lambda: augment.mixup(jax.random.key(0), PICTURES, LABELS),
      "mixup: soft_labels must be probabilities float32[N, K], got int32[4]; make them of class "
      "numbers with jax.nn.one_hot(soft_labels, num_classes).",
    ),
    (
      lambda: augment.mixup(jax.random.key(0), PICTURES, jnp.full((3, 10), 0.1)),
      "mixup: images and soft_labels must have the same number of examples, got 4 and 3.",
    ),
    (
      lambda: attacks.pgd(jax.random.key(0), linear, PICTURES, LABELS, **{**BUDGET, "epsilon": 8}),
      "pgd: epsilon must be in [0, 1], got 8; epsilon is in pixel units of [0, 1]: 8/255, not 8.",
    ),
    (
      lambda: attacks.pgd(jax.random.key(0), linear, PICTURES * 255, LABELS, **BUDGET),
      "pgd: images must lie in [0, 1], got 127.5 to 127.5; divide by 255: images / 255.",
    ),
    (
      lambda: metrics.ece(np.full((4, 10), 3.0), LABELS),
      "ece: rows of probabilities must be probabilities (>= 0, sum 1), got a least value of 3 and "
      "a sum that is off by 29; of logits take jax.nn.softmax(logits).",
    ),
    (
      lambda: losses.cross_entropy(np.zeros((4, 10)), np.full(4, 10)),
      "cross_entropy: labels must be class numbers from 0 to 9, got 10 to 10.",
    ),
  ],
)
def test_wording(call, message):
  assert complaint(call) == message


def test_shapes_are_checked_while_tracing():
  flip = jax.jit(augment.random_flip)
  with pytest.raises(ValueError, match="divide by 255"):
    flip(jax.random.key(0), jnp.zeros((4, 8, 8, 3), jnp.uint8))


@pytest.mark.parametrize(
  ("function", "arguments"),
  [
    (augment.random_flip, (jax.random.key(0), PICTURES)),
    (augment.cutmix, (jax.random.key(0), PICTURES, jnp.full((4, 10), 0.1))),
    (losses.cross_entropy, (jnp.zeros((4, 10)), LABELS)),
    (metrics.ece, (jnp.full((4, 10), 0.1), LABELS)),
  ],
)
def test_checks_add_nothing_to_a_compiled_program(monkeypatch, function, arguments):
  monkeypatch.setattr(checks, "DEBUG", False)
  bare = jax.make_jaxpr(function.__wrapped__)(*arguments)
  assert str(jax.make_jaxpr(function)(*arguments)) == str(bare)


@pytest.mark.parametrize(
  ("function", "arguments", "message"),
  [
    (augment.random_flip, (jax.random.key(0), PICTURES * 255), "images must lie in"),
    (losses.cross_entropy, (jnp.zeros((4, 10)), LABELS + 7), "labels must be class numbers"),
    (losses.cross_entropy, (jnp.zeros((4, 10)), jnp.ones((4, 10))), "must be probabilities"),
  ],
)
def test_debug_runs_look_at_values_inside_of_compiled_programs(
  monkeypatch, function, arguments, message
):
  monkeypatch.setattr(checks, "DEBUG", True)

  def run(*arguments):
    jax.block_until_ready(jax.jit(lambda *a: function(*a))(*arguments))
    jax.effects_barrier()

  with pytest.raises(jax.errors.JaxRuntimeError, match=message):
    run(*arguments)


def test_other_runs_do_not(monkeypatch):
  monkeypatch.setattr(checks, "DEBUG", False)
  compiled = jax.jit(lambda *arguments: augment.random_flip(*arguments))
  compiled(jax.random.key(0), PICTURES * 255).block_until_ready()
  jax.effects_barrier()
  program = str(jax.make_jaxpr(compiled)(jax.random.key(0), PICTURES * 255))
  assert "callback" not in program
  monkeypatch.setattr(checks, "DEBUG", True)
  checked = jax.jit(lambda *arguments: augment.random_flip(*arguments))
  assert "callback" in str(jax.make_jaxpr(checked)(jax.random.key(0), PICTURES))


def test_lists_and_numpy_arrays_become_arrays():
  expected = losses.cross_entropy(jnp.zeros((2, 3)), jnp.array([0, 2]))
  for labels in ([0, 2], np.array([0, 2]), np.array([0, 2], np.uint8)):
    found = losses.cross_entropy(np.zeros((2, 3)), labels)
    np.testing.assert_array_equal(found, expected)


def test_signatures_stay():
  parameters = inspect.signature(masks.apply).parameters
  assert list(parameters) == ["images", "mask", "fill"]
  assert masks.apply.__module__ == "mixboost_jax.masks"


def test_known_labels_are_checked_inside_of_a_trace():
  known = jnp.full(4, 12)
  with pytest.raises(ValueError, match="labels must be class numbers from 0 to 9"):
    jax.jit(lambda z: attacks.fooled(z, known))(jnp.zeros((4, 10)))
