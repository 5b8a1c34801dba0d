# SPDX-License-Identifier: Apache-2.0
"""The attacks of an audit: what they look at, and that they stay in the ball; their words."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_audit import MI_OL, PLAN, make

from mixboost_jax import defenses, evaluate
from mixboost_jax.evaluate import audit_attacks, audit_plan

pytestmark = pytest.mark.usefixtures("quick_compilation")


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
  word = audit_plan.parse_attack("adaptive-7")
  audit_attacks.craft(
    jax.random.split(key, 10), target, word, PLAN, jnp.asarray(images), jnp.asarray(labels)
  )
  np.testing.assert_array_equal(seen.pop("predicted"), logits_fn(images).argmax(-1))
  assert seen == {
    "mode": "pl" if mode == "pl" else "ol", "partners": "partners", "mix_weight": 0.6,
    "num_samples": 3, "epsilon": 0.1, "step_size": 0.03, "num_steps": 7, "targeted": False,
  }  # fmt: skip


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
