# SPDX-License-Identifier: Apache-2.0
"""Attacks defenses with everything that may break them and claims the lowest accuracy.

```python
pool = defenses.build_pool(train_images, train_labels, num_classes=10)
results = evaluate.audit(
  logits_fn, (images, labels), {"mi-ol": defenses.PRESETS["cifar10/mixup"]["mi-ol"]}, pool=pool
)
```

How a random defense is scored. Every image that an attack returns is classified by `redraws`
independent draws of the whole defense, with keys that no attack has seen; the accuracy is the mean
over images and draws. The worst case takes, for each image, the attack that fooled most of these
draws, and scores its image with further draws, so that choosing does not bias it. The claim is the
lowest of all these accuracies.

Before a defense is attacked its gradient is checked (`sanity.py`). Where it is masked the flags are
part of the results, and every attack that follows it runs a second time through BPDA.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from mixboost_jax import defenses
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.evaluate import examples as examples_lib
from mixboost_jax.evaluate import sanity
from mixboost_jax.evaluate.audit_outcomes import (
  PREFIX,
  WORST,
  Outcome,
  metrics_of,
  numbers_of,
  redraws_of,
)
from mixboost_jax.evaluate.audit_plan import (
  Attack,
  OwnDefense,
  Plan,
  applies,
  parse_attack,
  policy_from,
  with_twins,
)
from mixboost_jax.evaluate.audit_runner import Runner
from mixboost_jax.evaluate.clock import Clock
from mixboost_jax.evaluate.examples import Examples
from mixboost_jax.evaluate.store import Store
from mixboost_jax.runtime import mesh as mesh_lib
from mixboost_jax.runtime.progress import Progress
from mixboost_jax.runtime.results import Flag, Results

DEFAULT_ATTACKS = ("oblivious", "adaptive", "published", "eot-ce", "eot-margin", "eot-dlr")
DEFAULT_ATTACKS += ("apgd-ce", "apgd-t", "transfer", "square")


def audit(
  logits_fn: LogitsFn,
  dataset: Any,
  policies: Mapping[str, Mapping[str, Any] | Callable[..., Any] | OwnDefense],
  *,
  pool: defenses.Pool | None = None,
  attacks: Sequence[str] = DEFAULT_ATTACKS,
  plan: Plan = Plan(),  # noqa: B008 (immutable)
  surrogate_fn: LogitsFn | None = None,
  split: str = "test",
  batch_size: int = 64,
  seed: int = 0,
  confidence: float = 0.95,
  mesh: Mesh | None = None,
  name: str = "model",
  folder: str | os.PathLike | None = None,
) -> Results:
  """Attacks every defense in every way and reports all accuracies; the claim is the lowest.

  Args:
    logits_fn: the undefended network, `images -> logits`, in evaluation mode.
    dataset: as for `evaluate`; every image of the split is attacked.
    policies: what to call a defense -> its policy (an entry of `defenses.PRESETS`, or
      `{"name": "none"}` for the bare network), or a defense of your own: `(keys, images) ->
      probabilities`, or an `OwnDefense`, which says by what its gradient is replaced.
    pool: clean images of the training split, for mixup inference; disjoint from the dataset.
    attacks: words `KIND[-STEPS][-targeted][-bpda]` with a kind of `KINDS`.
    plan: what the attacks may spend, and how often the defense is drawn anew to score an image.
    surrogate_fn: the network that `transfer` attacks; the undefended one if None.
    split: part of a `Dataset`.
    batch_size: images per compiled call, over all devices; rounded up to a multiple of their
      number. It bounds the memory and changes no result.
    seed: root of all draws. An image's draws depend on the seed and its id alone.
    confidence: level of the intervals, in (0, 1).
    mesh: images are split over all its devices; all devices if None.
    name: what results and reports call the model.
    folder: where finished attacks are kept, so that a stopped audit goes on; None keeps nothing.

  Returns:
    Metrics `audit/DEFENSE/ATTACK` in % with intervals, beside each defense `clean`, `worst-case`
    and `claim`; curves `audit/redraws/...` with the accuracy of every single draw of the defense;
    flags `audit/DEFENSE/...`, a red one of which means that the claim is not to be trusted.

  Raises:
    ValueError: if a word, an option, or what the network returns is not as said here.
  """
  chosen = [parse_attack(word) for word in attacks]
  if batch_size < 1 or not policies or not chosen or not 0 < confidence < 1:
    raise ValueError(
      "audit: expected batch_size >= 1, at least one defense and attack, and confidence in (0, 1); "
      f"got {batch_size}, {len(policies)}, {len(chosen)}, {confidence}."
    )
  clock = Clock("audit")
  pictures = (
    dataset if isinstance(dataset, Examples) else examples_lib.from_dataset(dataset, split=split)
  )
  runner = Runner(
    logits_fn,
    pictures,
    pool=pool,
    plan=plan,
    surrogate_fn=surrogate_fn,
    batch_size=batch_size,
    seed=seed,
    mesh=mesh_lib.create() if mesh is None else mesh,
    store=Store(folder),
  )
  known = {label: policy_from(defense) for label, defense in policies.items()}
  plan_row = {**dataclasses.asdict(plan), "is_l2": plan.norm == "l2"}
  found, curves = [], {f"{PREFIX}/plan": [{"step": 0, **numbers_of(plan_row)}]}
  flags: list[Flag] = []
  for label, outcomes, raised in _all_outcomes(runner, known, chosen, name=name):
    flags += raised
    found += metrics_of(label, outcomes, pictures, confidence=confidence)
    curves[f"{PREFIX}/policy/{label}"] = [{"step": 0, **numbers_of(known[label])}]
    for word, outcome in outcomes.items():
      curves[f"{PREFIX}/redraws/{label}/{word}"] = redraws_of(outcome)
  return clock.results(name, found, curves, flags=flags)


def _all_outcomes(
  runner: Runner,
  policies: Mapping[str, Mapping[str, Any]],
  chosen: Sequence[Attack],
  *,
  name: str,
) -> Iterator[tuple[str, dict[str, Outcome], list[Flag]]]:
  """Yields every defense, what each attack and the worst of them did to it, and its flags."""
  raised = {label: _flags(runner, label, policy) for label, policy in policies.items()}
  attacks = {
    label: _attacks(runner, policy, chosen, raised[label]) for label, policy in policies.items()
  }
  steps, done = sum(1 + len(words) for words in attacks.values()), 0
  with Progress(f"audit {name}", steps, unit="attacks") as bar:
    for label, policy in policies.items():
      outcomes: dict[str, Outcome] = {}
      for word, outcome in runner.attack_all(policy, attacks[label]):
        outcomes[word] = outcome
        done += 1
        bar.update(done, units=1, metrics={f"{label} {word} %": 100 * outcome.accuracy}, force=True)
      outcomes[WORST] = runner.worst_case(policy, outcomes)
      yield label, outcomes, raised[label]


def _flags(runner: Runner, label: str, policy: Mapping[str, Any]) -> list[Flag]:
  """Returns what is wrong with the gradient of a defense, under the name of the defense."""
  return [
    dataclasses.replace(
      flag, name=f"{PREFIX}/{label}/{flag.name}", message=f"Defense {label}: {flag.message}"
    )
    for flag in runner.flags(policy)
  ]


def _attacks(
  runner: Runner, policy: Mapping[str, Any], chosen: Sequence[Attack], raised: Sequence[Flag]
) -> list[Attack]:
  """Returns the attacks that make sense, and those through BPDA where the gradient is masked."""
  sensible = [attack for attack in chosen if applies(attack, policy, norm=runner.plan.norm)]
  masked = any(flag.name.rpartition("/")[2] in sanity.MASKED for flag in raised)
  if not masked or not runner.hides_rounding(policy):
    return sensible
  return with_twins(sensible)
