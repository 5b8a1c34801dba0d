# SPDX-License-Identifier: Apache-2.0
"""The host loop: dispatch step t, then read the metrics of step t - 1.

The loop owns no maths. It decides when to log, evaluate, save and stop; evaluators, writer and
checkpointer are handed in.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from mixboost_jax.array_types import LogitsFn
from mixboost_jax.runtime import log
from mixboost_jax.runtime.interrupt import Stopped
from mixboost_jax.runtime.profile import Recompilations
from mixboost_jax.schema import Settings

Evaluator = Callable[[LogitsFn], Mapping[str, float]]


@runtime_checkable
class Writer(Protocol):
  """Where log lines go."""

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Records one line."""
    ...


@runtime_checkable
class Saver(Protocol):
  """Where checkpoints go."""

  def save(
    self, step: int, state: Any, *, metadata: Mapping[str, Any], metric: float | None = None
  ) -> None:
    """Copies `state` (the next step donates it) and saves; `metric` (lower is better) ranks it."""
    ...

  def wait(self) -> None:
    """Returns once everything is on disk."""
    ...


@runtime_checkable
class Monitor(Protocol):
  """Watches the network at steps of its own choice; `monitor.SpacedMonitor` is one."""

  def steps_left(self, step: int) -> int:
    """Returns the steps to the next call, at least 1."""
    ...

  def due(self, step: int) -> bool:
    """Tells, after each dispatch, whether to call now."""
    ...

  def pause(self) -> None:
    """Is told that the time since the last step was spent on something else."""
    ...

  def __call__(self, step: int, predictor: Any, /) -> Mapping[str, float]:
    """Returns what to log."""
    ...


@runtime_checkable
class Trains(Protocol):
  """What the loop asks of a trainer; `build.Trainer` is one, `gan.GanTrainer` another.

  `settings.train` says when to log, save and evaluate; `parts` has `batch_size` and
  `steps_per_epoch`.
  """

  @property
  def settings(self) -> Settings:
    """Of the run."""
    ...

  @property
  def parts(self) -> Any:
    """Sizes."""
    ...

  @property
  def state(self) -> Any:
    """Before the first step."""
    ...

  @property
  def split(self) -> Any:
    """On the devices; None if it is streamed."""
    ...

  @property
  def feed(self) -> Any:
    """Where the inputs of each step come from."""
    ...

  @property
  def num_steps(self) -> int:
    """Length of the run."""
    ...

  @property
  def step(self) -> Any:
    """`(state, *inputs) -> (state, metrics)`."""
    ...

  @property
  def many_steps(self) -> Any:
    """The same for several steps; None if that is one."""
    ...

  def predictor(self, state: Any) -> Any:
    """Returns what evaluators and monitors are given."""
    ...


class NonFiniteError(RuntimeError):
  """Training produced NaN or infinity."""

  def __init__(self, step: int, name: str, value: float):
    super().__init__(
      f"step {step}: metric {name!r} is {value}. Nothing after the last checkpoint was kept; "
      "lower config.optimizer.learning_rate, set config.optimizer.clip_norm, or (with bfloat16) "
      "try config.model.compute_dtype='float32'."
    )
    self.step = step


@dataclasses.dataclass
class Hooks:
  """What the loop calls.

  Attributes:
    writer: receives the log lines.
    saver: receives the checkpoints.
    evaluators: prefix -> evaluator; results are logged as `prefix/name`.
    should_stop: asked after each step.
    progress: `(step, images since the last call, metrics on the device)`, for a person.
    monitors: prefix -> monitor; each decides when it is due, and logs `prefix/name`.
  """

  writer: Writer
  saver: Saver
  evaluators: Mapping[str, Evaluator] = dataclasses.field(default_factory=dict)
  should_stop: Callable[[], bool] = lambda: False
  progress: Callable[[int, int, Mapping[str, Any]], None] = lambda *_: None
  monitors: Mapping[str, Monitor] = dataclasses.field(default_factory=dict)


