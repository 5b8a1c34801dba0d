# SPDX-License-Identifier: Apache-2.0
"""What the boost needs: its rate, alignment, weight, picture and grid, alone and on PixMix.

  python -m mixboost_jax.main --job=study --config=configs/studies/boost.py --minutes=60 \
    --workdir=runs/boost --results=results/studies/boost --config.data.dir=DIR

Everything is measured on a validation split of the training pictures, never on the test split.
`keep90` to `keep40` are r1 of Fig. 5 of MixBoost, read as the kept fraction; `mask70` is the other
reading of its 0.7. AugMix's consistency term shows the clean picture beside the augmented ones, so
the boost may be on either there.
"""

from ml_collections import ConfigDict

from mixboost_jax.configs import studies

SETTINGS = {
  "boost": {},
  "boost_mask70": {"mask.mask_rate": 0.7},
  "boost_aligned": {"objective.align": "ratio"},
  **{f"boost_weight{100 * w:.0f}": {"objective.boost_weight": w} for w in (0.1, 0.3, 3.0)},
  **{f"boost_grid{side}": {"mask.grid": side} for side in (4, 8)},
  **{f"boost_keep{rate}": {"mask.keep_rate": rate / 100} for rate in (90, 80, 60, 50, 40)},
}
ALONE = studies.rows("baseline") | {row: ("boost", keys) for row, keys in SETTINGS.items()}
ON_PIXMIX = studies.rows("pixmix") | {
  f"pixmix_{row}": ("pixmix+boost", keys) for row, keys in SETTINGS.items()
}
ON_CHANGED = studies.rows("augmix_jsd", "augmix_jsd+boost") | {
  "augmix_jsd_boost_changed": ("augmix_jsd+boost", {"objective.boost_on": "changed"})
}
KEYS = {
  "data.validation_examples": 5_000,
  "augment.num_mixing_images": 10_000,
  "evaluate.split": "validation",
  "evaluate.suite": "clean,c,pgd",
  "evaluate.max_examples": 500,
}
SMOKE = {
  "data.validation_examples": 40,
  "augment.num_mixing_images": 10,
  "evaluate.suite": "clean,c:fog:3",
}


def get_config(arg: str = "") -> ConfigDict:
  every = (ALONE, ON_PIXMIX, ON_CHANGED)
  blocks = [(rows, seeds) for seeds in ((0,), (1, 2)) for rows in every]
  return studies.build("boost", arg, blocks=blocks, jobs=["evaluate"], keys=KEYS, smoke=SMOKE)
