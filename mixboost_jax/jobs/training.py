# SPDX-License-Identifier: Apache-2.0
"""`--job=train`."""

import concurrent.futures
import contextlib
import time
from typing import Any

import jax
import numpy as np

from mixboost_jax import evaluate, files, losses, masks, target, train
from mixboost_jax.jobs import interactions, memory, prepared
from mixboost_jax.jobs.prepared import Run
from mixboost_jax.keys import Stream, example_keys
from mixboost_jax.runtime import environment, interrupt, log, profile, workdir, writers
from mixboost_jax.runtime.checkpoint import Restored
from mixboost_jax.runtime.log import Progress
from mixboost_jax.schema import Settings
from mixboost_jax.train import generated
from mixboost_jax.train.build import Trainer
from mixboost_jax.train.objectives import by_picture


def check(item: Run) -> None:
  """Raises ValueError if the run cannot be watched as its config asks."""
  if item.settings.interactions.monitor_every_steps:
    interactions.check(item)


def run(item: Run, place: workdir.Workdir, stop: interrupt.StopRequest) -> Restored:
  """Trains from the newest checkpoint, or from the start, to the end."""
  trainer, settings = item.trainer, item.settings
  started = time.perf_counter()
  with contextlib.ExitStack() as stack:
    saver = stack.enter_context(prepared.checkpointer(item, place))
    restored = saver.restore(trainer.state)
    step = restored.metadata["step"] if restored else 0
    check_same_files(item, restored)
    if restored and step == trainer.num_steps:
      log.info(f"{settings.name}: already trained, {place.path} holds the last step.")
      return prepared.selected(item, saver, restored)
    check_same_generator(settings, restored)
    if restored:
      log.info(f"{settings.name}: resuming from step {step} of {trainer.num_steps}.")
    else:
      _describe(item, place)
    events = place.tensorboard if settings.runtime.tensorboard else None
    writer = stack.enter_context(
      writers.MetricWriter(place.metrics, tensorboard=events, last_step=step)
    )
    bar = stack.enter_context(Progress(settings.name, trainer.num_steps, first_step=step))
    metadata = restored.metadata if restored else {}
    watch = interactions.monitor(item, metadata.get("monitor", {}))
    monitors: dict[str, Any] = {"interactions": watch} if watch else {}
    if settings.runtime.profile_steps:
      monitors["profile"] = stack.enter_context(_profiler(item, place, step))
    hooks = train.Hooks(
      writer=writer,
      saver=saver,
      evaluators=_monitors(item),
      should_stop=stop.agreed,
      progress=lambda at, images, scalars: bar.update(at, units=images, metrics=scalars),
      monitors=monitors,
    )
    bar.compiling()  # until the first step has been dispatched
    before, generator = float(metadata.get("seconds", 0.0)), _generator_step(settings)

    def seconds() -> dict[str, Any]:
      kept = {"monitor": watch.state()} if watch else {}
      kept |= {"data": item.dataset.fingerprint} if item.dataset.fingerprint else {}
      kept |= {"generator": generator} if generator is not None else {}
      return {"seconds": before + time.perf_counter() - started, **kept}

    try:
      with concurrent.futures.ThreadPoolExecutor(1) as thread:  # compiles while samples are drawn
        told = thread.submit(target.traced_for(item.mesh, memory.tell), item)
        if not restored:
          _write_samples(item, place)
      told.result()
      state = train.run(
        trainer,
        hooks,
        state=restored.state if restored else None,
        metadata=metadata,
        extra=seconds,
      )
    except jax.errors.JaxRuntimeError as error:
      if not memory.is_exhausted(error):
        raise
      raise memory.explained(item, error) from error
    bar.close()
    spent = log.format_duration(seconds()["seconds"])
    log.info(f"{settings.name}: trained in {spent}; the network lies in {place.checkpoints}")
    return prepared.selected(item, saver, Restored(state, seconds()))


def _profiler(item: Run, place: workdir.Workdir, step: int) -> profile.StepProfiler:
  train_settings = item.settings.train
  return profile.StepProfiler(
    place.profile,
    count=item.settings.runtime.profile_steps,
    first_step=step,
    num_steps=item.trainer.num_steps,
    settle=train_settings.log_every_steps,
    text=lambda: memory.step_program(item).compile().as_text(),
  )


