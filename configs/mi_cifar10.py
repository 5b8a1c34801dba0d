# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 networks for Mixup Inference (Pang et al. 2020, arXiv:1909.11515, Sec. 4).

  python -m mixboost_jax.main --config=configs/mi_cifar10.py:iat --config.data.dir=DIR
  python -m mixboost_jax.main --config=configs/mi_cifar10.py:iat+boost     # with the MixBoost term
  python -m mixboost_jax.main --config=configs/mi_cifar10.py:at+short      # minutes on two cores
  python -m mixboost_jax.main --config=configs/mi_cifar10.py:trades+smoke  # a minute, no download

Words: baseline mixup at iat trades, each with boost, mask70, aligned; repo (network and attack
labels of the released code), short (a small pre-activation network, a part of the pictures, three
epochs, five attack steps), smoke.

Paper: ResNet-50, SGD with momentum 0.9, batch 64, 200 epochs, rate 0.01 (0.1 for IAT) divided by
10 at epochs 100 and 150; mixup with alpha 1; attack PGD-10, epsilon 8/255, step 2/255, clean and
adversarial pictures 1:1. Released code: weights and two permutations per example for mixup, no
weight decay, attack with batch normalisation in evaluation mode.
Deviation: TRADES is not in that paper; its rate and beta are those of Zhang et al. 2019.
"""

from ml_collections import ConfigDict

from mixboost_jax.configs import base

KEPT = ("baseline", "boost", "mask70", "aligned", "at")
WORDS = {
  **{word: base.VARIANTS[word] for word in KEPT},
  "mixup": base.VARIANTS["mixup_each"],
  "iat": {**base.VARIANTS["iat"], "optimizer.learning_rate": 0.1},
  "trades": {**base.VARIANTS["trades"], "optimizer.learning_rate": 0.1},
  "repo": {"model.name": "mi-resnet-50", "adversary.labels": "predicted"},
  "short": {
    "data.train_examples": 15_000,
    "model.name": "wrn-10-1",  # pre-activation blocks too
    "adversary.num_steps": 5,
    "adversary.step_size": 2.5 / 255,
    "optimizer.learning_rate": 0.1,
    "optimizer.schedule": "cosine",
    "optimizer.weight_decay": 5e-4,
    "train.epochs": 3.0,
    "train.evaluate_every_epochs": 1.0,
  },
}


def get_config(arg: str = "") -> ConfigDict:
  config = base.get_config()
  config.name = "mi_cifar10"
  config.data.name = "cifar10"
  config.model.name = "preact-resnet-50"
  config.model.dropout = 0.0
  config.optimizer.learning_rate = 0.01
  config.optimizer.nesterov = False
  config.optimizer.weight_decay = 0.0
  config.optimizer.schedule = "step"
  config.optimizer.milestones = (0.5, 0.75)
  config.optimizer.step_factor = 0.1
  config.train.batch_size = 64
  config.train.epochs = 200.0
  return base.vary(config, arg, table=WORDS)
