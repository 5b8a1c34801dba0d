# SPDX-License-Identifier: Apache-2.0
"""`--job=study`: the runs of a config in order of importance, by any number of workers.

A unit is one job of one run. It is done when its results file is valid and was made with the
settings of the run; so a study that was stopped, killed or extended goes on where it is. Workers
share nothing but the locks of the run folders, which tell who works there, and that a worker is
gone. Seeds are trained one after another, not in one compiled program.
"""

import dataclasses
import gc
import pathlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from mixboost_jax import files, registry, report
from mixboost_jax import settings as settings_lib
from mixboost_jax.jobs import audit, influence, interactions, prepared, training
from mixboost_jax.report import groups
from mixboost_jax.runtime import environment, interrupt, log, platform, results, workdir
from mixboost_jax.schema import Settings

EXIT_RUNS_FAILED = 1
FILES = {
  "evaluate": groups.RESULTS_FILE,
  "interactions": interactions.FILE,
  "influence": influence.FILE,
  "audit": audit.FILE,
}
"""Job -> the results file that it leaves in the run folder."""
_ALSO_READ = ("evaluate.split", "evaluate.confidence", "data.note")
_DEFAULTS = settings_lib.flatten(Settings().to_json())
_PACE = ("batch_size", "chunk_size")
"""Keys of how fast something is measured, not of what."""


@dataclasses.dataclass(frozen=True)
class Study:
  """What is to be done, and where it is kept."""

  runs: Mapping[str, Settings]
  """By name, the most important first."""
  jobs: tuple[str, ...]
  """Of each run, after its training."""
  folder: pathlib.Path
  """Of the run folders."""
  results: pathlib.Path | None
  """Of one small file per run, which is all that has to be kept."""

  def kept(self, name: str) -> pathlib.Path | None:
    """The small file of a run."""
    return self.results and self.results / f"{name}.json"

  def why_open(self, name: str) -> str | None:
    """Returns why a run is not done: "" if nothing is there yet; None if it is done."""
    kept = self.kept(name)
    reasons = ["" if kept is None else why_open(kept, self.runs[name], self.jobs)]
    if None in reasons:
      return None
    reasons += [self.why_unit_open(name, job) for job in self.jobs]
    if not any(reason is not None for reason in reasons[1:]):
      self.keep(name)
      return None
    return next(filter(None, reasons[::-1]), "")

  def why_unit_open(self, name: str, job: str) -> str | None:
    """Returns the same for one job, by the file in the run folder."""
    return why_open(self.folder / name / FILES[job], self.runs[name], (job,))

  def source(self, name: str) -> pathlib.Path:
    """Returns what the report reads of a run that is done: the run folder if it is still there."""
    kept, place = self.kept(name), self.folder / name
    if kept is None or all(self.why_unit_open(name, job) is None for job in self.jobs):
      return place
    return kept

  def keep(self, name: str) -> None:
    """Joins what the jobs of a run have written into its small file."""
    path, settings = self.kept(name), self.runs[name]
    if path is None:
      return
    whole = groups.joined([results.read(self.folder / name / FILES[job]) for job in self.jobs])
    own = {"name": settings.name, "settings": settings.to_json()}
    files.make_folder(path.parent)
    results.write(path, dataclasses.replace(whole, **own, samples={}))


def plan(
  config: Mapping[str, Any],
  runs: Mapping[str, Settings],
  *,
  folder: pathlib.Path,
  kept_in: str,
) -> Study:
  """Reads `config.study`: `order`, the runs that are wanted, and `jobs`, those after the training.

  Without an order all runs of the config are wanted.

  Raises:
    ValueError: if it does not fit the runs.
  """
  tree = config.get("study") or {}
  order, jobs = tree.get("order") or tuple(runs), tree.get("jobs") or ("evaluate",)
  order, jobs = ((one,) if isinstance(one, str) else tuple(one) for one in (order, jobs))
  for name in order:
    registry.lookup(runs, name, field="config.study.order")
  if repeated := sorted({name for name in order if order.count(name) > 1}):
    raise ValueError(
      f"config.study.order: expected each run once; {', '.join(repeated[:3])} is repeated."
    )
  for job in jobs:
    registry.lookup(FILES, job, field="config.study.jobs")
  place = pathlib.Path(kept_in).expanduser() if kept_in else None
  return Study({name: runs[name] for name in order}, jobs, folder, place)


def why_open(path: pathlib.Path, settings: Settings, jobs: Sequence[str]) -> str | None:
  """Returns why a file does not hold what some jobs measure of a run; None if it does.

  Args:
    path: of a results file.
    settings: of the run.
    jobs: names of `FILES`.

  Returns:
    "" if there is no file.
  """
  if not path.exists():
    return ""
  try:
    found = results.read(path)
  except results.ResultsError as error:
    return " ".join(str(error).split("\n")[:2])
  if absent := [job for job in jobs if job not in found.seconds]:
    return f"{path}: nothing of {', '.join(absent)}"
  if settings_lib.difference(found.settings, settings.to_json()):
    return f"{path}: of another training"
  old, new = settings_lib.flatten(found.settings), settings_lib.flatten(settings.to_json())
  read = [key for key in new if key.split(".")[0] in jobs and key.split(".")[1] not in _PACE]
  for key in (*read, *_ALSO_READ):
    before = old.get(key, _DEFAULTS[key])
    if before != new[key]:
      return f"{path}: made with {key}={before!r}, now {new[key]!r}"
  return None


