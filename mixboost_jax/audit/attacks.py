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
from mixboost_jax.audit.plan import OWN, TRANSFERS, Attack, Plan

_ALL_TARGETS = 9
"""Of APGD-T in AutoAttack; at most K - 1 are used."""
_CELLS = 16
"""Per side, whose interaction is reduced; fewer on smaller images."""
Predictor = Callable[[Any, Any], Any]
"""`(keys, images) -> probabilities`."""


class Target(NamedTuple):
  """What is attacked."""

  logits_fn: LogitsFn
  """The undefended network."""
  surrogate_fn: LogitsFn
  """The network that `transfer` attacks in its place."""
  policy: Mapping[str, Any]
  """Name and keywords of the defense; "none" for the bare network, "own" for the caller's own."""
  pool: defenses.Pool | None
  """Where mixup inference draws its partners, None if no defense needs it."""


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


class Task(NamedTuple):
  """One attack on one batch."""

  key: PRNGKeys
  target: Target
  attack: Attack
  plan: Plan
  images: Images
  labels: Labels

  def options(self) -> dict[str, Any]:
    """Returns what PGD may spend."""
    plan, attack = self.plan, self.attack
    num_steps, step_size = plan.steps(attack)
    return {
      "epsilon": plan.epsilon,
      "norm": plan.norm,
      "step_size": step_size,
      "num_steps": num_steps,
      "targeted": attack.targeted,
    }

  def predicted(self) -> Labels:
    """Returns the labels that the undefended network gives to the images."""
    return attacks.predicted_labels(self.target.logits_fn, self.images)

  def pool(self) -> defenses.Pool:
    """Returns where the defense draws its partners."""
    if self.target.pool is None:
      raise ValueError("audit: mixup inference needs a pool; pass pool=defenses.build_pool(...).")
    return self.target.pool

  def mixing(self) -> tuple[str, float]:
    """Returns mode and weight: the part of MI-Combined to be fooled by mixing is MI-OL."""
    policy = self.target.policy
    weight = policy.get("mix_weight", 0.5)
    mode = "ol" if policy["mode"] == "combined" else policy["mode"]
    return mode, sum(weight) / 2 if isinstance(weight, tuple) else weight


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
  run = _CRAFT[attack.kind.partition("-")[0]]
  return run(Task(key, target, attack, plan, images, labels))


def _oblivious(task: Task) -> Images:
  wanted = task.labels if task.attack.targeted else task.predicted()
  return attacks.pgd(task.key, task.target.logits_fn, task.images, wanted, **task.options())


def _transfer(task: Task) -> Images:
  plain = {"momentum": 1.0, "diversity_prob": 0.5}
  name = TRANSFERS.get(task.attack.kind)
  options = {**(attacks.TRANSFER_PRESETS[name] if name else plain), **task.options()}
  if "interaction_weight" in options:
    options["interaction_grid"] = min(_CELLS, *task.images.shape[1:3])
  return attacks.transfer(task.key, task.target.surrogate_fn, task.images, task.labels, **options)


def _adaptive(task: Task) -> Images:
  key, target, _, plan, images, labels = task
  name, options = target.policy["name"], task.options()
  if name == "mixup_inference":
    mode, weight = task.mixing()
    partners = defenses.partner_sampler(task.pool(), task.predicted(), mode=mode)
    options |= {"mix_weight": weight, "num_samples": plan.samples}
    return attacks.adaptive_mixup(key, target.logits_fn, partners, images, labels, **options)
  if name == "none":
    return attacks.pgd(key, target.logits_fn, images, labels, **options)
  mean = attacks.from_probabilities(
    target.policy["predict"] if name == OWN else defended(target, num_draws=1, has_gradient=True)
  )
  if attacks.is_random(mean):
    mean = attacks.expectation(mean, plan.samples, average="logits")
  # The mean of log-probabilities is the mean loss of the draws; it is not normalised again.
  loss = lambda log_probabilities, y: -pick(log_probabilities, y)  # noqa: E731
  return attacks.pgd(key, mean, images, labels, loss=loss, **options)


def _published(task: Task) -> Images:
  key, target, _, plan, images, labels = task
  key, key_pool = keys.split_each(key, 2)
  mode, weight = task.mixing()
  partners = defenses.draw_partners(
    key_pool, task.pool(), task.predicted(), mode=mode, num_draws=plan.samples
  )
  options = {**task.options(), "mix_weight": weight}
  del options["targeted"], options["norm"]
  return attacks.averaged_perturbation(key, target.logits_fn, images, partners, labels, **options)


def _end_to_end(task: Task) -> Images:
  key, target, attack, plan, images, labels = task
  options = task.options() | {
    "loss": attack.kind.removeprefix("eot-"),
    "restarts": plan.restarts,
  }
  predictor = attackable(target, samples=plan.samples)
  return attacks.pgd(key, predictor, images, labels, **options)


def _auto(task: Task) -> Images:
  """Spends about as much on a network without draws as on a defense with them."""
  key, target, attack, plan, images, labels = task
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


def _square(task: Task) -> Images:
  key, target, attack, plan, images, labels = task
  predictor = attacks.from_probabilities(defended(target))
  options = {"norm": plan.norm, "num_queries": attack.steps or plan.num_queries}
  return attacks.square(key, predictor, images, labels, epsilon=plan.epsilon, **options)


_CRAFT: dict[str, Callable[[Task], Images]] = {
  "oblivious": _oblivious,
  "transfer": _transfer,
  "adaptive": _adaptive,
  "published": _published,
  "eot": _end_to_end,
  "apgd": _auto,
  "square": _square,
}
