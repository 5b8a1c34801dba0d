# SPDX-License-Identifier: Apache-2.0
"""The defense auditor on a small smooth network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import defenses, evaluate, loops
from mixboost_jax.evaluate import audit_attacks, audit_figures, audit_plan, auditor
from mixboost_jax.evaluate.auditor import CLAIM, CLEAN, WORST, Outcome
from mixboost_jax.runtime import mesh as meshes

PLAN = evaluate.Plan(
  epsilon=0.1, step_size=0.03, num_steps=5, eot_step_size=0.03, eot_steps=5, samples=3, redraws=2
)
MI_OL = {"name": "mixup_inference", "mode": "ol", "mix_weight": 0.6, "num_draws": 3}
POLICIES = {"none": {"name": "none"}, "mi-ol": MI_OL}


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
  """Compiles small programs without polish, and one copy of each loop body."""
  jax.config.update("jax_disable_most_optimizations", True)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loops, "MAX_UNROLL", 1)
    yield
  jax.config.update("jax_disable_most_optimizations", False)


def make():
  rng = np.random.default_rng(3)
  first = jnp.asarray(rng.normal(size=(32, 16)) * 0.7, jnp.float32)
  second = jnp.asarray(rng.normal(size=(16, 4)), jnp.float32)

  def logits_fn(x):
    return jnp.tanh((x.reshape(x.shape[0], -1) - 0.5) @ first) @ second

  pool_images = rng.uniform(size=(80, 4, 4, 2)).astype(np.float32)
  pool_labels = np.asarray(logits_fn(pool_images).argmax(-1))
  images = rng.uniform(size=(10, 4, 4, 2)).astype(np.float32)
  pool = defenses.build_pool(pool_images, pool_labels, num_classes=4)
  return logits_fn, pool, images, np.asarray(logits_fn(images).argmax(-1))


def run(policies=POLICIES, attacks=("oblivious", "published", "eot-ce"), devices=1, **options):
  logits_fn, pool, images, labels = make()
  mesh = meshes.create(devices=jax.devices()[:devices])
  options = {"plan": PLAN, **options}
  return evaluate.audit(
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

  monkeypatch.setattr(audit_attacks, "craft", fail)
  assert values(run(folder=folder)) == values(before)
  with pytest.raises(AssertionError, match="crafted again"):
    run(folder=folder, seed=1)


def test_batches_and_devices_change_nothing(measured):
  other = run({"mi-ol": MI_OL}, devices=2, batch_size=4)
  expected = {name: v for name, v in values(measured[0]).items() if "/mi-ol/" in name}
  assert values(other) == expected


def test_survivors_only_leaves_broken_images_alone(monkeypatch):
  crafted = []

  def remember(self, policy, attack, *, rows):
    crafted.append((attack.word, len(rows)))
    return np.clip(self.images[rows] + PLAN.epsilon, 0, 1)

  monkeypatch.setattr(auditor.Runner, "_crafted", remember)
  outcomes = iter(
    [np.array([[1, 1, 0, 1]] * 2, bool), np.array([[0, 1, 1, 1], [0, 0, 1, 1]], bool)]
  )
  monkeypatch.setattr(auditor.Runner, "_score", lambda *_, **__: next(outcomes))
  logits_fn, pool, images, labels = make()
  runner = auditor.Runner(
    logits_fn, evaluate.from_dataset((images[:4], labels[:4]), split="test"), pool=pool,
    plan=evaluate.Plan(survivors_only=True), surrogate_fn=None, batch_size=4, seed=0,
    mesh=meshes.create(devices=jax.devices()[:1]), store=auditor.Store(None),
  )  # fmt: skip
  found = dict(runner.attack_all(MI_OL, [audit_plan.parse_attack("eot-ce")]))
  assert crafted == [("eot-ce", 3)]  # the third image is wrong in both draws
  np.testing.assert_array_equal(found["eot-ce"].images[2], images[2])
  assert (found["eot-ce"].images[3] != images[3]).any()


def test_worst_case_by_hand():
  images = np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1)
  first = Outcome(images, np.array([[1, 0, 1], [1, 1, 1]], bool))
  second = Outcome(images + 10, np.array([[0, 1, 1], [1, 1, 0]], bool))
  worst = auditor.pick_worst([first, second])
  assert worst.images.ravel().tolist() == [10, 1, 12]
  np.testing.assert_array_equal(worst.correct, [[0, 0, 1], [1, 1, 0]])
  assert worst.accuracy == 0.5
  outcomes = {CLEAN: first, "eot-ce": second, WORST: worst}
  assert auditor.claim_of(outcomes) == WORST
  assert auditor.claim_of({CLEAN: first, "eot-ce": second}) == "eot-ce"


def test_the_worst_case_is_scored_with_draws_that_did_not_choose_it(monkeypatch):
  seen = []
  runner = object.__new__(auditor.Runner)
  runner.plan = PLAN
  outcome = Outcome(np.zeros((1, 1, 1, 1), np.float32), np.ones((2, 1), bool))

  def score(policy, images, *, first):
    seen.append(first)
    return outcome.correct

  monkeypatch.setattr(runner, "_score", score, raising=False)
  runner.worst_case(MI_OL, {CLEAN: outcome})
  assert seen == [PLAN.redraws]


@pytest.mark.parametrize("word", sorted(audit_plan.KINDS))
def test_every_kind_of_attack_stays_in_the_ball(word, key):
  logits_fn, pool, images, labels = make()
  policy = {**MI_OL, "mode": "combined"} if word == "eot-dlr" else MI_OL
  target = audit_attacks.Target(logits_fn, logits_fn, policy, pool)
  plan = evaluate.Plan(epsilon=0.1, num_steps=2, eot_steps=2, samples=2, num_queries=3)
  attack = audit_plan.parse_attack(word)
  keys = jax.random.split(key, 10)
  craft = jax.jit(functools.partial(audit_attacks.craft, target=target, attack=attack, plan=plan))
  found = craft(keys, images=jnp.asarray(images), labels=jnp.asarray(labels))
  assert 0.01 < float(jnp.abs(found - images).max()) <= 0.1 + 1e-6
  assert float(found.min()) >= 0
  assert float(found.max()) <= 1


@pytest.mark.parametrize("word", sorted(audit_plan.KINDS))
def test_what_each_kind_of_attack_looks_at(word, key):
  """Traced only: which networks are called, and whether the pool of the defense is needed."""
  logits_fn, pool, images, labels = make()
  called = set()

  def network(name):
    def run(x):
      called.add(name)
      return logits_fn(x)

    return run

  def craft(pool):
    target = audit_attacks.Target(network("own"), network("surrogate"), MI_OL, pool)
    attack = audit_plan.parse_attack(word)
    args = jax.random.split(key, 10), jnp.asarray(images), jnp.asarray(labels)
    return jax.eval_shape(lambda k, x, y: audit_attacks.craft(k, target, attack, PLAN, x, y), *args)

  if word in audit_plan.SHARED:
    assert craft(None).shape == images.shape
  else:
    with pytest.raises(ValueError, match="pool"):
      craft(None)
    craft(pool)
  assert called == {"surrogate" if word == "transfer" else "own"}


def test_an_attack_outside_the_ball_is_an_error(monkeypatch):
  monkeypatch.setattr(
    audit_attacks, "craft", lambda key, target, attack, plan, images, labels: images + 0.11
  )
  with pytest.raises(RuntimeError, match=r"oblivious left the ball: distance 0\.11 of 0\.1"):
    run({"none": {"name": "none"}}, attacks=("oblivious",))


def test_figures(monkeypatch):
  monkeypatch.setattr(audit_figures, "MIX_WEIGHTS", (0.5, 1.0))
  monkeypatch.setattr(audit_figures, "NUM_SAMPLES", (2,))
  monkeypatch.setattr(audit_figures, "stronger", lambda policy: [(0.6, policy)])
  logits_fn, pool, images, labels = make()
  found = audit_figures.measure(
    logits_fn,
    evaluate.from_dataset((images, labels), split="test"),
    POLICIES,
    pool=pool,
    plan=PLAN,
    figures=tuple(audit_plan.FIGURES),
    batch_size=64,
    seed=0,
    confidence=0.5,
    mesh=meshes.create(devices=jax.devices()[:1]),
  )
  curves = {name.removeprefix("audit/"): points for name, points in found.curves.items()}
  assert set(curves) == {
    *(f"lambda/{mode}/{kind}" for mode in ("pl", "ol") for kind in ("clean", "adversarial")),
    "roc/mi-pl", "roc/confidence", "tradeoff/mi-ol", "samples/mi-ol", "samples/none",
  }  # fmt: skip
  half, whole = curves["lambda/ol/clean"]
  assert (half["ideal"], whole["ideal"]) == (-0.5, 0)  # F_y falls from 1 to lambda
  assert half["true_class"] < whole["true_class"] == pytest.approx(0, abs=1e-6)
  (tradeoff,) = curves["tradeoff/mi-ol"]
  assert tradeoff["adversarial"] < tradeoff["clean"]
  assert curves["samples/none"][0]["accuracy"] <= curves["samples/mi-ol"][0]["accuracy"] < 100
  for metric in found.metrics:
    assert metric.confidence == 0.5
    assert 0 <= metric.low <= metric.value <= metric.high <= 1


def test_strengths_of_the_tradeoff():
  preset = defenses.PRESETS["cifar10/mixup"]
  grids = {name: [s for s, _ in audit_figures.stronger(policy)] for name, policy in preset.items()}
  assert grids["mi-ol"] == grids["mi-combined"] == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
  assert grids["gaussian-noise"] == [0.01, 0.02, 0.03, 0.04]
  assert grids["rotation"] == [20, 40, 60, 80]
  assert grids["crop-pad"] == [8, 12, 16, 24]
  for policy in preset.values():
    for strength, changed in audit_figures.stronger(policy):
      assert strength in changed.values()


def test_words():
  attack = audit_plan.parse_attack("eot-ce-100-targeted")
  assert (attack.kind, attack.steps, attack.targeted) == ("eot-ce", 100, True)
  assert audit_plan.parse_attack("oblivious").steps is None
  presets = defenses.PRESETS
  assert audit_plan.policy_of("mi-ol", preset="cifar10/at") == presets["cifar10/at"]["mi-ol"]
  assert audit_plan.policy_of("cifar10/iat:rotation", preset="cifar10/at")["max_degrees"] == 30
  assert audit_plan.policy_of("none", preset="cifar10/at") == {"name": "none"}
  assert audit_plan.attacks_problem("oblivious-10,eot-ce") is None
  assert "Did you mean 'oblivious'" in str(audit_plan.attacks_problem("oblivous-10"))
  assert audit_plan.words("eot-ce, square,") == ("eot-ce", "square")
  assert "mi-ol" in str(audit_plan.defenses_problem("mi-lo"))
  assert audit_plan.defenses_problem("none,cifar10/iat:rotation") is None
  assert "unknown name 'fig2'" in str(audit_plan.figures_problem("fig2"))
  with pytest.raises(ValueError, match="-targeted only with"):
    audit_plan.parse_attack("square-targeted")
  with pytest.raises(ValueError, match="redraws must be >= 1"):
    evaluate.Plan(redraws=0)
  with pytest.raises(ValueError, match="at least one defense"):
    run({})
  logits_fn, _, images, labels = make()
  with pytest.raises(ValueError, match="needs a pool"):
    evaluate.audit(logits_fn, (images, labels), {"mi-ol": MI_OL}, attacks=("square-1",))
