# SPDX-License-Identifier: Apache-2.0
"""A run, ready to start, and the trained network that its folder holds."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mixboost_jax import data, train
from mixboost_jax import settings as settings_lib
from mixboost_jax.array_types import LogitsFn
from mixboost_jax.runtime import checkpoint, log, workdir
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.runtime.checkpoint import Restored
from mixboost_jax.schema import Settings

USER_ERRORS = (ValueError, OSError, train.NonFiniteError, checkpoint.CheckpointError)
"""Errors whose message is for the user; anything else is a bug and keeps its traceback."""
_NOTHING_TRAINED = "no checkpoint to evaluate; run --job=train first."


@dataclasses.dataclass(frozen=True)
class Run:
  """One run, ready to start."""

  settings: Settings
  folder: pathlib.Path
  trainer: train.Trainer
  dataset: data.Dataset
  mesh: Mesh


def prepare(settings: Settings, folder: pathlib.Path) -> Run:
  """Loads the data and builds the run: everything that can be wrong is found before any writes."""
  dataset = load_data(settings.data)
  micro_batch = settings.train.batch_size // settings.train.accumulate
  devices = meshes.devices_for_batch(micro_batch, fsdp=settings.runtime.fsdp)
  mesh = meshes.create(fsdp=settings.runtime.fsdp, devices=devices)
  return Run(settings, folder, train.build(settings, dataset, mesh), dataset, mesh)


@functools.lru_cache(maxsize=1)
def load_data(settings: Any) -> data.Dataset:
  """Loads the data once for runs that share it."""
  return data.load(settings)


def checkpointer(item: Run, place: workdir.Workdir) -> checkpoint.Checkpointer:
  """Opens the checkpoints of a run."""
  select = item.settings.train.select_on == "validation"
  return checkpoint.Checkpointer(
    place.checkpoints, keep_last=item.settings.train.keep_checkpoints, keep_best=int(select)
  )


def require(folder: pathlib.Path) -> None:
  """Raises ValueError if `--job=train` has not been in this folder."""
  saver = checkpoint.Checkpointer(workdir.Workdir(folder, resumed=True).checkpoints)
  if not (folder / workdir.CONFIG_FILE).exists() or not saver.steps():
    raise ValueError(f"{folder}: {_NOTHING_TRAINED}")


def load(item: Run, place: workdir.Workdir) -> Restored:
  """Restores what `--job=train` left."""
  with checkpointer(item, place) as saver:
    restored = saver.restore(item.trainer.state)
    if restored is None:
      raise ValueError(f"{place.path}: {_NOTHING_TRAINED}")
    if restored.metadata["step"] < item.trainer.num_steps:
      log.warn(
        f"{item.settings.name}: evaluating step {restored.metadata['step']} of "
        f"{item.trainer.num_steps}; --job=train goes on with the training."
      )
    return selected(item, saver, restored)


def selected(item: Run, saver: checkpoint.Checkpointer, last: Restored) -> Restored:
  """Returns the best state on the validation split if the config selects, else the last one."""
  if item.settings.train.select_on == "none":
    return last
  best = saver.restore(item.trainer.state, which="best")
  return Restored(best.state, last.metadata) if best else last


@dataclasses.dataclass(frozen=True)
class Trained:
  """The network that a run folder holds, for a script or a notebook; see `load_trained`.

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
  run: Run


def load_trained(
  folder: str | pathlib.Path,
  *,
  data_dir: str = "",
  defaults: Any = None,
  changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Trained:
  """Opens a run folder to use its network; writes nothing.

  ```python
  trained = jobs.load_trained("runs/demo/pixmix_boost")
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
  item = prepare(settings, path)
  with checkpointer(item, workdir.Workdir(path, resumed=True)) as saver:
    restored = saver.restore(item.trainer.state)
    if restored is None:
      raise ValueError(f"{path}: no checkpoint; run --job=train first.")
    restored = selected(item, saver, restored)
  replicated = item.trainer.predictor(restored.state)  # every device would do the same work
  logits_fn = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), replicated)
  return Trained(logits_fn, item.dataset, settings, int(restored.metadata["step"]), item)
