# SPDX-License-Identifier: Apache-2.0
"""Generator and critic: residual networks that know the class, as functions of nested dicts.

Paper: Miyato et al. 2018, arXiv:1802.05957 (spectral normalisation; residual networks for 32 px),
  Miyato & Koyama 2018, arXiv:1802.05637 (the class as a projection in the critic, as scale and bias
  of the normalisation in the generator).
Deviation: for small budgets. Channels halve where the side doubles (`width` at full size, at most
  four times as many), where the papers keep 256 and 128; one of the two convolutions of a block
  that changes the side acts on the smaller map; the critic ends in one block of a kept side, not
  two.

The generator normalises by the statistics of its batch. A `sampler` has statistics of its own, of
one large batch of the same weights (as Brock et al. 2019, arXiv:1809.11096): a picture then depends
on its draw and class alone, and no running average is kept.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixboost_jax.array_types import Images, Labels, PerExample, PRNGKey

Params = dict[str, Any]
"""Nested dicts of float32 arrays."""
Stats = Mapping[str, tuple[Array, Array]]
"""Layer -> mean and variance of its channels."""
Hidden = Float[Array, "N H W D"]

SMALLEST = 4
"""Side of the generator's first map."""
COARSEST = 8
"""Side at which the critic stops to shrink."""
_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class Shape:
  """Size of both networks.

  Attributes:
    num_classes: labels.
    image_size: side of the pictures: 8, 16, 32, 64, ...
    num_channels: of the pictures.
    width: channels at full size.
    latent: numbers that a picture is made of.
  """

  num_classes: int
  image_size: int = 32
  num_channels: int = 3
  width: int = 64
  latent: int = 128

  def __post_init__(self):
    size = self.image_size
    if size < COARSEST or size & (size - 1):
      raise ValueError(
        f"gan.Shape: image_size: expected a power of two from {COARSEST} on, got {size}; set "
        "config.data.image_size."
      )
    if min(self.num_classes, self.num_channels, self.width, self.latent) < 1:
      raise ValueError(f"gan.Shape: expected positive sizes, got {self}.")

  def channels(self, side: int) -> int:
    """Returns the channels of the generator at a side."""
    return self.width * min(self.image_size // side, 4)

  @property
  def num_blocks(self) -> int:
    """Blocks of the generator, each of which doubles the side."""
    return int(math.log2(self.image_size // SMALLEST))

  @property
  def critic_channels(self) -> list[int]:
    """Channels of each block of the critic; the last one keeps the side."""
    shrinking = max(1, int(math.log2(self.image_size // COARSEST)))
    return [self.width * min(2**i, 4) for i in range(shrinking + 1)]


def init_generator(key: PRNGKey, shape: Shape) -> Params:
  """Draws the first weights of a generator.

  ```python
  shape = gan.Shape(num_classes=4, image_size=16, width=4, latent=8)
  params = gan.init_generator(key, shape)
  ```
  """
  keys = iter(jax.random.split(key, 3 * shape.num_blocks + 2))
  channels = shape.channels(SMALLEST)
  params: Params = {
    "dense": _layer(next(keys), (shape.latent, SMALLEST * SMALLEST * channels), gain=1.0)
  }
  for block in range(shape.num_blocks):
    outputs = shape.channels(SMALLEST * 2 ** (block + 1))
    params[f"block{block}"] = {
      "norm1": _conditional(shape.num_classes, channels),
      "conv1": _layer(next(keys), (3, 3, channels, outputs)),
      "norm2": _conditional(shape.num_classes, outputs),
      "conv2": _layer(next(keys), (3, 3, outputs, outputs)),
      "skip": _layer(next(keys), (1, 1, channels, outputs), gain=1.0),
    }
    channels = outputs
  params["norm"] = _conditional(1, channels)
  params["out"] = _layer(next(keys), (3, 3, channels, shape.num_channels), gain=1.0)
  return params


def generate(
  params: Params,
  latents: Float[Array, "N L"],
  labels: Labels,
  *,
  stats: Stats | None = None,
) -> tuple[Images, Stats]:
  """Returns pictures in [0, 1], and the statistics that every layer was normalised by.

  ```python
  shape = gan.Shape(num_classes=4, image_size=16, width=4, latent=8)
  latents = jax.random.normal(key, (8, shape.latent))
  pictures, stats = gan.generate(gan.init_generator(key, shape), latents, labels)
  assert pictures.shape == (8, 16, 16, 3)
  ```

  Args:
    params: from `init_generator`.
    latents: standard normal numbers.
    labels: the class of each picture.
    stats: as returned before; those of this batch if None.
  """
  used: dict[str, tuple[Array, Array]] = {}

  def normed(name: str, layer: Params, hidden: Array, labels: Array) -> Array:
    moments = (hidden.mean((0, 1, 2)), hidden.var((0, 1, 2))) if stats is None else stats[name]
    used[name] = moments
    mean, var = (moment[None, None, None] for moment in moments)
    factor = layer["scale"][labels][:, None, None]
    shift = layer["bias"][labels][:, None, None]
    return jax.nn.relu((hidden - mean) * jax.lax.rsqrt(var + _EPSILON) * factor + shift)

  hidden = _dense(params["dense"], latents).reshape(len(latents), SMALLEST, SMALLEST, -1)
  for name in _blocks(params):
    block = params[name]
    inner = normed(f"{name}.norm1", block["norm1"], hidden, labels)
    inner = _conv(block["conv1"], inner)
    inner = normed(f"{name}.norm2", block["norm2"], inner, labels)
    hidden = _conv(block["conv2"], _double(inner)) + _double(_conv(block["skip"], hidden))
  hidden = normed("norm", params["norm"], hidden, jnp.zeros_like(labels))
  return 0.5 + 0.5 * jnp.tanh(_conv(params["out"], hidden)), used


def sampler(key: PRNGKey, params: Params, *, num: int = 256) -> Callable[..., Images]:
  """Returns `(key, labels) -> pictures`, with the statistics of `num` draws of all classes.

  It is a pytree: as an argument of a compiled function it compiles nothing anew.

  ```python
  params = gan.init_generator(key, gan.Shape(num_classes=4, image_size=16, width=4, latent=8))
  draw = gan.sampler(key, params, num=32)
  pictures = draw(jax.random.key(1), labels)
  ```
  """
  num_classes = len(params["block0"]["norm1"]["scale"])
  labels = jnp.arange(num) % num_classes
  _, stats = generate(params, _latents(key, params, num), labels)
  return jax.tree_util.Partial(_sample, params, dict(stats))


def _sample(params: Params, stats: Stats, key: PRNGKey, labels: Labels) -> Images:
  return generate(params, _latents(key, params, len(labels)), labels, stats=stats)[0]


def _latents(key: PRNGKey, params: Params, num: int) -> Float[Array, "N L"]:
  return jax.random.normal(key, (num, len(params["dense"]["kernel"])))


def init_critic(key: PRNGKey, shape: Shape) -> Params:
  """Draws the first weights of a critic.

  ```python
  shape = gan.Shape(num_classes=4, image_size=16, width=4, latent=8)
  critic = gan.init_critic(key, shape)
  ```
  """
  keys = iter(jax.random.split(key, 3 * len(shape.critic_channels) + 2))
  params: Params = {}
  channels = shape.num_channels
  for number, outputs in enumerate(shape.critic_channels):
    params[f"block{number}"] = {
      "conv1": _layer(next(keys), (3, 3, channels, outputs)),
      "conv2": _layer(next(keys), (3, 3, outputs, outputs)),
      "skip": _layer(next(keys), (1, 1, channels, outputs), gain=1.0),
    }
    channels = outputs
  params["score"] = _layer(next(keys), (channels, 1), gain=1.0)
  directions = jax.random.normal(next(keys), (channels, shape.num_classes))
  params["classes"] = {"kernel": directions / math.sqrt(channels)}
  return params


def criticise(params: Params, images: Images, labels: Labels) -> PerExample:
  """Returns how real each picture looks as one of its class.

  ```python
  shape = gan.Shape(num_classes=4, image_size=16, width=4, latent=8)
  scores = gan.criticise(gan.init_critic(key, shape), images, labels)
  ```

  Args:
    params: from `init_critic`, or `spectrally_normalised`.
    images: in [0, 1].
    labels: the class that each is said to be of.
  """
  hidden = 2 * images - 1
  for number, name in enumerate(_blocks(params)):
    block = params[name]
    # The first block sees pixels, which no activation may cut.
    inner = _conv(block["conv1"], hidden if number == 0 else jax.nn.relu(hidden))
    if hidden.shape[1] > COARSEST or number == 0:
      inner, hidden = _halve(inner), _halve(hidden)
    hidden = _conv(block["conv2"], jax.nn.relu(inner)) + _conv(block["skip"], hidden)
  features = jax.nn.relu(hidden).sum((1, 2))
  of_class = jnp.sum(features * params["classes"]["kernel"].T[labels], axis=1)
  return _dense(params["score"], features)[:, 0] + of_class


def start_vectors(key: PRNGKey, critic: Params) -> Params:
  """Draws a unit vector per kernel, from which `power_iteration` starts.

  ```python
  shape = gan.Shape(num_classes=4, image_size=16, width=4, latent=8)
  critic = gan.init_critic(key, shape)
  vectors = gan.start_vectors(key, critic)
  ```
  """
  kernels = _kernels(critic)
  drawn = jax.random.split(key, len(kernels))
  return {
    name: _unit(jax.random.normal(k, kernel.shape[-1:]))
    for k, (name, kernel) in zip(drawn, kernels.items(), strict=True)
  }


def power_iteration(critic: Params, vectors: Params) -> Params:
  """Brings each vector closer to the right singular vector of the largest singular value.

  ```python
  critic = {"kernel": jnp.diag(jnp.array([3.0, 1.0]))}
  vectors = gan.start_vectors(key, critic)
  for _ in range(20):
    vectors = gan.power_iteration(critic, vectors)
  assert jnp.allclose(abs(vectors["kernel"]), jnp.array([1.0, 0.0]), atol=1e-4)
  ```
  """
  return {
    name: _unit(_matrix(kernel).T @ (_matrix(kernel) @ vectors[name]))
    for name, kernel in _kernels(critic).items()
  }


def spectrally_normalised(critic: Params, vectors: Params) -> Params:
  """Divides each kernel by its largest singular value, as the vectors know it.

  Paper: Miyato et al. 2018, arXiv:1802.05957: W / sigma(W), sigma = u^T W v with u and v held
    fixed in the gradient; a convolution counts as the matrix [its inputs, its outputs].

  ```python
  critic = {"kernel": jnp.diag(jnp.array([4.0, 1.0]))}  # singular values 4 and 1
  shown = gan.spectrally_normalised(critic, {"kernel": jnp.array([1.0, 0.0])})
  assert jnp.allclose(jnp.diag(shown["kernel"]), jnp.array([1.0, 0.25]))
  ```
  """

  def one(path: Any, leaf: Array) -> Array:
    vector = vectors.get(_name(path))
    if vector is None:
      return leaf
    image = _matrix(leaf) @ jax.lax.stop_gradient(vector)
    return leaf / jnp.sum(jax.lax.stop_gradient(_unit(image)) * image)

  return jax.tree.map_with_path(one, critic)


def _kernels(params: Params) -> dict[str, Array]:
  leaves = jax.tree.leaves_with_path(params)
  return {_name(path): leaf for path, leaf in leaves if leaf.ndim > 1}


def _name(path: Any) -> str:
  return jax.tree_util.keystr(path, simple=True, separator=".")


def _matrix(kernel: Array) -> Float[Array, "I O"]:
  return kernel.reshape(-1, kernel.shape[-1])


def _unit(vector: Float[Array, " D"]) -> Float[Array, " D"]:
  return vector / (jnp.linalg.norm(vector) + 1e-12)


def _blocks(params: Params) -> list[str]:
  return [f"block{i}" for i in range(sum(name.startswith("block") for name in params))]


def _layer(key: PRNGKey, shape: tuple[int, ...], *, gain: float = math.sqrt(2)) -> Params:
  """He's normal weights (gain 1 where no ReLU comes before), and no bias at first."""
  scale = gain / math.sqrt(math.prod(shape[:-1]))
  return {"kernel": scale * jax.random.normal(key, shape), "bias": jnp.zeros(shape[-1:])}


def _conditional(num_classes: int, channels: int) -> Params:
  return {"scale": jnp.ones((num_classes, channels)), "bias": jnp.zeros((num_classes, channels))}


def _dense(layer: Params, inputs: Float[Array, "N I"]) -> Float[Array, "N O"]:
  return inputs @ layer["kernel"] + layer["bias"][None]


def _conv(layer: Params, inputs: Hidden) -> Float[Array, "N H W O"]:
  """Square convolution that keeps the side; a kernel of one pixel is a matrix product."""
  kernel, bias = layer["kernel"], layer["bias"][None, None, None]
  if kernel.shape[0] == 1:
    return jnp.tensordot(inputs, kernel[0, 0], axes=1) + bias
  layout = ("NHWC", "HWIO", "NHWC")
  return (
    jax.lax.conv_general_dilated(inputs, kernel, (1, 1), "SAME", dimension_numbers=layout) + bias
  )


def _double(inputs: Hidden) -> Float[Array, "N P Q D"]:
  """Each pixel four times."""
  number, height, width, channels = inputs.shape
  shape = (number, height, 2, width, 2, channels)
  many = jnp.broadcast_to(inputs[:, :, None, :, None], shape)
  return many.reshape(number, 2 * height, 2 * width, channels)


def _halve(inputs: Hidden) -> Float[Array, "N P Q D"]:
  """The mean of each 2 x 2 window."""
  number, height, width, channels = inputs.shape
  return inputs.reshape(number, height // 2, 2, width // 2, 2, channels).mean((2, 4))
