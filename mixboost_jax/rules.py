# SPDX-License-Identifier: Apache-2.0
"""Rules between keys of a config: each names both keys and what to change."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

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


class When(NamedTuple):
  """A condition on another key, without which nothing reads a key."""

  key: str
  holds: Callable[[Any], bool]
  wanted: str
  """The condition in words, after the key."""


ReadWhen = tuple[tuple[tuple[str, ...], tuple[When, ...]], ...]
"""Keys, and the conditions that must all hold for them to be read."""


def _is(key: str, *values: Any) -> When:
  return When(key, lambda value: value in values, f"={' or '.join(map(repr, values))}")


def _is_not(key: str, value: Any) -> When:
  return When(key, lambda given: given != value, f" other than {value!r}")


def _above_zero(key: str) -> When:
  return When(key, lambda value: value > 0, " > 0")


_MASKED = _is_not("objective.name", "erm")
_MIXBOOST = _is("objective.name", "mixboost")
_POLICY = When("augment.policy", lambda policy: policy.get("name") != "none", " with a name")
_PIXMIX = When("augment.policy", lambda policy: "'pixmix'" in repr(policy), " with pixmix")
_IAT = _is("adversary.name", "iat")
_FILES = _is("data.name", "folder", "tfds")
READ_WHEN: ReadWhen = (
  (("data.dir", "data.note"), (_is_not("data.name", "shapes"),)),
  (("data.download",), (_is("data.name", "cifar10", "cifar100"),)),
  (("data.tfds_name",), (_is("data.name", "tfds"),)),
  (("data.texture_agreement",), (_is("data.name", "shapes"),)),
  (("data.outlier_noise",), (_above_zero("data.outliers"),)),
  (("data.stream",), (_FILES,)),
  (("data.test_margin",), (_FILES, _above_zero("data.image_size"))),
  (("augment.mixing_dir",), (_PIXMIX,)),
  (("augment.num_mixing_images",), (_PIXMIX, _is("augment.mixing_dir", ""))),
  (("augment.start", "augment.end", "augment.off_epochs"), (_POLICY,)),
  (("augment.on_epochs",), (_POLICY, _above_zero("augment.off_epochs"))),
  (("augment.manifold_layers",), (_above_zero("augment.manifold_alpha"),)),
  (("mask.grid", "mask.fill"), (_MASKED,)),
  (("mask.keep_rate", "mask.mask_rate"), (_MIXBOOST,)),
  (("objective.boost_on",), (_MASKED,)),
  (("objective.boost_weight", "objective.align", "objective.difference"), (_MIXBOOST,)),
  (("objective.stop_gradient_clean",), (_MIXBOOST,)),
  (("objective.low_rates",), (_above_zero("objective.low_weight"),)),
  (("objective.mid_rates",), (_above_zero("objective.mid_weight"),)),
  (("objective.high_rates",), (_above_zero("objective.high_weight"),)),
  (
    tuple(f"objective.reduction_{key}" for key in ("stage", "units", "fraction", "draws")),
    (_above_zero("objective.reduction_weight"),),
  ),
  (
    tuple(
      f"adversary.{key}"
      for key in ("epsilon", "step_size", "num_steps", "random_start", "labels", "network")
    ),
    (_is_not("adversary.name", "none"),),
  ),
  (("adversary.clean_weight",), (_is("adversary.name", "at", "iat"),)),
  (("adversary.beta",), (_is("adversary.name", "trades"),)),
  (("adversary.mixup_alpha", "adversary.mixup_per", "adversary.mixup_partner"), (_IAT,)),
  (("optimizer.momentum", "optimizer.nesterov"), (_is("optimizer.name", "sgd"),)),
  (("optimizer.final_learning_rate",), (_is("optimizer.schedule", "cosine"),)),
  (("optimizer.milestones", "optimizer.step_factor"), (_is("optimizer.schedule", "step"),)),
  (("train.view_forward", "train.batchnorm_views"), (_MASKED,)),
  (("train.share_dropout",), (_MASKED, _above_zero("model.dropout"))),
  (("interactions.stride",), (_is("interactions.pairs", "neighbour", "window"),)),
  (("interactions.max_rounds",), (_above_zero("interactions.target_stderr"),)),
  (
    tuple(f"interactions.attack_{key}" for key in ("epsilon", "step_size", "steps", "drop")),
    (_is("interactions.attack", True),),
  ),
  (
    ("interactions.monitor_images", "interactions.monitor_share"),
    (_above_zero("interactions.monitor_every_steps"),),
  ),
  (("audit.figure_images",), (_is_not("audit.figures", ""),)),
  (("runtime.decode_threads", "runtime.batches_ahead"), (_FILES, _is_not("data.stream", "off"))),
)
"""What reads a key only sometimes. Another value than the default of `configs/base.py` is an error
where a condition does not hold, so that no setting is ignored without a word. A key that is not
named here is read by every run, or by the job of its section."""


def unread(tree: Mapping[str, Any], *, more: ReadWhen = ()) -> dict[str, When]:
  """Returns the keys that nothing reads, each with the condition that does not hold.

  Args:
    tree: section -> key -> value, each value right by itself. A condition on a key that is missing
      counts as met.
    more: conditions that need a registry, beside `READ_WHEN`.
  """
  found = {}
  for keys, conditions in (*READ_WHEN, *more):
    for when in conditions:
      section, _, name = when.key.partition(".")
      values = tree.get(section, {})
      if name in values and not when.holds(values[name]):
        found.update(dict.fromkeys(keys, when))
        break
  return found


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
  if data.name == "tfds" and not data.tfds_name:
    yield "config.data.tfds_name: needed with config.data.name='tfds'; got ''"
  if data.name in ("folder", "npz", "tfds") and not data.dir:
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
