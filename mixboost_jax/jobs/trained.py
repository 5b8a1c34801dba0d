# SPDX-License-Identifier: Apache-2.0
"""The network that a run folder holds, for a script or a notebook."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax import data
from mixboost_jax import settings as settings_lib
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.jobs import prepared
from mixboost_jax.runtime import workdir
from mixboost_jax.schema import Settings


@dataclasses.dataclass(frozen=True)
class Trained:
  """What `load_trained` returns.

  Attributes:
    logits_fn: the network in evaluation mode, `images -> logits`. Its parameters are on no fixed
      device: it computes where its images are, and `evaluate` spreads it over all devices.
    dataset: that it was trained and is tested on.
    settings: of the run.
    step: of the checkpoint.
    run: the run that all this is part of.
  """

  logits_fn: LogitsFn
  dataset: data.Dataset
  settings: Settings
  step: int
  run: prepared.Run


def load_trained(
  folder: str | pathlib.Path,
  *,
  data_dir: str = "",
  defaults: Any = None,
  changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Trained:
  """Opens a run folder to use its network; writes nothing.

  ```python
  trained = jobs.load_trained("runs/demo/mixboost")
  trained.logits_fn(jnp.float32(trained.dataset.test.images[:8]) / 255)
  ```

  Args:
    folder: of one run.
    data_dir: where the data lie here; "" keeps what the run says.
    defaults: a config, for keys that a folder of an older version does not name:
      `mixboost_jax.configs.base.get_config()`.
    changes: section -> key -> value, laid over what the run says.

  Raises:
    ValueError: if it is no run folder, holds no checkpoint, or its settings are not valid here.
    CheckpointError: if no checkpoint can be read.
  """
  path = pathlib.Path(folder).expanduser()
  laid = {section: dict(values) for section, values in (changes or {}).items()}
  if data_dir:
    laid["data"] = {**laid.get("data", {}), "dir": data_dir}
  tree = settings_lib.recorded(workdir.read_config(path)["settings"], defaults=defaults)
  for section, values in laid.items():
    tree[section] = {**tree[section], **values}
  try:
    settings = settings_lib.resolve(tree, stored=True)
  except settings_lib.ConfigError as error:
    hint = "" if defaults else "; for a run of an older version give defaults=base.get_config()"
    count = len(error.problems)
    raise ValueError(f"{path}: {error.problems[0]} ({count} such problems){hint}.") from None
  item = prepared.prepare(settings, path)
  with prepared.checkpointer(item, workdir.Workdir(path, resumed=True)) as saver:
    restored = saver.restore(item.trainer.state)
    if restored is None:
      raise ValueError(f"{path}: no checkpoint; run --job=train first.")
    restored = prepared.selected(item, saver, restored)
  replicated = item.trainer.predictor(restored.state)  # every device would do the same work
  logits_fn = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), replicated)
  return Trained(logits_fn, item.dataset, settings, int(restored.metadata["step"]), item)
