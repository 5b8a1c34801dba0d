# SPDX-License-Identifier: Apache-2.0
"""What the command line can do: train, evaluate, report, for each run of a config."""

import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixboost_jax import augment, data, evaluate, models, report, train
from mixboost_jax import settings as settings_lib
from mixboost_jax.runtime import (
  allocator,
  checkpoint,
  environment,
  interrupt,
  log,
  pictures,
  platform,
  results,
  workdir,
  writers,
)
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.runtime.checkpoint import Restored
from mixboost_jax.runtime.progress import Progress
from mixboost_jax.schema import Settings
from mixboost_jax.train import samples

JOBS = ("all", "train", "evaluate", "report")
USER_ERRORS = (
  ValueError,
  OSError,
  train.NonFiniteError,
  checkpoint.CheckpointError,
)
"""Errors whose message is for the user; anything else is a bug and keeps its traceback."""

CHECKS: Mapping[str, Callable[[Any], str | None]] = {
  "model.name": models.name_problem,
  "augment.policy": augment.policy_problem,
  "evaluate.suite": evaluate.suite_problem,
}


@dataclasses.dataclass(frozen=True)
class Run:
  """One run, ready to start."""

  settings: Settings
  folder: pathlib.Path
  trainer: train.Trainer
  dataset: data.Dataset
  mesh: Mesh


def run(config: ConfigDict, *, folder: pathlib.Path, job: str, command: str) -> int:
  """Does one job for every run of the config.

  Args:
    config: from `configs/`.
    folder: of the whole command; several runs get a folder each inside it.
    job: one of `JOBS`.
    command: as typed, for the record.

  Returns:
    The exit code: 0, or `interrupt.EXIT_PREEMPTED` if a stop request came and all is saved.
  """
  every = settings_lib.resolve_runs(config, checks=CHECKS)
  folders = _folders(config, every, folder)
  if job == "report":
    return _report(folders, folder)
  platform.prepare(every[0].runtime)
  if every[0].runtime.keep_freed_memory and jax.default_backend() == "cpu":
    allocator.keep_freed_memory()
  runs = [_prepare(settings, place) for settings, place in zip(every, folders, strict=True)]
  with interrupt.StopRequest() as stop:
    for item in runs:
      try:
        with workdir.open_run(item.folder, item.settings, versions=environment.versions()) as place:
          trained = _load(item, place) if job == "evaluate" else _train(item, place, stop)
          if job != "train":
            _evaluate(item, place, trained, command=command)
      except train.Preempted as preempted:
        log.info(f"{item.settings.name}: {preempted}")
        return interrupt.EXIT_PREEMPTED
  return _report(folders, folder) if job == "all" else 0


def _folders(
  config: ConfigDict, every: Sequence[Settings], folder: pathlib.Path
) -> list[pathlib.Path]:
  runs: Mapping[str, Any] = config.to_dict().get("runs") or {}
  names = list(runs)
  return [folder / name for name in names] if names else [folder] * len(every)


def _prepare(settings: Settings, folder: pathlib.Path) -> Run:
  """Loads the data and builds the run: everything that can be wrong is found before any writes."""
  dataset = _load_data(settings.data)
  micro_batch = settings.train.batch_size // settings.train.accumulate
  devices = meshes.devices_for_batch(micro_batch, fsdp=settings.runtime.fsdp)
  mesh = meshes.create(fsdp=settings.runtime.fsdp, devices=devices)
  return Run(settings, folder, train.build(settings, dataset, mesh), dataset, mesh)


@functools.lru_cache(maxsize=1)
def _load_data(settings: Any) -> data.Dataset:
  return data.load(settings)


def _checkpointer(item: Run, place: workdir.Workdir) -> checkpoint.Checkpointer:
  select = item.settings.train.select_on == "validation"
  return checkpoint.Checkpointer(
    place.checkpoints, keep_last=item.settings.train.keep_checkpoints, keep_best=int(select)
  )


