# SPDX-License-Identifier: Apache-2.0
"""From settings and a data set to everything that the host loop needs.

`build` checks that both fit together, and makes network, mask fill, optimizer and compiled step.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from mixboost_jax import augment, data, keys, models, target
from mixboost_jax.array_types import Images, Logits, LogitsFn
from mixboost_jax.data.dataset import middle_square
from mixboost_jax.runtime import mesh as meshes
from mixboost_jax.schema import Optimizer, Settings
from mixboost_jax.train import adversary, augmentation, forward, hidden, objectives
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
    hidden: `(params, stats, images) -> [output of each stage]`, likewise.
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
  root: Any
  parts: steps.StepParts
  evaluation: Callable[[Any, Any, Images], Logits]
  hidden: Callable[[Any, Any, Images], list[Array]]
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

  def layers(self, state: TrainState) -> Callable[[Images], list[Array]]:
    """Returns `images -> outputs of the stages` of the network of `state`, likewise."""
    return jax.tree_util.Partial(self.hidden, state.evaluated_params(), state.stats)


def build(settings: Settings, dataset: data.Dataset, mesh: Mesh) -> Trainer:
  """Builds network, optimizer, step and state; compiles nothing yet.

  Raises:
    ValueError: if settings and data do not fit together; nothing has been written by then.
  """
  check(settings, dataset)
  root = keys.root_key(settings.seed)
  model = create_model(settings, dataset)
  functional = models.functional(model)
  batch_size = settings.train.batch_size
  steps_per_epoch = len(dataset.train) // batch_size
  num_steps = settings.train.steps or max(1, round(settings.train.epochs * steps_per_epoch))
  rule = build_optimizer(settings.optimizer, num_steps)
  over_devices = meshes.batch_sharding(mesh)
  parts = steps.StepParts(
    apply=functional.apply,
    augment=augmentation.training_augmentation(
      settings, dataset, mesh, num_epochs=max(1, round(num_steps / steps_per_epoch))
    ),
    perturb=adversary.build(settings.adversary, functional.apply),
    mix_hidden=hidden.build_manifold(settings.augment, model.stages),
    objective=objectives.build(settings.objective, settings.mask, settings.adversary),
    reduce=hidden.build_reduction(settings.objective, functional.apply, model.stages),
    reduction_weight=settings.objective.reduction_weight,
    optimizer=rule,
    learning_rate=schedule(settings.optimizer, num_steps),
    num_classes=dataset.num_classes,
    batch_size=batch_size,
    steps_per_epoch=steps_per_epoch,
    grid=settings.mask.grid,
    fill=pixel_fill(settings.mask.fill, settings, dataset),
    dropout=settings.model.dropout > 0,
    share_dropout=settings.train.share_dropout,
    fused=target.traced_for(mesh, forward.is_fused)(
      settings.train.view_forward, settings.train.batchnorm_views
    ),
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
  compiled = functools.partial(_compiled, parts, mesh, (state_sharding, replicated))
  per_call = settings.train.steps_per_call
  return Trainer(
    settings=settings,
    root=root,
    parts=parts,
    evaluation=functools.partial(_evaluation_logits, functional.apply),
    hidden=functools.partial(_evaluation_layers, functional.apply, model.stages),
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
  parts: steps.StepParts, mesh: Mesh, out_shardings: Any, step: Callable[..., Any]
) -> Callable[..., tuple[TrainState, steps.Metrics]]:
  """Compiles a step. What the augmentation holds is an argument: constants are slow to compile."""

  def run(augment: steps.Augment, state: TrainState, *inputs: Any) -> Any:
    return step(state, *inputs, parts=parts._replace(augment=augment))

  program = jax.jit(target.traced_for(mesh, run), donate_argnums=1, out_shardings=out_shardings)
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
  network = models.create(model.name, key=key, **options)
  if (count := network.calibration_images) and not target.is_on_paper():
    pictures = np.asarray(dataset.train.part(0, count).images[:])
    network.calibrate(pictures.astype(np.float32) / 255)
  return network


def pixel_fill(name: str, settings: Settings, dataset: data.Dataset) -> Array:
  """Returns the pixel value `[C]` that absent cells take (the start of a learned one)."""
  mean = settings.model.mean
  named = {"mean": mean, "learned": mean, "black": (0.0,), "gray": (0.5,)}
  values = {**named, "data_mean": dataset.channel_mean}[name]
  return jnp.asarray(_per_channel(values, dataset.image_shape[-1]), jnp.float32)


def _evaluation_logits(apply: forward.Apply, params: Any, stats: Any, images: Images) -> Logits:
  return apply(params, stats, images, train=False)[0]


def _evaluation_layers(
  apply: forward.Apply, stages: Sequence[str], params: Any, stats: Any, images: Images
) -> list[Array]:
  seen: dict[str, Array] = {}

  def noting(name: str) -> Callable[[Array], Array]:
    return lambda hidden: seen.setdefault(name, hidden)

  apply(params, stats, images, train=False, taps={name: noting(name) for name in stages})
  return [seen[name] for name in stages]


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


def check(settings: Settings, dataset: data.Dataset) -> None:
  """Checks settings against the data, before anything is compiled or written.

  What a config shows by itself is in `rules.py`.

  Raises:
    ValueError: naming both sides and the remedy.
  """
  num, (height, width, _) = len(dataset.train), dataset.image_shape
  if height != width:
    remedy = f"set config.data.image_size={min(height, width)}, which keeps the middle square"
    if settings.data.name == "npz":
      remedy = f"keep a square: {middle_square(height, width)}"
    raise ValueError(
      f"{dataset.title}: pictures of {height}x{width} are not square, as networks take them; "
      f"{remedy}."
    )
  if settings.train.batch_size > num:
    raise ValueError(
      f"config.train.batch_size={settings.train.batch_size} is larger than the {num} training "
      f"examples of {dataset.title}; use a smaller one."
    )
  if settings.objective.name != "erm" and settings.mask.grid > min(height, width):
    raise ValueError(
      f"config.mask.grid={settings.mask.grid} is finer than the {height}x{width} images of "
      f"{dataset.title}; use at most {min(height, width)}."
    )
  if settings.augment.resized_crop not in (0, height):
    raise ValueError(
      f"config.augment.resized_crop={settings.augment.resized_crop}: the network takes pictures of "
      f"the side of {dataset.title}; use {height}, or config.data.image_size."
    )
  if dataset.is_streamed:
    _check_streamed(settings, dataset)
  _check_mixes(settings)
  if settings.evaluate.split == "validation" and dataset.validation is None:
    raise ValueError(f"config.evaluate.split='validation': {dataset.title} has no such split.")


def _check_streamed(settings: Settings, dataset: data.Dataset) -> None:
  """Raises ValueError for what a set that stays in its files cannot do."""
  if settings.train.steps_per_call > 1:
    raise ValueError(
      f"config.train.steps_per_call={settings.train.steps_per_call}: the pictures of "
      f"{dataset.title} are decoded step by step (config.data.stream); set 1."
    )
  if settings.augment.resized_crop and settings.augment.crop_padding:
    raise ValueError(
      f"config.augment.crop_padding={settings.augment.crop_padding}: resized crops of "
      f"{dataset.title} are cut while its pictures are decoded, before anything else; set 0."
    )


def _check_mixes(settings: Settings) -> None:
  """Raises ValueError if a policy mixes examples beside what needs them apart, or mixes too."""
  used = augment.entries_in(settings.augment.policy, table=augmentation.POLICIES)
  mixing = sorted(policy["name"] for entry, policy in used if entry.mixes)
  if not mixing:
    return
  policy = f"config.augment.policy {mixing[0]!r}"
  if settings.objective.jsd_weight > 0:
    raise ValueError(
      f"config.objective.jsd_weight: compares pictures of one example, but {policy} mixes "
      "examples; use a policy such as augmix or pixmix."
    )
  own = {
    f"config.augment.manifold_alpha={settings.augment.manifold_alpha:g}": (
      settings.augment.manifold_alpha > 0
    ),
    "config.adversary.name='iat'": settings.adversary.name == "iat",
  }
  for key, on in own.items():
    if on:
      raise ValueError(f"{key} and {policy} would mix the same examples twice; choose one.")


def schedule(optimizer: Optimizer, num_steps: int) -> optax.Schedule:
  """Returns the learning rate of step t = 0 .. num_steps - 1.

  cosine: `final + (peak - final) / 2 * (1 + cos(pi t / num_steps))`; linear:
  `peak * (1 - t / num_steps)`; step: multiplied by `step_factor` at each milestone (a fraction of
  the run); a linear warm-up comes first if asked.
  """
  peak, warmup = optimizer.learning_rate, optimizer.warmup_steps
  if warmup >= num_steps:
    raise ValueError(f"config.optimizer.warmup_steps={warmup}: the run has only {num_steps} steps.")
  length = num_steps - warmup
  if optimizer.schedule == "cosine":
    after = _cosine(peak, optimizer.final_learning_rate, length)
  elif optimizer.schedule == "linear":
    after = optax.linear_schedule(peak, 0.0, length)
  elif optimizer.schedule == "step":
    after = optax.piecewise_constant_schedule(
      peak, {int(part * length): optimizer.step_factor for part in optimizer.milestones}
    )
  else:
    after = optax.constant_schedule(peak)
  if not warmup:
    return after
  return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def _cosine(peak: float, final: float, length: int) -> optax.Schedule:
  def rate(step: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
    decay = 0.5 * (1 + jnp.cos(jnp.pi * jnp.asarray(step, jnp.float32) / length))
    return final + (peak - final) * decay

  return rate


def build_optimizer(optimizer: Optimizer, num_steps: int) -> optax.GradientTransformation:
  """Returns the update rule.

  SGD has torch semantics: weight decay is added to the gradient before momentum, on all network
  parameters (a learned mask fill, which is a picture, is not decayed).
  """
  rate = schedule(optimizer, num_steps)
  clip = [optax.clip_by_global_norm(optimizer.clip_norm)] if optimizer.clip_norm else []
  if optimizer.name == "adamw":
    rule = optax.adamw(rate, weight_decay=optimizer.weight_decay, mask=_network_only)
    return optax.chain(*clip, rule)
  if optimizer.name == "muon":
    return optax.chain(*clip, _muon(optimizer, rate))
  return optax.chain(*clip, _sgd(optimizer, rate, weight_decay=optimizer.weight_decay))


def _sgd(
  optimizer: Optimizer, rate: optax.Schedule, *, weight_decay: float
) -> optax.GradientTransformation:
  decay = optax.add_decayed_weights(weight_decay, mask=_network_only)
  momentum = optimizer.momentum or None
  return optax.chain(decay, optax.sgd(rate, momentum=momentum, nesterov=optimizer.nesterov))


def _muon(optimizer: Optimizer, rate: optax.Schedule) -> optax.GradientTransformation:
  """Returns Muon for convolution kernels beside SGD, all rates in proportion.

  Paper: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; decay that
    does not depend on the rate, and a larger rate of biases: Jordan 2024, arXiv:2404.00498.
  """

  def share(of_rate: float) -> dict[str, Any]:
    return {
      "rate": lambda step: rate(step) * (of_rate / optimizer.learning_rate),
      "weight_decay": optimizer.weight_decay / of_rate,
    }

  rest = optimizer.rest_learning_rate
  kernels = [
    _over_matrices(optax.contrib.muon(1.0, beta=optimizer.muon_momentum)),
    optax.scale(-1.0),
    optax.add_decayed_weights(optimizer.weight_decay / optimizer.learning_rate),
    optax.scale_by_learning_rate(rate),
  ]
  if optimizer.fixed_norms:
    kernels.append(_fixed_norms())
  return optax.partition(
    {
      "kernel": optax.chain(*kernels),
      "bias": _sgd(optimizer, **share(rest * optimizer.bias_factor)),
      "rest": _sgd(optimizer, **share(rest)),
    },
    kinds_of,
  )


def kinds_of(params: Any) -> Any:
  """Returns which rule of `muon` a leaf gets: "kernel" (of a convolution), "bias" or "rest"."""

  def kind(path: Any, leaf: Any) -> str:
    if leaf.ndim == 4:
      return "kernel"
    return "bias" if path[-1].key == "bias" else "rest"

  return jax.tree_util.tree_map_with_path(kind, params)


def _over_matrices(rule: optax.GradientTransformation) -> optax.GradientTransformation:
  """Shows `rule` each HWIO kernel as a matrix [H W I, O]."""

  def matrices(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), tree)

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    changed, state = rule.update(matrices(updates), state, matrices(params))
    return jax.tree.map(lambda new, old: new.reshape(old.shape), changed, updates), state

  return optax.GradientTransformation(lambda params: rule.init(matrices(params)), update)


def _fixed_norms() -> optax.GradientTransformation:
  def one(update: Array, kernel: Array) -> Array:
    moved = kernel + update
    return moved * (kernel.shape[-1] ** 0.5 / jnp.linalg.norm(moved.ravel())) - kernel

  return optax.stateless(lambda updates, params: jax.tree.map(one, updates, params))


def _network_only(params: dict) -> dict:
  return {
    name: jax.tree.map(lambda _, n=name: n == "network", tree) for name, tree in params.items()
  }
