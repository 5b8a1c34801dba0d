# SPDX-License-Identifier: Apache-2.0
"""From settings and a data set to everything that the host loop needs."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int

from mixboost_jax import augment, data, keys, models
from mixboost_jax.array_types import Images, Logits, LogitsFn, PRNGKey, PRNGKeys, SoftLabels
from mixboost_jax.runtime import log
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.schema import Settings
from mixboost_jax.train import (
  adversary,
  copies,
  fit,
  manifold,
  objectives,
  optimizer,
  policies,
  reduction,
  views,
)
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
    split: the training split on the devices.
    num_steps: length of the run.
    step: `(state, split, order, root) -> (state, metrics)`; the state is donated.
    many_steps: the same for `train.steps_per_call` steps, metrics stacked; None if that is 1.
    order: `(root, step) -> order` of the epoch that contains `step`.
  """

  settings: Settings
  root: PRNGKey
  parts: steps.StepParts
  evaluation: Callable[[Any, Any, Images], Logits]
  state: TrainState
  split: data.DeviceSplit
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
    augment=training_augmentation(
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
  compile_step = functools.partial(
    jax.jit, donate_argnums=0, out_shardings=(state_sharding, replicated)
  )
  per_call = settings.train.steps_per_call
  many = functools.partial(steps.train_steps, parts=parts, num_steps=per_call)
  order = functools.partial(
    steps.epoch_order, num_examples=len(dataset.train), steps_per_epoch=steps_per_epoch
  )
  return Trainer(
    settings=settings,
    root=meshes.place(root, replicated),
    parts=parts,
    evaluation=functools.partial(_evaluation_logits, functional.apply),
    state=meshes.place(state, state_sharding),
    split=data.to_device(dataset.train, replicated),
    num_steps=num_steps,
    step=compile_step(functools.partial(steps.train_step, parts=parts)),
    many_steps=compile_step(many) if per_call > 1 else None,
    order=jax.jit(order, out_shardings=replicated),
  )


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
  channels = dataset.train.images.shape[-1]
  named = {
    "mean": settings.model.mean,
    "learned": settings.model.mean,
    "black": (0.0,),
    "gray": (0.5,),
    "data_mean": dataset.channel_mean,
  }
  return jnp.asarray(_per_channel(named[settings.mask.fill], channels), jnp.float32)


def training_augmentation(
  settings: Settings, dataset: data.Dataset, mesh: Mesh, *, num_epochs: int = 1
) -> steps.Augment:
  """Returns flip, crops and policy as one function of one key per example.

  With `objective.jsd_weight` its rows are the clean picture (flip and crop) and two independent
  draws of the policy for each example.

  Args:
    settings: of the run.
    dataset: whose pictures are augmented.
    mesh: over which the batch is split.
    num_epochs: of the run, for a policy that is switched on and off.
  """
  stages: list[steps.Augment] = []
  if settings.augment.flip:
    stages.append(_on_images(augment.random_flip))
  if padding := settings.augment.crop_padding:
    stages.append(_on_images(functools.partial(augment.random_crop, padding=padding)))
  if size := settings.augment.resized_crop:
    stages.append(_on_images(functools.partial(augment.random_resized_crop, size=size)))
  resources: dict[str, Any] = {"mesh": mesh, "batch_axes": meshes.AXES}
  if "'pixmix'" in repr(settings.augment.policy):  # alone, or inside a composite
    resources["mixing_images"] = mixing_pictures(settings, dataset)
  for line in policies.policy_warnings(settings.augment.policy):
    log.warn(line)
  policy = policies.build_policy(settings.augment.policy, **resources)

  def switched(epoch: Int[Array, ""] | int) -> steps.Augment:
    active = copies.in_some_epochs(policy, settings.augment, epoch=epoch, num_epochs=num_epochs)
    if settings.objective.jsd_weight > 0:
      return copies.beside_clean(active, num_copies=2)
    return active

  def run(
    example_keys: PRNGKeys, images: Images, labels: SoftLabels, epoch: Int[Array, ""] | int = 0
  ) -> tuple[Array, Array]:
    every = [*stages, switched(epoch)]
    for stage, stage_keys in zip(every, keys.split_each(example_keys, len(every)), strict=True):
      images, labels = stage(stage_keys, images, labels)
    return images, labels

  return run


def mixing_pictures(settings: Settings, dataset: data.Dataset) -> Array:
  """Returns the pictures that PixMix mixes with, as levels, a little larger than the images.

  They are those of `config.augment.mixing_dir`, or procedural ones.

  Paper: Hendrycks et al. 2022 (PixMix), arXiv:2112.05135: a random window of 32 out of 36 pixels,
    of 224 out of 256.
  Deviation: procedural pictures, where the paper downloads fractals and feature visualisations.
  """
  height, width, channels = dataset.image_shape
  size = max(height, width) * 8 // 7
  if settings.augment.mixing_dir:
    stored = data.read_mixing_folder(settings.augment.mixing_dir, size=size, num_channels=channels)
    return jnp.asarray(stored)
  key = keys.stream_key(keys.root_key(settings.seed), keys.Stream.DATA)
  pictures = augment.mixing_images(key, settings.augment.num_mixing_images, size=size)
  return jnp.round(pictures * 255).astype(jnp.uint8)


def _evaluation_logits(apply: views.Apply, params: Any, stats: Any, images: Images) -> Logits:
  return apply(params, stats, images, train=False)[0]


def _on_images(fn: Callable[[PRNGKeys, Images], Images]) -> steps.Augment:
  return lambda example_keys, images, labels: (fn(example_keys, images), labels)


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
