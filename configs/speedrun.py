# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 within minutes on two CPU cores (after Jordan 2024, arXiv:2404.00498).

  python -m mixboost_jax.main --config=configs/speedrun.py --config.data.dir=DIR
  python -m mixboost_jax.main --config=configs/speedrun.py:full+long --config.data.dir=DIR
  python -m mixboost_jax.main --config=configs/speedrun.py:pixmix+boost --config.data.dir=DIR

Words: size quarter half (the default) full; length tiny (2 epochs) short (4) long (16), 8 without;
few (10,000 pictures, until the network knows them); and all of configs/cifar10.py but its own long
and short.

Options were chosen on 5,000 pictures held out of the training set, on which half the width leaves
an error of 14.0 % after four epochs of the other 45,000 (results/benchmarks/speedrun_search.json).
"""

from ml_collections import ConfigDict

from mixboost_jax.configs import base

WORDS = {
  **base.VARIANTS,
  "trivial_recipe": {
    **base.VARIANTS["trivial_recipe"],
    "augment.alternate_flip": False,
    "augment.crop_mode": "zero",
  },
  "quarter": {"model.name": "speedrun-0.25"},
  "half": {"model.name": "speedrun-0.5"},
  "full": {"model.name": "speedrun-1"},
  "tiny": {"train.epochs": 2.0},
  "short": {"train.epochs": 4.0},
  "long": {"train.epochs": 16.0},
  "few": {  # pictures, until the network knows them: what the studies train
    "data.train_examples": 10_000,
    "objective.label_smoothing": 0.0,
    "optimizer.learning_rate": 0.085,
    "optimizer.rest_learning_rate": 0.21,
    "optimizer.weight_decay": 5e-4,
    "train.batch_size": 250,
    "train.epochs": 20.0,
    "train.evaluate_every_epochs": 0.0,
  },
}


def get_config(arg: str = "") -> ConfigDict:
  config = base.get_config()
  config.name = "speedrun"
  config.data.name = "cifar10"
  config.model.name = "speedrun-0.5"
  config.model.dropout = 0.0
  config.model.mean = (0.4914, 0.4822, 0.4465)
  config.model.std = (0.247, 0.2435, 0.2616)
  config.augment.alternate_flip = True
  config.augment.crop_padding = 2
  config.augment.crop_mode = "reflect"
  config.objective.label_smoothing = 0.2
  config.optimizer.name = "muon"
  config.optimizer.learning_rate = 0.12
  config.optimizer.fixed_norms = True
  config.optimizer.momentum = 0.85
  config.optimizer.rest_learning_rate = 0.42
  config.optimizer.bias_factor = 64.0
  config.optimizer.weight_decay = 1e-3
  config.optimizer.schedule = "linear"
  config.train.batch_size = 512
  config.train.epochs = 8.0
  config.runtime.cpu_devices = 2  # every device repeats the update
  config.train.evaluate_every_epochs = 1.0
  return base.vary(config, arg, table=WORDS)
