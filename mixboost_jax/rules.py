# SPDX-License-Identifier: Apache-2.0
"""Rules between keys of a config: each names both keys and what to change."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mixboost_jax.schema import (
  Adversary,
  Augment,
  Data,
  Evaluate,
  Interactions,
  Mask,
  Model,
  Objective,
  Optimizer,
  Train,
)


def contradictions(sections: Mapping[str, Any]) -> list[str]:
  """Lists what is wrong between keys that are each right by themselves.

  Args:
    sections: those sections of a config that are free of errors, by name; a rule is skipped while
      one of its sections is missing.
  """
  problems: list[str] = []
  for names, rule in _RULES:
    if all(name in sections for name in names):
      problems += rule(*(sections[name] for name in names))
  return problems


def _data(data: Data) -> Iterator[str]:
  if (data.name == "tfds") != bool(data.tfds_name):
    yield (
      f"config.data.tfds_name: needed with, and only with, config.data.name='tfds'; "
      f"got name={data.name!r}, tfds_name={data.tfds_name!r}"
    )
  if data.name in ("folder", "npz", "tfds") and not data.dir:
    yield f"config.data.dir: needed with config.data.name={data.name!r}; got ''"
  if data.download and not data.name.startswith("cifar"):
    yield f"config.data.download: only cifar10 and cifar100 can be downloaded, not {data.name!r}"
  if data.test_margin and (data.name not in ("folder", "tfds") or not data.image_size):
    yield (
      f"config.data.test_margin={data.test_margin}: only picture files (folder, tfds) that are "
      "resized (config.data.image_size) have one; leave it 0"
    )
  if data.stream == "on" and data.name not in ("folder", "tfds"):
    yield (
      f"config.data.stream='on': only picture files (folder, tfds) are streamed, not "
      f"{data.name!r}; leave it 'auto'"
    )
  if data.note and data.name == "shapes":
    yield f"config.data.note={data.note!r}: the procedural set is always the same; leave it ''"
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
      f"config.train.epochs and config.train.steps: exactly one must be > 0; "
      f"got epochs={train.epochs:g}, steps={train.steps}"
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
  if objective.name == "erm" and mask.fill == "learned":
    yield "config.mask.fill='learned' needs an objective with masks; config.objective.name is 'erm'"


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


def _pictures(objective: Objective, adversary: Adversary, train: Train) -> Iterator[str]:
  changed = adversary.name != "none" or objective.jsd_weight > 0
  clean = not (adversary.name == "at" and adversary.clean_weight == 0)
  if objective.boost_on != "clean" and not changed:
    yield (
      f"config.objective.boost_on={objective.boost_on!r} needs adversarial or augmented "
      "pictures; config.adversary.name is 'none' and config.objective.jsd_weight is 0"
    )
  if objective.name == "erm":
    return
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


_RULES: tuple[tuple[tuple[str, ...], Callable[..., Iterator[str]]], ...] = (
  (("data",), _data),
  (("model",), _model),
  (("train",), _train),
  (("train", "data"), _train_and_data),
  (("evaluate", "data"), _evaluate_and_data),
  (("interactions",), _interactions),
  (("optimizer",), _optimizer),
  (("objective",), _objective),
  (("objective", "mask"), _objective_and_mask),
  (("adversary", "model"), _adversary_and_model),
  (("objective", "adversary", "train"), _pictures),
  (("objective", "augment", "adversary"), _consistency),
  (("augment",), _augment),
)
