# SPDX-License-Identifier: Apache-2.0
"""One training step: take, augment, (attack,) mask, predict, score, update. Read this file first.

Everything random depends on (seed, stream, epoch, example id), and epoch and position follow from
the step count, so a step is a pure function of the state: nothing travels from the host, except
the pictures of a set that is too large to lie on the device.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from mixboost_jax import data, loops, losses, masks
from mixboost_jax.array_types import PRNGKey, PRNGKeys, Scalar
from mixboost_jax.keys import Stream, example_keys, stream_key
from mixboost_jax.train import forward
from mixboost_jax.train.adversary import Perturb
from mixboost_jax.train.hidden import HiddenMix, Reduce
from mixboost_jax.train.objectives import ViewObjective, pick
from mixboost_jax.train.state import TrainState

Metrics = dict[str, Float[Array, "*steps"]]
"""Means over the batch; `train_steps` stacks one row per step."""
Augment = Callable[..., tuple[Array, Array]]
"""`(one key per example, images, soft labels, epoch, keys of epoch 0) -> (images, soft labels)`."""


class StepParts(NamedTuple):
  """What a step is made of; see `train/build.py`."""

  apply: forward.Apply
  augment: Augment
  perturb: Perturb | None
  mix_hidden: HiddenMix | None
  objective: ViewObjective
  reduce: Reduce | None
  reduction_weight: float
  optimizer: optax.GradientTransformation
  learning_rate: optax.Schedule
  num_classes: int
  batch_size: int
  steps_per_epoch: int
  grid: int
  fill: float | Array  # ignored if params hold a learned "fill"
  dropout: bool
  share_dropout: bool
  fused: bool
  batchnorm_views: str
  accumulate: int
  ema_decay: float
  shard: Callable[[Any], Any]  # splits the leading axis of every leaf over the devices


def train_step(
  state: TrainState,
  split: data.DeviceSplit,
  order: Int[Array, " N"],
  root: PRNGKey,
  *,
  parts: StepParts,
) -> tuple[TrainState, Metrics]:
  """Does one update on the next batch of this epoch's `order`."""
  epoch, position = jnp.divmod(state.step, parts.steps_per_epoch)
  indices = jax.lax.dynamic_slice_in_dim(order, position * parts.batch_size, parts.batch_size)

  pieces = indices.reshape(parts.accumulate, -1)
  return _update(state, pieces, lambda rows: data.take(split, rows), epoch, root, parts=parts)


def streamed_step(
  state: TrainState, pictures: data.DeviceSplit, root: PRNGKey, *, parts: StepParts
) -> tuple[TrainState, Metrics]:
  """Does one update on `pictures`, the next batch: uint8[accumulate, micro-batch, H, W, C]."""
  epoch = state.step // parts.steps_per_epoch
  return _update(state, pictures, data.to_unit, epoch, root, parts=parts)


def _update(
  state: TrainState,
  pieces: Any,
  load: Callable[[Any], data.Batch],
  epoch: Int[Array, ""],
  root: PRNGKey,
  *,
  parts: StepParts,
) -> tuple[TrainState, Metrics]:
  """Does one update on a batch: `load` makes a micro-batch of each entry of `pieces`."""

  def one_micro_batch(stats: Any, piece: Any) -> tuple[Any, tuple[Any, Metrics]]:
    batch = parts.shard(load(piece))
    return gradients(state.params, stats, batch, epoch, root, parts=parts)

  stats, (grads, metrics) = _over_micro_batches(
    one_micro_batch, state.stats, pieces, num=parts.accumulate
  )
  updates, opt_state = parts.optimizer.update(grads, state.opt_state, state.params)
  params: Any = optax.apply_updates(state.params, updates)
  metrics |= {
    "gradient_norm": optax.tree.norm(grads),
    "learning_rate": jnp.asarray(parts.learning_rate(state.step), jnp.float32),
  }
  averaged = _moving_average(state.averaged, params, decay=parts.ema_decay)
  return TrainState(state.step + 1, params, stats, opt_state, averaged), metrics


