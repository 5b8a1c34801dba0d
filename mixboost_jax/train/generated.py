# SPDX-License-Identifier: Apache-2.0
"""Pictures of a trained GAN: pools that the policy `gan` and PixMix take theirs from."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, UInt8

from mixboost_jax import data, gan, keys, target
from mixboost_jax import settings as settings_lib
from mixboost_jax.array_types import PRNGKey
from mixboost_jax.keys import Stream
from mixboost_jax.runtime import checkpoint, log, workdir
from mixboost_jax.schema import Settings

Sampler = Callable[..., Array]
"""`(key, labels) -> pictures`; a pytree."""
_CHUNK = 100
"""Pictures drawn by one call: bounds the memory."""


def rules_of(settings: Settings, dataset: data.Dataset) -> gan.Rules:
  """Returns networks, losses and optimizers as the config asks.

  Both optimizers are Adam with moments 0 and 0.9 at a constant rate.
  """
  chosen, (height, _, channels) = settings.gan, dataset.image_shape
  return gan.Rules(
    shape=gan.Shape(dataset.num_classes, height, channels, chosen.width, chosen.latent),
    loss=gan.LOSSES[chosen.loss],
    penalty=chosen.penalty,
    generator=optax.adam(chosen.learning_rate, b1=0.0, b2=0.9),
    critic=optax.adam(chosen.critic_learning_rate, b1=0.0, b2=0.9),
    ema_decay=settings.train.ema_decay,
  )


make_sampler = jax.jit(gan.sampler)
"""`(key, parameters) -> Sampler`."""


def sampling_key(settings: Settings) -> PRNGKey:
  """Returns the key of pictures that are drawn beside the training steps."""
  return jax.random.fold_in(
    keys.stream_key(keys.root_key(settings.seed), Stream.GENERATE), 2**31 - 1
  )


def draw_pictures(key: PRNGKey, sample: Sampler, labels: np.ndarray) -> np.ndarray:
  """Returns one made picture per label, as levels, on the host."""
  missing = -len(labels) % _CHUNK
  padded = np.pad(np.asarray(labels, np.int32), (0, missing)).reshape(-1, _CHUNK)
  made = [_levels(jax.random.fold_in(key, i), sample, part) for i, part in enumerate(padded)]
  return np.concatenate([np.asarray(part) for part in made])[: len(labels)]


@jax.jit
def _levels(key: PRNGKey, sample: Sampler, labels: Int[Array, " N"]) -> UInt8[Array, "N H W C"]:
  return jnp.round(255 * sample(key, labels)).astype(jnp.uint8)


def class_pictures(settings: Settings, dataset: data.Dataset) -> Any:
  """Returns a pool of made pictures per class, uint8[K, M, H, W, C]: what the policy `gan` takes.

  They are `augment.num_generated` of each class, drawn once with the seed of this run from the GAN
  in the folder `augment.generator`, so no generator runs inside a training step.
  """
  number, kinds = settings.augment.num_generated, dataset.num_classes
  shape = (kinds, number, *dataset.image_shape)
  if target.is_on_paper():
    return jnp.zeros(shape, jnp.uint8)
  if not settings.augment.generator:
    raise ValueError(
      "config.augment.policy: 'gan' needs config.augment.generator, the folder of a run of "
      "--job=gan; got ''."
    )
  sample = load_sampler(settings.augment.generator, dataset)
  labels = np.repeat(np.arange(kinds), number)
  return draw_pictures(sampling_key(settings), sample, labels).reshape(shape)


def newest_step(folder: str) -> int | None:
  """Returns the step of the generator that a pool would come from; None without a checkpoint."""
  path = pathlib.Path(folder).expanduser()
  with checkpoint.Checkpointer(workdir.Workdir(path, resumed=True).checkpoints) as saver:
    return max(saver.steps(), default=None)


def load_sampler(folder: str, dataset: data.Dataset) -> Sampler:
  """Returns the generator that `--job=gan` left in a run folder.

  Args:
    folder: of the run.
    dataset: whose classes and size of picture it must have.

  Raises:
    ValueError: if it is no such folder, or of other pictures.
  """
  path, place = pathlib.Path(folder).expanduser(), f"config.augment.generator={folder!r}"
  trained = settings_lib.resolve(
    settings_lib.recorded(workdir.read_config(path)["settings"]), stored=True
  )
  rules = rules_of(trained, dataset)
  like = jax.eval_shape(functools.partial(gan.create, rules=rules), keys.root_key(0))
  with checkpoint.Checkpointer(workdir.Workdir(path, resumed=True).checkpoints) as saver:
    try:
      restored = saver.restore(like)
    except ValueError as error:
      raise ValueError(
        f"{place}: expected a run of --job=gan on pictures and classes like those of "
        f"{dataset.title}; {error}"
      ) from error
  if restored is None:
    raise ValueError(f"{place}: no checkpoint; run --job=gan there first.")
  log.info(f"{path}: generator of step {restored.metadata['step']}")
  return make_sampler(sampling_key(trained), restored.state.sampled_params())
