# SPDX-License-Identifier: Apache-2.0
"""A small CNN on procedural pictures, and the same network in PyTorch: what is explained."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Params = list[tuple[jax.Array, jax.Array]]
STRIDES = (2, 2, 2)


def pictures(rng: np.random.Generator, num: int, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Ten classes: a grating of one of five angles inside a disc or a square, over clutter."""
  labels = rng.integers(0, 10, num)
  rows, columns = np.mgrid[:size, :size] / size - 0.5
  images = np.empty((num, size, size, 3), np.float32)
  for k, label in enumerate(labels):
    y, x = rng.uniform(-0.15, 0.15, 2)
    radius = rng.uniform(0.25, 0.35)
    distance = np.stack([np.abs(rows - y), np.abs(columns - x)])
    inside = (distance.max(0) if label >= 5 else np.hypot(*distance)) < radius
    angle = np.pi * (label % 5) / 5
    wave = np.sin((np.cos(angle) * rows + np.sin(angle) * columns) * 30 + rng.uniform(0, 6))
    colour = rng.uniform(0.3, 0.7, (2, 3))
    clutter = np.kron(rng.normal(0, 0.12, (4, 4, 3)), np.ones((size // 4, size // 4, 1)))
    inner = colour[0] + 0.25 * wave[..., None] * rng.uniform(0.5, 1, 3)
    images[k] = np.where(inside[..., None], inner, colour[1] + clutter)
  noise = rng.normal(0, 0.05, images.shape)
  return np.clip(images + noise, 0, 1).astype(np.float32), labels


def init(key: jax.Array, widths: Sequence[int]) -> Params:
  params = []
  for layer, (fan_in, fan_out) in enumerate(zip((3, *widths), (*widths, 10), strict=True)):
    size = 1 if layer == len(widths) else 3
    scale = (2 / (size * size * fan_in)) ** 0.5
    kernel = scale * jax.random.normal(
      jax.random.fold_in(key, layer), (size, size, fan_in, fan_out)
    )
    params.append((kernel, jnp.zeros(fan_out)))
  return params


def apply(params: Params, images: jax.Array) -> jax.Array:
  x = (images - 0.5) * 4
  for (kernel, bias), stride in zip(params[:-1], STRIDES, strict=True):
    x = jax.lax.conv_general_dilated(
      x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jax.nn.relu(x + bias[None, None, None])
  kernel, bias = params[-1]
  return x.mean((1, 2)) @ kernel[0, 0] + bias[None]


def train(size: int, widths: Sequence[int], num_steps: int) -> tuple[Params, float]:
  rng = np.random.default_rng(0)
  params = init(jax.random.key(0), widths)
  optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, num_steps))
  state = optimizer.init(params)

  @jax.jit
  def step(params: Params, state: Any, images: jax.Array, labels: jax.Array) -> tuple[Params, Any]:
    def loss(p: Params) -> jax.Array:
      logits = apply(p, images)
      return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    updates, state = optimizer.update(jax.grad(loss)(params), state)
    return optax.apply_updates(params, updates), state  # pyright: ignore[reportReturnType]

  images, labels = pictures(rng, 4000, size)
  for _ in range(num_steps):
    rows = rng.integers(0, len(images), 128)
    params, state = step(params, state, jnp.asarray(images[rows]), jnp.asarray(labels[rows]))
  images, labels = pictures(rng, 500, size)
  return params, float((np.asarray(apply(params, jnp.asarray(images))).argmax(1) == labels).mean())


def disagreement(params: Params, network: Callable[[np.ndarray], np.ndarray], size: int) -> float:
  images, _ = pictures(np.random.default_rng(3), 8, size)
  return float(np.abs(network(images) - np.asarray(apply(params, jnp.asarray(images)))).max())


def torch_forward(
  params: Params, size: int, *, num_rows: int
) -> tuple[Callable[[], Any], Callable[[np.ndarray], np.ndarray]] | None:
  """One batch of random masks, masked pictures and logits in PyTorch; and the network itself."""
  try:
    import torch
  except ImportError:
    return None
  layers = [
    (torch.tensor(np.asarray(kernel).transpose(3, 2, 0, 1)), torch.tensor(np.asarray(bias)))
    for kernel, bias in params
  ]
  picture = torch.rand(1, 3, size, size)
  grid = size // 2

  @torch.no_grad()
  def network(images: Any) -> Any:
    x = (images - 0.5) * 4
    x = x.contiguous(memory_format=torch.channels_last)
    for (kernel, bias), stride in zip(layers[:-1], STRIDES, strict=True):
      # "SAME" at stride 2 pads the end only.
      x = torch.nn.functional.pad(x, (0, 1, 0, 1))
      x = torch.relu(torch.nn.functional.conv2d(x, kernel, bias, stride=stride))
    kernel, bias = layers[-1]
    return x.mean((2, 3)) @ kernel[:, :, 0, 0].T + bias

  @torch.no_grad()
  def forward() -> Any:
    mask = (torch.rand(num_rows, 1, grid, grid) < 0.5).float()
    mask = torch.nn.functional.interpolate(mask, size=size, mode="nearest")
    return network(picture * mask + 0.5 * (1 - mask))

  forward()
  return forward, lambda x: network(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
