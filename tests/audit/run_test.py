# SPDX-License-Identifier: Apache-2.0
"""The defense auditor on a small smooth network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_audit import MI_OL, PLAN, POLICIES, make

from mixboost_jax import evaluate
from mixboost_jax.audit import run as audit_run
from mixboost_jax.audit.plan import OwnDefense, Plan, parse_attack
from mixboost_jax.audit.run import CLAIM, CLEAN, WORST, Outcome
from mixboost_jax.audit.strength import doubts
from mixboost_jax.evaluate._store import Store
from mixboost_jax.runtime import mesh as meshes


@pytest.fixture(scope="module", autouse=True)
def unchecked_gradients():
  """These networks are sound; what the checks find is tested with those of the attacks."""
  patch = pytest.MonkeyPatch()
  patch.setattr(audit_run.evaluate, "sanity_flags", lambda *_, **__: [])
  yield
  patch.undo()


def run(policies=POLICIES, attacks=("oblivious", "published", "eot-ce"), devices=1, **options):
  logits_fn, pool, images, labels = make()
  mesh = meshes.create(devices=jax.devices()[:devices])
  options = {"plan": PLAN, **options}
  return audit_run.audit(
    logits_fn, (images, labels), policies, pool=pool, attacks=attacks, mesh=mesh, **options
  )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
  folder = tmp_path_factory.mktemp("audit")
  return run(folder=folder), folder


def values(results):
  return {metric.name: metric.value for metric in results.metrics}


def test_the_claim_is_the_lowest_accuracy_that_was_reached(measured):
  found = values(measured[0])
  for label in POLICIES:
    own = {name: v for name, v in found.items() if name.startswith(f"audit/{label}/")}
    claim = own.pop(f"audit/{label}/{CLAIM}")
    assert claim == min(own.values())
    assert claim < own[f"audit/{label}/{CLEAN}"]
  assert found["audit/none/clean"] == 100
  assert "audit/none/published" not in found
  assert found["audit/mi-ol/eot-ce"] <= found["audit/mi-ol/published"]


def test_every_number_says_from_which_draws_it_comes(measured):
  results, _ = measured
  for metric in results.metrics:
    assert metric.low <= metric.value <= metric.high
    assert metric.count == 10
    _, label, word = metric.name.split("/")
    if word != CLAIM:
      draws = results.curves[f"audit/redraws/{label}/{word}"]
      assert len(draws) == (1 if label == "none" else PLAN.redraws)
      assert np.mean([point["accuracy"] for point in draws]) == pytest.approx(metric.value)
  plan = results.curves["audit/plan"][0]
  assert (plan["samples"], plan["redraws"], plan["epsilon"]) == (3, 2, 0.1)
  assert results.curves["audit/policy/mi-ol"] == [{"step": 0, "mix_weight": 0.6, "num_draws": 3}]


def test_a_stopped_audit_goes_on_and_another_plan_starts_anew(measured, monkeypatch):
  before, folder = measured

  def fail(*_):
    raise AssertionError("crafted again")

  monkeypatch.setattr(audit_run, "craft", fail)
  assert values(run(folder=folder)) == values(before)
  with pytest.raises(AssertionError, match="crafted again"):
    run(folder=folder, seed=1)


def test_batches_and_devices_change_nothing(measured):
  other = run({"mi-ol": MI_OL}, devices=2, batch_size=4)
  expected = {name: v for name, v in values(measured[0]).items() if "/mi-ol/" in name}
  assert values(other) == expected


def runner_of(plan):
  """A runner of four images, and these."""
  logits_fn, pool, images, labels = make()
  runner = audit_run.Runner(
    logits_fn, evaluate.from_dataset((images[:4], labels[:4]), split="test"), pool=pool,
    plan=plan, surrogate_fn=None, batch_size=4, seed=0,
    mesh=meshes.create(devices=jax.devices()[:1]), store=Store(None),
  )  # fmt: skip
  return runner, images[:4]


def test_every_redraw_of_a_defense_has_draws_of_its_own(monkeypatch):
  seen = []

  def remember(self, run, images, rows, epoch):
    seen.append(epoch)
    return np.ones(len(rows), bool)

  monkeypatch.setattr(audit_run.Runner, "_over_batches", remember)
  runner, images = runner_of(PLAN)
  assert runner._score(MI_OL, images, first=5).shape == (PLAN.redraws, 4)
  assert runner._score({"name": "none"}, images, first=0).shape == (1, 4)
  assert seen == [5, 6, 0]


def test_survivors_only_leaves_broken_images_alone(monkeypatch):
  crafted = []

  def remember(self, policy, attack, *, rows):
    crafted.append((attack.word, len(rows)))
    return np.clip(self.images[rows] + PLAN.epsilon, 0, 1)

  monkeypatch.setattr(audit_run.Runner, "_crafted", remember)
  outcomes = iter(
    [np.array([[1, 1, 0, 1], [1, 0, 0, 1]], bool), np.array([[0, 1, 1, 1], [0, 0, 1, 1]], bool)]
  )
  monkeypatch.setattr(audit_run.Runner, "_score", lambda *_, **__: next(outcomes))
  runner, images = runner_of(Plan(survivors_only=True))
  found = dict(runner.attack_all(MI_OL, [parse_attack("eot-ce")]))
  assert crafted == [("eot-ce", 3)]  # the third image is wrong in both draws
  np.testing.assert_array_equal(found["eot-ce"].images[2], images[2])
  assert (found["eot-ce"].images[3] != images[3]).any()


def test_worst_case_by_hand():
  images = np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1)
  first = Outcome(images, np.array([[1, 0, 1], [1, 1, 1]], bool))
  second = Outcome(images + 10, np.array([[0, 1, 1], [1, 1, 0]], bool))
  worst = audit_run.pick_worst([first, second])
  assert worst.images.ravel().tolist() == [10, 1, 12]
  np.testing.assert_array_equal(worst.correct, [[0, 0, 1], [1, 1, 0]])
  assert worst.accuracy == 0.5
  outcomes = {CLEAN: first, "eot-ce": second, WORST: worst}
  assert audit_run.claim_of(outcomes) == WORST
  assert audit_run.claim_of({CLEAN: first, "eot-ce": second}) == "eot-ce"


def test_of_equals_the_stronger_attack_is_taken():
  images = np.arange(2, dtype=np.float32).reshape(2, 1, 1, 1)
  clean = Outcome(images, np.array([[0, 1], [0, 1]], bool))
  attacked = Outcome(images + 10, np.array([[0, 0], [0, 1]], bool))
  assert audit_run.pick_worst([clean, attacked]).images.ravel().tolist() == [10, 11]


def test_the_worst_case_is_scored_with_draws_that_did_not_choose_it(monkeypatch):
  seen = []
  runner = object.__new__(audit_run.Runner)
  runner.plan = PLAN
  outcome = Outcome(np.zeros((1, 1, 1, 1), np.float32), np.ones((2, 1), bool))

  def score(policy, images, *, first):
    seen.append(first)
    return outcome.correct

  monkeypatch.setattr(runner, "_score", score, raising=False)
  runner.worst_case(MI_OL, {CLEAN: outcome})
  assert seen == [PLAN.redraws]


def test_an_attack_outside_the_ball_is_an_error(monkeypatch):
  monkeypatch.setattr(
    audit_run, "craft", lambda key, target, attack, plan, images, labels: images + 0.11
  )
  with pytest.raises(RuntimeError, match=r"oblivious left the ball: distance 0\.11 of 0\.1"):
    run({"none": {"name": "none"}}, attacks=("oblivious",))


def test_wrong_arguments_give_one_clear_line():
  with pytest.raises(ValueError, match="at least one defense"):
    run({})
  logits_fn, _, images, labels = make()
  with pytest.raises(ValueError, match="needs a pool"):
    audit_run.audit(logits_fn, (images, labels), {"mi-ol": MI_OL}, attacks=("square-1",))
  own = {
    "must be made of JAX operations": lambda x: np.asarray(x).mean((1, 2)),
    r"must return probabilities \[N, K\] = \[2, K\] for .* it calls the network itself": jnp.round,
  }
  for message, defense in own.items():
    with pytest.raises(ValueError, match=f"audit: defense 'mine' {message}"):
      audit_run.audit(logits_fn, (images, labels), {"mine": defense}, attacks=("square-1",))
  own = OwnDefense(lambda x: jax.nn.softmax(logits_fn(x)), jnp.round)
  with pytest.raises(ValueError, match=r"defense 'mine' \(surrogate\) must return probabilities"):
    audit_run.audit(logits_fn, (images, labels), {"mine": own}, attacks=("square-1",))


def test_a_defense_whose_draws_would_be_frozen_is_refused():
  logits_fn, _, images, labels = make()
  rng = np.random.default_rng(0)

  def frozen(x):
    return jax.nn.softmax(logits_fn(x + np.float32(rng.normal(size=x.shape))))

  with pytest.raises(ValueError, match=r"defense 'mine' draws its own random numbers .* Take keys"):
    audit_run.audit(logits_fn, (images, labels), {"mine": frozen}, attacks=("square-1",))


def test_code_of_the_host_in_a_callback_is_no_draw():
  logits_fn, _, images, labels = make()

  def rounded(x):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    x = jax.pure_callback(lambda y: np.round(np.asarray(y) * 8) / 8, shape, x)
    return jax.nn.softmax(logits_fn(x))

  found = audit_run.audit(logits_fn, (images, labels), {"mine": rounded}, attacks=("square-2",))
  assert found["audit/mine/claim"].value <= found["audit/mine/clean"].value


@pytest.mark.parametrize(
  "defense",
  [
    lambda key, x: jax.nn.softmax(x.mean((1, 2)) + jax.random.normal(key, (2, 2))),
    lambda x, keys: jax.nn.softmax(x.mean((1, 2))),
  ],
  ids=["one key", "swapped"],
)
def test_a_random_defense_that_fails_is_told_how_its_keys_arrive(defense):
  logits_fn, _, images, labels = make()
  with pytest.raises(ValueError, match=r"takes its keys first, one per picture .* shares_key=True"):
    audit_run.audit(logits_fn, (images, labels), {"mine": defense}, attacks=("square-1",))


def names(flags):
  return {flag.name: flag.level for flag in flags}


@pytest.mark.parametrize(
  ("words", "accuracies", "expected"),
  [
    (["oblivious", "eot-ce"], [0.2, 0.2], {}),
    (["oblivious-2", "eot-ce"], [0.2, 0.2], {"short_attacks": "amber"}),
    (["oblivious-2", "eot-ce-3", "apgd-ce-1"], [0.2] * 3, {"short_attacks": "red"}),
    (["oblivious", "eot-ce", "square"], [0.2, 0.26, 0.3], {"knowledge_does_not_help": "red"}),
    (["oblivious", "eot-ce", "square"], [0.2, 0.4, 0.24], {}),
    (["oblivious", "transfer"], [0.2, 0.3], {"nobody_knows_the_defense": "amber"}),
  ],
)
def test_weak_attacks_are_told(words, accuracies, expected):
  attacks = [parse_attack(word) for word in words]
  plan = Plan(epsilon=8 / 255)
  found = doubts(attacks, plan, dict(zip(words, accuracies, strict=True)), is_defended=True)
  assert names(found) == expected
  bare = doubts(attacks, plan, dict(zip(words, accuracies, strict=True)), is_defended=False)
  assert names(bare) == {k: v for k, v in expected.items() if k == "short_attacks"}


def test_an_audit_of_short_attacks_says_so():
  found = run(attacks=("oblivious", "eot-ce-2"), policies={"mi-ol": MI_OL})
  (flag,) = [flag for flag in found.flags if "short_attacks" in flag.name]
  assert flag.name == "audit/mi-ol/short_attacks"
  assert "Defense mi-ol: eot-ce-2: steps x step size is at most 0.06" in flag.message