def gradients(
  params: Any,
  stats: Any,
  batch: data.Batch,
  epoch: Int[Array, ""],
  root: PRNGKey,
  *,
  parts: StepParts,
) -> tuple[Any, tuple[Any, Metrics]]:
  """Returns new running statistics, and gradients and metrics of the mean loss of one batch."""

  def draw_keys(stream: Stream, epoch: Int[Array, ""] | int = epoch) -> PRNGKeys:
    return example_keys(root, stream, batch.ids, epoch=epoch)

  objective = parts.objective
  labels = losses.one_hot(batch.labels, parts.num_classes)
  images, labels = parts.augment(
    draw_keys(Stream.AUGMENT), batch.images, labels, epoch, draw_keys(Stream.AUGMENT, 0)
  )
  if parts.perturb is not None:
    attack_keys = draw_keys(Stream.ATTACK)
    images, labels = parts.perturb(attack_keys, params["network"], stats, images, labels)
  apply = parts.apply
  if parts.mix_hidden is not None:
    taps, labels = parts.mix_hidden(draw_keys(Stream.AUGMENT), labels)
    apply = functools.partial(apply, taps=taps)

  # One order of the cells per example, so the masks of all views are nested.
  ranks = masks.cell_ranks(draw_keys(Stream.MASK), grid=parts.grid)
  ranks = jnp.repeat(ranks, len(objective.masked), axis=0)
  keep = [masks.keep_lowest(ranks, keep_rate=r) for r in objective.keep_rates]
  pictures = pick(images, objective.masked, of=len(objective.pictures))

  def mean_loss(params: Any) -> tuple[Scalar, tuple[Any, Metrics]]:
    fill = jnp.clip(params["fill"], 0, 1) if "fill" in params else parts.fill
    logits, new_stats = forward.of_views(
      apply,
      params["network"],
      stats,
      [images, *(masks.apply(pictures, mask, fill=fill) for mask in keep)],
      fused=parts.fused,
      batchnorm_views=parts.batchnorm_views,
      dropout_keys=_dropout_keys(draw_keys(Stream.DROPOUT), parts) if parts.dropout else None,
    )
    terms = objective.terms(logits, labels)
    if parts.reduce is not None:
      first = pick(images, (0,), of=len(objective.pictures))
      reduce_keys = draw_keys(Stream.INTERACT)
      terms["interaction"] = parts.reduce(reduce_keys, params["network"], stats, first)
      terms["loss"] = terms["loss"] + parts.reduction_weight * terms["interaction"]
    terms = {name: term.mean() for name, term in terms.items()}
    return terms["loss"], (new_stats, terms | _accuracies(logits[0], labels, objective))

  (_, (new_stats, metrics)), grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
  return new_stats, (grads, metrics)


def train_steps(
  state: TrainState,
  split: data.DeviceSplit,
  order: Int[Array, " N"],
  root: PRNGKey,
  *,
  parts: StepParts,
  num_steps: int,
) -> tuple[TrainState, Metrics]:
  """Does `num_steps` updates within one epoch; metrics are stacked, one row per step."""

  def body(state: TrainState, _: None) -> tuple[TrainState, Metrics]:
    return train_step(state, split, order, root, parts=parts)

  return loops.scan(body, state, length=num_steps)


def epoch_order(
  root: PRNGKey, step: Int[Array, ""], *, num_examples: int, steps_per_epoch: int
) -> Int[Array, " N"]:
  """Returns the order in which the epoch that contains `step` visits the examples."""
  return data.epoch_order(stream_key(root, Stream.ORDER, step // steps_per_epoch), num_examples)


def _accuracies(logits: Array, labels: Array, objective: ViewObjective) -> Metrics:
  """Returns the share of right answers per kind of picture; plain "accuracy" is of the clean."""
  names = objective.pictures
  hits = (logits.argmax(-1) == labels.argmax(-1)).reshape(-1, len(names))
  return {
    "accuracy" if name == "clean" else f"{name}_accuracy": hits[:, i].mean(dtype=jnp.float32)
    for i, name in enumerate(names)
  }


def _dropout_keys(keys: PRNGKeys, parts: StepParts) -> list[Array]:
  """One key per view and row; the same for all views of a picture if `share_dropout`."""
  objective = parts.objective
  num_views = 1 + len(objective.keep_rates)
  every = range(len(objective.pictures))

  def of_view(view: int) -> Array:
    rows = []
    for picture in every if view == 0 else objective.masked:
      row = keys if picture == 0 else _fold_in_all(keys, num_views + picture)
      rows.append(row if parts.share_dropout else _fold_in_all(row, view))
    return jnp.stack(rows, axis=1).reshape(-1)

  return [of_view(view) for view in range(num_views)]


def _fold_in_all(keys: PRNGKeys, number: int) -> PRNGKeys:
  return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)


def _over_micro_batches(
  body: Callable[[Any, Any], tuple[Any, tuple[Any, Metrics]]], stats: Any, pieces: Any, *, num: int
) -> tuple[Any, tuple[Any, Metrics]]:
  """Runs `body` on the `num` entries of `pieces` and averages gradients and metrics."""
  if num == 1:
    return body(stats, jax.tree.map(lambda x: x[0], pieces))
  stats, outputs = loops.scan(body, stats, pieces)
  return stats, jax.tree.map(lambda x: x.mean(axis=0), outputs)


def _moving_average(averaged: Any, params: dict[str, Any], *, decay: float) -> Any:
  if not decay:
    return averaged
  return jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, averaged, params["network"])


__all__ = [
  "Metrics",
  "StepParts",
  "epoch_order",
  "gradients",
  "streamed_step",
  "train_step",
  "train_steps",
]
