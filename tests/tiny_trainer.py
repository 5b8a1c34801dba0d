# SPDX-License-Identifier: Apache-2.0
"""A trainer that compiles in a second or two, for the tests of what happens inside the step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from configs import base
from mixboost_jax import data, keys, losses, settings, train
from mixboost_jax.runtime import mesh as meshes

TINY = {
  "data.train_examples": 72,
  "data.test_examples": 16,
  "model.name": "tiny-cnn",  # has batch norm and dropout, and compiles fastest
  "model.dropout": 0.0,
  "train.batch_size": 16,
  "train.epochs": 0.0,
  "train.steps": 8,
  "runtime.tensorboard": False,
}


@functools.cache
def dataset():
  return data.load(settings.resolve(base.override(base.get_config(), TINY)).data)


def build(num_devices=1, **overrides):
  masked = {"mask.grid": 8} if "objective.name" in overrides else {}
  run = settings.resolve(base.override(base.get_config(), {**TINY, **masked, **overrides}))
  mesh = meshes.create(devices=jax.devices()[:num_devices], fsdp=run.runtime.fsdp)
  return train.build(run, dataset(), mesh)


def advance(trainer, num_steps, state=None):
  state = jax.tree.map(jnp.copy, trainer.state if state is None else state)
  order, history = None, []
  for index in range(num_steps):
    if index % trainer.parts.steps_per_epoch == 0:
      order = trainer.order(trainer.root, state.step)
    state, metrics = trainer.step(state, trainer.split, order, trainer.root)
    history.append({name: float(value) for name, value in metrics.items()})
  return state, history


def first_batch(trainer, num=16):
  """The first examples that the run sees, before augmentation."""
  order = trainer.order(trainer.root, trainer.state.step)
  return data.take(trainer.split, order[:num])


def augmented(trainer, batch, epoch=0):
  """Pictures and soft labels as the step draws them."""
  each = draw_keys(trainer, batch, keys.Stream.AUGMENT, epoch)
  labels = losses.one_hot(batch.labels, trainer.parts.num_classes)
  return trainer.parts.augment(each, batch.images, labels, epoch)


def draw_keys(trainer, batch, stream, epoch=0):
  return keys.example_keys(trainer.root, stream, batch.ids, epoch=epoch)


def assert_close(tree, other, *, tolerance):
  """Relative to the largest entry of each array; float32 sums that cancel leave about 1e-6."""

  def check(a, b):
    scale = float(jnp.abs(b).max())
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=tolerance * scale + 5e-6)

  jax.tree.map(check, tree, other)
