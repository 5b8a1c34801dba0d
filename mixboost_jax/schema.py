# SPDX-License-Identifier: Apache-2.0
"""The frozen dataclasses of a resolved config, each field with the rule that its value obeys.

No field has a default here: the defaults are those of `configs/base.py`.
"""

import dataclasses
import difflib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], str | None]
"""Returns what is wrong with a value (without the place), or None."""


def _rule(check: Check | None = None) -> Any:
  return dataclasses.field(metadata={"check": check})


def _between(low: float, high: float, *, open_low: bool = False, open_high: bool = False) -> Any:
  left, right = "(" if open_low else "[", ")" if open_high else "]"

  def check(value: float) -> str | None:
    inside = (value > low if open_low else value >= low) and (
      value < high if open_high else value <= high
    )
    if inside and math.isfinite(value):
      return None
    if math.isinf(high):
      return f"expected a number {'>' if open_low else '>='} {low:g}, got {value!r}"
    return f"expected a number in {left}{low:g}, {high:g}{right}, got {value!r}"

  return _rule(lambda value: None if value is None else check(value))


def _at_least(low: float) -> Any:
  return _between(low, math.inf)


def _positive() -> Any:
  return _between(0, math.inf, open_low=True)


def _one_of(*choices: str) -> Any:
  def check(value: str) -> str | None:
    if value in choices:
      return None
    close = difflib.get_close_matches(value, choices, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"expected one of {', '.join(choices)}, got {value!r}{hint}"

  return _rule(check)


def _rates() -> Any:
  def check(value: tuple[float, ...]) -> str | None:
    if len(value) == 2 and 0 <= value[0] < value[1] <= 1:
      return None
    return f"expected (r1, r2) with 0 <= r1 < r2 <= 1, got {value!r}"

  return _rule(check)


def _channels(*, positive: bool) -> Any:
  def check(value: tuple[float, ...]) -> str | None:
    if len(value) in (1, 3) and (not positive or min(value) > 0):
      return None
    want = "positive numbers" if positive else "numbers"
    return f"expected 1 or 3 {want}, one per channel, got {value!r}"

  return _rule(check)


def _milestones() -> Any:
  def check(value: tuple[float, ...]) -> str | None:
    if list(value) == sorted(set(value)) and all(0 < v < 1 for v in value):
      return None
    return f"expected increasing fractions of the run in (0, 1), got {value!r}"

  return _rule(check)


def _increasing_ratios() -> Any:
  def check(value: tuple[float, ...]) -> str | None:
    if len(value) > 1 and list(value) == sorted(set(value)) and value[0] >= 0 and value[-1] <= 1:
      return None
    return f"expected at least two increasing fractions in [0, 1], got {value!r}"

  return _rule(check)


def _layers() -> Any:
  def check(value: tuple[int, ...]) -> str | None:
    if value and list(value) == sorted(set(value)) and value[0] >= 0:
      return None
    return f"expected increasing numbers of layers, 0 (the input) or more, got {value!r}"

  return _rule(check)


@dataclasses.dataclass(frozen=True)
class Data:
  """Which pictures."""

  name: str = _one_of("shapes", "cifar10", "cifar100", "tfds", "folder", "npz")
  dir: str = _rule()
  download: bool = _rule()
  tfds_name: str = _rule()
  image_size: int = _at_least(0)
  train_examples: int = _at_least(0)
  validation_examples: int = _at_least(0)
  test_examples: int = _at_least(0)
  note: str = _rule()
  texture_agreement: float = _between(0, 1)
  outliers: int = _at_least(0)
  outlier_noise: float = _at_least(0)
  stream: str = _one_of("auto", "on", "off")
  test_margin: int = _at_least(0)


@dataclasses.dataclass(frozen=True)
class Model:
  """Which network."""

  name: str = _rule()
  dropout: float = _between(0, 1, open_high=True)
  compute_dtype: str = _one_of("float32", "bfloat16")
  mean: tuple[float, ...] = _channels(positive=False)
  std: tuple[float, ...] = _channels(positive=True)
  weights: str = _rule()


@dataclasses.dataclass(frozen=True)
class Augment:
  """What happens to a training picture before the mask."""

  flip: bool = _rule()
  crop_padding: int = _at_least(0)
  resized_crop: int = _at_least(0)
  num_mixing_images: int = _at_least(1)
  mixing_dir: str = _rule()
  policy: Mapping[str, Any] = _rule()
  start: float = _between(0, 1)
  end: float = _between(0, 1)
  on_epochs: int = _at_least(1)
  off_epochs: int = _at_least(0)
  manifold_alpha: float = _at_least(0)
  manifold_layers: tuple[int, ...] = _layers()


@dataclasses.dataclass(frozen=True)
class Mask:
  """The second view. After `resolve`, `keep_rate` is a number and `mask_rate` its complement."""

  grid: int = _at_least(1)
  keep_rate: float = _between(0, 1)
  mask_rate: float = _between(0, 1)
  fill: str = _one_of("mean", "black", "gray", "data_mean", "learned")


@dataclasses.dataclass(frozen=True)
class Objective:
  """What is minimised."""

  name: str = _one_of("erm", "mixboost", "interaction")
  label_smoothing: float = _between(0, 1, open_high=True)
  boost_weight: float = _at_least(0)
  align: str = _one_of("none", "ratio")
  difference: str = _one_of("logits", "probabilities")
  stop_gradient_clean: bool = _rule()
  boost_on: str = _one_of("clean", "changed", "all")
  jsd_weight: float = _at_least(0)
  low_weight: float = _at_least(0)
  mid_weight: float = _at_least(0)
  high_weight: float = _at_least(0)
  low_rates: tuple[float, ...] = _rates()
  mid_rates: tuple[float, ...] = _rates()
  high_rates: tuple[float, ...] = _rates()
  reduction_weight: float = _at_least(0)
  reduction_stage: str = _rule()
  reduction_units: str = _one_of("entries", "positions", "channels")
  reduction_fraction: float = _between(0, 0.5, open_low=True)
  reduction_draws: int = _at_least(1)


@dataclasses.dataclass(frozen=True)
class Adversary:
  """Adversarial pictures to train on."""

  name: str = _one_of("none", "at", "iat", "trades")
  epsilon: float = _between(0, 1)
  step_size: float = _between(0, 1)
  num_steps: int = _at_least(0)
  random_start: bool = _rule()
  labels: str = _one_of("true", "predicted", "probabilities")
  network: str = _one_of("evaluation", "training")
  clean_weight: float = _between(0, 1, open_high=True)
  beta: float = _at_least(0)
  mixup_alpha: float = _at_least(0)
  mixup_per: str = _one_of("batch", "example")
  mixup_partner: str = _one_of("roll", "permutation", "two_permutations")


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """How it is minimised."""

  name: str = _one_of("sgd", "adamw")
  learning_rate: float = _positive()
  momentum: float = _between(0, 1, open_high=True)
  nesterov: bool = _rule()
  weight_decay: float = _at_least(0)
  schedule: str = _one_of("cosine", "step", "constant")
  final_learning_rate: float = _at_least(0)
  warmup_steps: int = _at_least(0)
  milestones: tuple[float, ...] = _milestones()
  step_factor: float = _between(0, 1, open_low=True)
  clip_norm: float = _at_least(0)


@dataclasses.dataclass(frozen=True)
class Train:
  """How long, how often, in which pieces."""

  batch_size: int = _at_least(1)
  epochs: float = _at_least(0)
  steps: int = _at_least(0)
  accumulate: int = _at_least(1)
  steps_per_call: int = _at_least(1)
  view_forward: str = _one_of("auto", "fused", "separate")
  batchnorm_views: str = _one_of("clean", "both", "joint")
  share_dropout: bool = _rule()
  ema_decay: float = _between(0, 1, open_high=True)
  log_every_steps: int = _at_least(1)
  evaluate_every_epochs: float = _at_least(0)
  checkpoint_every_epochs: float = _at_least(0)
  keep_checkpoints: int = _at_least(1)
  select_on: str = _one_of("none", "validation")


@dataclasses.dataclass(frozen=True)
class Evaluate:
  """What is measured."""

  suite: str = _rule()
  split: str = _one_of("test", "validation")
  batch_size: int = _at_least(1)
  max_examples: int = _at_least(-1)
  budget: str = _rule()
  ood_dirs: tuple[str, ...] = _rule()
  released_dir: str = _rule()
  ece_bins: int = _at_least(1)
  confidence: float = _between(0, 1, open_low=True, open_high=True)


@dataclasses.dataclass(frozen=True)
class Interactions:
  """Which interactions are measured, and how well."""

  num_images: int = _at_least(1)
  grid: int = _at_least(2)
  ratios: tuple[float, ...] = _increasing_ratios()
  pairs: str = _one_of("neighbour", "window", "uniform")
  stride: int = _at_least(1)
  pairs_per_image: int = _at_least(1)
  contexts: int = _at_least(4)
  max_contexts: int = _at_least(4)
  target_stderr: float = _at_least(0)
  max_rounds: int = _at_least(1)
  reward: str = _one_of("modified", "normal", "logit")
  fill: str = _one_of("mean", "black", "gray", "data_mean", "blur", "picture_mean")
  noise: float = _at_least(0)
  attack: bool = _rule()
  attack_epsilon: float = _between(0, 1, open_low=True)
  attack_step_size: float = _between(0, 1, open_low=True)
  attack_steps: int = _at_least(1)
  attack_drop: float = _positive()
  map_grid: int = _between(0, 32)
  tree_grid: int = _between(0, 4)
  chunk_size: int = _at_least(4)
  monitor_every_steps: int = _at_least(0)
  monitor_images: int = _at_least(1)
  monitor_share: float = _between(0, 1, open_low=True, open_high=True)


@dataclasses.dataclass(frozen=True)
class Audit:
  """Which defenses of the trained network are attacked, and how."""

  num_images: int = _at_least(0)
  preset: str = _rule()
  defenses: str = _rule()
  attacks: str = _rule()
  epsilon: float = _between(0, 1, open_low=True)
  norm: str = _one_of("linf", "l2")
  step_size: float = _between(0, 1, open_low=True)
  num_steps: int = _at_least(1)
  eot_step_size: float = _between(0, 1, open_low=True)
  eot_steps: int = _at_least(1)
  apgd_steps: int = _at_least(1)
  num_targets: int = _at_least(1)
  samples: int = _at_least(1)
  restarts: int = _at_least(1)
  num_queries: int = _at_least(1)
  num_draws: int = _at_least(0)
  redraws: int = _at_least(1)
  survivors_only: bool = _rule()
  pool_examples: int = _at_least(0)
  batch_size: int = _at_least(1)
  figures: str = _rule()
  figure_images: int = _at_least(1)


@dataclasses.dataclass(frozen=True)
class Runtime:
  """Where it runs; no key here changes a result beyond rounding."""

  cpu_devices: int = _at_least(0)
  fsdp: int = _at_least(1)
  compile_cache: str = _rule()
  keep_freed_memory: bool = _rule()
  tensorboard: bool = _rule()
  decode_threads: int = _at_least(0)
  batches_ahead: int = _at_least(1)


@dataclasses.dataclass(frozen=True)
class Report:
  """What is shown."""

  num_samples: int = _between(0, 64)


@dataclasses.dataclass(frozen=True)
class Settings:
  """One resolved run."""

  name: str
  seed: int
  data: Data
  model: Model
  augment: Augment
  mask: Mask
  objective: Objective
  adversary: Adversary
  optimizer: Optimizer
  train: Train
  evaluate: Evaluate
  interactions: Interactions
  audit: Audit
  runtime: Runtime
  report: Report

  def to_json(self) -> dict[str, Any]:
    """Returns the plain tree that goes into results and the workdir."""
    return json.loads(json.dumps(dataclasses.asdict(self)))
