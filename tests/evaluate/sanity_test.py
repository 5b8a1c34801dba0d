# SPDX-License-Identifier: Apache-2.0
"""Every flag is raised by a network that is built for it, and by no sane one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import evaluate
from mixboost_jax.evaluate import _sanity, _suites
from mixboost_jax.evaluate._session import Scorer, Session
from mixboost_jax.runtime import mesh as mesh_lib


@pytest.fixture(scope="module", autouse=True)
def cheap():
  patch = pytest.MonkeyPatch()
  patch.setattr(_sanity, "NUM_EXAMPLES", 16)
  patch.setattr(_sanity, "NUM_QUERIES", 60)
  patch.setattr(_sanity, "NUM_STEPS", 5)
  patch.setattr(_sanity, "_accuracy", functools.cache(_sanity._accuracy))
  patch.setattr(_sanity, "_gradients", functools.cache(_sanity._gradients))
  yield
  patch.undo()


@pytest.fixture(scope="module")
def mesh():
  return mesh_lib.create(devices=jax.devices()[:1])


KINDS = ("sane", "probabilities", "rounded", "overconfident")


@pytest.fixture(scope="module")
def scorer(linear_fn, mesh):
  """Of four networks in one, so that one compilation serves all of them."""

  def apply_fn(kind, images):
    changed = jnp.where(kind == 2, jnp.round(images * 8) / 8, images)
    logits = linear_fn(changed) * jnp.where(kind == 3, 1e4, 1.0)
    return jax.lax.cond(kind == 1, lambda z: jax.nn.softmax(0.1 * z), lambda z: z, logits)

  return Scorer(apply_fn, batch_size=32, mesh=mesh)


def test_the_number_of_pictures_that_were_there_is_named():
  none = _sanity.Findings(0.0, *9 * [0.0])
  (few,) = _sanity.judge(none, searched=4)
  assert few.message.endswith("right on 0 of the first 4 examples, fewer than 8.")
  assert few.remedy.startswith("Evaluate more examples (512 are looked at)")
  (many,) = _sanity.judge(none)
  assert "0 of the first 512 examples" in many.message
  assert many.remedy.startswith("Check the checkpoint")


def names(scorer, variables, pair):
  examples = evaluate.from_dataset(pair, split="test")
  session = Session(scorer, scorer.placed(variables), examples, {})
  found = _sanity.judge(_sanity.examine(session, session.part(0, len(examples))))
  assert [flag.level for flag in found] == sorted((f.level for f in found), reverse=True)
  return {flag.name: flag.level for flag in found}


def names_of(scorer, kind, pair):
  return names(scorer, jnp.int32(KINDS.index(kind)), pair)


def test_a_sane_network_raises_nothing(scorer, easy):
  assert names_of(scorer, "sane", easy) == {}


def test_nothing_is_tried_beside_a_pgd_that_leaves_nothing(scorer, easy, monkeypatch):
  monkeypatch.setattr(_sanity, "USUAL", 0.5)
  monkeypatch.setattr(_sanity.attacks, "square", None)
  monkeypatch.setattr(_sanity.attacks, "fgsm", None)
  examples = evaluate.from_dataset(easy, split="test")
  session = Session(scorer, scorer.placed(jnp.int32(0)), examples, {})
  found = _sanity.examine(session, examples)
  assert found.usual <= _sanity.TOLERANCE
  assert np.isnan([found.single_step, found.square]).all()
  assert _sanity.judge(found) == []


def test_probabilities(scorer, easy):
  found = names_of(scorer, "probabilities", easy)
  assert found["probabilities"] == "red"
  assert "zero_gradients" not in found


def test_random_logits(linear_fn, easy, mesh):
  rng = np.random.default_rng(0)

  def apply_fn(variables, images):
    del variables
    shape = jax.ShapeDtypeStruct((len(images), 6), jnp.float32)
    seen = jax.lax.stop_gradient(images.sum())  # so that it is not computed once for all
    drawn = jax.pure_callback(lambda _: rng.normal(size=shape.shape).astype("f4"), shape, seen)
    return linear_fn(images) + 1e-3 * drawn

  assert names(Scorer(apply_fn, batch_size=32, mesh=mesh), (), easy) == {"random_logits": "red"}


def test_rounded_pictures_have_no_gradient(scorer, easy):
  found = names_of(scorer, "rounded", easy)
  assert found["zero_gradients"] == "red"
  assert found["survives_anything"] == "red"
  assert found["black_box_beats_gradients"] == "red"


def test_overconfident_networks_lose_the_gradient_of_the_entropy(scorer, easy):
  found = names_of(scorer, "overconfident", easy)
  assert found.get("vanishing_gradients") == "amber"
  assert "zero_gradients" not in found


def findings(**changes):
  usual = {
    "num_examples": 64.0,
    "logit_noise": 0.0,
    "looks_like_probabilities": 0.0,
    "zero_margin_gradients": 0.0,
    "vanishing_gradients": 0.0,
    "single_step": 0.6,
    "small": 0.8,
    "usual": 0.5,
    "huge": 0.0,
    "square": 0.7,
  }
  return _sanity.Findings(**{**usual, **changes})


def test_the_error_over_the_radius_is_of_examples_that_were_right():
  curves = _sanity._radii(findings(small=0.75, usual=0.5, huge=0.0), "set")
  assert [p["error"] for p in curves["attack/set"]] == [0.0, 25.0, 50.0, 100.0]
  assert [round(255 * p["epsilon"], 3) for p in curves["attack/set"]] == [0.0, 2.0, 8.0, 127.5]
  assert _sanity._radii(findings(num_examples=3.0), "set") == {}


@pytest.mark.parametrize(
  ("changes", "name"),
  [
    ({}, None),  # each pair below lies on both sides of its threshold
    ({"num_examples": 7.0}, "too_few_correct"),
    ({"num_examples": 8.0}, None),
    ({"logit_noise": 1e-7}, "random_logits"),
    ({"looks_like_probabilities": 1.0}, "probabilities"),
    ({"zero_margin_gradients": 0.06}, "zero_gradients"),
    ({"zero_margin_gradients": 0.04}, None),
    ({"vanishing_gradients": 0.26}, "vanishing_gradients"),
    ({"vanishing_gradients": 0.24}, None),
    ({"huge": 0.11}, "survives_anything"),
    ({"huge": 0.09}, None),
    ({"small": 0.44}, "larger_radius_is_weaker"),
    ({"small": 0.46}, None),
    ({"single_step": 0.44}, "more_steps_are_weaker"),
    ({"single_step": 0.46}, None),
    ({"square": 0.44}, "black_box_beats_gradients"),
    ({"square": 0.46}, None),
  ],
)
def test_orders_that_must_hold(changes, name):
  found = _sanity.judge(findings(**changes))
  assert [flag.name for flag in found] == ([name] if name else [])
  assert all(flag.message and flag.remedy for flag in found)


def test_asked_for_by_attacks_only():
  assert _sanity.needed(_suites.expand("clean,pgd"))
  assert _sanity.needed(_suites.expand("autoattack"))
  assert not _sanity.needed(_suites.expand("clean,c,p,ood"))
