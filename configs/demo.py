# SPDX-License-Identifier: Apache-2.0
"""ERM and MixBoost side by side on the embedded procedural set; one report. No download.

  python -m mixboost_jax.main --config=configs/demo.py

Under four minutes on two CPU cores. The training pictures carry two cues, a global shape (the
class) and a local texture that mostly agrees with it; the report compares both networks where the
cues agree and where they conflict. It shows that everything works: it is no benchmark result.
"""

from ml_collections import ConfigDict

from mixboost_jax.configs import base

WORDS: dict = {}  # the two runs are fixed; only `smoke`


def get_config(arg: str = "") -> ConfigDict:
  config = base.get_config()
  config.name = "demo"
  config.data.name = "shapes"
  config.data.train_examples = 6_000
  config.data.test_examples = 2_000
  config.model.name = "wrn-10-1"
  config.model.dropout = 0.0
  config.augment.crop_padding = 2
  config.mask.grid = 8
  config.optimizer.learning_rate = 0.1
  config.train.batch_size = 64
  config.train.epochs = 6.0
  config.train.log_every_steps = 20
  config.train.evaluate_every_epochs = 1.0
  config.evaluate.suite = "shapes"
  config.runs = ConfigDict(
    {"erm": {"objective": {"name": "erm"}}, "mixboost": {"objective": {"name": "mixboost"}}}
  )
  return base.vary(config, arg, table=WORDS)
