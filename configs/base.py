# SPDX-License-Identifier: Apache-2.0
"""The config of the defaults, and the words that change it.

Every key stands in `mixboost_jax/schema.py`, with its default, unit and meaning. The other files of
this folder start from `get_config` and state what differs, and what their paper names; so may one
of yours, anywhere: `from mixboost_jax.configs import base`. A key that nothing reads under the
other settings must keep its default.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict, config_dict

from mixboost_jax import schema

NO_POLICY = {"name": "none"}


def get_config(arg: str = "") -> ConfigDict:
  """Returns the defaults, changed by the words of `--config=configs/base.py:word+word`."""
  config = ConfigDict(schema.defaults())
  config.mask.update({rate: config_dict.placeholder(float) for rate in ("keep_rate", "mask_rate")})
  config.runs = ConfigDict()  # name -> {section: {key: value}}: several runs in one command
  return vary(config, arg)


def override(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
  """Sets dotted keys (`{"model.name": "wrn-16-2"}`) and returns `config`.

  A policy (`augment.policy`) is replaced whole: its keywords belong to its name.
  """
  overrides = dict(overrides)
  if policy := overrides.pop("augment.policy", None):
    config.augment.policy = ConfigDict(policy)
  config.update_from_flattened_dict(overrides)
  return config


VARIANTS: dict[str, dict[str, Any]] = {
  "baseline": {"augment.policy": NO_POLICY},
  "cutout": {"augment.policy": {"name": "cutout", "length": 16}},
  "mixup": {"augment.policy": {"name": "mixup", "alpha": 1.0}},
  "cutmix": {"augment.policy": {"name": "cutmix", "alpha": 1.0, "prob": 0.5}},
  "autoaugment": {"augment.policy": {"name": "autoaugment", "policy": "cifar10"}},
  "randaugment": {"augment.policy": {"name": "randaugment", "num_ops": 2, "magnitude": 9}},
  "trivial": {"augment.policy": {"name": "trivial_augment_wide"}},
  "trivial_recipe": {  # Mueller & Hutter 2021 on CIFAR: before crop and flip, then Cutout 16
    "augment.flip": False,
    "augment.crop_padding": 0,
    "augment.policy": {
      "name": "compose",
      "steps": (
        {"name": "trivial_augment_wide"},
        {"name": "random_crop", "padding": 4},
        {"name": "random_flip"},
        {"name": "cutout", "length": 16},
      ),
    },
  },
  "augmix": {"augment.policy": {"name": "augmix", "severity": 3, "width": 3}},
  "augmix_jsd": {
    "augment.policy": {"name": "augmix", "severity": 3, "width": 3},
    "objective.jsd_weight": 12.0,
  },
  "mixup_each": {  # a weight and two partners per example (Pang et al.)
    "augment.policy": {
      "name": "mixup",
      "alpha": 1.0,
      "per": "example",
      "partner": "two_permutations",
    }
  },
  "manifold": {"augment.policy": NO_POLICY, "augment.manifold_alpha": 2.0},
  "samplepairing": {
    "augment.policy": {"name": "sample_pairing"},
    "augment.start": 0.1,
    "augment.end": 0.8,
    "augment.on_epochs": 8,
    "augment.off_epochs": 2,
  },
  "smote": {"augment.policy": {"name": "smote"}},
  "noise": {"augment.policy": {"name": "gaussian_noise", "sigma": 0.1}},
  "pixmix": {"augment.policy": {"name": "pixmix", "k": 4, "beta": 3, "severity": 3}},
  "gan": {
    "augment.policy": {"name": "gan", "p": 0.5}
  },  # give augment.generator, a run of --job=gan
  "reduce": {"objective.reduction_weight": 0.01},  # 0.001 to 0.03 for residual networks
  "at": {"adversary.name": "at"},
  "iat": {"adversary.name": "iat"},
  "trades": {"adversary.name": "trades", "adversary.labels": "probabilities"},
  "boost": {"objective.name": "mixboost"},  # r1 = 0.7 read as the kept fraction
  "mask70": {"mask.keep_rate": None, "mask.mask_rate": 0.7},  # r1 read as the masked fraction
  "aligned": {"objective.align": "ratio"},  # factor 1 / keep_rate of Deng et al.
  "penalize_low": {"objective.name": "interaction", "objective.low_weight": 1.0},
  "encourage_mid": {"objective.name": "interaction", "objective.mid_weight": 1.0},
  "penalize_high": {"objective.name": "interaction", "objective.high_weight": 1.0},
}
"""Words that `--config=FILE:word+word` accepts, and the keys that each sets."""


def vary(
  config: ConfigDict, arg: str, *, table: Mapping[str, Mapping[str, Any]] = VARIANTS
) -> ConfigDict:
  """Applies `word+word+...`; `smoke` comes last, whatever its place.

  Of several words with a policy (`trivial+pixmix`) the policies are composed, the first one first:
  the composition of two augmentations is one. A schedule (`samplepairing`) is that of the whole.

  Args:
    config: changed in place.
    arg: the part of `--config=FILE:arg` after the colon.
    table: the words that this file knows, beside `smoke`.

  Raises:
    ValueError: naming the unknown word and the known ones.
  """
  words = [word for word in arg.split("+") if word]
  chosen: dict[str, Any] = {}
  if problem := _words_problem(arg, words, ["smoke", *table]):
    raise ValueError(problem)
  policies = []
  for word in words:
    if word != "smoke":
      chosen |= table[word]
      policies += [table[word]["augment.policy"]] if "augment.policy" in table[word] else []
      config.name = f"{config.name}_{word}"
  if policies:
    chosen["augment.policy"] = _composed(policies)
  if chosen.get("adversary.name", config.adversary.name) == "none":  # `short` shrinks attacks too
    chosen = {key: value for key, value in chosen.items() if not key.startswith("adversary.")}
  override(config, chosen)
  return smoke(config) if "smoke" in words else config


def _words_problem(arg: str, words: Sequence[str], known: Sequence[str]) -> str | None:
  unknown = [word for word in words if word not in known]
  if not unknown:
    return None
  parts = [part for part in re.split(r"[+,;\s]+", arg) if part]
  if set(parts) <= set(known):
    return f"config words {arg!r}: words are joined by +; write {'+'.join(parts)}."
  shown = []
  for word in unknown:
    close = difflib.get_close_matches(word, known, n=1)
    shown.append(f"{word} (did you mean {close[0]!r}?)" if close else word)
  return f"config words {arg!r}: unknown {', '.join(shown)}; choose from {', '.join(known)}."


def _composed(policies: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
  """Returns one policy that applies several, left to right."""
  steps: list[Mapping[str, Any]] = []
  for policy in policies:
    if policy["name"] != "none":
      steps += policy["steps"] if policy["name"] == "compose" else [policy]
  if len(steps) < 2:
    return steps[0] if steps else NO_POLICY
  return {"name": "compose", "steps": tuple(steps)}


def smoke(config: ConfigDict) -> ConfigDict:
  """Shrinks any experiment to about a minute on two CPU cores.

  The procedural set stands in for the pictures, unless `data.dir` says where they are.
  """
  config.name = f"{config.name}_smoke"
  if config.data.name != "shapes":
    config.data.name = f"{config.data.name}-or-shapes"
  config.data.image_size = 32 if config.data.image_size else 0
  config.data.test_margin = 0
  config.data.train_examples = 2_000
  config.data.test_examples = 500
  config.augment.resized_crop = 32 if config.augment.resized_crop else 0
  config.model.name = "speedrun-0.25" if "speedrun" in config.model.name else "wrn-10-1"
  if config.adversary.name != "none":
    config.adversary.num_steps = min(config.adversary.num_steps, 3)
  config.train.batch_size = 50
  config.train.accumulate = 1
  config.train.epochs = 2.0
  config.train.steps = 0
  config.train.log_every_steps = 10
  config.train.evaluate_every_epochs = 1.0
  small = {"num_images": 32, "eot_steps": 3, "samples": 2, "num_queries": 10}
  small |= {"apgd_steps": 3, "num_targets": 1}
  config.audit.update({**small, "num_draws": 3, "pool_examples": 500})
  return config
