# SPDX-License-Identifier: Apache-2.0
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mixboost_jax import models


class LinenClassifier(nn.Module):
  @nn.compact
  def __call__(self, x, *, train):
    x = nn.Conv(4, (3, 3))(x)
    x = nn.BatchNorm(use_running_average=not train)(x)
    x = nn.Dropout(0.5, deterministic=not train)(x)
    return nn.Dense(3)(x.mean((1, 2)))


class NnxClassifier(nnx.Module):
  def __init__(self, rngs):
    self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
    self.norm = nnx.BatchNorm(4, rngs=rngs)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)
    self.dense = nnx.Linear(4, 3, rngs=rngs)

  def __call__(self, x):
    return self.dense(self.dropout(self.norm(self.conv(x))).mean((1, 2)))


def check(fn, images, expected):
  """The contract of every logits_fn."""
  np.testing.assert_allclose(fn(images), expected, rtol=1e-5, atol=1e-6)
  assert fn(images).dtype == jnp.float32
  np.testing.assert_allclose(jax.jit(fn)(images), expected, rtol=1e-5, atol=1e-6)
  as_argument = jax.jit(lambda fn, images: fn(images))
  np.testing.assert_allclose(as_argument(fn, images), expected, rtol=1e-5, atol=1e-6)
  gradient = jax.jit(jax.grad(lambda images: jnp.sum(fn(images)[:, 0])))(images)
  assert jnp.all(jnp.isfinite(gradient))
  assert jnp.any(gradient != 0)


def test_built_in_network(images):
  network = models.create("wrn-10-1", num_classes=3, key=jax.random.key(0), dropout=0.5)
  fn = models.logits_fn(network)
  expected = network(images)
  check(fn, images, expected)
  network.fc.bias[...] += 1  # a logits_fn is the model as it was
  np.testing.assert_allclose(fn(images), expected, atol=1e-6)


def test_new_weights_do_not_recompile(images):
  traces = []

  @jax.jit
  def run(fn, images):
    traces.append(1)
    return fn(images)

  for seed in range(2):
    network = models.create("wrn-10-1", num_classes=3, key=jax.random.key(seed))
    run(models.logits_fn(network), images)
  assert len(traces) == 1


def test_nnx_model_of_another_library(images):
  model = NnxClassifier(nnx.Rngs(0))
  model.norm.mean[...] = jnp.asarray([0.1, 0.2, 0.3, 0.4])
  fn = models.logits_fn(model)
  assert model.dropout.deterministic is False  # evaluation mode is set on a copy
  hidden = (model.conv(images) - model.norm.mean[...][None, None, None]) / (1 + 1e-5) ** 0.5
  check(fn, images, model.dense(hidden.mean((1, 2))))


def test_linen_module_with_batch_statistics(images):
  module = LinenClassifier()
  variables = module.init(jax.random.key(0), images, train=False)
  shifted = jax.tree.map(lambda x: x + 0.25, variables["batch_stats"])
  variables = {**variables, "batch_stats": shifted}
  fn = models.logits_fn_from_linen(module, variables, train=False)
  expected = module.apply(variables, images, train=False)
  check(fn, images, expected)


def test_plain_function(images):
  matrix = jax.random.normal(jax.random.key(0), (32 * 32 * 3, 4))
  fn = models.logits_fn_from_callable(lambda x: x.reshape(len(x), -1) @ matrix)
  check(fn, images, images.reshape(8, -1) @ matrix)
  half = models.logits_fn_from_callable(lambda x: x.mean((1, 2)).astype(jnp.bfloat16))
  assert half(images).dtype == jnp.float32


@pytest.mark.parametrize(
  "fn",
  [
    lambda x: x,
    lambda x: (x.mean((1, 2)), None),
    lambda x: x.mean((1, 2))[:4],
    lambda x: x.mean((1, 2, 3)),
  ],
)
def test_wrong_outputs_are_named(fn, images):
  with pytest.raises(ValueError, match=r"expected logits of shape \[8, K\]"):
    models.logits_fn_from_callable(fn)(images)
