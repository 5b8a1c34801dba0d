# SPDX-License-Identifier: Apache-2.0
"""What the command line can do, for each run of a config; one file per job.

A job that needs a trained network is an entry of `ON_TRAINED`.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from mixboost_jax import evaluate, models, report, train
from mixboost_jax import settings as settings_lib
from mixboost_jax.audit import plan
from mixboost_jax.jobs import (
  audit,
  evaluation,
  gan,
  influence,
  interactions,
  prepared,
  show_augmentation,
  study,
  training,
)
from mixboost_jax.jobs import compile as compiling
from mixboost_jax.jobs.prepared import USER_ERRORS, Trained, load_trained
from mixboost_jax.runtime import environment, interrupt, log, peers, platform, targets, workdir
from mixboost_jax.runtime import results as results_lib
from mixboost_jax.schema import ReadWhen, Settings, When

__all__ = ["CHECKS", "JOBS", "READ_WHEN", "USER_ERRORS", "Trained", "load_trained", "run"]

OnTrained = Callable[..., None]
"""`(run, open folder, trained state, *, command, stop)`."""

ON_TRAINED: Mapping[str, OnTrained] = {
  "evaluate": evaluation.run,
  "interactions": interactions.run,
  "influence": influence.run,
  "audit": audit.run,
}
"""Jobs on the network that `--job=train` left in the folder."""

BEFORE: Mapping[str, Callable[[prepared.Run], None]] = {
  "all": training.check,
  "train": training.check,
  "interactions": interactions.check,
  "influence": influence.check,
  "audit": audit.check,
}
"""What a job asks of config and data, before it writes anything; raises ValueError."""

JOBS = ("all", "train", *ON_TRAINED, "gan", "study", "report", "show_augmentation", "compile")
CHECKS: Mapping[str, Callable[[Any], str | None]] = {
  "model.name": models.name_problem,
  "augment.mixing_families": train.families_problem,
  "augment.policy": train.policy_problem,
  "evaluate.suite": evaluate.suite_problem,
  "evaluate.budget": evaluate.budget_problem,
  "audit.preset": plan.preset_problem,
  "audit.defenses": plan.defenses_problem,
  "audit.attacks": plan.attacks_problem,
  "audit.figures": plan.figures_problem,
  "runtime.target": targets.problem,
  "runtime.programs": compiling.programs_problem,
}
READ_WHEN: ReadWhen = {
  f"evaluate.{key}": (
    When("evaluate.suite", functools.partial(evaluate.asks_for, kinds=kinds), f" with {words}"),
  )
  for key, kinds, words in (
    ("ood_dirs", ("ood",), "ood"),
    ("max_films", ("sequence",), "p"),
    ("released_dir", ("corruption", "sequence", "renditions"), "c, p, ..."),
  )
}
"""Keys that a run reads only sometimes, beside those of the schema."""


def run(
  config: ConfigDict,
  *,
  folder: pathlib.Path,
  job: str,
  command: str,
  epoch: int = 0,
  example: int = 0,
  minutes: float = 0.0,
  results: str = "",
) -> int:
  """Does one job for every run of the config.

  Args:
    config: from `configs/`.
    folder: of the whole command; several runs get a folder each inside it.
    job: one of `JOBS`.
    command: as typed, for the record.
    epoch: which one, for show_augmentation.
    example: the id of which one, for show_augmentation.
    minutes: after which a study saves and leaves; 0: never.
    results: folder where a study keeps one small file per run; "": nowhere.

  Returns:
    The exit code: 0, `interrupt.EXIT_PREEMPTED` if a stop request came and all is saved, or
    `study.EXIT_RUNS_FAILED`.
  """
  try:
    if job == "study":
      return _study(config, folder, command, minutes=minutes, results=results)
    return _run(config, folder, job, command, epoch=epoch, example=example)
  except BaseException:
    peers.settle()
    raise


def _run(
  config: ConfigDict, folder: pathlib.Path, job: str, command: str, *, epoch: int, example: int
) -> int:
  every = settings_lib.resolve_runs(config, checks=CHECKS, read_when=READ_WHEN)
  folders = _folders(config, every, folder)
  if job == "report":
    return _report(folders, folder)
  if job == "compile":
    return compiling.run(every, folders, command=command)
  if job in ON_TRAINED:
    for place in folders:
      prepared.require(place)
  name = folder.name
  try:
    # Two of them: joining other processes installs a SIGTERM handler of JAX's own in between.
    with interrupt.StopRequest() as stop, stop.raising():
      runs = _prepared(every, folders, job)
      if job == "show_augmentation":
        for item in runs:
          show_augmentation.run(item, epoch=epoch, example=example)
        return 0
    with interrupt.StopRequest() as stop:
      for item in runs:
        name = item.settings.name
        _work(item, job, command, stop)
  except interrupt.Stopped as stopped:
    said = str(stopped).removeprefix(f"{name}: ")
    log.info(f"{name}: {said} The same command goes on.")
    return interrupt.EXIT_PREEMPTED
  return _report(folders, folder) if job == "all" else 0


def _prepared(every: Sequence[Settings], folders: Sequence[pathlib.Path], job: str) -> list[Any]:
  """Returns what each run is made of: `gan.Item` or `prepared.Run`."""
  platform.prepare(every[0].runtime)
  prepare = gan.prepare if job == "gan" else prepared.prepare
  runs: list[Any] = [
    prepare(settings, place) for settings, place in zip(every, folders, strict=True)
  ]
  for item in runs:
    BEFORE.get(job, lambda item: None)(item)
  return runs


def _work(item: Any, job: str, command: str, stop: interrupt.StopRequest) -> None:
  with workdir.open_run(
    item.folder,
    item.settings,
    versions=environment.versions(),
    should_stop=lambda: stop.requested,
  ) as place:
    if job == "gan":
      gan.run(item, place, command=command, stop=stop)
      return
    if job in ON_TRAINED:
      trained = prepared.load(item, place)
      ON_TRAINED[job](item, place, trained, command=command, stop=stop)
      return
    trained = training.run(item, place, stop)
    if job == "all":
      evaluation.run(item, place, trained, command=command, stop=stop)


def _study(
  config: ConfigDict, folder: pathlib.Path, command: str, *, minutes: float, results: str
) -> int:
  every = settings_lib.resolve_runs(config, checks=CHECKS, read_when=READ_WHEN)
  names = [place.name for place in _folders(config, every, folder)]
  runs = dict(zip(names, every, strict=True))
  plan = study.plan(config.to_dict(), runs, folder=folder, kept_in=results)
  return study.run(plan, measures=ON_TRAINED, checks=BEFORE, command=command, minutes=minutes)


def _folders(
  config: ConfigDict, every: Sequence[Settings], folder: pathlib.Path
) -> list[pathlib.Path]:
  runs: Mapping[str, Any] = config.to_dict().get("runs") or {}
  names = list(runs)
  if "" in names:
    raise ValueError("config.runs: each run gets a folder of its name, which '' cannot be.")
  return [folder / name for name in names] if names else [folder] * len(every)


def _report(folders: Sequence[pathlib.Path], folder: pathlib.Path) -> int:
  if log.is_primary():
    written = report.write(folders, folder)
    for place in folders:
      if (file := place / workdir.RESULTS_FILE).exists():
        found = results_lib.read(file)
        log.info(f"{found.name}: {found.headline()}")
    log.info(f"report: {written.absolute()}")
  return 0


def __dir__() -> list[str]:
  return __all__
