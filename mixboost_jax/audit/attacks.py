# SPDX-License-Identifier: Apache-2.0
"""The attacks of an audit, all of one signature, and the predictor that each one sees.

Where a gradient is missing or misleads, it is replaced (BPDA, Athalye et al. 2018):

- rotation, crops and resizing move or mix pixels linearly, so their own gradient is right; the
  rounding to 8 bits in front of them passes it straight through;
- MI-Combined switches between two predictions by a threshold, which has no gradient: the attack
  goes through the mean of both branches, so it must fool whichever is chosen;
- with `-bpda`, rounding in the network or in front of it counts as the identity, and a defense of
  the caller's own has the gradient of its surrogate;
- the label that MI-PL and MI-OL refer to is that of the current iterate, recomputed at every step.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from mixboost_jax import attacks, defenses, keys, rewrite
from mixboost_jax.array_types import Images, Labels, LogitsFn, PRNGKeys
from mixboost_jax.attacks import pick
from mixboost_jax.audit.plan import OWN, Attack, Plan

_ALL_TARGETS = 9
"""Of APGD-T in AutoAttack; at most K - 1 are used."""
Predictor = Callable[[Any, Any], Any]
"""`(keys, images) -> probabilities`."""


class Target(NamedTuple):
  """What is attacked.

  Attributes:
    logits_fn: the undefended network.
    surrogate_fn: the network that `transfer` attacks in its place.
    policy: name and keywords of the defense; "none" for the bare network, "own" for one that the
      caller brings along.
    pool: where mixup inference draws its partners, None if no defense needs it.
  """

  logits_fn: LogitsFn
  surrogate_fn: LogitsFn
  policy: Mapping[str, Any]
  pool: defenses.Pool | None


def defended(target: Target, **changes: Any) -> Predictor:
  """Returns the defended prediction, some keywords of its policy changed."""
  if target.policy["name"] == "none":
    return lambda key, images: jax.nn.softmax(target.logits_fn(images))
  if target.policy["name"] == OWN:
    return attacks.keyed(target.policy["predict"])
  return defenses.build({**target.policy, **changes}, target.logits_fn, pool=target.pool)


def attackable(target: Target, *, samples: int) -> Callable:
  """Returns the log-probabilities that end-to-end attacks follow, with `samples` draws each."""
  name, mode = target.policy["name"], target.policy.get("mode")
  if name == "none":
    return lambda images: jax.nn.log_softmax(target.logits_fn(images))
  if name == OWN:
    single = attacks.from_probabilities(target.policy["predict"])
    return attacks.expectation(single, samples) if attacks.is_random(single) else single
  if mode != "combined":
    return attacks.from_probabilities(defended(target, num_draws=samples, has_gradient=True))
  other = defended(target, mode="ol", num_draws=samples, has_gradient=True)
  if target.policy.get("fallback", "original") == "pl":
    weight = target.policy.get("mix_weight_pl", 0.5)
    same = defended(target, mode="pl", mix_weight=weight, num_draws=samples, has_gradient=True)
  else:
    same = lambda key, images: jax.nn.softmax(target.logits_fn(images))  # noqa: E731

  def both(key: PRNGKeys, images: Images) -> Any:
    key_other, key_same = keys.split_each(key, 2)
    return 0.5 * (other(key_other, images) + same(key_same, images))

  return attacks.from_probabilities(both)


def through_bpda(target: Target) -> Target:
  """Returns a target of the same values whose gradient passes what hides it."""
  logits_fn = rewrite.straight_through(target.logits_fn)
  policy = dict(target.policy)
  if policy["name"] == OWN:
    policy["predict"] = _with_gradient_of(policy["predict"], policy["surrogate"])
  return target._replace(logits_fn=logits_fn, policy=policy)


def hides_rounding(target: Target, key: PRNGKeys, images: Images) -> bool:
  """Returns whether `through_bpda` knows a way around something."""
  policy = target.policy
  if policy["name"] != OWN:
    return rewrite.rounds(target.logits_fn, images)
  return policy["surrogate"] is not None or rewrite.rounds(
    attacks.keyed(policy["predict"]), key, images
  )


def _with_gradient_of(predict: Callable, surrogate: Callable | None) -> Callable:
  """Returns a predictor with the values of one and the gradient of another."""
  values = attacks.keyed(predict)

  def both(key: Any, images: Images) -> Any:
    if surrogate is None:
      return rewrite.straight_through(lambda x: values(key, x))(images)
    slopes = attacks.keyed(surrogate)
    return attacks.bpda(lambda x: values(key, x), surrogate=lambda x: slopes(key, x))(images)

  if attacks.is_random(predict):
    return attacks.Randomized(both)
  return lambda images: both(None, images)


def craft(
  key: PRNGKeys, target: Target, attack: Attack, plan: Plan, images: Images, labels: Labels
) -> Images:
  """Runs one attack and returns its images, inside the ball and inside [0, 1]."""
  if attack.bpda:
    target = through_bpda(target)
  if attack.targeted:
    key, key_target = keys.split_each(key, 2)
    num_classes = jax.eval_shape(target.logits_fn, images).shape[-1]
    labels = attacks.random_targets(key_target, labels, num_classes=num_classes)
  family = attack.kind.partition("-")[0]
  return _CRAFT[family](key, target, attack, plan, images, labels)


def _oblivious(
  key: PRNGKeys, target: Target, attack: Attack, plan: Plan, images: Images, labels: Labels
) -> Images:
  wanted = labels if attack.targeted else attacks.predicted_labels(target.logits_fn, images)
  return attacks.pgd(key, target.logits_fn, images, wanted, **_budget(attack, plan))


def _transfer(
  key: PRNGKeys, target: Target, attack: Attack, plan: Plan, images: Images, labels: Labels
) -> Images:
  budget = _budget(attack, plan)
  return attacks.transfer(
    key, target.surrogate_fn, images, labels, momentum=1.0, diversity_prob=0.5, **budget
  )


def _adaptive(
  key: PRNGKeys, target: Target, attack: Attack, plan: Plan, images: Images, labels: Labels
) -> Images:
  policy, budget = target.policy, _budget(attack, plan)
  if policy["name"] == "mixup_inference":
    mode = _mode(policy)
    partners = defenses.partner_sampler(
      _pool(target), attacks.predicted_labels(target.logits_fn, images), mode=mode
    )
    return attacks.adaptive_mixup(
      key,
      target.logits_fn,
      partners,
      images,
      labels,
      mix_weight=_weight(policy),
      num_samples=plan.samples,
      **budget,
    )
  if policy["name"] == "none":
    return attacks.pgd(key, target.logits_fn, images, labels, **budget)
  if policy["name"] == OWN:
    one_draw = attacks.from_probabilities(policy["predict"])
  else:
    one_draw = attacks.from_probabilities(defended(target, num_draws=1, has_gradient=True))
  mean = one_draw
  if attacks.is_random(one_draw):
    mean = attacks.expectation(one_draw, plan.samples, average="logits")
  # The mean of log-probabilities is the mean loss of the draws; it is not normalised again.
  loss = lambda log_probabilities, y: -pick(log_probabilities, y)  # noqa: E731
  return attacks.pgd(key, mean, images, labels, loss=loss, **budget)


def _published(
  key: PRNGKeys, target: Target, attack: Attack, plan: Plan, images: Images, labels: Labels
) -> Images:
  key, key_pool = keys.split_each(key, 2)
  predicted = attacks.predicted_labels(target.logits_fn, images)
  partners = defenses.draw_partners(
    key_pool, _pool(target), predicted, mode=_mode(target.policy), num_draws=plan.samples
  )
  budget, weight = _budget(attack, plan), _weight(target.policy)
  del budget["targeted"], budget["norm"]
  return attacks.averaged_perturbation(
    key, target.logits_fn, images, partners, labels, mix_weight=weight, **budget
  )


def _end_to_end(
  key: PRNGKeys, target: Target, attack: Attack, plan: Plan, images: Images, labels: Labels
) -> Images:
  return attacks.pgd(
    key,
    attackable(target, samples=plan.samples),
    images,
    labels,
    loss=attack.kind.removeprefix("eot-"),
    epsilon=plan.epsilon,
    norm=plan.norm,
    step_size=plan.eot_step_size,
    num_steps=attack.steps or plan.eot_steps,
    targeted=attack.targeted,
    restarts=plan.restarts,
  )


def _auto(
  key: PRNGKeys, target: Target, attack: Attack, plan: Plan, images: Images, labels: Labels
) -> Images:
  """Spends about as much on a network without draws as on a defense with them."""
  predictor = attackable(target, samples=plan.samples)
  is_random = attacks.is_random(predictor)
  return attacks.apgd(
    key,
    predictor,
    images,
    labels,
    epsilon=plan.epsilon,
    norm=plan.norm,
    loss="ce" if attack.kind == "apgd-ce" else "dlr-targeted",
    num_steps=attack.steps or (plan.eot_steps if is_random else plan.apgd_steps),
    restarts=plan.restarts,
    num_targets=plan.num_targets if is_random else _ALL_TARGETS,
  )


def _square(
  key: PRNGKeys, target: Target, attack: Attack, plan: Plan, images: Images, labels: Labels
) -> Images:
  predictor = attacks.from_probabilities(defended(target))
  queries = attack.steps or plan.num_queries
  return attacks.square(
    key, predictor, images, labels, epsilon=plan.epsilon, norm=plan.norm, num_queries=queries
  )


def _budget(attack: Attack, plan: Plan) -> dict[str, Any]:
  return {
    "epsilon": plan.epsilon,
    "norm": plan.norm,
    "step_size": plan.step_size,
    "num_steps": attack.steps or plan.num_steps,
    "targeted": attack.targeted,
  }


def _mode(policy: Mapping[str, Any]) -> str:
  """The part of MI-Combined that has to be fooled by mixing is MI-OL."""
  return "ol" if policy["mode"] == "combined" else policy["mode"]


def _weight(policy: Mapping[str, Any]) -> float:
  weight = policy.get("mix_weight", 0.5)
  return sum(weight) / 2 if isinstance(weight, tuple) else weight


def _pool(target: Target) -> defenses.Pool:
  if target.pool is None:
    raise ValueError("audit: mixup inference needs a pool; pass pool=defenses.build_pool(...).")
  return target.pool


_CRAFT: dict[str, Callable[..., Images]] = {
  "oblivious": _oblivious,
  "transfer": _transfer,
  "adaptive": _adaptive,
  "published": _published,
  "eot": _end_to_end,
  "apgd": _auto,
  "square": _square,
}
