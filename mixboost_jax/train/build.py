# SPDX-License-Identifier: Apache-2.0
"""From settings and a data set to everything that the host loop needs."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array

from mixboost_jax import data, keys, models
from mixboost_jax.array_types import Images, Logits, LogitsFn, PRNGKey
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.schema import Settings
from mixboost_jax.train import (
  adversary,
  augmentation,
  fit,
  manifold,
  objectives,
  optimizer,
  reduction,
  views,
)
from mixboost_jax.train import feed as feeds
from mixboost_jax.train import state as states
from mixboost_jax.train import step as steps
from mixboost_jax.train.state import TrainState


@dataclasses.dataclass(frozen=True)
class Trainer:
  """The compiled pieces of one run.

  Attributes:
    settings: of the run.
    root: root of all randomness.
    parts: what a step is made of.
    evaluation: `(params, stats, images) -> logits` in evaluation mode.
    state: before the first step, already sharded.
    split: the training split on the devices; None if it is streamed.
    feed: where the inputs of each step come from.
    num_steps: length of the run.
    step: `(state, *inputs) -> (state, metrics)` with the inputs of `feed`, which are (split, order,
      root), or (pictures of the step, root) if it is streamed; the state is donated.
    many_steps: the same for `train.steps_per_call` steps, metrics stacked; None if that is 1.
    order: `(root, step) -> order` of the epoch that contains `step`.
  """

  settings: Settings
  root: PRNGKey
  parts: steps.StepParts
  evaluation: Callable[[Any, Any, Images], Logits]
  state: TrainState
  split: data.DeviceSplit | None
  feed: feeds.Feed
  num_steps: int
  step: Callable[..., tuple[TrainState, steps.Metrics]]
  many_steps: Callable[..., tuple[TrainState, steps.Metrics]] | None
  order: Callable[..., Array]

  def replace(self, **changes: Any) -> "Trainer":
    """Returns a copy with other attributes."""
    return dataclasses.replace(self, **changes)

  def predictor(self, state: TrainState) -> LogitsFn:
    """Returns the evaluation-mode network of `state`.

    It is a pytree: as an argument of a jitted function, new parameters compile nothing anew.
    """
    return jax.tree_util.Partial(self.evaluation, state.evaluated_params(), state.stats)


def build(settings: Settings, dataset: data.Dataset, mesh: Mesh) -> Trainer:
  """Builds network, optimizer, step and state; compiles nothing yet.

  Raises:
    ValueError: if settings and data do not fit together; nothing has been written by then.
  """
  fit.check(settings, dataset)
  root = keys.root_key(settings.seed)
  model = create_model(settings, dataset)
  functional = models.functional(model)
  batch_size = settings.train.batch_size
  steps_per_epoch = len(dataset.train) // batch_size
  num_steps = settings.train.steps or max(1, round(settings.train.epochs * steps_per_epoch))
  rule = optimizer.build(settings.optimizer, num_steps)
  over_devices = meshes.batch_sharding(mesh)
  parts = steps.StepParts(
    apply=functional.apply,
    augment=augmentation.training_augmentation(
      settings, dataset, mesh, num_epochs=max(1, round(num_steps / steps_per_epoch))
    ),
    perturb=adversary.build(settings.adversary, functional.apply),
    mix_hidden=manifold.build(settings.augment, model.stages),
    objective=objectives.build(settings.objective, settings.mask, settings.adversary),
    reduce=reduction.build(settings.objective, functional.apply, model.stages),
    reduction_weight=settings.objective.reduction_weight,
    optimizer=rule,
    learning_rate=optimizer.schedule(settings.optimizer, num_steps),
    num_classes=dataset.num_classes,
    batch_size=batch_size,
    steps_per_epoch=steps_per_epoch,
    grid=settings.mask.grid,
    fill=mask_fill(settings, dataset),
    dropout=settings.model.dropout > 0,
    share_dropout=settings.train.share_dropout,
    fused=views.is_fused(settings.train.view_forward, settings.train.batchnorm_views),
    batchnorm_views=settings.train.batchnorm_views,
    accumulate=settings.train.accumulate,
    ema_decay=settings.train.ema_decay,
    shard=functools.partial(_constrain, over_devices),
  )
  params: dict[str, Any] = {"network": functional.params}
  if settings.mask.fill == "learned":
    params["fill"] = jnp.broadcast_to(jnp.asarray(parts.fill), dataset.image_shape)
  state = states.create(params, functional.stats, rule, averaging=settings.train.ema_decay > 0)
  state_sharding = meshes.shard_params(mesh, state)
  replicated = meshes.replicated(mesh)
  order = jax.jit(
    functools.partial(
      steps.epoch_order, num_examples=len(dataset.train), steps_per_epoch=steps_per_epoch
    ),
    out_shardings=replicated,
  )
  root = data.place(root, replicated)
  split = None if dataset.is_streamed else data.to_device(dataset.train, replicated)
  compiled = functools.partial(_compiled, parts, (state_sharding, replicated))
  per_call = settings.train.steps_per_call
  return Trainer(
    settings=settings,
    root=root,
    parts=parts,
    evaluation=functools.partial(_evaluation_logits, functional.apply),
    state=jax.tree.map(data.place, state, state_sharding),
    split=split,
    feed=feeds.Streamed(settings, dataset, mesh, root, num_steps=num_steps)
    if split is None
    else feeds.Resident(split, root, order, steps_per_epoch=steps_per_epoch),
    num_steps=num_steps,
    step=compiled(steps.streamed_step if split is None else steps.train_step),
    many_steps=compiled(functools.partial(steps.train_steps, num_steps=per_call))
    if per_call > 1
    else None,
    order=order,
  )


def _compiled(
  parts: steps.StepParts, out_shardings: Any, step: Callable[..., Any]
) -> Callable[..., tuple[TrainState, steps.Metrics]]:
  """Compiles a step. What the augmentation holds is an argument: constants are slow to compile."""

  def run(augment: steps.Augment, state: TrainState, *inputs: Any) -> Any:
    return step(state, *inputs, parts=parts._replace(augment=augment))

  program = jax.jit(run, donate_argnums=1, out_shardings=out_shardings)
  return functools.partial(program, parts.augment)


def create_model(settings: Settings, dataset: data.Dataset) -> Any:
  """Returns the freshly initialised network, or one with the weights of `model.weights`."""
  model = settings.model
  height, _, channels = dataset.image_shape
  options = {
    "num_classes": dataset.num_classes,
    "image_size": height,
    "num_channels": channels,
    "dropout": model.dropout,
    "mean": _per_channel(model.mean, channels),
    "std": _per_channel(model.std, channels),
    "compute_dtype": model.compute_dtype,
  }
  if model.weights:
    return models.from_torch(model.weights, model.name, **options)
  key = keys.stream_key(keys.root_key(settings.seed), keys.Stream.INIT)
  return models.create(model.name, key=key, **options)


def mask_fill(settings: Settings, dataset: data.Dataset) -> Array:
  """Returns the pixel value `[C]` that masked cells take (the start of a learned one)."""
  channels = dataset.image_shape[-1]
  named = {
    "mean": settings.model.mean,
    "learned": settings.model.mean,
    "black": (0.0,),
    "gray": (0.5,),
    "data_mean": dataset.channel_mean,
  }
  return jnp.asarray(_per_channel(named[settings.mask.fill], channels), jnp.float32)


def _evaluation_logits(apply: views.Apply, params: Any, stats: Any, images: Images) -> Logits:
  return apply(params, stats, images, train=False)[0]


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
  if len(values) == channels:
    return tuple(values)
  if len(values) == 1:
    return tuple(values) * channels
  if channels == 1:
    return (sum(values) / len(values),)
  raise ValueError(f"config.model.mean/std: {len(values)} values for {channels} channels.")


def _constrain(sharding: jax.sharding.Sharding, tree: Any) -> Any:
  return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, sharding), tree)
