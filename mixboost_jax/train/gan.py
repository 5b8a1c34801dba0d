# SPDX-License-Identifier: Apache-2.0
"""From settings and a data set to a GAN that the host loop trains.

The loop, its checkpoints and its log are those of a classifier (`loop.run`); what differs is here:
one compiled step does `gan.critic_steps` critic steps and one generator step.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

from mixboost_jax import augment, data, gan, keys, loops, target
from mixboost_jax.array_types import PRNGKey
from mixboost_jax.keys import Stream
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.schema import Settings
from mixboost_jax.train import feed as feeds
from mixboost_jax.train import generated
from mixboost_jax.train import step as steps


@dataclasses.dataclass(frozen=True)
class Sizes:
  """What the loop must know of a step.

  Attributes:
    batch_size: real pictures per update, over all critic steps.
    critic_steps: per update.
    steps_per_epoch: updates after which every picture was seen once.
  """

  batch_size: int
  critic_steps: int
  steps_per_epoch: int


@dataclasses.dataclass(frozen=True)
class GanTrainer:
  """The compiled pieces of a run: what `loop.run` asks of a trainer, as `build.Trainer`."""

  settings: Settings
  root: Any
  parts: Sizes
  state: gan.GanState
  split: data.DeviceSplit
  feed: feeds.Feed
  num_steps: int
  step: Callable[..., Any]
  many_steps: Callable[..., Any] | None

  def predictor(self, state: gan.GanState) -> generated.Sampler:
    """Returns what draws pictures with the (averaged) generator of `state`, on one device."""
    params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), state.sampled_params())
    return generated.make_sampler(generated.sampling_key(self.settings), params)


def build(settings: Settings, dataset: data.Dataset, mesh: Mesh) -> GanTrainer:
  """Builds networks, optimizers, state and step; compiles nothing yet.

  Raises:
    ValueError: if settings and data do not fit together.
  """
  _check(settings, dataset)
  taken = settings.train.batch_size * settings.gan.critic_steps
  sizes = Sizes(taken, settings.gan.critic_steps, len(dataset.train) // taken)
  num_steps = settings.train.steps or max(1, round(settings.train.epochs * sizes.steps_per_epoch))
  whole, split_up = meshes.replicated(mesh), meshes.batch_sharding(mesh)

  def shard(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, split_up), tree)

  rules = generated.rules_of(settings, dataset)._replace(shard=shard)
  root = keys.root_key(settings.seed)
  state = jax.jit(functools.partial(gan.create, rules=rules))(keys.stream_key(root, Stream.INIT))
  placed = meshes.shard_params(mesh, state)
  order = jax.jit(
    functools.partial(
      steps.epoch_order, num_examples=len(dataset.train), steps_per_epoch=sizes.steps_per_epoch
    ),
    out_shardings=whole,
  )
  root, split = data.place(root, whole), data.to_device(dataset.train, whole)

  def compiled(step: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(target.traced_for(mesh, step), donate_argnums=0, out_shardings=(placed, whole))

  one = functools.partial(train_step, rules=rules, sizes=sizes, flip=settings.augment.flip)
  many = functools.partial(train_steps, one, num_steps=settings.train.steps_per_call)
  return GanTrainer(
    settings=settings,
    root=root,
    parts=sizes,
    state=jax.tree.map(data.place, state, placed),
    split=split,
    feed=feeds.Resident(split, root, order, steps_per_epoch=sizes.steps_per_epoch),
    num_steps=num_steps,
    step=compiled(one),
    many_steps=compiled(many) if settings.train.steps_per_call > 1 else None,
  )


def _check(settings: Settings, dataset: data.Dataset) -> None:
  batch, critic_steps = settings.train.batch_size, settings.gan.critic_steps
  if batch * critic_steps > len(dataset.train):
    raise ValueError(
      f"config.train.batch_size={batch} and config.gan.critic_steps={critic_steps}: one update "
      f"takes {batch * critic_steps} pictures, but {dataset.title} has {len(dataset.train)}; "
      "lower one of them."
    )
  if dataset.is_streamed:
    raise ValueError(
      f"--job=gan: {dataset.title} is read step by step, which a GAN is not trained on; set "
      "config.data.stream='off', with a smaller config.data.image_size if memory is short."
    )
  height, width, _ = dataset.image_shape
  if height != width:
    raise ValueError(
      f"--job=gan: expected square pictures, {dataset.title} has {height}x{width}; set "
      "config.data.image_size."
    )


def train_step(
  state: gan.GanState,
  split: data.DeviceSplit,
  order: Int[Array, " N"],
  root: PRNGKey,
  *,
  rules: gan.Rules,
  sizes: Sizes,
  flip: bool,
) -> tuple[gan.GanState, Any]:
  """Does one update on the next pictures of this epoch's `order`."""
  epoch, position = jnp.divmod(state.step, sizes.steps_per_epoch)
  rows = jax.lax.dynamic_slice_in_dim(order, position * sizes.batch_size, sizes.batch_size)
  batch = data.take(split, rows)
  images = batch.images
  if flip:
    each = keys.example_keys(root, Stream.AUGMENT, batch.ids, epoch=epoch)
    images = augment.random_flip(each, images)
  images = images.reshape(sizes.critic_steps, -1, *images.shape[1:])
  labels = batch.labels.reshape(sizes.critic_steps, -1)
  key = keys.stream_key(root, Stream.GENERATE, state.step)
  return gan.update(key, state, images, labels, rules=rules)


def train_steps(
  step: Callable[..., Any], state: gan.GanState, *inputs: Any, num_steps: int
) -> tuple[gan.GanState, Any]:
  """Does `num_steps` updates within one epoch; metrics are stacked, one row per step."""
  return loops.scan(lambda state, _: step(state, *inputs), state, length=num_steps)