def check_same_files(item: Run, restored: Restored | None) -> None:
  """Raises ValueError if a set that is read step by step is another than before."""
  now = item.dataset.fingerprint
  if restored and (before := restored.metadata.get("data", now)) != now:
    raise ValueError(
      f"{item.folder}: trained on {before} up to step {restored.metadata['step']}, but "
      f"{item.dataset.title} has {now} today: files came, went or were renamed. Restore them, or "
      "start a new run with another --workdir."
    )


def check_same_generator(settings: Settings, restored: Restored | None) -> None:
  """Raises ValueError if the GAN whose pictures augment was trained on since the last part."""
  now = _generator_step(settings)
  if restored and (before := restored.metadata.get("generator", now)) != now:
    raise ValueError(
      f"config.augment.generator={settings.augment.generator!r}: this run saw pictures of step "
      f"{before} of that GAN up to its own step {restored.metadata['step']}, but the newest there "
      f"is step {now} today. Give a copy of the folder as it was, or start a new run with another "
      "--workdir."
    )


def _generator_step(settings: Settings) -> int | None:
  folder = settings.augment.generator
  return generated.newest_step(folder) if folder else None


def _monitors(item: Run) -> dict[str, train.Evaluator]:
  splits = ["validation"] if item.dataset.validation is not None else ["test"]
  return {
    split: evaluate.make_monitor(
      item.dataset, split=split, batch_size=item.settings.evaluate.batch_size, mesh=item.mesh
    )
    for split in splits
  }


def _describe(item: Run, place: workdir.Workdir) -> None:
  """Says what is about to be trained; the table of its parameters is left in the run folder."""
  from clu import parameter_overview

  network = item.trainer.state.params["network"]
  if log.is_primary():
    table = parameter_overview.get_parameter_overview(network, include_stats=False)
    files.write_text(place.path / "parameters.txt", f"{table}\n")
  count = sum(leaf.size for leaf in jax.tree.leaves(network))
  log.info(
    f"{item.settings.name}: {item.settings.model.name}, {count:,} parameters; "
    f"{item.dataset.title}, {len(item.dataset.train):,} training examples"
    f"{' (streamed)' if item.dataset.is_streamed else ''}; "
    f"{_method(item.settings)}; "
    f"{item.trainer.num_steps:,} steps on {environment.in_words(item.mesh.devices.flat)}"
  )


def _method(settings: Settings) -> str:
  """Returns augmentation and objective in a few words."""
  policy, objective = settings.augment.policy, settings.objective.name
  steps = [policy["name"], *(step["name"] for step in policy.get("steps", ()))]
  said = f"augmentation {' + '.join(step for step in steps if step != 'compose')}"
  if objective == "mixboost":
    return f"{said}, with the boost (its loss may fall below 0)"
  return said if objective == "erm" else f"{said}, objective {objective}"


def _write_samples(item: Run, place: workdir.Workdir) -> None:
  num = min(item.settings.report.num_samples, len(item.dataset.train))
  if num and log.is_primary():
    for kind, images in sample_views(item.trainer, num=num).items():
      files.write_strip(place.samples / f"{kind}.png", images)


def sample_views(trainer: Trainer, *, num: int) -> dict[str, np.ndarray]:
  """Returns `num` training examples of epoch 0, `[num, H, W, C]` per kind of view.

  The draws are those of training: they depend on seed, epoch and example alone. Augmentations that
  mix examples have other partners here than in their training batch.

  Args:
    trainer: from `build`.
    num: at most the number of training examples.

  Returns:
    "clean", "augmented", and, if the objective masks, "masked" (its smallest view).
  """
  parts = trainer.parts
  batch = trainer.feed.batch(np.arange(num), epoch=0)
  keys = example_keys(trainer.root, Stream.AUGMENT, batch.ids, epoch=0)
  labels = losses.one_hot(batch.labels, parts.num_classes)
  rows, _ = parts.augment(keys, batch.images, labels)
  pictures = by_picture(rows, len(rows) // num)  # several with a consistency term
  augmented = pictures[min(1, len(pictures) - 1)]
  views = {"clean": batch.images, "augmented": augmented}
  if parts.objective.keep_rates:
    ranks = masks.cell_ranks(
      example_keys(trainer.root, Stream.MASK, batch.ids, epoch=0), grid=parts.grid
    )
    keep = masks.keep_lowest(ranks, keep_rate=min(parts.objective.keep_rates))
    first = min(parts.objective.masked[0], len(pictures) - 1)
    views["masked"] = masks.apply(pictures[first], keep, fill=parts.fill)
  return {kind: np.asarray(jax.device_get(images)) for kind, images in views.items()}
