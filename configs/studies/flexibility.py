# SPDX-License-Identifier: Apache-2.0
"""Delta F^(m): are textures encoded more flexibly than shapes? (Cheng et al. 2021, 004).

  python -m mixboost_jax.main --job=study --config=configs/studies/flexibility.py --minutes=60 \
    --workdir=runs/flexibility --results=results/studies/flexibility

On the procedural set the cue is known: with `texture_agreement` 1 the texture tells the class, with
0.1 only the shape does. Networks trained with and without noise of standard deviation 0.1 are
compared order by order in the report. No download; about two minutes per network on two CPU cores.
"""

from ml_collections import ConfigDict

from mixboost_jax.configs import base, demo

CUES = {"textures": 1.0, "shapes": 0.1}
POLICIES = {"plain": {"name": "none"}, "noise": {"name": "gaussian_noise", "sigma": 0.1}}
SEEDS = (0, 1, 2)
KEYS = {
  "mask.grid": 16,  # nothing is masked: what the demo says of it goes
  "interactions.num_images": 40,
  "interactions.grid": 8,
  "interactions.map_grid": 0,
  "interactions.tree_grid": 0,
}
SMOKE = {
  "data.train_examples": 160,
  "data.test_examples": 40,
  "train.batch_size": 16,
  "train.epochs": 1.0,
  "evaluate.batch_size": 40,
  "interactions.num_images": 2,
  "interactions.grid": 4,
  "interactions.ratios": (0.0, 0.5, 1.0),
  "interactions.pairs_per_image": 4,
  "interactions.contexts": 4,
  "report.num_samples": 0,
  "runtime.tensorboard": False,
}


def get_config(arg: str = "") -> ConfigDict:
  config, small = base.override(demo.get_config(arg), KEYS), "smoke" in arg.split("+")
  config.name = "flexibility"
  config = base.override(config, SMOKE) if small else config
  runs = {
    f"{cue}_{policy}_seed{seed}": {
      "seed": seed,
      "data": {"texture_agreement": agreement},
      "augment": {"policy": chosen},
    }
    for seed in (SEEDS[:1] if small else SEEDS)
    for cue, agreement in CUES.items()
    for policy, chosen in POLICIES.items()
  }
  config.runs = ConfigDict(runs)  # whose names are sorted
  config.study = ConfigDict({"order": tuple(runs), "jobs": ("interactions",)})
  return config