def run(
  trainer: Trains,
  hooks: Hooks,
  *,
  state: Any = None,
  metadata: Mapping[str, Any] | None = None,
  extra: Callable[[], Mapping[str, Any]] = dict,
) -> Any:
  """Trains to the last step.

  Args:
    trainer: see `build.build` and `gan.build`.
    hooks: see `Hooks`.
    state: restored state to go on from; the trainer's initial one if None.
    metadata: what was saved beside that state.
    extra: further metadata for every checkpoint, asked for when it is saved.

  Returns:
    The final state.

  Raises:
    Stopped: after a stop request, with everything saved.
    NonFiniteError: if a metric is NaN or infinite; the last checkpoint stays.
  """
  loop = _Loop(trainer, hooks, Window((metadata or {}).get("window")), extra)
  # The compiled step donates its state: work on a copy so that the trainer can be used again.
  return loop.run(state if state is not None else jax.tree.map(jnp.copy, trainer.state))


def steps_of(epochs: float, steps_per_epoch: int) -> int:
  """Returns a period in steps: at least one for any part of an epoch, 0 (never) for 0 alone."""
  return max(round(epochs * steps_per_epoch), 1) if epochs else 0


LAST = ("learning_rate",)
"""Metrics of which the last value is logged; all others are averaged with `clu.metrics`."""


class Window:
  """One row of metrics per step until the next log line: plain numbers that survive a restart."""

  def __init__(self, rows: Mapping[str, list[float]] | None = None):
    self.rows: dict[str, list[float]] = {k: list(v) for k, v in (rows or {}).items()}

  def add(self, step: int, metrics: Mapping[str, np.ndarray | np.generic]) -> None:
    """Adds the metrics of one step, or of several steps that end at `step` (stacked).

    Raises:
      NonFiniteError: naming the first step and metric that is not finite.
    """
    columns = {name: np.atleast_1d(np.asarray(value)) for name, value in metrics.items()}
    num = len(next(iter(columns.values())))
    for i in range(num):
      for name, column in columns.items():
        if not math.isfinite(column[i]):
          raise NonFiniteError(step - num + 1 + i, name, float(column[i]))
    for name, column in columns.items():
      self.rows.setdefault(name, []).extend(float(v) for v in column)

  def drain(self) -> dict[str, float]:
    """Returns the mean (or last) value of every metric and forgets the rows."""
    from clu import metrics as clu_metrics

    out = {}
    for name, values in self.rows.items():
      kind = clu_metrics.LastValue if name in LAST else clu_metrics.Average
      rows = jnp.asarray(values[-1] if name in LAST else values, jnp.float32)
      out[name] = float(kind.from_model_output(rows).compute())
    self.rows = {}
    return out


