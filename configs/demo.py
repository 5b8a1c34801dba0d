# SPDX-License-Identifier: Apache-2.0
"""A plain network and PixMix + boost side by side on the embedded procedural set; one report.

  python -m mixboost_jax.main --config=configs/demo.py

About four minutes on two slow CPU cores with installation, no download. The training pictures carry
two cues, a global shape (the class) and a local texture that mostly agrees with it; the report
compares both networks on clean, corrupted, half hidden and attacked pictures, on pictures whose
cues conflict, and in calibration. It shows what the method does, also where it hurts: it is no
benchmark result.
"""

from ml_collections import ConfigDict

from mixboost_jax.configs import base, speedrun

WORDS: dict = {}  # the two runs are fixed; only `smoke`


def get_config(arg: str = "") -> ConfigDict:
  config = speedrun.get_config("quarter+few")
  config.name = "demo"
  config.data.name = "shapes"
  config.data.train_examples = 5_000
  config.data.test_examples = 2_000
  config.mask.grid = 8
  config.train.batch_size = 50
  config.train.epochs = 2.0
  config.train.log_every_steps = 20
  config.train.evaluate_every_epochs = 1.0
  config.evaluate.suite = "clean,occluded,conflicting,c:*:3,pgd"
  config.evaluate.max_examples = 300
  config.evaluate.max_clean = -1
  pixmix = base.VARIANTS["pixmix"]["augment.policy"]
  families = ("dead_leaves", "pattern_network")  # all six take a quarter of a minute to compile
  config.runs = ConfigDict(
    {
      "baseline": {"objective": {"name": "erm"}},
      "pixmix_boost": {
        "objective": {"name": "mixboost"},
        "augment": {"policy": pixmix, "mixing_families": families},
      },
    }
  )
  if arg == "smoke":
    config.evaluate.suite = "clean,occluded"
  return base.vary(config, arg, table=WORDS)
