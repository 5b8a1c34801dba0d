# SPDX-License-Identifier: Apache-2.0
"""A label-conditional GAN on CIFAR-10, for the augmentation `gan`: NS and WGP of the lecture.

  python -m mixboost_jax.main --job=train --config=configs/cifar10.py:short \
      --config.data.dir=DIR --workdir=runs/features        # a classifier, for the proxy-FID
  python -m mixboost_jax.main --job=gan --config=configs/gan_cifar10.py:short \
      --config.data.dir=DIR --config.gan.features=runs/features --workdir=runs/gan
  python -m mixboost_jax.main --job=gan --config=configs/gan_cifar10.py:shapes --workdir=runs/shapes

Words: wgan_gp (instead of non-saturating with spectral normalisation), short (narrow networks on
all pictures, for CPU cores: stop it when the grids no longer change), shapes (the procedural set),
smoke. A classifier is trained on made pictures by

  python -m mixboost_jax.main --config=configs/cifar10.py:gan --config.augment.policy.p=0.5 \
      --config.augment.generator=runs/gan

Lecture: FID 20.11 (NS) and 18.30 (WGP), with Inception's features on a GPU's budget. Here only
proxies are measured, which are not comparable with these.
"""

from ml_collections import ConfigDict

from mixboost_jax.configs import base

SMALL = {  # minutes on CPU cores
  "gan.width": 16,
  "gan.latent": 64,
  "gan.learning_rate": 1e-3,
  "gan.critic_learning_rate": 1e-3,
  "train.batch_size": 32,
}
WORDS = {
  "wgan_gp": {"gan.loss": "wgan_gp", "gan.critic_steps": 5},
  "short": {
    **SMALL,
    "train.ema_decay": 0.998,
    "train.epochs": 6.0,
    "train.evaluate_every_epochs": 0.5,
    "train.checkpoint_every_epochs": 0.1,
  },
  "shapes": {
    **SMALL,
    "data.name": "shapes",
    "data.train_examples": 6_000,
    "data.test_examples": 2_000,
    "train.ema_decay": 0.99,
    "train.epochs": 4.0,
    "train.evaluate_every_epochs": 1.0,
  },
}


def get_config(arg: str = "") -> ConfigDict:
  config = base.get_config()
  config.name = "gan_cifar10"
  config.data.name = "cifar10"
  config.train.batch_size = 64
  config.train.epochs = 200.0
  config.train.ema_decay = 0.999
  config.train.evaluate_every_epochs = 10.0
  if "smoke" in arg.split("+"):
    config.gan.update({"width": 8, "latent": 16})
  return base.vary(config, arg, table=WORDS)
