# SPDX-License-Identifier: Apache-2.0
r"""ImageNet: ResNet-50 at 224 pixels with the hyper-parameters of the papers.

  python -m mixboost_jax.main --config=configs/imagenet.py:pixmix+boost --config.data.dir=DIR
  python -m mixboost_jax.main --config=configs/imagenet.py:augmix_jsd+scratch --config.data.dir=DIR
  python -m mixboost_jax.main --config=configs/imagenet.py:boost+smoke    # a minute, no download

DIR holds train/CLASS/PICTURE and val/CLASS/PICTURE. A set prepared by TensorFlow Datasets as
array_record does as well:

  --config.data.name=tfds --config.data.tfds_name=imagenet2012 --config.data.dir=DIR

Sets above 8 GiB are streamed: pictures are decoded in threads while the network trains, windows are
cut from the full pictures, and everything else happens on the device (config.data.stream,
config.runtime.decode_threads). Smaller sets, such as 50,000 pictures, lie on the device at 224
pixels. The small network of `smoke` on pictures of your own, streamed:

  python -m mixboost_jax.main --config=configs/imagenet.py:pixmix+boost+smoke \
    --config.data.dir=DIR --config.data.stream=on

Words: baseline pixmix augmix augmix_jsd autoaugment trivial randaugment mixup cutmix, each with
boost, mask70, aligned; scratch (schedule of Hendrycks et al. 2020, AugMix: rate 0.1, divided by 10
after each third, weight decay 1e-4), smoke.

Papers: PixMix (Hendrycks et al. 2022) and MixBoost fine-tune a trained ResNet-50 (give it as
--config.model.weights=FILE): batch 256, rate 0.01, cosine, 90 epochs; k = 4, beta = 4, severity 1.
AugMix: severity 1, JSD weight 12. Mixup: alpha 0.2 (Zhang et al. 2018, Sec. 3.1). CutMix: always.
Masks: 16 x 16 cells of 14 pixels.
Deviation: windows of sets that are not streamed are cut from pictures of 224 pixels, not from the
full size.
"""

from ml_collections import ConfigDict

from mixboost_jax.configs import base

AUGMIX = {"name": "augmix", "severity": 1, "width": 3}
KEPT = ("baseline", "boost", "mask70", "aligned", "trivial", "randaugment")
WORDS = {
  **{word: base.VARIANTS[word] for word in KEPT},
  "pixmix": {"augment.policy": {"name": "pixmix", "k": 4, "beta": 4, "severity": 1}},
  "augmix": {"augment.policy": AUGMIX},
  "augmix_jsd": {"augment.policy": AUGMIX, "objective.jsd_weight": 12.0},
  "autoaugment": {"augment.policy": {"name": "autoaugment", "policy": "imagenet"}},
  "mixup": {"augment.policy": {"name": "mixup", "alpha": 0.2}},
  "cutmix": {"augment.policy": {"name": "cutmix", "alpha": 1.0, "prob": 1.0}},
  "scratch": {
    "optimizer.learning_rate": 0.1,
    "optimizer.nesterov": False,
    "optimizer.weight_decay": 1e-4,
    "optimizer.schedule": "step",
    "optimizer.milestones": (1 / 3, 2 / 3),
  },
}


def get_config(arg: str = "") -> ConfigDict:
  config = base.get_config()
  config.name = "imagenet"
  config.data.name = "folder"
  config.data.image_size = 224
  config.data.test_margin = 32
  config.model.name = "resnet-50"
  config.model.dropout = 0.0
  config.model.mean = (0.485, 0.456, 0.406)
  config.model.std = (0.229, 0.224, 0.225)
  config.augment.crop_padding = 0
  config.augment.resized_crop = 224
  config.optimizer.learning_rate = 0.01
  config.optimizer.weight_decay = 5e-4
  config.train.batch_size = 256
  config.train.epochs = 90.0
  return base.vary(config, arg, table=WORDS)
