# SPDX-License-Identifier: Apache-2.0
"""A run, ready to start, and the trained network that its folder holds."""

import dataclasses
import functools
import pathlib
from typing import Any

from jax.sharding import Mesh

from mixboost_jax import data, train
from mixboost_jax.runtime import checkpoint, log, workdir
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.runtime.checkpoint import Restored
from mixboost_jax.schema import Settings

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
