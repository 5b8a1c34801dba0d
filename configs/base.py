# SPDX-License-Identifier: Apache-2.0
"""Every key that a config may set, with its default, unit and meaning.

The other files of this folder start from `get_config` and state only what differs.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

NO_POLICY = {"name": "none"}


def get_config(arg: str = "") -> ConfigDict:
  """Returns the defaults, changed by the words of `--config=configs/base.py:word+word`."""
  config = ConfigDict()
  config.name = "base"  # goes into results and the default workdir runs/<name>
  config.seed = 0  # root of all randomness

  config.data = data = ConfigDict()
  data.name = "shapes"  # shapes | cifar10 | cifar100 | tfds | folder | npz
  data.dir = ""  # folder (or archive) with the files; "" looks in the default places
  data.download = False  # cifar10, cifar100: fetch the official archive if it is missing
  data.tfds_name = ""  # tfds: builder name, optionally name/config:version
  data.image_size = 0  # px; side that folder and tfds pictures are resized to; 0: as stored
  data.train_examples = 0  # use the first N of the training split; 0: all
  data.validation_examples = 0  # held out from the end of the training split, to select on
  data.test_examples = 0  # use the first N of the test split; 0: all
  data.note = ""  # put behind the set's name in every table, e.g. JPEG for a recompressed copy
  data.texture_agreement = 0.9  # shapes: P(texture matches the class) while training, in [0, 1]
  data.outliers = 0  # training pictures that get noise and a wrong label; 0: none
  data.outlier_noise = 0.02  # outliers: standard deviation of the noise, pixel units
  data.stream = "auto"  # folder, tfds: decode pictures while training: on | off (all in memory) |
  # auto (on above 8 GiB per split). Resized crops are then cut from the full pictures
  data.test_margin = 0  # px; folder, tfds: test pictures are resized to so much more than
  # image_size, and their middle is kept (ImageNet: 256 to 224)

  config.model = model = ConfigDict()
  model.name = "wrn-40-4"  # see mixboost_jax.models.NAMES
  model.dropout = 0.3  # drop probability inside wide blocks
  model.compute_dtype = "float32"  # float32 | bfloat16; parameters and logits stay float32
  model.mean = (0.5, 0.5, 0.5)  # first layer: (pixel - mean) / std, per channel
  model.std = (0.5, 0.5, 0.5)
  model.weights = ""  # start from a torch-layout file (.safetensors, .npz, .pth)

  config.augment = augment = ConfigDict()
  augment.flip = True  # random horizontal flip
  augment.crop_padding = 4  # px of zero padding before the random crop; 0: no crop
  augment.resized_crop = 0  # px; window of 8-100 % of the area, resized to this side; 0: off
  augment.num_mixing_images = 1_000  # pixmix: procedural pictures to mix with
  augment.mixing_dir = ""  # pixmix: folder of pictures to mix with, all are used; "": procedural
  augment.policy = ConfigDict(NO_POLICY)  # name and exactly the keywords of that augmentation
  augment.start = 0.0  # fraction of the run before which the policy is off
  augment.end = 1.0  # fraction of the run after which it is off
  augment.on_epochs = 1  # in between: this many epochs on,
  augment.off_epochs = 0  # then this many off, in turns
  augment.manifold_alpha = 0.0  # Manifold Mixup: Beta(alpha, alpha) weights; 0: off
  augment.manifold_layers = (0, 1, 2)  # one is drawn per batch; 0: input, i: after stage i

  config.mask = mask = ConfigDict()
  mask.grid = 16  # cells per side of the patch grid
  mask.keep_rate = config_dict.placeholder(float)  # fraction of cells kept; None: 0.7
  mask.mask_rate = config_dict.placeholder(float)  # = 1 - keep_rate; give one of the two
  mask.fill = "mean"  # mean (0 after normalisation) | black | gray | data_mean | learned

  config.objective = objective = ConfigDict()
  objective.name = "erm"  # erm | mixboost | interaction
  objective.label_smoothing = 0.0  # in [0, 1)
  objective.boost_weight = 1.0  # mixboost: lambda of eq. 3
  objective.align = "none"  # mixboost: none (eq. 4 as written) | ratio (1 / keep_rate, Deng et al.)
  objective.difference = "logits"  # mixboost: logits | probabilities
  objective.stop_gradient_clean = False  # mixboost: no boost gradient through the clean view
  objective.boost_on = "clean"  # picture to mask: clean | changed (augmented, adversarial) | all
  objective.jsd_weight = 0.0  # of the Jensen-Shannon divergence between the clean picture and two
  # independent draws of augment.policy (AugMix: 12); 0: the policy's picture is the only one
  objective.low_weight = 0.0  # interaction: lambda1 of L-(low_rates), penalises low orders
  objective.mid_weight = 0.0  # interaction: lambda2 of L+(mid_rates), encourages middle orders
  objective.high_weight = 0.0  # interaction: lambda3 of L-(high_rates), penalises high orders
  objective.low_rates = (0.0, 0.5)  # interaction: (r1, r2), fractions of cells kept
  objective.mid_rates = (0.3, 0.7)
  objective.high_rates = (0.7, 1.0)
  objective.reduction_weight = 0.0  # of E |I(i, j)| between units of a layer (Zhang et al.); 0: off
  objective.reduction_stage = "stage2"  # the layer: input | stage1 | ...; a linear rest gives 0
  objective.reduction_units = "entries"  # entries | positions (all channels) | channels
  objective.reduction_fraction = 0.05  # size of each of the two groups, share of the units
  objective.reduction_draws = 1  # groups and contexts per example; each costs 4 forwards

  config.adversary = adversary = ConfigDict()
  adversary.name = "none"  # none | at (Madry et al.) | iat (Lamb et al.) | trades (Zhang et al.)
  adversary.epsilon = 8 / 255  # radius of the Linf ball, pixels in [0, 1]
  adversary.step_size = 2 / 255  # of one attack step, likewise
  adversary.num_steps = 10  # gradient steps of the attack, in every training step
  adversary.random_start = True  # uniform in the ball; otherwise at the picture
  adversary.labels = "true"  # what the attack leaves: true | predicted | probabilities (TRADES)
  adversary.network = "evaluation"  # batch norm in the attack: evaluation (running) | training
  adversary.clean_weight = 0.5  # at, iat: weight of the clean pictures' loss; at: 0 omits them
  adversary.beta = 6.0  # trades: weight of KL(clean || adversarial)
  adversary.mixup_alpha = 1.0  # iat: Beta(alpha, alpha) weights of both mixes; 0: no mixing
  adversary.mixup_per = "example"  # iat: one weight per batch | example
  adversary.mixup_partner = "two_permutations"  # iat: roll | permutation | two_permutations

  config.optimizer = optimizer = ConfigDict()
  optimizer.name = "sgd"  # sgd | adamw
  optimizer.learning_rate = 0.05  # peak
  optimizer.momentum = 0.9  # sgd
  optimizer.nesterov = True  # sgd
  optimizer.weight_decay = 5e-4  # on all parameters; sgd: added to the gradient; adamw: decoupled
  optimizer.schedule = "cosine"  # cosine | step | constant, per step
  optimizer.final_learning_rate = 1e-6  # cosine: value at the last step
  optimizer.warmup_steps = 0  # linear from 0
  optimizer.milestones = (0.5, 0.75)  # step: fractions of the run at which the rate is multiplied
  optimizer.step_factor = 0.1  # step: by this
  optimizer.clip_norm = 0.0  # global gradient norm; 0: off

  config.train = train = ConfigDict()
  train.batch_size = 128  # examples per update, over all devices
  train.epochs = 100.0  # length of the run; give epochs or steps, the other 0
  train.steps = 0
  train.accumulate = 1  # micro-batches per update
  train.steps_per_call = 1  # updates per compiled call
  train.view_forward = "auto"  # auto | fused (one forward of all views) | separate
  train.batchnorm_views = "clean"  # running statistics from: clean | both | joint (one batch)
  train.share_dropout = False  # the same dropout mask in every view of an example
  train.ema_decay = 0.0  # decay per step of averaged parameters used to evaluate; 0: off
  train.log_every_steps = 50
  train.evaluate_every_epochs = 0.0  # 0: only at the end
  train.checkpoint_every_epochs = 1.0  # 0: only at the end
  train.keep_checkpoints = 2  # newest kept, beside the best one
  train.select_on = "none"  # none (last checkpoint) | validation (best clean error there)

  config.evaluate = evaluate = ConfigDict()
  evaluate.suite = "clean"  # see mixboost_jax.evaluate.SUITES, or words: "clean,c:fog,pgd"
  evaluate.split = "test"  # test | validation
  evaluate.batch_size = 500
  evaluate.max_examples = 0  # per unit; 0: as the suite says; -1: all, as for published tables
  evaluate.budget = ""  # e.g. "10min": sizes planned from a probe instead; "": no limit
  evaluate.ood_dirs = ()  # out of distribution, for `ood`: pictures, TFDS folders, .npy
  evaluate.released_dir = ""  # folder of published sets (-C, -P, -R, ...); "": made here
  evaluate.ece_bins = 15
  evaluate.confidence = 0.95  # level of all intervals

  config.interactions = interactions = ConfigDict()  # --job=interactions, and the monitor
  interactions.num_images = 10  # pictures of evaluate.split that the network gets right
  interactions.grid = 16  # cells per side: players of the game
  interactions.ratios = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
  interactions.pairs = "neighbour"  # neighbour (public protocol) | window | uniform
  interactions.stride = 2  # neighbour, window: largest distance of a pair, in cells
  interactions.pairs_per_image = 32  # per round, on top of the pilot run
  interactions.contexts = 8  # per pair and order; a multiple of 4
  interactions.max_contexts = 64  # doubled up to this where |I| would stay biased
  interactions.target_stderr = 0.0  # rounds until no J^(m) has a larger one; 0: one round
  interactions.max_rounds = 8
  interactions.reward = "modified"  # modified (log p / (1 - p)) | normal (log p) | logit
  interactions.fill = "mean"  # mean | black | gray | data_mean | blur | picture_mean
  interactions.noise = 0.0  # Delta F: standard deviation of added noise, pixel units; 0: off
  interactions.attack = False  # Delta J of each order under an attack; twice the cost of the curve
  interactions.attack_epsilon = 32 / 255  # largest change, L-infinity, pixel units
  interactions.attack_step_size = 2 / 255
  interactions.attack_steps = 100
  interactions.attack_drop = 8.0  # wanted fall of the true logit, up to 0.5 more
  interactions.map_grid = 8  # cells per side of the map of I(i, j) on one picture; 0: no map
  interactions.tree_grid = 3  # cells per side of the tree by T([A]), at most 4; 0: no tree
  interactions.chunk_size = 256  # network evaluations per call: bounds memory
  interactions.monitor_every_steps = 0  # log J^(m) and M while training; 0: off
  interactions.monitor_images = 2  # pictures the monitor watches
  interactions.monitor_share = 0.05  # largest share of the time; the calls are spaced to keep it

  config.audit = audit = ConfigDict()  # --job=audit: defenses of the trained network, attacked
  audit.num_images = 1_000  # first N of evaluate.split; 0: all
  audit.preset = ""  # one of mixboost_jax.defenses.PRESETS; "": by data set and training
  audit.defenses = "none,mi-ol"  # none, mi-pl, entries of the preset, or PRESET:ENTRY
  audit.attacks = (
    "oblivious-10,adaptive-10,published-10,eot-ce,eot-margin,eot-dlr,apgd-ce,apgd-t,transfer,square"
  )
  audit.epsilon = 8 / 255  # radius, pixel units
  audit.norm = "linf"  # or l2
  audit.step_size = 2 / 255  # oblivious, transfer, adaptive and published attacks
  audit.num_steps = 10  # of these, where the word of an attack gives none
  audit.eot_step_size = 1 / 255  # attacks through the whole defense
  audit.eot_steps = 50  # of these, where the word gives none; of Auto-PGD on random defenses
  audit.apgd_steps = 100  # of Auto-PGD where nothing is random
  audit.num_targets = 3  # target classes of apgd-t on random defenses; at most 9 elsewhere
  audit.samples = 15  # draws of the defense per gradient
  audit.restarts = 1  # independent starts of the attacks through the defense
  audit.num_queries = 1_000  # square, where the word gives none
  audit.num_draws = 0  # draws averaged by one defended prediction; 0: as the preset says
  audit.redraws = 3  # independent draws of the whole defense that score each image
  audit.survivors_only = False  # leave alone what an earlier attack broke in every re-draw
  audit.pool_examples = 10_000  # clean training pictures to mix with; 0: all
  audit.batch_size = 64  # pictures per call, over all devices: bounds memory
  audit.figures = ""  # also measure: lambda (Fig. 2), roc (3a), tradeoff (3b), samples (4)
  audit.figure_images = 100  # first N of the audited pictures

  config.runtime = runtime = ConfigDict()
  runtime.cpu_devices = 0  # virtual devices on a CPU host; 0: 8, fewer if the batch asks for it
  runtime.fsdp = 1  # devices over which the parameters are sharded; 1: replicated
  runtime.compile_cache = "auto"  # folder; auto: in the user's cache folder; "": off
  runtime.keep_freed_memory = True  # CPU hosts: steps reuse memory instead of asking anew
  runtime.tensorboard = True  # also write event files
  runtime.decode_threads = 0  # streamed sets: threads per process; 0: one per core
  runtime.batches_ahead = 2  # streamed sets: batches decoded before the step asks for them

  config.report = report = ConfigDict()
  report.num_samples = 8  # pictures shown clean, augmented and masked

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
  "pixmix": {"augment.policy": {"name": "pixmix", "k": 4, "beta": 3, "severity": 3}},
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

  Args:
    config: changed in place.
    arg: the part of `--config=FILE:arg` after the colon.
    table: the words that this file knows, beside `smoke`.

  Raises:
    ValueError: naming the unknown word and the known ones.
  """
  words = [word for word in arg.split("+") if word]
  unknown = sorted(set(words) - set(table) - {"smoke"})
  if unknown:
    known = ", ".join(["smoke", *table])
    raise ValueError(f"config variant {arg!r}: unknown {', '.join(unknown)}; choose from {known}.")
  for word in words:
    if word != "smoke":
      override(config, table[word])
      config.name = f"{config.name}_{word}"
  return smoke(config) if "smoke" in words else config


def smoke(config: ConfigDict) -> ConfigDict:
  """Shrinks any experiment to about a minute on two CPU cores, on the procedural set."""
  config.name = f"{config.name}_smoke"
  config.data.name = "shapes"
  config.data.image_size = 0
  config.data.test_margin = 0
  config.data.train_examples = 2_000
  config.data.test_examples = 500
  config.augment.resized_crop = 32 if config.augment.resized_crop else 0
  config.model.name = "wrn-10-1"
  config.adversary.num_steps = min(config.adversary.num_steps, 3)
  config.train.batch_size = 50
  config.train.accumulate = 1
  config.train.epochs = 2.0
  config.train.steps = 0
  config.train.log_every_steps = 10
  config.train.evaluate_every_epochs = 1.0
  small = {"num_images": 32, "figure_images": 16, "eot_steps": 3, "samples": 2, "num_queries": 10}
  small |= {"apgd_steps": 3, "num_targets": 1}
  config.audit.update({**small, "num_draws": 3, "pool_examples": 500})
  return config
