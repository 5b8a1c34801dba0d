# SPDX-License-Identifier: Apache-2.0
"""Opens the network of a finished run folder, wherever its data lie, without writing to it."""

import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import base
from mixboost_jax import settings as settings_lib
from mixboost_jax.jobs import prepared
from mixboost_jax.runtime import checkpoint, workdir
from mixboost_jax.schema import Settings


def settings_of(
  folder: pathlib.Path,
  *,
  data_dir: str = "",
  changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
  """Returns the settings of a run; keys that its folder does not know have their defaults.

  Args:
    folder: of one run.
    data_dir: where the data lie here; "" keeps what the run says.
    changes: section -> key -> value.
  """
  config: Any = base.get_config()
  tree = workdir.read_config(folder)["settings"]
  tree["mask"] = {**tree["mask"], "mask_rate": None}  # the folder keeps both, a config gives one
  for section, values in config.items():
    if isinstance(tree.get(section), dict) and section != "runs":
      known = {key: value for key, value in tree[section].items() if key in values}
      policy = known.pop("policy", None)
      config[section].update(known)
      if policy:  # replaced whole: its keywords belong to its name
        config[section].policy = ConfigDict(policy)
  config.name, config.seed = tree["name"], tree["seed"]
  if data_dir:
    config.data.dir = data_dir
  for section, values in (changes or {}).items():
    config[section].update(values)
  return settings_lib.resolve(config)


def open_run(settings: Settings, folder: pathlib.Path) -> tuple[prepared.Run, checkpoint.Restored]:
  """Restores the trained network from a copy of the checkpoints."""
  item = prepared.prepare(settings, folder)
  with tempfile.TemporaryDirectory() as copy:
    shutil.copytree(folder / "checkpoints", pathlib.Path(copy) / "checkpoints")
    with checkpoint.Checkpointer(pathlib.Path(copy) / "checkpoints") as saver:
      restored = saver.restore(item.trainer.state)
      if restored is None:
        raise ValueError(f"{folder}: no checkpoint; train the run first.")
      return item, prepared.selected(item, saver, restored)
