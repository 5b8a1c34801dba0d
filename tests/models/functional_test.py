# SPDX-License-Identifier: Apache-2.0

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mixboost_jax import models


@pytest.fixture(scope="module")
def network():
  return models.create("wrn-10-1", num_classes=5, key=jax.random.key(0), dropout=0.2)


@pytest.fixture(scope="module")
def pure(network):
  return models.functional(network)


def keys_for(count, start=0):
  return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(7), i))(start + jnp.arange(count))


def flat(tree):
  return jax.flatten_util.ravel_pytree(tree)[0]


def test_params_and_stats_are_nested_dicts_of_float32_arrays(pure):
  assert pure.params["stage1"]["block0"]["conv1"]["kernel"].shape == (3, 3, 16, 16)
  assert set(pure.stats["bn1"]) == {"mean", "var"}
  for path, leaf in jax.tree_util.tree_leaves_with_path((pure.params, pure.stats)):
    assert isinstance(leaf, jax.Array), path
    assert leaf.dtype == jnp.float32, path
    assert all(isinstance(part, jax.tree_util.DictKey) for part in path[1:])


def test_evaluation_equals_the_module_and_changes_nothing(network, pure, images):
  logits, stats = pure.apply(pure.params, pure.stats, images, train=False)
  np.testing.assert_allclose(logits, network(images), atol=1e-6)
  np.testing.assert_array_equal(flat(stats), flat(pure.stats))
  assert logits.shape == (8, 5)
  assert logits.dtype == jnp.float32


def test_apply_leaves_the_module_and_its_arguments_alone(network, pure, images):
  before = flat(pure.stats)
  apply = jax.jit(pure.apply, static_argnames="train")
  _, stats = apply(pure.params, pure.stats, images, train=True, dropout_keys=keys_for(8))
  assert not np.allclose(flat(stats), before)
  np.testing.assert_array_equal(flat(models.functional(network).stats), before)
  np.testing.assert_array_equal(flat(pure.stats), before)


@pytest.mark.parametrize("views", ["clean", "both"])
def test_two_fused_views_equal_two_forwards(pure, images, views):
  masked = images * (images[:, :1] > 0.4)
  rows = jnp.stack([images, masked], axis=1).reshape(16, 32, 32, 3)
  keys = keys_for(16)

  @jax.jit
  def fused(params, stats):
    return pure.apply(
      params,
      stats,
      rows,
      train=True,
      num_views=2,
      batchnorm_views=views,
      dropout_keys=keys,
    )

  @jax.jit
  def forward(params, stats, images, keys):
    return pure.apply(params, stats, images, train=True, dropout_keys=keys)

  logits, stats = fused(pure.params, pure.stats)
  clean_logits, after_clean = forward(pure.params, pure.stats, images, keys[0::2])
  masked_logits, after_both = forward(pure.params, after_clean, masked, keys[1::2])
  np.testing.assert_allclose(logits[0::2], clean_logits, atol=1e-5)
  np.testing.assert_allclose(logits[1::2], masked_logits, atol=1e-5)
  expected = after_clean if views == "clean" else after_both
  np.testing.assert_allclose(flat(stats), flat(expected), atol=1e-5)
  assert not np.allclose(flat(after_clean), flat(after_both), atol=1e-3)


