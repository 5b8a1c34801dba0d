# SPDX-License-Identifier: Apache-2.0
"""What an augmentation of probability p does to error, error under attack, and stress.

  python -m mixboost_jax.main --job=study --config=configs/studies/augmentation_p.py --minutes=60 \
    --workdir=runs/augmentation_p --results=results/studies/augmentation_p --config.data.dir=DIR

Every augmentation at p = 0, 0.25, 0.5, 0.75, 1, three seeds. `augmentation_p.py:grid10+seeds5`
takes p in steps of 1/10 and five seeds; other words go to the recipe. p = 0 is one network for all.

Paper: the lecture of Eghbal-zadeh 2020, "Performance analysis" and "Experimental setup", gives the
grid 0, 0.1, ..., 1, three repeats, PGD with epsilon 0.25 and 0.5 and 10 and 100 iterations. Norm
and step are not stated, ours are `attacks.PRESETS["jku-..."]`. The operations of `classical` are
gated one by one for each picture, mixup for a whole batch.
Deviation: a small network and short training where the lecture has ResNet-50; no rotation by 2
degrees among the classical operations.
"""

import re
from typing import Any

from ml_collections import ConfigDict

from mixboost_jax.configs import studies

OPERATIONS: tuple[dict[str, Any], ...] = (
  {"name": "random_crop", "padding": 4},
  {"name": "random_flip"},
  {"name": "color_jitter", "brightness": 0.25, "contrast": 0.25, "saturation": 0.25},
)


def gated(policy: dict[str, Any], p: float, per: str = "example") -> dict[str, Any]:
  return {"name": "with_probability", "p": p, "policy": policy, "per": per}


AUGMENTATIONS = {
  "classical": lambda p: {"name": "compose", "steps": tuple(gated(one, p) for one in OPERATIONS)},
  "mixup": lambda p: gated({"name": "mixup", "alpha": 1.0}, p, "batch"),
}
"""Name -> p -> policy with gates of p. Another entry is another line of every figure."""
GRID, SEEDS = 4, 3
BARE = {"augment.flip": False, "augment.alternate_flip": False}
BARE |= {"augment.crop_padding": 0, "augment.crop_mode": "zero"}
KEYS = {**BARE, "evaluate.suite": "augmentation"}
SMOKE = {"evaluate.suite": "clean,pgd-l2-0.5-10"}


def get_config(arg: str = "") -> ConfigDict:
  words = [word for word in arg.split("+") if word]
  own = {word: re.fullmatch(r"(grid|seeds)([1-9]\d?)", word) for word in words}
  chosen = {"grid": GRID, "seeds": SEEDS}
  chosen |= {found[1]: int(found[2]) for found in own.values() if found}
  rows: dict[str, Any] = {"none": ("", {})}
  for k in range(chosen["grid"], 0, -1):  # the ends first
    p = round(k / chosen["grid"], 4)
    for name, policy in AUGMENTATIONS.items():
      rows[f"{name}_p{round(100 * p)}"] = ("", {"augment.policy": policy(p)})
  rest = "+".join(word for word in words if not own[word])
  blocks = [(rows, range(chosen["seeds"]))]
  jobs = ["evaluate"]
  return studies.build("augmentation_p", rest, blocks=blocks, jobs=jobs, keys=KEYS, smoke=SMOKE)
