# SPDX-License-Identifier: Apache-2.0
"""Rules between keys of a config: each names both keys and what to change."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mixboost_jax.schema import (
  READ_WHEN,
  Adversary,
  Augment,
  Data,
  Evaluate,
  Interactions,
  Mask,
  Model,
  Objective,
  Optimizer,
  ReadWhen,
  Runtime,
  Train,
  When,
)


def unread(tree: Mapping[str, Any], *, more: ReadWhen | None = None) -> dict[str, When]:
  """Returns the keys that nothing reads, each with the condition that does not hold.

  Args:
    tree: section -> key -> value, each value right by itself. A condition on a key that is missing
      counts as met.
    more: conditions that need a registry, beside those of the schema.
  """
  found = {}
  for key, conditions in {**READ_WHEN, **(more or {})}.items():
    for when in conditions:
      section, _, name = when.key.partition(".")
      values = tree.get(section, {})
      if name in values and not when.holds(values[name]):
        found[key] = when
        break
  return found


def contradictions(sections: Mapping[str, Any]) -> list[str]:
  """Lists what is wrong between keys that are each right by themselves.

  Args:
    sections: those sections of a config that are free of errors, by name; a rule is skipped while
      one of its sections is missing.
  """
  problems: list[str] = []
  for rule in _RULES:
    names = inspect.signature(rule).parameters
    if all(name in sections for name in names):
      problems += rule(**{name: sections[name] for name in names})
  return problems


def _data(data: Data, runtime: Runtime) -> Iterator[str]:
  if data.name == "tfds" and not data.tfds_name:
    yield "config.data.tfds_name: needed with config.data.name='tfds'; got ''"
  needs_files = data.name in ("folder", "npz", "tfds") and not runtime.target
  if needs_files and not data.dir:
    yield f"config.data.dir: needed with config.data.name={data.name!r}; got ''"
  if 0 < data.train_examples <= data.validation_examples:
    yield (
      f"config.data.validation_examples: leaves nothing to train on: "
      f"{data.validation_examples} of train_examples={data.train_examples}"
    )


def _model(model: Model) -> Iterator[str]:
  if len(model.mean) != len(model.std):
    yield (
      f"config.model.mean, config.model.std: lengths differ ({len(model.mean)}, {len(model.std)})"
    )


def _train(train: Train) -> Iterator[str]:
  if (train.epochs > 0) == (train.steps > 0):
    yield (
      f"config.train.epochs and config.train.steps: exactly one sets the length, "
      f"the other is 0; got epochs={train.epochs:g}, steps={train.steps}"
    )
  if train.batch_size % train.accumulate:
    yield (
      f"config.train.accumulate: {train.accumulate} does not divide "
      f"config.train.batch_size={train.batch_size}"
    )
  if train.batchnorm_views == "joint" and train.view_forward == "separate":
    yield (
      "config.train.batchnorm_views='joint' normalises all views as one batch; "
      "it needs config.train.view_forward='fused' or 'auto', got 'separate'"
    )


def _train_and_data(train: Train, data: Data) -> Iterator[str]:
  if train.select_on == "validation" and data.validation_examples == 0:
    yield "config.train.select_on='validation' needs config.data.validation_examples > 0, got 0"
  left = data.train_examples - data.validation_examples
  if 0 < left < train.batch_size:
    yield (
      f"config.train.batch_size={train.batch_size}: larger than the {left} training examples that "
      "config.data.train_examples leaves"
    )


def _evaluate_and_data(evaluate: Evaluate, data: Data) -> Iterator[str]:
  if evaluate.split == "validation" and data.validation_examples == 0:
    yield "config.evaluate.split='validation' needs config.data.validation_examples > 0, got 0"
  if "r" in evaluate.suite.replace(" ", "").split(",") and not evaluate.released_dir:
    yield (
      "config.evaluate.suite: 'r' (ImageNet-R) is only read from files and needs "
      "config.evaluate.released_dir, got ''"
    )


def _optimizer(optimizer: Optimizer) -> Iterator[str]:
  if optimizer.name == "sgd" and optimizer.nesterov and optimizer.momentum == 0:
    yield "config.optimizer.nesterov=True needs config.optimizer.momentum > 0, got 0"
  if optimizer.schedule == "cosine" and optimizer.final_learning_rate > optimizer.learning_rate:
    yield (
      f"config.optimizer.final_learning_rate={optimizer.final_learning_rate:g} is above "
      f"config.optimizer.learning_rate={optimizer.learning_rate:g}"
    )


def _objective(objective: Objective) -> Iterator[str]:
  weights = (objective.low_weight, objective.mid_weight, objective.high_weight)
  if (objective.name == "interaction") != (max(weights) > 0):
    yield (
      f"config.objective.low_weight, mid_weight, high_weight: at least one must be > 0 with, and "
      f"all 0 without, config.objective.name='interaction'; got name={objective.name!r}, {weights}"
    )


def _objective_and_mask(objective: Objective, mask: Mask) -> Iterator[str]:
  if objective.name == "mixboost" and mask.keep_rate in (0, 1):
    yield (
      f"config.mask.keep_rate={mask.keep_rate:g}: MixBoost compares two different views; "
      "give a rate strictly between 0 and 1"
    )


def _adversary_and_model(adversary: Adversary, model: Model) -> Iterator[str]:
  if adversary.name == "none":
    return
  if adversary.labels == "probabilities" and not adversary.random_start:
    yield (
      "config.adversary.labels='probabilities' needs config.adversary.random_start=True: at the "
      "clean picture the divergence from it has no gradient; got False"
    )
  if adversary.network == "training" and model.dropout > 0:
    yield (
      "config.adversary.network='training' attacks without dropout; it needs "
      f"config.model.dropout=0, got {model.dropout:g}"
    )
  if adversary.name == "iat" and adversary.clean_weight == 0:
    yield (
      "config.adversary.clean_weight=0: interpolated adversarial training (iat) averages clean and "
      "adversarial pictures; give a weight in (0, 1)"
    )


def _consistency(objective: Objective, augment: Augment, adversary: Adversary) -> Iterator[str]:
  if objective.jsd_weight == 0:
    return
  if augment.policy.get("name") == "none":
    yield (
      f"config.objective.jsd_weight={objective.jsd_weight:g} compares the clean picture with two "
      "augmented ones; give config.augment.policy, e.g. augmix"
    )
  if adversary.name != "none":
    yield (
      f"config.objective.jsd_weight={objective.jsd_weight:g} and config.adversary.name="
      f"{adversary.name!r} each bring pictures of their own; choose one"
    )


def _augment(augment: Augment) -> Iterator[str]:
  if augment.start >= augment.end:
    yield (
      f"config.augment.start={augment.start:g} and config.augment.end={augment.end:g} leave no "
      "epoch with the policy; start must be smaller"
    )
  if augment.mixing_dir and augment.generator and "'gan'" not in repr(augment.policy):
    yield (
      f"config.augment.mixing_dir={augment.mixing_dir!r} and config.augment.generator="
      f"{augment.generator!r} both bring the pictures that pixmix mixes with; give one"
    )


def _pictures(objective: Objective, adversary: Adversary, train: Train) -> Iterator[str]:
  if objective.name == "erm":
    return
  changed = adversary.name != "none" or objective.jsd_weight > 0
  clean = not (adversary.name == "at" and adversary.clean_weight == 0)
  if objective.boost_on != "clean" and not changed:
    yield (
      f"config.objective.boost_on={objective.boost_on!r} needs adversarial or augmented "
      "pictures; config.adversary.name is 'none' and config.objective.jsd_weight is 0"
    )
  if objective.boost_on == "clean" and not clean:
    yield (
      "config.objective.boost_on='clean' needs clean pictures, but config.adversary.clean_weight=0 "
      "omits them; use 'changed'"
    )
  unequal = changed and clean and objective.boost_on != "all"
  if unequal and train.view_forward == "fused" and train.batchnorm_views != "joint":
    yield (
      "config.train.view_forward='fused' needs a masked view of every picture; set "
      "config.objective.boost_on='all', or view_forward='auto'"
    )


def _interactions(interactions: Interactions) -> Iterator[str]:
  if interactions.contexts % 4:
    yield (
      f"config.interactions.contexts: expected a multiple of 4 (|I| is corrected by quarters), got "
      f"{interactions.contexts}"
    )


_RULES: tuple[Callable[..., Iterator[str]], ...] = (
  _data,
  _model,
  _train,
  _train_and_data,
  _evaluate_and_data,
  _interactions,
  _optimizer,
  _objective,
  _objective_and_mask,
  _adversary_and_model,
  _pictures,
  _consistency,
  _augment,
)
"""The parameters of a rule are the sections that it reads."""
