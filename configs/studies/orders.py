# SPDX-License-Identifier: Apache-2.0
"""J^(m) of the networks of `table1.py`: the long-rope effect and its proxy (Figs. 2 to 7).

  python -m mixboost_jax.main --job=study --config=configs/studies/orders.py --minutes=60 \
    --workdir=runs/table1 --results=results/studies/orders --config.data.dir=DIR

In the folder of the runs of table1 nothing is trained again. The report joins the files of both
studies by the settings of their runs.
"""

from ml_collections import ConfigDict

from mixboost_jax.configs import base
from mixboost_jax.configs.studies import table1

KEYS = {"interactions.num_images": 50, "interactions.grid": 16, "interactions.map_grid": 0}
SMOKE = {
  "interactions.num_images": 2,
  "interactions.grid": 4,
  "interactions.ratios": (0.0, 0.5, 1.0),
  "interactions.pairs_per_image": 4,
  "interactions.contexts": 4,
  "interactions.tree_grid": 0,
}


def get_config(arg: str = "") -> ConfigDict:
  config = base.override(table1.get_config(arg), KEYS)
  config.name = "orders"
  config.study.jobs = ("interactions",)
  return base.override(config, SMOKE) if "smoke" in arg.split("+") else config
