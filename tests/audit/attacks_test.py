# SPDX-License-Identifier: Apache-2.0
"""The attacks of an audit: what they look at, and that they stay in the ball; their words."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_audit import MI_OL, PLAN, make

from mixboost_jax import attacks, defenses, evaluate, rewrite
from mixboost_jax.audit import attacks as audit_attacks
from mixboost_jax.audit import plan as plan_lib
from mixboost_jax.audit import run as run_lib
from mixboost_jax.audit.plan import (
  ATTACKS,
  SHARED,
  OwnDefense,
  Plan,
  applies,
  attacks_problem,
  defenses_problem,
  figures_problem,
  parse_attack,
  policy_from,
  policy_of,
  with_twins,
)
from mixboost_jax.audit.run import DEFAULT_ATTACKS, Runner, audit
from mixboost_jax.evaluate import _sanity
from mixboost_jax.evaluate._store import Store
from mixboost_jax.report import audits as defenses_report
from mixboost_jax.report import groups
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.runtime.results import Flag


def with_a_branch(logits_fn):
  """The same network, all of which counts as a residual branch: skip gradients want one."""
  return lambda images: rewrite.mark_residual(logits_fn(images))


@pytest.mark.parametrize("word", sorted(ATTACKS))
def test_every_kind_of_attack_stays_in_the_ball(word, key):
  logits_fn, pool, images, labels = make()
  logits_fn = with_a_branch(logits_fn)
  policy = {**MI_OL, "mode": "combined"} if word == "eot-dlr" else MI_OL
  target = audit_attacks.Target(logits_fn, logits_fn, policy, pool)
  plan = Plan(epsilon=0.1, num_steps=2, eot_steps=2, samples=2, num_queries=3, num_targets=1)
  attack = parse_attack(word)
  keys = jax.random.split(key, 10)
  craft = jax.jit(functools.partial(audit_attacks.craft, target=target, attack=attack, plan=plan))
  found = craft(keys, images=jnp.asarray(images), labels=jnp.asarray(labels))
  assert 0.01 < float(jnp.abs(found - images).max()) <= 0.1 + 1e-6
  assert float(found.min()) >= 0
  assert float(found.max()) <= 1


@pytest.mark.parametrize("word", sorted(ATTACKS))
def test_what_each_kind_of_attack_looks_at(word, key):
  """Traced only: which networks are called, and whether the pool of the defense is needed."""
  logits_fn, pool, images, labels = make()
  logits_fn = with_a_branch(logits_fn)
  called = set()

  def network(name):
    def run(x):
      called.add(name)
      return logits_fn(x)

    return run

  def craft(pool):
    target = audit_attacks.Target(network("own"), network("surrogate"), MI_OL, pool)
    attack = parse_attack(word)
    args = jax.random.split(key, 10), jnp.asarray(images), jnp.asarray(labels)
    return jax.eval_shape(lambda k, x, y: audit_attacks.craft(k, target, attack, PLAN, x, y), *args)

  if word in SHARED:
    assert craft(None).shape == images.shape
  else:
    with pytest.raises(ValueError, match="pool"):
      craft(None)
    craft(pool)
  assert called == {"surrogate" if word.startswith("transfer") else "own"}


@pytest.mark.parametrize("mode", ["pl", "ol", "combined"])
def test_the_adaptive_attack_is_that_of_eq_24(mode, monkeypatch, key):
  seen = {}

  def sampler(pool, predicted, *, mode):
    seen.update(mode=mode, predicted=predicted)
    return "partners"

  def attack(key, logits_fn, partners, images, labels, **options):
    seen.update(partners=partners, **options)
    return images

  monkeypatch.setattr(defenses, "partner_sampler", sampler)
  monkeypatch.setattr(audit_attacks.attacks, "adaptive_mixup", attack)
  logits_fn, pool, images, labels = make()
  target = audit_attacks.Target(logits_fn, logits_fn, {**MI_OL, "mode": mode}, pool)
  word = parse_attack("adaptive-7")
  audit_attacks.craft(
    jax.random.split(key, 10), target, word, PLAN, jnp.asarray(images), jnp.asarray(labels)
  )
  np.testing.assert_array_equal(seen.pop("predicted"), logits_fn(images).argmax(-1))
  assert seen == {
    "mode": "pl" if mode == "pl" else "ol", "partners": "partners", "mix_weight": 0.6,
    "num_samples": 3, "epsilon": 0.1, "norm": "linf", "step_size": 0.03,
    "num_steps": 7, "targeted": False,
  }  # fmt: skip


LEVELS = 15


def rounded(images):
  return jnp.round(images * LEVELS) / LEVELS


@pytest.fixture(scope="module")
def behind_rounding():
  """A network behind rounding to 16 levels, and pictures that it gets right."""
  smooth, _, _, _ = make()
  images = np.random.default_rng(5).uniform(size=(24, 4, 4, 2)).astype(np.float32)
  labels = np.asarray(smooth(rounded(images)).argmax(-1))
  return smooth, images, labels


@pytest.fixture(scope="module")
def mesh():
  return meshes.create(devices=jax.devices()[:1])


ROUNDED_PLAN = dataclasses.replace(PLAN, num_steps=10)


@pytest.fixture(scope="module")
def masked(behind_rounding, mesh):
  """The audit of that network, with no other knowledge of it."""
  smooth, images, labels = behind_rounding
  patch = pytest.MonkeyPatch()
  patch.setattr(_sanity, "NUM_QUERIES", 60)
  found = audit(
    lambda x: smooth(rounded(x)), (images, labels), {"bare": {"name": "none"}},
    attacks=("adaptive",), plan=ROUNDED_PLAN, mesh=mesh,
  )  # fmt: skip
  patch.undo()
  return found


def under_bpda(behind_rounding, key):
  """Accuracy in % under PGD that knows the rounding."""
  smooth, images, labels = behind_rounding
  known = lambda x: smooth(attacks.bpda(rounded)(x))  # noqa: E731
  found = attacks.pgd(
    key, known, jnp.asarray(images), jnp.asarray(labels),
    epsilon=PLAN.epsilon, step_size=PLAN.step_size, num_steps=10,
  )  # fmt: skip
  return 100 * float((smooth(rounded(found)).argmax(-1) == labels).mean())


def test_a_masked_gradient_is_flagged_and_the_claim_is_no_higher_than_under_bpda(
  masked, behind_rounding, key
):
  values = {metric.name: metric.value for metric in masked.metrics}
  names = {flag.name: flag.level for flag in masked.flags}
  assert names["audit/bare/zero_gradients"] == "red"
  assert all("Defense bare: " in flag.message for flag in masked.flags)
  assert {flag.remedy for flag in masked.flags if flag.name == "audit/bare/zero_gradients"} == {
    "Attacks marked -bpda have replaced the gradient; the claim includes them."
  }
  assert values["audit/bare/adaptive"] > 70  # what the audit would claim without a look
  one = 100 / 24  # picture: the two attacks start elsewhere
  assert values["audit/bare/claim"] <= under_bpda(behind_rounding, key) + one < 20


@pytest.mark.parametrize("left", [0.0, 0.5])
def test_a_flag_that_bpda_answers_is_said_again(left, capfd):
  def outcome(accuracy):
    return run_lib.Outcome(np.zeros((2, 1, 1, 3), np.float32), np.array([[accuracy > 0, False]]))

  flag = Flag("audit/mine/zero_gradients", "red", "No gradient.", "Use attacks.bpda.")
  (found,) = run_lib._answered([flag], {"eot-ce": outcome(0.5), "eot-ce-bpda": outcome(left)})
  assert found.remedy == (flag.remedy if left else run_lib.REPLACED)
  assert ("No gradient. Attacks marked -bpda" in capfd.readouterr().err) == (not left)


def test_the_report_marks_a_claim_under_a_masked_gradient(masked):
  found = defenses_report.table(groups.group(groups.load([masked])))
  (row,) = [row for row in found.rows if len(row) > 1]
  marks = ["gradient masked; attacks through BPDA got around it" in cell.note for cell in row]
  assert marks == [title == "Claim" for title in found.header]
  metrics = tuple(metric for metric in masked.metrics if not metric.name.endswith("-bpda"))
  blind = dataclasses.replace(masked, metrics=metrics)
  found = defenses_report.table(groups.group(groups.load([blind])))
  (row,) = [row for row in found.rows if len(row) > 1]
  assert "not to be trusted: gradient masked" in row[-1].note


def craft_own(behind_rounding, own, key, word):
  smooth, images, labels = behind_rounding
  target = audit_attacks.Target(smooth, smooth, policy_from(own), None)
  attack = parse_attack(word)
  run = jax.jit(functools.partial(
    audit_attacks.craft, target=target, attack=attack, plan=ROUNDED_PLAN
  ))  # fmt: skip
  found = run(jax.random.split(key, 24), images=jnp.asarray(images), labels=jnp.asarray(labels))
  return float((smooth(rounded(found)).argmax(-1) == labels).mean())


@pytest.mark.parametrize("kind", ["hidden", "surrogate", "random"])
def test_a_defense_of_ones_own_is_attacked_through_what_hides_its_gradient(
  kind, behind_rounding, key
):
  smooth, _, _ = behind_rounding

  def predict(x):
    if kind == "surrogate":  # nothing can be seen of it
      seen = jax.ShapeDtypeStruct(x.shape, x.dtype)
      return jax.nn.softmax(smooth(jax.lax.stop_gradient(jax.pure_callback(
        lambda x: np.asarray(np.round(np.asarray(x) * LEVELS) / LEVELS, np.float32), seen,
        jax.lax.stop_gradient(x), vmap_method="expand_dims",
      ))))  # fmt: skip
    return jax.nn.softmax(smooth(rounded(x)))

  def noisy(keys, x):
    noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
    return predict(x + 1e-3 * noise)

  own = {
    "hidden": predict,
    "surrogate": OwnDefense(predict, lambda x: jax.nn.softmax(smooth(x))),
    "random": noisy,
  }[kind]
  blind = craft_own(behind_rounding, own, key, "eot-ce-10")
  assert craft_own(behind_rounding, own, key, "eot-ce-10-bpda") < 0.2 < 0.7 < blind


def test_a_defense_of_ones_own_must_return_probabilities(behind_rounding, mesh, monkeypatch):
  smooth, images, labels = behind_rounding
  monkeypatch.setattr(evaluate, "sanity_flags", lambda *_, **__: [])
  with pytest.raises(ValueError, match="must return probabilities"):
    audit(smooth, (images, labels), {"own": smooth}, attacks=("oblivious-1",), mesh=mesh)


def test_functions_of_ones_own_are_told_apart_by_what_they_compute(behind_rounding, tmp_path):
  smooth, images, labels = behind_rounding
  runner = Runner(
    smooth, evaluate.from_dataset((images, labels), split="test"), pool=None, plan=PLAN,
    surrogate_fn=None, batch_size=4, seed=0, mesh=meshes.create(devices=jax.devices()[:1]),
    store=Store(tmp_path),
  )  # fmt: skip

  def scaled(scale):
    return policy_from(lambda x: jax.nn.softmax(scale * smooth(x)))

  names = [runner._piece(scaled(scale), "eot-ce", None) for scale in (1.0, 1.0, 2.0)]
  assert names[0] == names[1] != names[2]


def test_the_claim_for_the_bare_network_is_no_higher_than_under_apgd(behind_rounding, mesh, key):
  smooth, images, labels = behind_rounding
  # Beyond what PGD of few steps finds; the default plan has both attacks.
  plan = dataclasses.replace(PLAN, epsilon=0.04, num_steps=2, apgd_steps=20)
  assert {"apgd-ce", "apgd-t"} <= set(DEFAULT_ATTACKS)
  labels = np.asarray(smooth(images).argmax(-1))
  runner = Runner(
    smooth, evaluate.from_dataset((images, labels), split="test"), pool=None, plan=plan,
    surrogate_fn=None, batch_size=24, seed=0, mesh=mesh, store=Store(None),
  )  # fmt: skip
  words = [parse_attack(word) for word in ("adaptive", "apgd-ce", "apgd-t")]
  outcomes = dict(runner.attack_all({"name": "none"}, words))
  claim = runner.worst_case({"name": "none"}, outcomes).accuracy
  broken = np.zeros(24, bool)
  for loss in ("ce", "dlr-targeted"):
    attack = functools.partial(attacks.apgd, logits_fn=smooth, loss=loss, num_steps=20)
    found = jax.jit(lambda key, x, y, attack=attack: attack(key, images=x, labels=y, epsilon=0.04))(
      key, jnp.asarray(images), jnp.asarray(labels)
    )
    broken |= np.asarray(smooth(found).argmax(-1)) != labels
  assert claim <= 1 - broken.mean() < outcomes["adaptive"].accuracy


def test_l2_audits_stay_in_the_l2_ball(key):
  logits_fn, pool, images, labels = make()
  plan = Plan(
    epsilon=0.3, norm="l2", step_size=0.1, num_steps=2, eot_step_size=0.1, eot_steps=2, samples=2,
    num_queries=3, num_targets=1,
  )  # fmt: skip
  target = audit_attacks.Target(logits_fn, logits_fn, MI_OL, pool)
  for word in ("adaptive", "apgd-ce", "square"):
    attack = parse_attack(word)
    craft = jax.jit(functools.partial(audit_attacks.craft, target=target, attack=attack, plan=plan))
    keys = jax.random.split(key, 10)
    found = craft(keys, images=jnp.asarray(images), labels=jnp.asarray(labels))
    delta = np.asarray(found - images).reshape(10, -1)
    lengths = np.linalg.norm(delta, axis=1)
    assert 0.05 < lengths.max() <= 0.3 + 1e-5
    assert np.abs(delta).max() > 0.3 / 32**0.5 + 0.01  # no Linf ball of that length
  published = parse_attack("published")
  assert applies(published, MI_OL, norm="linf")
  assert not applies(published, MI_OL, norm="l2")
  with pytest.raises(ValueError, match="norm must be one of linf, l2"):
    Plan(norm="l1")


def test_words():
  attack = parse_attack("eot-ce-100-targeted")
  assert (attack.kind, attack.steps, attack.targeted) == ("eot-ce", 100, True)
  assert parse_attack("oblivious").steps is None
  presets = defenses.PRESETS
  assert policy_of("mi-ol", preset="cifar10/at") == presets["cifar10/at"]["mi-ol"]
  assert policy_of("cifar10/iat:rotation", preset="cifar10/at")["max_degrees"] == 30
  assert policy_of("none", preset="cifar10/at") == {"name": "none"}
  assert attacks_problem("oblivious-10,eot-ce") is None
  assert "Did you mean 'oblivious'" in str(attacks_problem("oblivous-10"))
  assert plan_lib.words("eot-ce, square,") == ("eot-ce", "square")
  assert "mi-ol" in str(defenses_problem("mi-lo"))
  assert defenses_problem("none,cifar10/iat:rotation") is None
  assert "unknown name 'fig2'" in str(figures_problem("fig2"))
  chosen = [parse_attack(word) for word in ("eot-ce-7", "square", "apgd-t-bpda")]
  assert [one.word for one in with_twins(chosen)] == [
    "eot-ce-7", "square", "apgd-t-bpda", "eot-ce-7-bpda",
  ]  # fmt: skip
  with pytest.raises(ValueError, match="-bpda is not for transfer"):
    parse_attack("square-bpda")
  with pytest.raises(ValueError, match="-targeted only with"):
    parse_attack("square-targeted")
  with pytest.raises(ValueError, match="redraws must be >= 1"):
    Plan(redraws=0)
