# SPDX-License-Identifier: Apache-2.0
"""CIFAR-100 with the hyper-parameters of the MixBoost paper: WRN-40-4, Tables I and II.

  python -m mixboost_jax.main --config=configs/cifar100.py:boost --config.data.dir=DIR

Words: those of configs/cifar10.py.
Paper, clean error in %, 500 epochs: baseline 20.5, boost alone 21.1, PixMix 19.4, both 18.1.
"""

from ml_collections import ConfigDict

from mixboost_jax.configs import base, cifar10

WORDS = {
  **cifar10.WORDS,
  "cutout": {"augment.policy": {"name": "cutout", "length": 8}},
}


def get_config(arg: str = "") -> ConfigDict:
  config = cifar10.get_config()
  config.name = "cifar100"
  config.data.name = "cifar100"
  return base.vary(config, arg, table=WORDS)