def test_grad_vmap_and_scan_around_apply(pure, images):
  labels = jax.nn.one_hot(jnp.arange(8) % 5, 5)

  def loss(params, stats, images):
    logits, stats = pure.apply(params, stats, images, train=True, dropout_keys=keys_for(8))
    return -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(logits), axis=1)), stats

  @jax.jit
  def run(params, stats):
    def step(carry, images):
      (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(*carry, images)
      params = jax.tree.map(lambda p, g: p - 0.1 * g, carry[0], grads)
      return (params, stats), (value, flat(grads))

    return jax.lax.scan(step, (params, stats), jnp.stack([images, images]))

  (params, _), (values, grads) = run(pure.params, pure.stats)
  assert values[1] < values[0]
  assert jnp.all(jnp.isfinite(grads))
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    assert not np.array_equal(leaf, _at(pure.params, path)), f"{path} has no gradient"

  both = jax.tree.map(lambda a, b: jnp.stack([a, b]), params, pure.params)
  ensemble = jax.vmap(lambda p: pure.apply(p, pure.stats, images, train=False)[0])(both)
  np.testing.assert_allclose(
    ensemble[1], pure.apply(pure.params, pure.stats, images, train=False)[0], atol=1e-5
  )
  assert not np.allclose(ensemble[0], ensemble[1])


def test_forward_mode_agrees_with_the_gradient(pure, images):
  """Tangents need no switch: `jax.jvp`, `jax.linearize` and the Hessian times a vector."""
  labels = jax.nn.one_hot(jnp.arange(8) % 5, 5)

  def loss(params, images):
    logits = pure.apply(params, pure.stats, images, train=False)[0]
    return -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(logits), axis=1))

  direction = jax.tree.map(jnp.cos, pure.params)

  @jax.jit
  def everything(params):
    here = lambda p: loss(p, images)  # noqa: E731
    slope_at = lambda p: jax.jvp(here, (p,), (direction,))[1]  # noqa: E731
    gradient, curved = jax.jvp(jax.grad(here), (params,), (direction,))
    linear = jax.linearize(here, params)[1](direction)
    return slope_at(params), linear, gradient, curved, jax.grad(slope_at)(params)

  slope, linear, gradient, curved, other_order = everything(pure.params)
  assert abs(slope) > 1e-3
  np.testing.assert_allclose(slope, jnp.vdot(flat(gradient), flat(direction)), rtol=1e-4)
  np.testing.assert_allclose(linear, slope, rtol=1e-5)
  largest = float(jnp.abs(flat(curved)).max())
  np.testing.assert_allclose(flat(other_order), flat(curved), atol=1e-4 * largest)


def _at(tree, path):
  for part in path:
    tree = tree[part.key]
  return tree


def test_logits_of_an_example_do_not_depend_on_its_batch(pure, images):
  """Dropout masks included: only batch normalisation couples the examples of a batch."""
  apply = jax.jit(
    lambda images, keys: pure.apply(
      pure.params, pure.stats, images, train=False, dropout_keys=keys
    )[0]
  )
  np.testing.assert_allclose(
    apply(images[2:4], keys_for(2, 2)), apply(images, keys_for(8))[2:4], atol=1e-5
  )


def test_taps_change_what_leaves_a_stage(pure, images):
  forward = jax.jit(
    lambda factor, images: pure.apply(
      pure.params,
      pure.stats,
      images,
      train=False,
      taps={"input": lambda x: factor * x, "stage2": lambda x: x[::-1]},
    )[0]
  )
  plain = pure.apply(pure.params, pure.stats, images, train=False)[0]
  np.testing.assert_allclose(forward(1.0, images), plain[::-1], atol=1e-5)
  np.testing.assert_allclose(
    forward(0.0, images),
    pure.apply(pure.params, pure.stats, jnp.full_like(images, 0.5), train=False)[0],
    atol=1e-5,
  )


def test_eight_devices_compute_what_one_does(pure, images):
  """Batch statistics are those of the whole batch; dropout masks follow their example."""
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  split = jax.NamedSharding(mesh, jax.P("data"))
  rows = jnp.repeat(images, 2, axis=0) * jnp.tile(jnp.asarray([1.0, 0.5]), 8)[:, None, None, None]

  @jax.jit
  def run(params, rows, keys):
    def loss(params):
      logits, stats = pure.apply(
        params, pure.stats, rows, train=True, num_views=2, dropout_keys=keys
      )
      return jnp.mean(jnp.square(logits)), (logits, stats)

    return jax.grad(loss, has_aux=True)(params)

  keys = keys_for(16, start=100)
  gradient, (logits, stats) = run(pure.params, rows, keys)
  gradient8, (logits8, stats8) = run(pure.params, *jax.device_put((rows, keys), split))
  assert logits8.sharding.is_equivalent_to(split, 2)
  np.testing.assert_allclose(logits8, logits, atol=1e-5)
  np.testing.assert_allclose(flat(stats8), flat(stats), rtol=1e-5, atol=1e-6)
  # Norms: a relu whose input is 0 up to rounding may pass its gradient on one side only.
  error = jnp.linalg.norm(flat(gradient8) - flat(gradient))
  assert error < 0.01 * jnp.linalg.norm(flat(gradient))


def test_merge_gives_the_module_with_new_numbers(network, pure, images):
  params = jax.tree.map(lambda x: 0.5 * x, pure.params)
  merged = models.merge(network, params, pure.stats)
  expected, _ = pure.apply(params, pure.stats, images, train=False)
  np.testing.assert_allclose(merged(images), expected, atol=1e-6)


def test_foreign_modules_are_refused():
  with pytest.raises(ValueError, match=r"made by models\.create, got Linear"):
    models.functional(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))


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
