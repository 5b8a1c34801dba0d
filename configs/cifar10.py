# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 with the hyper-parameters of the MixBoost paper: WRN-40-4, Tables I and II.

  python -m mixboost_jax.main --config=configs/cifar10.py:boost --config.data.dir=DIR
  python -m mixboost_jax.main --config=configs/cifar10.py:mixup+boost    # any policy, with boost
  python -m mixboost_jax.main --config=configs/cifar10.py:boost+smoke    # a minute, no download;
                                       # with --config.data.dir=DIR on 2,000 pictures of CIFAR-10

Words: baseline cutout mixup cutmix autoaugment randaugment trivial augmix augmix_jsd pixmix, and
mixup_each (a weight per example) manifold samplepairing smote at iat trades reduce (the
interaction-reduction loss), each with boost; mask70 (the other reading of r1), aligned
(factor of Deng et al.), long (the 500 epochs of the final runs), short (a small network, a part of
the pictures, three epochs: the committed CPU runs), smoke.

Paper, clean error in %, 500 epochs: baseline 4.0, boost alone 4.0, PixMix 3.4, PixMix + boost 3.0.
Measured here: see the table in docs/results.md, generated from results/.
"""

from ml_collections import ConfigDict

from mixboost_jax.configs import base

WORDS = {
  **base.VARIANTS,
  "long": {"train.epochs": 500.0},
  "short": {  # minutes on two CPU cores
    "data.train_examples": 15_000,
    "model.name": "wrn-10-1",
    "model.dropout": 0.0,
    "optimizer.learning_rate": 0.1,
    "train.batch_size": 64,
    "train.epochs": 3.0,
    "train.evaluate_every_epochs": 1.0,
  },
}


def get_config(arg: str = "") -> ConfigDict:
  config = base.get_config()
  config.name = "cifar10"
  config.data.name = "cifar10"
  config.model.name = "wrn-40-4"
  config.model.dropout = 0.3
  config.optimizer.learning_rate = 0.05
  config.optimizer.weight_decay = 5e-4
  config.train.batch_size = 128
  config.train.epochs = 100.0
  return base.vary(config, arg, table=WORDS)
