# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixboost_jax import models

SIZES = {"resnet-50": 224, "resnet-14": 64}
COUNTS = {  # name, classes -> parameters
  ("wrn-40-4", 10): 8_949_210,
  ("wrn-40-4", 100): 8_972_340,
  ("resnet-50", 1000): 25_557_032,
  # 1.97 million (Jordan 2024): biases of whitening and norms, six kernels, head
  ("speedrun-1", 10): 24
  + 2 * (64 + 256 + 256)
  + 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
  + 256 * 10,
}
SMALL = (
  "preact-resnet-10",
  "resnet-14",
  "tiny-cnn",
  "speedrun-0.125",
)  # wide ones: functional_test.py
PATTERNS = {"wrn-10-1", "preact-resnet-10-raw", "speedrun-0.25"}
EVERY = sorted(PATTERNS | {name for name in models.NAMES if name.islower()})


def make(name, *, num_classes=10, **kwargs):
  kwargs.setdefault("image_size", SIZES.get(name, 32))
  return models.create(name, num_classes=num_classes, key=jax.random.key(0), **kwargs)


@pytest.mark.parametrize(("name", "num_classes"), COUNTS)
def test_number_of_parameters(name, num_classes):
  pure = models.functional(make(name, num_classes=num_classes))
  count = sum(leaf.size for leaf in jax.tree.leaves(pure.params))
  assert count == COUNTS[name, num_classes]


def conv_bn(side, inputs, outputs):
  return side * side * inputs * outputs + 2 * outputs


def test_number_of_parameters_of_the_small_image_resnets():
  """Counted by hand from the tables of layers."""

  def count(name):
    return sum(leaf.size for leaf in jax.tree.leaves(models.functional(make(name)).params))

  basic, inputs = 27 * 64, 64  # every batch normalisation of a block counts with its own inputs
  for width in (64, 128, 256, 512):
    basic += 2 * inputs + 9 * inputs * width + 2 * width + 9 * width * width
    basic += 0 if inputs == width else inputs * width
    basic += 2 * (2 * width) + 2 * 9 * width * width
    inputs = width
  assert count("preact-resnet-18") == basic + 2 * 512 + 512 * 10 + 10

  flat, inputs = conv_bn(5, 3, 64), 64
  for width in (64, 128, 256):
    for i in range(5):
      flat += conv_bn(1, inputs, width) + conv_bn(3, width, width) + conv_bn(1, width, width)
      flat += conv_bn(1, inputs, width) if i == 0 and inputs != width else 0
      inputs = width
  assert count("mi-resnet-50") == flat + 256 * 10 + 10

  plain = (147 + 1) * 64 + (1600 + 1) * 192 + (1728 + 1) * 384 + (3456 + 1) * 256
  plain += (2304 + 1) * 256 + (4096 + 1) * 512 + 513 * 512 + 513 * 10
  assert count("alexnet") == plain


@pytest.mark.parametrize("name", EVERY)
def test_shapes_and_dtypes_of_every_network(name):
  size = SIZES.get(name, 32)
  pure = models.functional(make(name, num_classes=7, compute_dtype="bfloat16"))

  def run(params, stats, images):
    return pure.apply(params, stats, images, train=True, num_views=2)

  logits, stats = jax.eval_shape(
    run, pure.params, pure.stats, jnp.zeros((4, size, size, 3), jnp.float32)
  )
  assert (logits.shape, logits.dtype) == ((4, 7), jnp.float32)
  assert jax.tree.map(jnp.shape, stats) == jax.tree.map(jnp.shape, pure.stats)
  assert {leaf.dtype for leaf in jax.tree.leaves((pure.params, stats))} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", SMALL)
def test_one_step_moves_every_parameter(name):
  size = 16 if name.startswith("speedrun") else 8
  images = jax.random.uniform(jax.random.key(1), (8, size, size, 3))
  pure = models.functional(make(name, image_size=size))

  @jax.jit
  def run(params, stats):
    def loss(params):
      logits, new = pure.apply(params, stats, images, train=True, num_views=2)
      return -jnp.mean(jax.nn.log_softmax(logits)[:, 0]), new

    return jax.value_and_grad(loss, has_aux=True)(params)

  (_, stats), gradient = run(pure.params, pure.stats)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    assert jnp.all(jnp.isfinite(leaf)), path
    assert jnp.any(leaf != 0), path
  for path, leaf in jax.tree_util.tree_leaves_with_path(stats):
    assert jnp.all(jnp.isfinite(leaf)), path


def test_one_grey_channel_with_the_default_normalisation():
  network = make("tiny-cnn", num_channels=1)
  assert jax.eval_shape(network, jnp.ones((2, 32, 32, 1))).shape == (2, 10)


@pytest.mark.parametrize(
  "name", ["wrn-10-1", "wrn-28-10", "tiny-cnn", "resnet-50", "speedrun-1", "speedrun-0.5"]
)
def test_valid_names(name):
  assert models.name_problem(name) is None


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("wrn-41-4", "nearest: wrn-40-4"),
    ("wrn-4-1", "nearest: wrn-10-1"),
    ("wrn-40-0", "K >= 1"),
    ("resnet-51", "Did you mean 'resnet-50'"),
    ("WRN-40-4", "choose one of"),
    ("wrn-D-K", "choose one of"),
    ("speedrun-0", "speedrun-F with F >= 1/64"),
    ("speedrun-F", "choose one of"),
    ("", "choose one of"),
  ],
)
def test_wrong_names(name, message):
  problem = models.name_problem(name)
  assert problem is not None
  assert message in problem
  with pytest.raises(ValueError, match=r"models\.create: "):
    make(name)


@pytest.mark.parametrize(
  ("kwargs", "message"),
  [
    ({"dropout": 1.0}, r"dropout: expected a number in \[0, 1\), got 1.0"),
    ({"compute_dtype": "float16"}, "compute_dtype: expected float32 or bfloat16, got 'float16'"),
    ({"mean": (0.1, 0.2)}, r"mean: expected 3 \(one per channel\)"),
    ({"std": (0.1, 0.2, 0.0)}, "std: expected positive numbers"),
    ({"image_size": 4}, "image_size: expected at least 8, got 4"),
    ({"num_classes": 0, "num_channels": 0}, "num_classes: .*; num_channels: "),
  ],
)
def test_wrong_options(kwargs, message):
  with pytest.raises(ValueError, match=message):
    make("wrn-10-1", **kwargs)


def test_dropout_where_there_is_none():
  with pytest.raises(ValueError, match="ResNet has no dropout layer"):
    make("resnet-50", dropout=0.3)


def test_normalisation_is_the_first_layer(images):
  shifted = make("tiny-cnn", mean=(0.2, 0.3, 0.4), std=(0.5, 0.25, 2.0))
  plain = make("tiny-cnn", mean=(0.0,), std=(1.0,))
  by_hand = (images - jnp.asarray([0.2, 0.3, 0.4])[None, None, None]) / jnp.asarray(
    [0.5, 0.25, 2.0]
  )[None, None, None]
  np.testing.assert_allclose(jax.jit(shifted)(images), jax.jit(plain)(by_hand), atol=1e-5)