def run(
  study: Study,
  *,
  measures: Mapping[str, Callable[..., None]],
  checks: Mapping[str, Callable[[prepared.Run], None]],
  command: str,
  minutes: float,
) -> int:
  """Does what is open; several processes may run it in one folder.

  Args:
    study: from `plan`.
    measures: what each job does with a trained network.
    checks: what it asks before anything is written.
    command: as typed, for the record.
    minutes: after which everything is saved and left; 0: never.

  Returns:
    The exit code: 0 if nothing is left for this worker: all is done, or in the hands of others
    (the last line says so; if these come to nothing, the same command does it). Otherwise
    `interrupt.EXIT_PREEMPTED` if the time was over or a stop request came, or `EXIT_RUNS_FAILED`.
  """
  first = next(iter(study.runs.values()))
  platform.prepare(first.runtime)
  if jax.process_count() > 1:
    raise ValueError(
      "a study is shared by single processes: start several of the same command, each without the "
      "variables of a distributed run."
    )
  prepared.load_data(first.data)  # what is wrong with it is wrong for all runs
  worker = _Worker(study, measures, checks, command)
  with interrupt.StopRequest(seconds=60 * minutes) as stop:
    try:
      worker.work(stop)
    except interrupt.Stopped as stopped:
      log.info(f"{stopped}\n{worker.count()}; the same command goes on.")
      return interrupt.EXIT_PREEMPTED
  log.info(worker.count())
  if worker.done:
    found = [study.source(name) for name in study.runs if name in worker.done]
    log.info(f"report: {report.write(found, study.folder)}")
  return EXIT_RUNS_FAILED if worker.failed else 0


def _forget() -> None:
  """Lets go of compiled programs and their memory: those of the next run are others."""
  gc.collect()
  jax.clear_caches()
  platform.give_freed_memory_back()


@dataclasses.dataclass
class _Worker:
  """One process of a study."""

  study: Study
  measures: Mapping[str, Callable[..., None]]
  checks: Mapping[str, Callable[[prepared.Run], None]]
  command: str
  done: set[str] = dataclasses.field(default_factory=set)
  failed: set[str] = dataclasses.field(default_factory=set)
  busy: set[str] = dataclasses.field(default_factory=set)

  def count(self) -> str:
    """Says how far the study is."""
    text = f"study: {len(self.done)} of {len(self.study.runs)} runs are done"
    for names, what in ((self.failed, "failed"), (self.busy, "are in other hands")):
      text += f", {len(names)} {what} ({', '.join(sorted(names))})" if names else ""
    return text

  def work(self, stop: interrupt.StopRequest) -> None:
    """Goes through the runs; a second time through those that others had, as these may be gone."""
    for patient in (False, True):
      for name in self.study.runs:
        if name not in self.done | self.failed:
          self._try(name, stop, patient)

  def _try(self, name: str, stop: interrupt.StopRequest, patient: bool) -> None:
    self.busy.discard(name)
    try:
      if self.study.why_open(name) is not None:
        if stop.requested:
          raise interrupt.Stopped("stopped on request; what is finished is kept.")
        self._do(name, stop, patient)
        log.info(self.count())
      self.done.add(name)
    except workdir.InUseError:
      self.busy.add(name)
    except interrupt.Stopped:
      if stop.requested:
        raise
      self.busy.add(name)
    except Exception as error:
      self.failed.add(name)
      if not isinstance(error, prepared.USER_ERRORS):
        traceback.print_exc()
      log.warn(f"{name} failed, the next run goes on: {error}")
    finally:
      _forget()

  def _do(self, name: str, stop: interrupt.StopRequest, patient: bool) -> None:
    """Trains and measures a run, as far as that was not done."""
    study, settings = self.study, self.study.runs[name]
    with workdir.open_run(
      study.folder / name,
      settings,
      versions=environment.versions(),
      should_stop=lambda: stop.requested or not patient,
    ) as place:
      reason = study.why_open(name)  # again: now nobody else works here
      if reason is None:
        return
      if reason:
        log.warn(f"{reason}; measured again.")
      left = [job for job in study.jobs if study.why_unit_open(name, job) is not None]
      item = prepared.prepare(settings, place.path)
      for job in ("train", *left):
        self.checks.get(job, lambda _: None)(item)
      trained = training.run(item, place, stop)
      for job in left:
        self.measures[job](item, place, trained, command=self.command, stop=stop)
      study.keep(name)
