# SPDX-License-Identifier: Apache-2.0
"""Every key that a config may set, each declared once, below, with its meaning and unit.

A class is a section: `--config.augment.crop_padding=2` sets `Augment.crop_padding`.
`configs/base.py` makes its config of the defaults; `settings.py` checks a config and turns it into
these frozen dataclasses. A key of which a condition (`when`) does not hold is read by nothing and
must keep its default; one without a condition is read by every run, or by the job of its section.
Checks and conditions that need a registry stand in `mixboost_jax.jobs`, rules between keys in
`rules.py`.
"""

import ast
import dataclasses
import difflib
import inspect
import io
import json
import math
import sys
import tokenize
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_type_hints

Check = Callable[[Any], str | None]
"""Returns what is wrong with a value (without the place), or None."""


class When(NamedTuple):
  """A condition on another key, without which nothing reads a key."""

  key: str
  holds: Callable[[Any], bool]
  wanted: str
  """The condition in words, after the key."""


ReadWhen = Mapping[str, tuple[When, ...]]
"""Dotted key -> the conditions that must all hold for it to be read."""


def key(
  default: Any,
  rule: Check | None = None,
  *,
  when: When | tuple[When, ...] = (),
  option: bool = False,
) -> Any:
  """Declares a key of which more is to say than its default.

  Args:
    default: its value unless a config sets it.
    rule: what its values obey, beside the type.
    when: without which nothing reads it.
    option: whether run folders exist that do not name it: they were made with the default, which
      leaves the option out. A key that is added is one, or folders without it are refused.
  """
  conditions = (when,) if isinstance(when, When) else when
  metadata = {"rule": rule, "when": conditions, "option": option}
  if isinstance(default, dict):
    return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Rule:
  """What a value obeys where `holds`; `wanted` says it in words, after "expected"."""

  wanted: str
  holds: Callable[[Any], bool]
  choices: tuple[str, ...] = ()

  def __call__(self, value: Any) -> str | None:
    """Returns what is wrong with a value, or None."""
    if self.holds(value):
      return None
    close = difflib.get_close_matches(str(value), self.choices, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"expected {self.wanted}, got {value!r}{hint}"


def within(interval: str) -> Rule:
  """Returns the rule of numbers in an interval, such as "[0, 1)"."""
  low, high = map(float, interval[1:-1].split(","))

  def inside(value: float) -> bool:
    return (
      math.isfinite(value)
      and (value > low or (value == low and interval[0] == "["))
      and (value < high or (value == high and interval[-1] == "]"))
    )

  sign = ">=" if interval[0] == "[" else ">"
  wanted = f"a number {sign} {low:g}" if math.isinf(high) else f"a number in {interval}"
  return Rule(wanted, inside)


def at_least(low: int) -> Rule:
  """Returns the rule of finite numbers from `low` on."""
  return within(f"[{low}, inf)")


def one_of(*choices: str) -> Rule:
  """Returns the rule of a few words."""
  return Rule(f"one of {', '.join(choices)}", lambda value: value in choices, choices)


def _increasing(values: tuple[float, ...]) -> bool:
  return list(values) == sorted(set(values))


FRACTION, BELOW_1, POSITIVE_FRACTION = within("[0, 1]"), within("[0, 1)"), within("(0, 1]")
INSIDE = within("(0, 1)")
POSITIVE = within("(0, inf)")
RATES = Rule("(r1, r2) with 0 <= r1 < r2 <= 1", lambda v: len(v) == 2 and 0 <= v[0] < v[1] <= 1)
RATIOS = Rule(
  "at least two increasing fractions in [0, 1]",
  lambda v: len(v) > 1 and _increasing(v) and v[0] >= 0 and v[-1] <= 1,
)
MILESTONES = Rule(
  "increasing fractions of the run in (0, 1)",
  lambda v: _increasing(v) and all(0 < x < 1 for x in v),
)
LAYERS = Rule(
  "increasing numbers of layers, 0 (the input) or more",
  lambda v: len(v) > 0 and _increasing(v) and v[0] >= 0,
)
CHANNELS = Rule("1 or 3 numbers, one per channel", lambda v: len(v) in (1, 3))
SCALES = Rule("1 or 3 positive numbers, one per channel", lambda v: len(v) in (1, 3) and min(v) > 0)


def equals(name: str, *values: Any) -> When:
  """Returns the condition that a key has one of some values."""
  return When(name, lambda value: value in values, f"={' or '.join(map(repr, values))}")


def differs(name: str, value: Any) -> When:
  """Returns the condition that a key has another value."""
  return When(name, lambda given: given != value, f" other than {value!r}")


def above_zero(name: str) -> When:
  """Returns the condition that a key is positive."""
  return When(name, lambda value: value > 0, " > 0")


SHAPES, NOT_SHAPES = equals("data.name", "shapes"), differs("data.name", "shapes")
CIFAR, TFDS = equals("data.name", "cifar10", "cifar100"), equals("data.name", "tfds")
FILES = equals("data.name", "folder", "tfds")
STREAMED = (FILES, differs("data.stream", "off"))
POLICY = When("augment.policy", lambda policy: policy.get("name") != "none", " with a name")
TAKES_PICTURES = {"pixmix"}
"""Augmentations that mix with a set of pictures; `augment.AUGMENTATIONS` adds those of users."""
PIXMIX = When(
  "augment.policy",
  lambda policy: any(f"'{name}'" in repr(policy) for name in TAKES_PICTURES),
  " with pixmix",
)
PROCEDURAL = (PIXMIX, equals("augment.mixing_dir", ""), equals("augment.generator", ""))
MADE = When(
  "augment.policy",
  lambda policy: any(f"'{name}'" in repr(policy) for name in ("gan", "pixmix")),
  " with gan or pixmix",
)
MASKED = differs("objective.name", "erm")
MIXBOOST = equals("objective.name", "mixboost")
REDUCED = above_zero("objective.reduction_weight")
ATTACKED, IAT = differs("adversary.name", "none"), equals("adversary.name", "iat")
SGD, MUON = equals("optimizer.name", "sgd", "muon"), equals("optimizer.name", "muon")
STEPS = equals("optimizer.schedule", "step")
UNDER_ATTACK = equals("interactions.attack", True)
WATCHED = above_zero("interactions.monitor_every_steps")
SOLVED = equals("influence.method", "cg", "lissa")


@dataclasses.dataclass(frozen=True)
class Data:
  """Which pictures."""

  # the set; NAME-or-shapes: NAME if data.dir or data.download is given, otherwise shapes
  name: str = key("shapes", one_of("shapes", "cifar10", "cifar100", "tfds", "folder", "npz"))
  # folder (or archive) with the files; "" looks in the default places
  dir: str = key("", when=NOT_SHAPES)
  download: bool = key(False, when=CIFAR)  # fetch the official archive if it is missing
  tfds_name: str = key("", when=TFDS)  # builder name, optionally name/config:version
  # px; side that folder and tfds pictures are resized to; 0: as stored
  image_size: int = key(0, at_least(0))
  train_examples: int = key(0, at_least(0))  # use the first N of the training split; 0: all
  # held out from the end of the training split, to select on
  validation_examples: int = key(0, at_least(0))
  test_examples: int = key(0, at_least(0))  # use the first N of the test split; 0: all
  # put behind the set's name in every table, e.g. JPEG for a recompressed copy
  note: str = key("", when=NOT_SHAPES)
  # P(texture matches the class) while training
  texture_agreement: float = key(0.9, FRACTION, when=SHAPES)
  # training pictures that get noise and a wrong label; 0: none
  outliers: int = key(0, at_least(0), option=True)
  # standard deviation of the outliers' noise, pixel units
  outlier_noise: float = key(0.02, at_least(0), when=above_zero("data.outliers"))
  # decode pictures while training: on | off (all in memory) | auto (on above 8 GiB per split);
  # resized crops are then cut from the full pictures
  stream: str = key("auto", one_of("auto", "on", "off"), when=FILES, option=True)
  # px; test pictures are resized to so much more than image_size, and their middle is kept
  # (ImageNet: 256 to 224)
  test_margin: int = key(0, at_least(0), when=(FILES, above_zero("data.image_size")), option=True)


@dataclasses.dataclass(frozen=True)
class Model:
  """Which network."""

  name: str = "wrn-40-4"  # one of mixboost_jax.models.NAMES
  dropout: float = key(0.3, BELOW_1)  # drop probability inside wide blocks
  # parameters and logits stay float32
  compute_dtype: str = key("float32", one_of("float32", "bfloat16"))
  # first layer: (pixel - mean) / std, per channel
  mean: tuple[float, ...] = key((0.5, 0.5, 0.5), CHANNELS)
  std: tuple[float, ...] = key((0.5, 0.5, 0.5), SCALES)  # see mean
  weights: str = ""  # start from a torch-layout file (.safetensors, .npz, .pth)


@dataclasses.dataclass(frozen=True)
class Augment:
  """What happens to a training picture before the mask."""

  flip: bool = True  # random horizontal flip
  # draw the flip once per example, then mirror everything in every other epoch (Jordan 2024)
  alternate_flip: bool = key(False, when=equals("augment.flip", True), option=True)
  crop_padding: int = key(4, at_least(0))  # px of padding before the random crop; 0: no crop
  # that padding: zero | reflect
  crop_mode: str = key(
    "zero", one_of("zero", "reflect"), when=above_zero("augment.crop_padding"), option=True
  )
  # px; window of 8-100 % of the area, resized to this side; 0: off
  resized_crop: int = key(0, at_least(0), option=True)
  # procedural pictures to mix with
  num_mixing_images: int = key(1_000, at_least(1), when=PROCEDURAL)
  # their kinds, in turns; (): all of augment.FAMILIES. Each takes seconds to compile
  mixing_families: tuple[str, ...] = key((), when=PROCEDURAL, option=True)
  # folder of pictures to mix with, all are used; "": procedural
  mixing_dir: str = key("", when=PIXMIX, option=True)
  # folder of a run of --job=gan whose pictures the policy gan takes, and pixmix mixes with
  generator: str = key("", when=MADE, option=True)
  # pictures of each class that it makes once
  num_generated: int = key(500, at_least(1), when=differs("augment.generator", ""), option=True)
  # name and exactly the keywords of that augmentation
  policy: Mapping[str, Any] = key({"name": "none"})
  # fraction of the run before which the policy is off
  start: float = key(0.0, FRACTION, when=POLICY, option=True)
  # fraction of the run after which it is off
  end: float = key(1.0, FRACTION, when=POLICY, option=True)
  # in between: this many epochs on, then off_epochs off, in turns
  on_epochs: int = key(1, at_least(1), when=(POLICY, above_zero("augment.off_epochs")))
  off_epochs: int = key(0, at_least(0), when=POLICY, option=True)  # see on_epochs
  # Manifold Mixup: Beta(alpha, alpha) weights; 0: off
  manifold_alpha: float = key(0.0, at_least(0), option=True)
  # one is drawn per batch; 0: input, i: after stage i
  manifold_layers: tuple[int, ...] = key(
    (0, 1, 2), LAYERS, when=above_zero("augment.manifold_alpha")
  )


@dataclasses.dataclass(frozen=True)
class Mask:
  """The second view. A config gives one rate; `resolve` makes the other its complement."""

  grid: int = key(16, at_least(1), when=MASKED)  # cells per side of the patch grid
  keep_rate: float = key(0.7, FRACTION, when=MIXBOOST)  # fraction of cells kept
  mask_rate: float = key(0.3, FRACTION, when=MIXBOOST)  # = 1 - keep_rate
  # of masked cells; mean is 0 after normalisation
  fill: str = key("mean", one_of("mean", "black", "gray", "data_mean", "learned"), when=MASKED)


@dataclasses.dataclass(frozen=True)
class Objective:
  """What is minimised."""

  name: str = key("erm", one_of("erm", "mixboost", "interaction"))  # what masked views add
  label_smoothing: float = key(0.0, BELOW_1)  # of the cross-entropy
  boost_weight: float = key(1.0, at_least(0), when=MIXBOOST)  # lambda of eq. 3
  # none (eq. 4 as written) | ratio (1 / keep_rate, Deng et al.)
  align: str = key("none", one_of("none", "ratio"), when=MIXBOOST)
  # that enters the entropy of eq. 4
  difference: str = key("logits", one_of("logits", "probabilities"), when=MIXBOOST)
  stop_gradient_clean: bool = key(False, when=MIXBOOST)  # no boost gradient through the clean view
  # picture to mask: clean | changed (augmented, adversarial) | all
  boost_on: str = key("clean", one_of("clean", "changed", "all"), when=MASKED, option=True)
  # of the Jensen-Shannon divergence between the clean picture and two independent draws of
  # augment.policy (AugMix: 12); 0: the policy's picture is the only one
  jsd_weight: float = key(0.0, at_least(0), option=True)
  # interaction: lambda1 of L-(low_rates), penalises low orders
  low_weight: float = key(0.0, at_least(0))
  # interaction: lambda2 of L+(mid_rates), encourages middle orders
  mid_weight: float = key(0.0, at_least(0))
  # interaction: lambda3 of L-(high_rates), penalises high orders
  high_weight: float = key(0.0, at_least(0))
  # (r1, r2) of each range of orders, fractions of cells kept
  low_rates: tuple[float, ...] = key((0.0, 0.5), RATES, when=above_zero("objective.low_weight"))
  mid_rates: tuple[float, ...] = key((0.3, 0.7), RATES, when=above_zero("objective.mid_weight"))
  high_rates: tuple[float, ...] = key((0.7, 1.0), RATES, when=above_zero("objective.high_weight"))
  # of E |I(i, j)| between units of a layer (Zhang et al.); 0: off
  reduction_weight: float = key(0.0, at_least(0), option=True)
  # the layer: input | stage1 | ...; a linear rest gives 0
  reduction_stage: str = key("stage2", when=REDUCED)
  # entries | positions (all channels) | channels
  reduction_units: str = key("entries", one_of("entries", "positions", "channels"), when=REDUCED)
  # size of each of the two groups, share of the units
  reduction_fraction: float = key(0.05, within("(0, 0.5]"), when=REDUCED)
  # groups and contexts per example; each costs 4 forwards
  reduction_draws: int = key(1, at_least(1), when=REDUCED)


@dataclasses.dataclass(frozen=True)
class Adversary:
  """Adversarial pictures to train on."""

  # none | at (Madry et al.) | iat (Lamb et al.) | trades (Zhang et al.)
  name: str = key("none", one_of("none", "at", "iat", "trades"), option=True)
  # radius of the Linf ball, pixels in [0, 1]
  epsilon: float = key(8 / 255, FRACTION, when=ATTACKED)
  step_size: float = key(2 / 255, FRACTION, when=ATTACKED)  # of one attack step, likewise
  # gradient steps of the attack, in every training step
  num_steps: int = key(10, at_least(0), when=ATTACKED)
  random_start: bool = key(True, when=ATTACKED)  # uniform in the ball; otherwise at the picture
  # what the attack leaves: true | predicted | probabilities (TRADES)
  labels: str = key("true", one_of("true", "predicted", "probabilities"), when=ATTACKED)
  # batch norm in the attack: evaluation (running) | training
  network: str = key("evaluation", one_of("evaluation", "training"), when=ATTACKED)
  # weight of the clean pictures' loss; at: 0 omits them
  clean_weight: float = key(0.5, BELOW_1, when=equals("adversary.name", "at", "iat"))
  # weight of KL(clean || adversarial)
  beta: float = key(6.0, at_least(0), when=equals("adversary.name", "trades"))
  # Beta(alpha, alpha) weights of both mixes; 0: no mixing
  mixup_alpha: float = key(1.0, at_least(0), when=IAT)
  mixup_per: str = key("example", one_of("batch", "example"), when=IAT)  # one weight per
  # of augment.mixup
  mixup_partner: str = key(
    "two_permutations", one_of("roll", "permutation", "two_permutations"), when=IAT
  )


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """How it is minimised."""

  # the update rule; muon: orthogonalised momentum for convolution kernels, sgd for the rest
  name: str = key("sgd", one_of("sgd", "adamw", "muon"))
  learning_rate: float = key(0.05, POSITIVE)  # peak; muon: of the convolution kernels
  momentum: float = key(0.9, BELOW_1, when=SGD)  # of sgd: share kept of the last update
  nesterov: bool = key(True, when=SGD)  # of sgd: look ahead by the momentum
  muon_momentum: float = key(0.6, BELOW_1, when=MUON, option=True)  # the same, of the kernels
  # keep the norm of each kernel at the root of its output channels (for networks with
  # normalisation behind every convolution)
  fixed_norms: bool = key(False, when=MUON, option=True)
  rest_learning_rate: float = key(0.05, POSITIVE, when=MUON, option=True)  # peak, of the rest
  bias_factor: float = key(1.0, POSITIVE, when=MUON, option=True)  # on that rate, for biases
  # on all parameters; sgd: added to the gradient; adamw: decoupled; muon: the share of a kernel
  # that is taken off at the peak of the schedule, whatever the rates (of the rest, of one step
  # before momentum adds them up)
  weight_decay: float = key(5e-4, at_least(0))
  # of the rate, per step
  schedule: str = key("cosine", one_of("cosine", "linear", "step", "constant"))
  # value at the last step
  final_learning_rate: float = key(1e-6, at_least(0), when=equals("optimizer.schedule", "cosine"))
  warmup_steps: int = key(0, at_least(0))  # linear from 0
  # fractions of the run at which the rate is multiplied
  milestones: tuple[float, ...] = key((0.5, 0.75), MILESTONES, when=STEPS)
  step_factor: float = key(0.1, POSITIVE_FRACTION, when=STEPS)  # by this
  clip_norm: float = key(0.0, at_least(0))  # global gradient norm; 0: off


@dataclasses.dataclass(frozen=True)
class Train:
  """How long, how often, in which pieces."""

  batch_size: int = key(128, at_least(1))  # examples per update, over all devices
  epochs: float = key(100.0, at_least(0))  # length of the run; give epochs or steps, the other 0
  steps: int = key(0, at_least(0))  # see epochs
  accumulate: int = key(1, at_least(1))  # micro-batches per update
  steps_per_call: int = key(1, at_least(1))  # updates per compiled call
  # auto | fused (one forward of all views) | separate
  view_forward: str = key("auto", one_of("auto", "fused", "separate"), when=MASKED)
  # running statistics from: clean | both | joint (one batch)
  batchnorm_views: str = key("clean", one_of("clean", "both", "joint"), when=MASKED)
  # the same dropout mask in every view of an example
  share_dropout: bool = key(False, when=(MASKED, above_zero("model.dropout")))
  # decay per step of averaged parameters used to evaluate; 0: off
  ema_decay: float = key(0.0, BELOW_1)
  log_every_steps: int = key(50, at_least(1))  # between log lines
  evaluate_every_epochs: float = key(0.0, at_least(0))  # 0: only at the end
  checkpoint_every_epochs: float = key(1.0, at_least(0))  # 0: only at the end
  keep_checkpoints: int = key(2, at_least(1))  # newest kept, beside the best one
  # none (last checkpoint) | validation (best clean error there)
  select_on: str = key("none", one_of("none", "validation"))


@dataclasses.dataclass(frozen=True)
class Evaluate:
  """What is measured."""

  suite: str = "clean"  # one of mixboost_jax.evaluate.SUITES, or words: "clean,c:fog,pgd"
  split: str = key("test", one_of("test", "validation"))  # of which pictures
  # of each picture, whose logits are averaged: one | mirror (2) | translate (both, also moved: 6)
  views: str = key("one", one_of("one", "mirror", "translate"), option=True)
  batch_size: int = key(500, at_least(1))  # pictures per call, over all devices
  # per unit; 0: as the suite says; -1: all, as for published tables
  max_examples: int = key(0, at_least(-1))
  max_clean: int = key(0, at_least(-1))  # of the clean pictures; 0: as max_examples says
  max_films: int = key(0, at_least(0))  # of -P, each of 31 pictures; 0: as max_examples says
  budget: str = ""  # e.g. "10min": sizes planned from a probe instead; "": no limit
  ood_dirs: tuple[str, ...] = ()  # out of distribution, for `ood`: pictures, TFDS folders, .npy
  released_dir: str = ""  # folder of published sets (-C, -P, -R, ...); "": made here
  ece_bins: int = key(15, at_least(1))  # of calibration errors
  confidence: float = key(0.95, INSIDE)  # level of all intervals


@dataclasses.dataclass(frozen=True)
class Interactions:
  """Which interactions `--job=interactions` and the monitor measure, and how well."""

  num_images: int = key(10, at_least(1))  # pictures of evaluate.split that the network gets right
  grid: int = key(16, at_least(2))  # cells per side: players of the game
  # orders / (n - 2)
  ratios: tuple[float, ...] = key(
    (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0), RATIOS
  )
  # neighbour (public protocol) | window | uniform
  pairs: str = key("neighbour", one_of("neighbour", "window", "uniform"))
  # largest distance of a pair, in cells
  stride: int = key(2, at_least(1), when=equals("interactions.pairs", "neighbour", "window"))
  pairs_per_image: int = key(32, at_least(1))  # per round, on top of the pilot run
  contexts: int = key(8, at_least(4))  # per pair and order; a multiple of 4
  max_contexts: int = key(64, at_least(4))  # doubled up to this where |I| would stay biased
  # rounds until no J^(m) has a larger one; 0: one round
  target_stderr: float = key(0.0, at_least(0))
  # however large it stays
  max_rounds: int = key(8, at_least(1), when=above_zero("interactions.target_stderr"))
  # modified (log p / (1 - p)) | normal (log p) | logit
  reward: str = key("modified", one_of("modified", "normal", "logit"))
  # of absent cells
  fill: str = key("mean", one_of("mean", "black", "gray", "data_mean", "blur", "picture_mean"))
  attack: bool = False  # Delta J of each order under an attack; twice the cost of the curve
  # largest change, L-infinity, pixel units
  attack_epsilon: float = key(32 / 255, POSITIVE_FRACTION, when=UNDER_ATTACK)
  attack_step_size: float = key(2 / 255, POSITIVE_FRACTION, when=UNDER_ATTACK)  # likewise
  attack_steps: int = key(100, at_least(1), when=UNDER_ATTACK)  # at most
  # wanted fall of the true logit, up to 0.5 more
  attack_drop: float = key(8.0, POSITIVE, when=UNDER_ATTACK)
  # cells per side of the map of I(i, j) on one picture; 0: no map
  map_grid: int = key(8, within("[0, 32]"))
  tree_grid: int = key(3, within("[0, 4]"))  # cells per side of the tree by T([A]); 0: no tree
  # cells of the AND and OR patterns, enumerated: 2^n evaluations per picture; 0: off
  and_or_players: int = key(0, within("[0, 12]"), option=True)
  # largest change of a reward that they leave unexplained, share of the largest reward
  and_or_noise: float = key(
    0.02, BELOW_1, when=above_zero("interactions.and_or_players"), option=True
  )
  chunk_size: int = key(256, at_least(4))  # network evaluations per call: bounds memory
  monitor_every_steps: int = key(0, at_least(0))  # log J^(m) and M while training; 0: off
  monitor_images: int = key(2, at_least(1), when=WATCHED)  # pictures the monitor watches
  # largest share of the time; the calls are spaced to keep it
  monitor_share: float = key(0.05, INSIDE, when=WATCHED)


@dataclasses.dataclass(frozen=True)
class Influence:
  """Which training pictures `--job=influence` looks at, and how it divides by the curvature."""

  # ekfac | cg (conjugate gradients) | lissa | last_layer (exact, of that alone) | tracin (no
  # curvature, of the last checkpoint)
  method: str = key("ekfac", one_of("ekfac", "cg", "lissa", "last_layer", "tracin"))
  # gauss_newton | hessian (needs a larger damping)
  curvature: str = key(
    "gauss_newton", one_of("gauss_newton", "hessian"), when=differs("influence.method", "tracin")
  )
  # added to the diagonal of the curvature; weight decay is a part of it
  damping: float = key(0.01, POSITIVE, when=differs("influence.method", "tracin"))
  num_steps: int = key(100, at_least(1), when=SOLVED)  # of cg, at most; terms of lissa
  # of lissa: more than the largest eigenvalue of the curvature
  scale: float = key(100.0, POSITIVE, when=equals("influence.method", "lissa"))
  num_test: int = key(20, at_least(1))  # pictures of evaluate.split, of all classes in turn
  num_train: int = key(1_000, at_least(1))  # first N training pictures, which give the curvature
  num_shown: int = key(5, within("[1, 20]"))  # most helpful and most harmful ones of the sheet
  batch_size: int = key(64, at_least(1))  # pictures whose gradients are in memory


@dataclasses.dataclass(frozen=True)
class Audit:
  """Which defenses of the trained network `--job=audit` attacks, and how."""

  num_images: int = key(1_000, at_least(0))  # first N of evaluate.split; 0: all
  preset: str = ""  # one of mixboost_jax.defenses.PRESETS; "": by data set and training
  defenses: str = "none,mi-ol"  # none, mi-pl, entries of the preset, or PRESET:ENTRY
  # in this order
  attacks: str = (
    "oblivious-10,adaptive-10,published-10,eot-ce,eot-margin,eot-dlr,apgd-ce,apgd-t,transfer,square"
  )
  epsilon: float = key(8 / 255, POSITIVE_FRACTION)  # radius, pixel units
  norm: str = key("linf", one_of("linf", "l2"))  # of the ball
  # oblivious, transfer, adaptive and published attacks
  step_size: float = key(2 / 255, POSITIVE_FRACTION)
  num_steps: int = key(10, at_least(1))  # of these, where the word of an attack gives none
  eot_step_size: float = key(1 / 255, POSITIVE_FRACTION)  # attacks through the whole defense
  # of these, where the word gives none; of Auto-PGD on random defenses
  eot_steps: int = key(50, at_least(1))
  apgd_steps: int = key(100, at_least(1))  # of Auto-PGD where nothing is random
  # target classes of apgd-t on random defenses; at most 9 elsewhere
  num_targets: int = key(3, at_least(1))
  samples: int = key(15, at_least(1))  # draws of the defense per gradient
  restarts: int = key(1, at_least(1))  # independent starts of the attacks through the defense
  num_queries: int = key(1_000, at_least(1))  # square, where the word gives none
  # draws averaged by one defended prediction; 0: as the preset says
  num_draws: int = key(0, at_least(0))
  redraws: int = key(3, at_least(1))  # independent draws of the whole defense that score each image
  survivors_only: bool = False  # leave alone what an earlier attack broke in every re-draw
  pool_examples: int = key(10_000, at_least(0))  # clean training pictures to mix with; 0: all
  batch_size: int = key(64, at_least(1))  # pictures per call, over all devices: bounds memory
  # also measure: lambda (Fig. 2), roc (3a), tradeoff (3b), samples (4), detectors
  figures: str = ""
  # first N of the audited pictures
  figure_images: int = key(100, at_least(1), when=differs("audit.figures", ""))


@dataclasses.dataclass(frozen=True)
class Gan:
  """The generator that `--job=gan` trains, for as long as `train` says.

  Of `train` it also takes batch_size (per critic step), steps_per_call, ema_decay (of the generator
  that pictures are drawn with) and what concerns log lines and checkpoints;
  train.evaluate_every_epochs is between two grids of pictures, report.num_samples per class. Of
  `augment` it takes the flip alone.
  """

  # non_saturating (with spectral normalisation) | wgan_gp (with a gradient penalty)
  loss: str = key("non_saturating", one_of("non_saturating", "wgan_gp"), option=True)
  width: int = key(64, at_least(1), option=True)  # channels at full size, of both networks
  latent: int = key(128, at_least(1), option=True)  # numbers that a picture is made of
  critic_steps: int = key(1, at_least(1), option=True)  # per update of the generator
  # weight of (slope - 1)^2
  penalty: float = key(10.0, at_least(0), when=equals("gan.loss", "wgan_gp"), option=True)
  learning_rate: float = key(2e-4, POSITIVE, option=True)  # of the generator
  critic_learning_rate: float = key(2e-4, POSITIVE, option=True)
  # folder of a run of --job=train whose penultimate features the proxy-FID compares; "": no FID
  features: str = key("", option=True)
  # made pictures that are compared
  fid_examples: int = key(2_000, at_least(20), when=differs("gan.features", ""), option=True)
  # .npz of real features to compare with; "": of the training split, kept in the run folder
  reference: str = key("", when=differs("gan.features", ""), option=True)


@dataclasses.dataclass(frozen=True)
class Runtime:
  """Where it runs; no key here changes a result beyond rounding."""

  # virtual devices on a CPU host; 0: 8, fewer if the batch asks for it
  cpu_devices: int = key(0, at_least(0))
  fsdp: int = key(1, at_least(1))  # devices over which the parameters are sharded; 1: replicated
  compile_cache: str = "auto"  # folder; auto: in the user's cache folder; "": off
  keep_freed_memory: bool = True  # CPU hosts: steps reuse memory instead of asking anew
  tensorboard: bool = True  # also write event files
  # steps of which a trace and a table of operations go to profile/, after the first log line
  profile_steps: int = key(0, at_least(0), option=True)
  # --job=compile: chips to compile for, such as v5e-16, h100x8, a100, cpu
  target: str = key("", option=True)
  # --job=compile: which programs, of train, augment, evaluate, pgd, mi, interactions
  programs: str = key("train,evaluate", when=differs("runtime.target", ""), option=True)
  decode_threads: int = key(0, at_least(0), when=STREAMED)  # threads per process; 0: one per core
  # batches decoded before the step asks for them
  batches_ahead: int = key(2, at_least(1), when=STREAMED)


@dataclasses.dataclass(frozen=True)
class Report:
  """What is shown."""

  num_samples: int = key(8, within("[0, 64]"))  # pictures shown clean, augmented and masked


@dataclasses.dataclass(frozen=True)
class Settings:
  """One resolved run."""

  name: str = "base"  # goes into results and the default workdir runs/<name>
  seed: int = 0  # root of all randomness
  data: Data = dataclasses.field(default_factory=Data)
  model: Model = dataclasses.field(default_factory=Model)
  augment: Augment = dataclasses.field(default_factory=Augment)
  mask: Mask = dataclasses.field(default_factory=Mask)
  objective: Objective = dataclasses.field(default_factory=Objective)
  adversary: Adversary = dataclasses.field(default_factory=Adversary)
  optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
  train: Train = dataclasses.field(default_factory=Train)
  evaluate: Evaluate = dataclasses.field(default_factory=Evaluate)
  interactions: Interactions = dataclasses.field(default_factory=Interactions)
  influence: Influence = dataclasses.field(default_factory=Influence)
  audit: Audit = dataclasses.field(default_factory=Audit)
  gan: Gan = dataclasses.field(default_factory=Gan)
  runtime: Runtime = dataclasses.field(default_factory=Runtime)
  report: Report = dataclasses.field(default_factory=Report)

  def to_json(self) -> dict[str, Any]:
    """Returns the plain tree that goes into results and the workdir."""
    return json.loads(json.dumps(dataclasses.asdict(self)))


SECTIONS: Mapping[str, Any] = {
  name: kind for name, kind in get_type_hints(Settings).items() if dataclasses.is_dataclass(kind)
}
KEYS: Mapping[str, dataclasses.Field] = {
  f"{section}.{field.name}": field
  for section, kind in SECTIONS.items()
  for field in dataclasses.fields(kind)
}
"""Dotted key -> its declaration."""
READ_WHEN: ReadWhen = {name: field.metadata.get("when", ()) for name, field in KEYS.items()}


def defaults() -> dict[str, Any]:
  """Returns the config that changes nothing, as a plain tree."""
  tree = dataclasses.asdict(Settings())
  tree["mask"] |= {"keep_rate": None, "mask_rate": None}  # give one; none: keep_rate as above
  return tree


def meanings() -> dict[str, str]:
  """Returns what is said of each key beside its declaration above; of a section, its docstring."""
  source = inspect.getsource(sys.modules[__name__])
  tokens = tokenize.generate_tokens(io.StringIO(source).readline)
  said = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
  lines, sections = source.splitlines(), {kind.__name__: name for name, kind in SECTIONS.items()}
  found: dict[str, str] = {}
  for node in ast.parse(source).body:
    if not isinstance(node, ast.ClassDef) or node.name not in (*sections, "Settings"):
      continue
    place, text = sections.get(node.name, ""), ""
    if place:
      found[place] = ast.get_docstring(node) or ""
    for field in node.body:
      if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
        first = field.lineno
        while lines[first - 2].lstrip().startswith("#"):
          first -= 1
        last = field.end_lineno or field.lineno
        words = [said[line] for line in range(first, last + 1) if line in said]
        text = " ".join(words) or text  # a key without a word shares that of the one before
        found.setdefault(f"{place}.{field.target.id}".lstrip("."), text)
  return found
