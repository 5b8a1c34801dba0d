# SPDX-License-Identifier: Apache-2.0
"""Table I of MixBoost: every method alone and with the boost, the eight columns.

  python -m mixboost_jax.main --job=study --config=configs/studies/table1.py --minutes=60 \
    --workdir=runs/table1 --results=results/studies/table1 --config.data.dir=DIR

Three seeds of baseline, boost, PixMix and both; then one of the other methods, two more, and two
more of the first four: five, of which the signed-rank test can tell something.
"""

from ml_collections import ConfigDict

from mixboost_jax.configs import studies

FIRST = studies.rows("baseline", "boost", "pixmix", "pixmix+boost")
METHODS = ("augmix_jsd", "trivial", "autoaugment", "cutout", "mixup", "cutmix")
REST = studies.rows(*(row for method in METHODS for row in (method, f"{method}+boost")))
KEYS = {
  "augment.num_mixing_images": 10_000,
  "evaluate.suite": "standard",
  "evaluate.max_examples": 2_000,
  "evaluate.max_clean": -1,
  "evaluate.max_films": 500,
}
SMOKE = {
  "augment.num_mixing_images": 10,
  "evaluate.suite": "clean,c:fog:3",
  "evaluate.max_clean": 40,
  "evaluate.max_films": 0,
}


def get_config(arg: str = "") -> ConfigDict:
  blocks = [(FIRST, (0, 1, 2)), (REST, (0,)), (REST, (1, 2)), (FIRST, (3, 4))]
  return studies.build("table1", arg, blocks=blocks, jobs=["evaluate"], keys=KEYS, smoke=SMOKE)
