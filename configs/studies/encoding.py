# SPDX-License-Identifier: Apache-2.0
"""What a network encodes, by order of interaction: textures, shapes, noise, outliers, training.

  python -m mixboost_jax.main --job=study --config=configs/studies/encoding.py --minutes=60 \
    --workdir=runs/encoding --results=results/studies/encoding

On the procedural set the cue is known: with `texture_agreement` 1 the texture tells the class, with
0.1 only the shape does, otherwise (0.9) mostly both. `*_noise` networks are trained with noise of
standard deviation 0.1: Delta F^(m) (Cheng et al. 2021, 004) compares them, order by order, with
those trained without. `dropout` and `reduced*` weaken interactions (Zhang et al. 2021), `at` is
trained on PGD pictures (Ren et al. 2021), `outliers` learns random labels of noisy pictures by
heart. No download; about five minutes per network on a CPU core.

Deviation: 004 measures large networks on natural pictures, and has data sets of fine-grained
textures and of whole and partial objects, which the procedural set has not.
"""

from typing import Any

from ml_collections import ConfigDict

from mixboost_jax.configs import base, studies

NOISE = {"augment.policy": {"name": "gaussian_noise", "sigma": 0.1}}
TEXTURES, SHAPES = {"data.texture_agreement": 1.0}, {"data.texture_agreement": 0.1}
CUES: dict[str, dict[str, Any]] = {
  "textures": TEXTURES,
  "textures_noise": TEXTURES | NOISE,
  "shapes": SHAPES,
  "shapes_noise": SHAPES | NOISE,
}
BY_HEART = {
  "data.train_examples": 1_000,
  "data.outliers": 50,
  "train.epochs": 40.0,
  "augment.flip": False,
  "augment.crop_padding": 0,
}
ATTACKED = {"interactions.attack": True, "interactions.attack_steps": 20}
TRAINING: dict[str, dict[str, Any]] = {
  "plain": ATTACKED,
  "dropout": {"model.dropout": 0.3},
  "reduced10": {"objective.reduction_weight": 0.1},
  "outliers": BY_HEART,
  "at": {"adversary.name": "at", "adversary.num_steps": 3} | ATTACKED,
  "cutout": {"augment.policy": {"name": "cutout", "length": 16}},
  "reduced1": {"objective.reduction_weight": 0.01},
  "reduced100": {"objective.reduction_weight": 1.0},
}
KEYS = {
  "data.name": "shapes",
  "data.train_examples": 6_000,
  "data.test_examples": 2_000,
  "model.name": "wrn-10-1",
  "model.dropout": 0.0,
  "augment.crop_padding": 2,
  "optimizer.learning_rate": 0.1,
  "train.batch_size": 64,
  "train.epochs": 6.0,
  "train.log_every_steps": 20,
  "train.evaluate_every_epochs": 1.0,
  "evaluate.suite": "clean,pgd-10",
  "evaluate.max_clean": -1,
  "evaluate.max_examples": 500,
  "interactions.num_images": 20,
  "interactions.grid": 8,
  "interactions.ratios": (0.0, 0.2, 0.5, 0.8, 0.9, 1.0),
  "interactions.pairs_per_image": 8,
  "interactions.max_contexts": 8,
  "interactions.map_grid": 0,
  "interactions.tree_grid": 0,
}
SMOKE = {
  "data.outliers": 0,
  "evaluate.suite": "clean",
  "interactions.num_images": 2,
  "interactions.grid": 4,
  "interactions.ratios": (0.0, 0.5, 1.0),
  "interactions.pairs_per_image": 4,
  "interactions.contexts": 4,
  "interactions.max_contexts": 64,  # the default, as the next
  "interactions.attack": False,
  "interactions.attack_steps": 100,
}


def get_config(arg: str = "") -> ConfigDict:
  blocks = [{row: ("", keys) for row, keys in table.items()} for table in (CUES, TRAINING)]
  return studies.build(
    "encoding",
    arg,
    blocks=[(rows, (0, 1, 2)) for rows in blocks],
    jobs=["evaluate", "interactions"],
    keys=KEYS,
    smoke=SMOKE,
    recipe=base.get_config,
  )