class _Loop:
  """State of one pass of the host loop."""

  def __init__(
    self,
    trainer: Trains,
    hooks: Hooks,
    window: Window,
    extra: Callable[[], Mapping[str, Any]],
  ):
    self.trainer, self.hooks, self.window, self.extra = trainer, hooks, window, extra
    self.pending: tuple[int, dict[str, jax.Array]] | None = None
    self.clock, self.clock_step, self.waited = time.perf_counter(), 0, 0.0
    train, per_epoch = trainer.settings.train, trainer.parts.steps_per_epoch
    self.evaluate_every = steps_of(train.evaluate_every_epochs, per_epoch)
    self.save_every = steps_of(train.checkpoint_every_epochs, per_epoch)
    self.log_every = train.log_every_steps
    self.saved_at = -1
    self.shown: dict[str, float] = {}
    self.recompilations = Recompilations()

  def run(self, state: Any) -> Any:
    trainer, num_steps = self.trainer, self.trainer.num_steps
    step = int(state.step)
    self.saved_at = step if step else -1
    self.clock_step = step
    with self.recompilations, trainer.feed.start(step) as inputs:
      while step < num_steps:
        arguments = inputs(step)
        with jax.transfer_guard("disallow"):
          state, metrics, done = self._dispatch(state, arguments, step)
        self._read()  # metrics of the step before, while this one runs
        step += done
        self.pending = (step, metrics)
        self.hooks.progress(step, done * trainer.parts.batch_size, self.shown)
        self._after(state, step)
    self._read()
    self.hooks.saver.wait()
    return state

  def _dispatch(
    self, state: Any, inputs: tuple[Any, ...], step: int
  ) -> tuple[Any, dict[str, jax.Array], int]:
    trainer, many = self.trainer, self.trainer.settings.train.steps_per_call
    if trainer.many_steps is not None and many <= self._steps_to_boundary(step):
      with self.recompilations.during("steps"):
        return *trainer.many_steps(state, *inputs), many
    with self.recompilations.during("step"):
      return *trainer.step(state, *inputs), 1

  def _steps_to_boundary(self, step: int) -> int:
    """Steps until the next event that needs the state: a call of several steps ends there."""
    periods = [self.trainer.parts.steps_per_epoch, self.evaluate_every, self.save_every]
    left = [period - step % period for period in periods if period]
    left += [monitor.steps_left(step) for monitor in self.hooks.monitors.values()]
    return min([self.trainer.num_steps - step, self.log_every - step % self.log_every, *left])

  def _read(self) -> None:
    if self.pending is not None:
      step, metrics = self.pending
      self.pending = None
      rows = {name: np.atleast_1d(value) for name, value in jax.device_get(metrics).items()}
      self.window.add(step, rows)
      self.shown = {"loss": float(rows["loss"][-1])}

  def _after(self, state: Any, step: int) -> None:
    """Logs, evaluates, saves and stops where they are due."""
    last = step == self.trainer.num_steps
    if step % self.log_every == 0 or last:
      self._read()
      self._log(step)
    self._monitor(state, step)
    metric = None
    if last or (self.evaluate_every and step % self.evaluate_every == 0):
      self._read()
      metric = self._evaluate(state, step)
    if last or (self.save_every and step % self.save_every == 0):
      self._save(state, step, metric)
    if not last and self.hooks.should_stop():
      self._save(state, step, metric)
      self.hooks.saver.wait()
      raise Stopped(f"stopped on request after step {step}; everything is saved.")

  def _log(self, step: int) -> None:
    now = time.perf_counter()
    steps, seconds = step - self.clock_step, max(now - self.clock, 1e-9)
    self.clock, self.clock_step = now, step
    scalars = {f"train/{name}": value for name, value in self.window.drain().items()}
    scalars["images_per_second"] = steps * self.trainer.parts.batch_size / seconds
    if self.trainer.split is None:  # near 1: more decode threads, or smaller files, would help
      waited, self.waited = self.waited, self.trainer.feed.waited
      scalars["input_wait"] = (self.waited - waited) / seconds
    scalars["recompilations"] = self.recompilations.drain()  # 0 unless inputs change their kind
    if scalars["recompilations"]:
      log.warn(
        f"step {step}: the training step was compiled again, {scalars['recompilations']} time(s) "
        f"in {steps} steps: shape, type or place of what it is given changed."
      )
    self.hooks.writer.write_scalars(step, scalars)

  def _evaluate(self, state: Any, step: int) -> float | None:
    """Returns the selection metric: the validation error, if it is measured."""
    started = time.perf_counter()
    scalars: dict[str, float] = {}
    for prefix, evaluator in self.hooks.evaluators.items():
      values = evaluator(self.trainer.predictor(state))
      scalars |= {f"{prefix}/{name}": float(value) for name, value in values.items()}
    if scalars:
      self.hooks.writer.write_scalars(step, scalars)
    self.clock += time.perf_counter() - started  # the speed shown is that of training
    for monitor in self.hooks.monitors.values():
      monitor.pause()
    return scalars.get("validation/clean_error")

  def _monitor(self, state: Any, step: int) -> None:
    for prefix, monitor in self.hooks.monitors.items():
      if monitor.due(step):
        self._read()
        started = time.perf_counter()
        values = monitor(step, self.trainer.predictor(state))
        scalars = {f"{prefix}/{name}": value for name, value in values.items()}
        if scalars:
          self.hooks.writer.write_scalars(step, scalars)
        self.clock += time.perf_counter() - started

  def _save(self, state: Any, step: int, metric: float | None) -> None:
    if step == self.saved_at:
      return
    self._read()  # a checkpoint is good only if the metrics up to its step are finite
    self.saved_at = step
    metadata = {"window": self.window.rows, **self.extra()}
    self.hooks.saver.save(step, state, metadata=metadata, metric=metric)