def _train(item: Run, place: workdir.Workdir, stop: interrupt.StopRequest) -> Restored:
  """Trains from the newest checkpoint, or from the start, to the end."""
  trainer, settings = item.trainer, item.settings
  started = time.perf_counter()
  with contextlib.ExitStack() as stack:
    saver = stack.enter_context(_checkpointer(item, place))
    restored = saver.restore(trainer.state)
    step = restored.metadata["step"] if restored else 0
    if restored and step == trainer.num_steps:
      log.info(f"{settings.name}: already trained, {place.path} holds the last step.")
      return _selected(item, saver, restored)
    if restored:
      log.info(f"{settings.name}: resuming from step {step} of {trainer.num_steps}.")
    else:
      _describe(item)
      _write_samples(item, place)
    events = place.tensorboard if settings.runtime.tensorboard else None
    writer = stack.enter_context(
      writers.MetricWriter(place.metrics, tensorboard=events, last_step=step)
    )
    bar = stack.enter_context(Progress(settings.name, trainer.num_steps, first_step=step))
    hooks = train.Hooks(
      writer=writer,
      saver=saver,
      evaluators=_monitors(item),
      should_stop=stop.agreed,
      progress=lambda at, images, scalars: bar.update(at, units=images, metrics=scalars),
    )
    metadata = restored.metadata if restored else {}
    before = float(metadata.get("seconds", 0.0))

    def seconds() -> dict[str, float]:
      return {"seconds": before + time.perf_counter() - started}

    state = train.run(
      trainer,
      hooks,
      state=restored.state if restored else None,
      metadata=metadata,
      extra=seconds,
    )
    return _selected(item, saver, Restored(state, seconds()))


def _load(item: Run, place: workdir.Workdir) -> Restored:
  """Restores what `--job=train` left."""
  with _checkpointer(item, place) as saver:
    restored = saver.restore(item.trainer.state)
    if restored is None:
      raise ValueError(f"{place.path}: no checkpoint to evaluate; run --job=train first.")
    if restored.metadata["step"] < item.trainer.num_steps:
      log.warn(
        f"{item.settings.name}: evaluating step {restored.metadata['step']} of "
        f"{item.trainer.num_steps}; --job=train goes on with the training."
      )
    return _selected(item, saver, restored)


def _selected(item: Run, saver: checkpoint.Checkpointer, last: Restored) -> Restored:
  """Returns the best state on the validation split if the config selects, else the last one."""
  if item.settings.train.select_on == "none":
    return last
  best = saver.restore(item.trainer.state, which="best")
  return Restored(best.state, last.metadata) if best else last


def _monitors(item: Run) -> dict[str, train.Evaluator]:
  splits = ["validation"] if item.dataset.validation is not None else ["test"]
  return {
    split: evaluate.make_monitor(
      item.dataset, split=split, batch_size=item.settings.evaluate.batch_size, mesh=item.mesh
    )
    for split in splits
  }


def _evaluate(item: Run, place: workdir.Workdir, trained: Restored, *, command: str) -> None:
  """Measures the trained network and writes `results.json`."""
  predictor = item.trainer.predictor(trained.state)
  measured = evaluate.run(predictor, item.dataset, item.settings, mesh=item.mesh)
  records = writers.read(place.metrics)
  curves = {
    name: points
    for name in ("train", "validation", "test")
    if (points := writers.curve(records, f"{name}/"))
  }
  seconds = {"train": float(trained.metadata.get("seconds", 0.0)), **measured.seconds}
  strips = {
    kind: str((place.samples / f"{kind}.png").relative_to(place.path))
    for kind in results.SAMPLE_KINDS
    if (place.samples / f"{kind}.png").exists()
  }
  if not log.is_primary():
    return
  results.write(
    place.results,
    dataclasses.replace(
      measured,
      command=command,
      seconds=seconds,
      curves={**curves, **measured.curves},
      samples=strips,
    ),
  )
  log.info(f"{item.settings.name}: wrote {place.results}")


def _describe(item: Run) -> None:
  """Says what is about to be trained, with a table of the parameters."""
  from clu import parameter_overview

  network = item.trainer.state.params["network"]
  log.info(parameter_overview.get_parameter_overview(network, include_stats=False))
  count = sum(leaf.size for leaf in jax.tree.leaves(network))
  log.info(
    f"{item.settings.name}: {item.settings.model.name}, {count:,} parameters; "
    f"{item.dataset.title}, {len(item.dataset.train):,} training examples; "
    f"{item.trainer.num_steps:,} steps on {item.mesh.size} device(s)"
  )


def _write_samples(item: Run, place: workdir.Workdir) -> None:
  num = min(item.settings.report.num_samples, len(item.dataset.train))
  if num and log.is_primary():
    for kind, images in samples.sample_views(item.trainer, num=num).items():
      pictures.write_strip(place.samples / f"{kind}.png", images)


def _report(folders: Sequence[pathlib.Path], folder: pathlib.Path) -> int:
  if log.is_primary():
    log.info(f"report: {report.write(folders, folder)}")
  return 0
