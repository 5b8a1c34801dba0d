# SPDX-License-Identifier: Apache-2.0
"""CIFAR-100 networks for Mixup Inference (Pang et al. 2020, arXiv:1909.11515, Sec. 4).

  python -m mixboost_jax.main --config=configs/mi_cifar100.py:iat --config.data.dir=DIR

Words and hyper-parameters: those of configs/mi_cifar10.py.
"""

from ml_collections import ConfigDict

from mixboost_jax.configs import base, mi_cifar10

WORDS = mi_cifar10.WORDS


def get_config(arg: str = "") -> ConfigDict:
  config = mi_cifar10.get_config()
  config.name = "mi_cifar100"
  config.data.name = "cifar100"
  return base.vary(config, arg, table=WORDS)
